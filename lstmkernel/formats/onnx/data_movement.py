"""Operators that only move numbers, as NumPy's functions; they serve weights and labels alike.

Inputs are arrays, or None where they are left out. An operator that allocates memory asks the reader first.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from lstmkernel.backends.packing import Array
from lstmkernel.formats.onnx.graph import Node
from lstmkernel.formats.onnx.tensors import TensorReader

Inputs = Sequence[Array | None]

#: Exporters write this number or a larger one for "up to the end".
END = 2**31 - 1

NAMES = (
    "Concat",
    "Expand",
    "Flatten",
    "Gather",
    "Identity",
    "Reshape",
    "Slice",
    "Squeeze",
    "Tile",
    "Transpose",
    "Unsqueeze",
)


def move(node: Node, inputs: Inputs, reader: TensorReader) -> Array:
    """The output of a node of ``NAMES``."""
    data = inputs[0]
    if data is None:
        raise ValueError(f"{node}: expected data as its first input, got none")
    try:
        return _move(node, data, inputs, reader)
    except (ValueError, TypeError, IndexError, OverflowError, AttributeError) as error:
        raise ValueError(f"{node}: of shape {data.shape}: {error}") from error


def _move(node: Node, data: Array, inputs: Inputs, reader: TensorReader) -> Array:
    if node.op == "Identity":
        return data
    if node.op == "Transpose":
        return np.transpose(data, node.attributes.get("perm"))
    if node.op == "Squeeze":
        axes = _given(node, "axes", inputs, 1)
        return np.squeeze(data, None if axes is None else tuple(axes))
    if node.op == "Unsqueeze":
        return np.expand_dims(data, tuple(_given(node, "axes", inputs, 1) or ()))
    if node.op == "Slice":
        return data[slices(node, data, inputs)]
    if node.op == "Expand":
        shape = tuple(_integers(inputs[1]))
        return np.broadcast_to(data, np.broadcast_shapes(data.shape, shape))  # a view, however large
    if node.op == "Tile":
        return _tile(node, data, _integers(inputs[1]), reader)
    if node.op == "Reshape":
        return _reshape(node, data, _given(node, "shape", inputs, 1) or [], reader)
    if node.op == "Flatten":
        rows = prod(data.shape[: node.attributes.get("axis", 1)])
        return _reshape(node, data, (rows, data.size // max(1, rows)), reader)
    axis = node.attributes.get("axis", 0)
    if node.op == "Gather":
        places = np.array(inputs[1], np.int64)
        reader.make(str(node), data.nbytes // max(1, data.shape[axis]) * places.size)
        return np.take(data, places, axis)
    parts = [part for part in inputs if part is not None]
    reader.make(str(node), sum(part.nbytes for part in parts))
    return np.concatenate(parts, axis)


def _reshape(node: Node, data: Array, target: Sequence[int], reader: TensorReader) -> Array:
    if not node.attributes.get("allowzero", 0):
        target = [data.shape[place] if extent == 0 else extent for place, extent in enumerate(target)]
    if prod(extent for extent in target if extent >= 0) > data.size:
        raise ValueError(f"expected a shape of as many numbers, got {tuple(target)}")
    if not data.flags.c_contiguous:
        reader.make(str(node), data.nbytes)
    return data.reshape(target)


def _tile(node: Node, data: Array, repeats: Sequence[int], reader: TensorReader) -> Array:
    if len(repeats) != data.ndim or min(repeats, default=0) < 0:
        raise ValueError(f"expected a number of repeats for each axis, got {tuple(repeats)}")
    reader.make(str(node), data.nbytes * prod(repeats))
    return np.tile(data, tuple(repeats))


def slices(node: Node, data: Array, inputs: Inputs) -> tuple[slice, ...]:
    """The slice of each axis that a Slice node takes."""
    starts, ends = _given(node, "starts", inputs, 1), _given(node, "ends", inputs, 2)
    axes, steps = _given(node, "axes", inputs, 3), _given(node, "steps", inputs, 4)
    if starts is None or ends is None:
        raise ValueError("expected starts and ends")
    chosen = [slice(None)] * data.ndim
    for start, end, axis, step in zip(
        starts, ends, axes or range(len(starts)), steps or [1] * len(starts), strict=True
    ):
        chosen[axis] = slice(start, None if step < 0 and end < -data.shape[axis] else end, step)
    return tuple(chosen)


def _given(node: Node, name: str, inputs: Inputs, place: int) -> list[int] | None:
    """A parameter that older operator sets have as an attribute and newer ones as an input."""
    if name in node.attributes:
        return [int(value) for value in node.attributes[name]]
    if place >= len(inputs) or inputs[place] is None:
        return None
    return _integers(inputs[place])


def _integers(array: Array | None) -> list[int]:
    if array is None or array.dtype.kind != "i" or array.ndim > 1 or array.size > 64:
        got = "none" if array is None else f"{array.dtype} {array.shape}"
        raise ValueError(f"expected up to 64 integers as a parameter, got {got}")
    return [int(value) for value in np.atleast_1d(array)]
