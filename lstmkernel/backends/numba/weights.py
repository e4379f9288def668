"""Packed weights, and beside them the structs from which compiled code reads them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import float32, float64

from lstmkernel.backends.contract import ACTIVATIONS, VARIANT_ACTIVATIONS
from lstmkernel.backends.numba.arrays import address
from lstmkernel.backends.numba.frames import Kernels
from lstmkernel.backends.numba.kernels.variant import COUPLED
from lstmkernel.backends.numba.structs import Dense, Function, Layer, Variant, packed
from lstmkernel.backends.numba.target import VECTOR_BYTES
from lstmkernel.backends.packing import (
    Array,
    DenseWeights,
    LayerVariant,
    LayerWeights,
    LSTMWeights,
    pack_dense,
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
    """The layers of an LSTM: a list of directions for each."""

    def __init__(self, layers: list[list[LayerWeights]], reverse: bool) -> None:
        self.layers, self.reverse = layers, reverse
        first = layers[0][0]
        self.kernels: Kernels = first.native.kernels
        self.is_plain = first.variant is None
        self.num_layers, self.directions = len(layers), len(layers[0])
        self.output_size, self.hidden_size, self.input_size = first.output_size, first.hidden_size, first.input_size
        self.dtype = first.bias.dtype

    def layer(self, index: int) -> Network:
        return Network([self.layers[index]], self.reverse)

    def all_layers(self) -> list[LayerWeights]:
        """Of each layer and direction."""
        return [layer for directions in self.layers for layer in directions]


def pack_native_layer(
    w_ih: Array, w_hh: Array, bias: Array, w_hr: Array | None, variant: LayerVariant | None = None
) -> LayerWeights:
    weights = pack_layer(w_ih, w_hh, bias, w_hr, variant, lanes_of(w_ih.dtype))
    own = None if weights.variant is None else Native(_variant(weights.variant), w_ih.dtype)
    variant_at = 0 if own is None else own.address
    layer = Layer(*weights[:7], variant_at, output_size=weights.output_size, blocks=len(weights.bias))
    return weights._replace(native=Native(layer, w_ih.dtype, keep=own))


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
    dense = Dense(*weights[:2], ACTIVATIONS.index(activation), weights.w, weights.bias)
    return weights._replace(native=Native(dense, weight.dtype))


def pack_lstm(layers: list[list[LayerWeights]], reverse: bool = False) -> LSTMWeights:
    return LSTMWeights(layers, reverse, Network(layers, reverse))
