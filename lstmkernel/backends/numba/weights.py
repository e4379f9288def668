"""Packed weights, and beside them the structs from which compiled code reads them."""

from __future__ import annotations

from itertools import groupby
from typing import Any

import numpy as np
from numba import float32, float64

from lstmkernel.backends.contract import DENSE_ACTIVATIONS, VARIANT_ACTIVATIONS
from lstmkernel.backends.numba.arrays import address
from lstmkernel.backends.numba.frames import Kernel, Kernels
from lstmkernel.backends.numba.kernels.variant import COUPLED
from lstmkernel.backends.numba.structs import Dense, Function, IntegerLayer, Layer, Variant, packed
from lstmkernel.backends.numba.target import VECTOR_BYTES
from lstmkernel.backends.packing import (
    Array,
    DenseWeights,
    Int8Matrix,
    LayerVariant,
    LayerWeights,
    LSTMWeights,
    pack_dense,
    pack_int8_layer,
    pack_layer,
)

KERNELS = {np.dtype(np.float32): Kernels(float32), np.dtype(np.float64): Kernels(float64)}


def lanes_of(dtype: np.dtype[Any]) -> int:
    return VECTOR_BYTES // dtype.itemsize


class Native:
    """A struct in memory, and the kernels of its dtype. It keeps the arrays that the struct points to, and `keep`."""

    def __init__(self, struct: Any, dtype: np.dtype[Any], keep: Any = None) -> None:
        self.kernels = KERNELS[dtype]
        self._words, self._keep = packed(struct), (struct, keep)
        self.address = address(self._words)


class Network:
    """The layers of an LSTM: a list of directions for each.

    parts: where layers need several kernels, neighbours that need the same one; else nothing.
    """

    def __init__(self, layers: list[list[LayerWeights]], reverse: bool) -> None:
        self.layers, self.reverse = layers, reverse
        first = layers[0][0]
        self.kernels: Kernels = first.native.kernels
        self._kernel = _forward_kernel(first)
        alike = [list(part) for _, part in groupby(layers, lambda directions: _forward_kernel(directions[0]))]
        self.parts = [Network(part, reverse) for part in alike] if len(alike) > 1 else []
        self.num_layers, self.directions = len(layers), len(layers[0])
        self.output_size, self.hidden_size, self.input_size = first.output_size, first.hidden_size, first.input_size
        self.dtype = first.bias.dtype

    def forward_kernel(self) -> Kernel:
        return getattr(self.kernels, self._kernel)  # type: ignore[no-any-return]

    def layer(self, index: int) -> Network:
        return Network([self.layers[index]], self.reverse)

    def all_layers(self) -> list[LayerWeights]:
        """Of each layer and direction."""
        return [layer for directions in self.layers for layer in directions]


def activation_bits(layer: LayerWeights) -> int:
    """Of a layer with 8-bit weights; 0 for others."""
    return 0 if layer.scales is None else layer.scales.levels.bit_length() + 1


def _forward_kernel(layer: LayerWeights) -> str:
    """The name of the kernel that runs a network of such layers."""
    if bits := activation_bits(layer):
        return f"i8a{bits}_forward"
    return "lstm_forward" if layer.variant is None else "variant_forward"


def pack_native_layer(
    w_ih: Array, w_hh: Array, bias: Array, w_hr: Array | None, variant: LayerVariant | None = None
) -> LayerWeights:
    weights = pack_layer(w_ih, w_hh, bias, w_hr, variant, lanes_of(w_ih.dtype))
    own = None if weights.variant is None else Native(_variant(weights.variant), w_ih.dtype)
    variant_at = 0 if own is None else own.address
    layer = Layer(*weights[:7], variant_at, output_size=weights.output_size, blocks=len(weights.bias))
    return weights._replace(native=Native(layer, w_ih.dtype, keep=own))


def pack_native_int8_layer(w_ih: Int8Matrix, w_hh: Int8Matrix, bias: Array, w_hr: Int8Matrix | None) -> LayerWeights:
    weights = pack_int8_layer(w_ih, w_hh, bias, w_hr, lanes_of(bias.dtype))
    scales = weights.scales
    assert scales is not None
    of_r = scales.r or (None, None)
    sizes = (weights.output_size, len(weights.bias))
    layer = IntegerLayer(*weights[:7], *sizes, *scales.x, *scales.h, *of_r)
    return weights._replace(native=Native(layer, bias.dtype))


def _variant(variant: LayerVariant) -> Any:
    def function(name: str, alpha: float, beta: float) -> Any:
        return Function(list(VARIANT_ACTIVATIONS).index(name), float(alpha), float(beta))

    return Variant(
        gates=function(*variant.gates),
        candidate=function(*variant.candidate),
        output=function(*variant.output),
        gate_clip=float(variant.gate_clip),
        cell_clip=float(variant.cell_clip),
        coupled=COUPLED.index(variant.coupled),
        has_peephole=variant.peephole is not None,
        peephole=variant.peephole,
    )


def pack_native_dense(weight: Array, bias: Array, activation: str) -> DenseWeights:
    weights = pack_dense(weight, bias, activation, lanes_of(weight.dtype))
    dense = Dense(*weights[:2], DENSE_ACTIVATIONS[activation], weights.w, weights.bias)
    return weights._replace(native=Native(dense, weight.dtype))


def pack_lstm(layers: list[list[LayerWeights]], reverse: bool = False) -> LSTMWeights:
    return LSTMWeights(layers, reverse, Network(layers, reverse))
