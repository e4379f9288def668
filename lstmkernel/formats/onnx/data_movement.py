"""Operators that only move numbers, as NumPy's functions; they serve weights and labels alike.

Inputs are arrays, or None where they are left out. An operator that allocates memory asks the reader first.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from lstmkernel.backends.packing import Array
from lstmkernel.formats.onnx.nodes import Node
from lstmkernel.formats.onnx.tensors import TensorReader

Inputs = Sequence[Array | None]

#: Exporters write this number or a larger one for "up to the end".
END = 2**31 - 1

#: The most integers in a parameter, such as a shape or axes, and the most dimensions of what is made.
MOST_INTEGERS, MOST_DIMENSIONS = 64, 16

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
    data = inputs[0] if inputs else None
    if data is None:
        raise ValueError(f"{node}: expected data as its first input, got none")
    try:
        moved = _move(node, data, inputs, reader)
    except (ValueError, TypeError, IndexError, OverflowError, RuntimeError) as error:
        raise ValueError(f"{node}: of shape {data.shape}: {error}") from error
    if moved.ndim > MOST_DIMENSIONS:
        raise ValueError(f"{node}: expected at most {MOST_DIMENSIONS} dimensions, got {moved.ndim}")
    return moved


def _move(node: Node, data: Array, inputs: Inputs, reader: TensorReader) -> Array:
    if node.op == "Identity":
        return data
    if node.op == "Transpose":
        return np.transpose(data, listed(node, "perm"))
    if node.op == "Squeeze":
        axes = _given(node, "axes", inputs, 1)
        return np.squeeze(data, None if axes is None else tuple(axes))
    if node.op == "Unsqueeze":
        return np.expand_dims(data, tuple(_given(node, "axes", inputs, 1) or ()))
    if node.op == "Slice":
        return data[slices(node, data, inputs)]
    if node.op == "Expand":
        shape = tuple(integers(inputs[1]))
        return np.broadcast_to(data, np.broadcast_shapes(data.shape, shape))  # a view, however large
    if node.op == "Tile":
        return _tile(node, data, integers(inputs[1]), reader)
    if node.op == "Reshape":
        return _reshape(node, data, _given(node, "shape", inputs, 1) or [], reader)
    if node.op == "Flatten":
        rows = prod(data.shape[: node.attribute("axis", "i", 1)])
        return _reshape(node, data, (rows, data.size // max(1, rows)), reader)
    if node.op == "Gather":
        return _gather(node, data, inputs[1], reader)
    parts = [
        part for part in inputs if part is not None and part.dtype.newbyteorder("=") == data.dtype.newbyteorder("=")
    ]
    if len(parts) < len(inputs):
        raise ValueError("expected inputs of one dtype, got several or none")
    reader.make(str(node), sum(part.nbytes for part in parts))
    return np.concatenate(parts, node.attribute("axis", "i", 0))


def _gather(node: Node, data: Array, places: Array | None, reader: TensorReader) -> Array:
    axis = node.attribute("axis", "i", 0)
    if places is None or places.dtype.kind != "i":
        raise ValueError("expected integers as its second input")
    if not -data.ndim <= axis < data.ndim:
        raise ValueError(f"expected an axis of {data.ndim}, got {axis}")
    reader.make(str(node), (data.nbytes // max(1, data.shape[axis]) + 8) * places.size)  # NumPy makes them 8 bytes wide
    index: tuple[Any, ...] = (*[slice(None)] * (axis % data.ndim), places)
    taken: Array = data[index]  # np.take would first copy what is a view, however large
    return taken


def _reshape(node: Node, data: Array, target: Sequence[int], reader: TensorReader) -> Array:
    if not node.attribute("allowzero", "i", 0):
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
    pairs = list(zip(repeats, data.shape, strict=True))
    apart = data.reshape([extent for _, extent in pairs for extent in (1, extent)])  # a view
    repeated = np.broadcast_to(apart, [extent for pair in pairs for extent in pair])
    return repeated.reshape([count * extent for count, extent in pairs])


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
        return listed(node, name)
    if place >= len(inputs) or inputs[place] is None:
        return None
    return integers(inputs[place])


def listed(node: Node, name: str) -> list[int] | None:
    """A list of integers in an attribute, None if it is not there."""
    found = node.attribute(name, "ints")
    if found is not None and len(found) > MOST_INTEGERS:
        raise ValueError(f"{name}: expected up to {MOST_INTEGERS} integers, got {len(found)}")
    return None if found is None else list(found)


def integers(array: Array | None) -> list[int]:
    if array is None or array.dtype.kind != "i" or array.ndim > 1 or array.size > MOST_INTEGERS:
        got = "none" if array is None else f"{array.dtype} {array.shape}"
        raise ValueError(f"expected up to {MOST_INTEGERS} integers as a parameter, got {got}")
    return [int(value) for value in np.atleast_1d(array)]
