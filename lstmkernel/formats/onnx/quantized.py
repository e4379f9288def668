"""Weights that are integers in an ONNX model: behind DequantizeLinear, or in ONNX Runtime's DynamicQuantizeLSTM.

Both mean (integer - zero point) * scale. The integers are kept where they are symmetric, that is, where the difference
fits int8; otherwise they become float32 numbers. DynamicQuantizeLSTM has W (D, I, 4H) and R (D, H, 4H), transposed, and
a scale and zero point for each direction, (D,), or for each row of gates, (D, 4H).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lstmkernel.backends.packing import Array
from lstmkernel.formats.integers import symmetric
from lstmkernel.formats.onnx.nodes import Node
from lstmkernel.formats.onnx.tensors import TensorReader

DEQUANTIZE, DYNAMIC_LSTM = "DequantizeLinear", "com.microsoft.DynamicQuantizeLSTM"

#: What ``load`` tells of such a network, by the operator that has its integers.
TOLD = {
    DEQUANTIZE: (
        "the weights are integers behind DequantizeLinear, and stay such; what they are multiplied by is float32 in "
        "the model and becomes 16-bit integers (activations='int16'): the outputs are near the model's, not equal"
    ),
    DYNAMIC_LSTM: (
        "ONNX Runtime's DynamicQuantizeLSTM rounds the activations of all rows to 8 bits with one scale, here each row "
        "has its own and 16 bits (activations='int16'): the integers of the weights are the same, the outputs are near "
        "ONNX Runtime's, not equal"
    ),
}

_WAY_OUT = (
    "onnxruntime.quantization.quantize_dynamic(..., weight_type=QuantType.QInt8) makes symmetric ones; or load the "
    "model as it was before it was quantized, then quantize('int8')"
)


class Integers(NamedTuple):
    """Symmetric integers, and what each is to be multiplied by."""

    values: Array  # int8
    scale: Array  # float32, of the same shape: a view, in which one number stands for many
    origin: str  # the operator

    def by_rows(self) -> bool:
        """Whether all is weights with one scale for each row, as they are here."""
        if self.values.ndim != 3 or not self.values.size:
            return False
        scale = self.scale if self.scale.strides[-1] else self.scale[..., :1]
        with np.errstate(over="ignore"):
            usable = (scale >= 0) & (scale * np.float32(127) < np.inf)
        return bool(((scale == scale[..., :1]) & usable).all())

    def numbers(self) -> Array:
        """As float32."""
        with np.errstate(over="ignore"):
            return self.values * self.scale


# ---------------------------------------------------------------- DequantizeLinear


def dequantized(node: Node, inputs: Sequence[Array | None], reader: TensorReader) -> Integers | Array:
    """The output of a DequantizeLinear of constants: integers where they are symmetric, else numbers."""
    given, scale, zero = (*inputs, None, None, None)[:3]
    if given is None or scale is None or given.dtype.kind not in "iu" or scale.dtype != np.float32 or scale.ndim > 1:
        raise ValueError(f"{node}: expected integers, and a float32 scale, or one for each place of an axis")
    if node.attribute("block_size", "i", 0):
        raise ValueError(f"{node}: block_size: expected 0, got blocks; {_WAY_OUT}")
    axis = node.attribute("axis", "i", 1)
    shape = [1] * given.ndim
    if scale.size != 1:
        if not -given.ndim <= axis < given.ndim or scale.size != given.shape[axis]:
            raise ValueError(
                f"{node}: expected a scale for each place of axis {axis} of {given.shape}, got {scale.shape}"
            )
        shape[axis] = scale.size
    scales = np.broadcast_to(scale.reshape(shape), given.shape)
    zeros = _zeros(node, zero, scale, shape)
    values = _difference(given, zeros, reader, str(node)) if given.dtype.itemsize == 1 else None
    if values is not None and values.min(initial=0) >= -127 and given.size:
        return Integers(values, scales, DEQUANTIZE)
    reader.make(str(node), 12 * given.size)
    with np.errstate(over="ignore"):
        numbers: Array = (given.astype(np.int64) - zeros).astype(np.float32) * scales
    return numbers


def _zeros(node: Node, zero: Array | None, scale: Array, shape: Sequence[int]) -> Array:
    if zero is None:
        return np.zeros([1] * len(shape), np.int64)
    if zero.dtype.kind not in "iu" or zero.size != scale.size:
        raise ValueError(f"{node}: expected as many zero points as scales, {scale.size}, got {zero.dtype} {zero.shape}")
    return zero.astype(np.int64).reshape(shape)


def _difference(given: Array, zeros: Array, reader: TensorReader, what: str) -> Array | None:
    """given - zeros as int8; None if it does not fit."""
    if given.dtype == np.int8 and not zeros.any():
        return given
    reader.make(what, 3 * given.size)
    wide = given.astype(np.int16) - zeros.astype(np.int16)
    return wide.astype(np.int8) if wide.min(initial=0) >= -128 and wide.max(initial=0) <= 127 else None


# ---------------------------------------------------------------- DynamicQuantizeLSTM


def as_lstm(node: Node, W: str, R: str) -> Node:
    """The node as an LSTM whose weights are the constants of these names."""
    if len(node.inputs) > 12:
        raise ValueError(f"{node}: expected at most 12 inputs, got {len(node.inputs)}")
    rest = [node.input(place) for place in range(3, 8)]
    return node._replace(op="LSTM", inputs=[node.input(0), W, R, *rest])


def of_dynamic(node: Node, letter: str, inputs: Sequence[Array | None], reader: TensorReader) -> Integers:
    """W or R as (D, 4H, I), from (D, I, 4H), its scale and its zero point."""
    given, scale, zero = inputs
    if given is None or given.dtype not in (np.int8, np.uint8) or given.ndim != 3 or 0 in given.shape:
        raise ValueError(f"{node}: {letter}: expected constants, int8 or uint8, of 3 dimensions, got {_of(given)}")
    D, _, rows = given.shape
    if scale is None or scale.dtype != np.float32 or scale.shape not in ((D,), (D, rows)):
        raise ValueError(f"{node}: {letter}_scale: expected float32 {(D,)} or {(D, rows)}, got {_of(scale)}")
    zero = np.zeros(scale.shape, given.dtype) if zero is None else zero
    if zero.shape != scale.shape or zero.dtype.kind not in "iu":
        raise ValueError(f"{node}: {letter}_zero_point: expected integers {scale.shape}, got {_of(zero)}")
    zeros = zero.astype(np.int64).reshape(D, 1, -1)
    values = _difference(given, zeros, reader, str(node))
    if values is None:
        raise ValueError(
            f"{node}: {letter}_zero_point: expected one that leaves integers from -128 to 127, got others; {_WAY_OUT}"
        )
    scales = np.broadcast_to(scale.reshape(D, 1, -1), given.shape)
    return Integers(symmetric(values).swapaxes(1, 2), scales.swapaxes(1, 2), DYNAMIC_LSTM)


def _of(array: Array | None) -> str:
    return "none" if array is None else f"{array.dtype} {array.shape}"
