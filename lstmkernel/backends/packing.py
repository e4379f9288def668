"""Packed weights: the memory order in which every backend's kernels read them.

A block is ``lanes`` neighbouring units. For each input k, the four gates of a block lie side by side: one pass over k
then has all four gates of the block in registers: ``[blocks][K][4][lanes]``. See csrc/lstmkernel.h.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from lstmkernel.backends.large import slices
from lstmkernel.backends.memory import CACHE_LINE, empty_weights

Array = NDArray[Any]

#: Numbers of the blocks that are packed at once.
BLOCKS_SIZE = 1 << 15


class LayerVariant(NamedTuple):
    """What one direction of one layer computes, if it is not the plain LSTM."""

    gates: tuple[str, float, float]  # activation, alpha, beta; see contract.VARIANT_ACTIVATIONS
    candidate: tuple[str, float, float]
    output: tuple[str, float, float]
    gate_clip: float  # inf for none
    cell_clip: float
    coupled: str | None  # "forget": f = 1 - i; "input": i = 1 - f
    peephole: Array | None  # (3, H), of i, f, o; packed [blocks, 4, lanes], of i, f, zeros, o


class Int8Matrix(NamedTuple):
    """A matrix of 8-bit weights: row j is values[j] * scale[j]. It multiplies integers of at most ``levels``."""

    values: Array  # (rows, K) int8, -127..127
    scale: Array  # (rows,) float32
    levels: int  # 32767 or 127


def part_inputs(levels: int) -> int:
    """Inputs of one part of a sum: so many products always fit 32 bits. See csrc/kernels/quantized.h."""
    return 512 if levels == 32767 else 1 << 17


class PackedScales(NamedTuple):
    """What lies beside a packed matrix of 8-bit weights."""

    scale: Array  # Int8Matrix.scale / levels, [blocks, 4, lanes]
    offset: Array  # -128 times the sum of a row's weights, part by part, [blocks, parts, 4, lanes] int32


class LayerScales(NamedTuple):
    """What a layer of 8-bit weights has beside them."""

    levels: int
    x: PackedScales
    h: PackedScales
    r: PackedScales | None


class LayerWeights(NamedTuple):
    """One direction of one LSTM layer, packed. 8-bit weights are int8 [blocks, ceil(K / 4), 4, lanes, 4]."""

    input_size: int
    hidden_size: int
    proj_size: int  # 0: none
    w_x: Array  # weight_ih [blocks, I, 4, lanes]
    w_h: Array  # weight_hh [blocks, R, 4, lanes]
    bias: Array  # bias_ih + bias_hh [blocks, 4, lanes]
    w_r: Array | None  # weight_hr [ceil(P / (4 lanes)), H, 4, lanes]
    variant: LayerVariant | None = None  # None: the plain LSTM
    native: Any = None  # the backend's own form of this, made once
    scales: LayerScales | None = None  # of 8-bit weights

    @property
    def output_size(self) -> int:
        """R, the width of h."""
        return self.proj_size or self.hidden_size

    def empty_gates(self, rows: int) -> Array:
        """An uninitialised z [rows, blocks, 4, lanes]."""
        return empty((rows, *self.bias.shape), self.bias.dtype)


class LSTMWeights(NamedTuple):
    """All layers of an LSTM, packed."""

    layers: list[list[LayerWeights]]  # by layer and direction
    reverse: bool = False  # one direction, from each row's end to its start
    native: Any = None

    def layer(self, index: int) -> LSTMWeights:
        """One layer alone."""
        native = None if self.native is None else self.native.layer(index)
        return LSTMWeights([self.layers[index]], self.reverse, native)


class DenseWeights(NamedTuple):
    """A dense layer, packed."""

    in_features: int
    out_features: int
    activation: str
    w: Array  # weight [ceil(O / (4 lanes)), K, 4, lanes]
    bias: Array  # [ceil(O / (4 lanes)), 4, lanes]
    native: Any = None


def empty(shape: tuple[int, ...], dtype: DTypeLike) -> Array:
    """Like np.empty, aligned to a cache line."""
    dtype = np.dtype(dtype)
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    buffer = np.empty(size + CACHE_LINE, np.uint8)
    start = -buffer.ctypes.data % CACHE_LINE
    return buffer[start : start + size].view(dtype).reshape(shape)


def pack_layer(
    w_ih: Array, w_hh: Array, bias: Array, w_hr: Array | None, variant: LayerVariant | None, lanes: int
) -> LayerWeights:
    """Pack w_ih (4H, I), w_hh (4H, R), bias (4H,) and w_hr (P, H) or None, gates in the order i, f, g, o."""
    return LayerWeights(
        input_size=w_ih.shape[1],
        hidden_size=w_ih.shape[0] // 4,
        proj_size=0 if w_hr is None else w_hr.shape[0],
        w_x=_pack_weights(w_ih, lanes),
        w_h=_pack_weights(w_hh, lanes),
        bias=_pack_weights(bias[:, None], lanes)[:, 0],
        w_r=None if w_hr is None else pack_rows(w_hr, lanes),
        variant=None if variant is None else _pack_variant(variant, lanes),
    )


def pack_int8_layer(
    w_ih: Int8Matrix, w_hh: Int8Matrix, bias: Array, w_hr: Int8Matrix | None, lanes: int
) -> LayerWeights:
    """As pack_layer, for 8-bit weights."""
    H = len(bias) // 4
    w_x, x = _pack_int8(w_ih, H, lanes)
    w_h, h = _pack_int8(w_hh, H, lanes)
    w_r, r = (None, None) if w_hr is None else _pack_int8_rows(w_hr, lanes)
    return LayerWeights(
        input_size=w_ih.values.shape[1],
        hidden_size=H,
        proj_size=0 if w_hr is None else len(w_hr.values),
        w_x=w_x,
        w_h=w_h,
        bias=_pack_weights(bias[:, None], lanes)[:, 0],
        w_r=w_r,
        scales=LayerScales(w_ih.levels, x, h, r),
    )


def _pack_int8(matrix: Int8Matrix, H: int, lanes: int) -> tuple[Array, PackedScales]:
    """Four weights along K are packed as one word of 32 bits."""
    rows, K = matrix.values.shape
    padded = np.zeros((rows, -(-K // 4) * 4), np.int8)
    padded[:, :K] = matrix.values
    w = _pack_weights(padded.view(np.int32), lanes)
    inputs = part_inputs(matrix.levels)
    parts = [matrix.values[:, k : k + inputs].sum(axis=1, dtype=np.int32) for k in range(0, K, inputs)]
    offset = _pack_weights(np.stack(parts, axis=1) * np.int32(-128), lanes)
    scale = _pack_weights((matrix.scale / np.float32(matrix.levels))[:, None], lanes)[:, 0]
    return w.view(np.int8).reshape(*w.shape, 4), PackedScales(scale, offset)


def _pack_int8_rows(matrix: Int8Matrix, lanes: int) -> tuple[Array, PackedScales]:
    """The same for a matrix without gates: its rows lie as four neighbouring vectors."""
    rows, K = matrix.values.shape
    whole = -(-rows // (4 * lanes)) * 4 * lanes
    values, scale = np.zeros((whole, K), np.int8), np.zeros(whole, np.float32)
    values[:rows], scale[:rows] = matrix.values, matrix.scale
    # As the rows of gates, they are 4 x whole / 4; a block takes its four vectors from neighbours instead.
    order = np.arange(whole).reshape(-1, 4, lanes).transpose(1, 0, 2).reshape(-1)
    return _pack_int8(Int8Matrix(values[order], scale[order], matrix.levels), whole // 4, lanes)


def _pack_variant(variant: LayerVariant, lanes: int) -> LayerVariant:
    """Peephole weights lie as a bias does: the three of a block lie where its gates lie."""
    if variant.peephole is None:
        return variant
    i, f, o = variant.peephole
    by_gate = np.concatenate([i, f, np.zeros_like(o), o])
    return variant._replace(peephole=_pack_weights(by_gate[:, None], lanes)[:, 0])


def pack_dense(weight: Array, bias: Array, activation: str, lanes: int) -> DenseWeights:
    """Pack weight (O, K) and bias (O,)."""
    return DenseWeights(
        in_features=weight.shape[1],
        out_features=weight.shape[0],
        activation=activation,
        w=pack_rows(weight, lanes),
        bias=pack_rows(bias[:, None], lanes)[:, 0],
    )


def pack_gates(gates: Array, weights: LayerWeights) -> Array:
    """gates (N, 4, H) as z [N, blocks, 4, lanes], units past H zero."""
    z = weights.empty_gates(len(gates))
    N, blocks, _, lanes = z.shape
    padded = np.zeros((N, 4, blocks * lanes), gates.dtype)
    padded[:, :, : gates.shape[2]] = gates
    z[...] = padded.reshape(N, 4, blocks, lanes).transpose(0, 2, 1, 3)
    return z


def unpack_gates(z: Array, hidden_size: int) -> Array:
    """z [N, blocks, 4, lanes] as (N, 4, H), without the units past H."""
    return z.transpose(0, 2, 1, 3).reshape(len(z), 4, -1)[:, :, :hidden_size]


def _pack_weights(weight: Array, lanes: int) -> Array:
    """(4H, K) -> [blocks, K, 4, lanes], units past H zero."""
    hidden_size, K = weight.shape[0] // 4, weight.shape[1]
    packed = empty_weights((-(-hidden_size // lanes), K, 4, lanes), weight.dtype)
    _fill_blocks(packed, weight.reshape(4, hidden_size, K))
    return _frozen(packed)


def pack_rows(weight: Array, lanes: int) -> Array:
    """(O, K) -> [blocks, K, 4, lanes], outputs past O zero; read-only, in the memory for packed weights."""
    out_features, K = weight.shape
    packed = empty_weights((-(-out_features // (4 * lanes)), K, 4, lanes), weight.dtype)
    fill_rows(packed, weight)
    return _frozen(packed)


def fill_rows(packed: Array, weight: Array) -> None:
    """Write weight (O, K) to [blocks, K, 4, lanes], zeros to the outputs past O."""
    _, K, _, lanes = packed.shape
    _fill_blocks(packed.reshape(-1, K, 1, 4 * lanes), weight[None])


def _fill_blocks(packed: Array, weight: Array) -> None:
    """Write weight (parts, rows, K) to [blocks, K, parts, lanes], zeros past the last row.

    Some blocks at a time: Ctrl-C is heard in between, and their rows stay in the cache while they are read.
    """
    (parts, rows, K), lanes = weight.shape, packed.shape[3]
    whole = rows // lanes
    for blocks in slices(whole, BLOCKS_SIZE // max(1, parts * lanes * K)):
        of_blocks = weight[:, blocks.start * lanes : blocks.stop * lanes].reshape(parts, -1, lanes, K)
        packed[blocks] = of_blocks.transpose(1, 3, 0, 2)
    if whole < len(packed):
        left = rows - whole * lanes
        packed[whole, :, :, :left] = weight[:, whole * lanes :].transpose(2, 0, 1)
        packed[whole, :, :, left:] = 0


def _frozen(array: Array) -> Array:
    array.flags.writeable = False
    return array
