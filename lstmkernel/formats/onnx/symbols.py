"""Labels: a different number for each number of the signal, which is recognised wherever operators move it."""

from __future__ import annotations

from itertools import permutations
from math import prod
from typing import NamedTuple

import numpy as np

from lstmkernel.backends.packing import Array
from lstmkernel.formats.onnx.tensors import TensorReader

#: Memory of a label: an int32, and three more while the labels are searched.
BYTES = 16


class Signal(NamedTuple):
    """Numbers that depend on the graph's inputs: a label for each."""

    labels: Array
    kind: str  # of NumPy's dtype: "f", or "i" for lengths


class Labels:
    """Makes labels, none of them twice."""

    def __init__(self, reader: TensorReader) -> None:
        self._reader = reader
        self._next = 0

    def fresh(self, what: str, shape: tuple[int, ...]) -> Array:
        """New labels, which count up in C order; ``what`` has this shape, for messages."""
        count = prod(shape)
        if count + self._next >= 2**31 - 1:
            raise ValueError(f"{what}: shape {shape} is too large to follow; export with dynamic axes")
        self._reader.make(what, BYTES * count)
        self._next += count
        return np.arange(self._next - count, self._next, dtype=np.int32).reshape(shape)


def equal(a: Array, b: Array) -> bool:
    return a.shape == b.shape and bool((a == b).all())


def rows(labels: Array, out: Array, width: int) -> Array | None:
    """The index in ``out`` of each row of the labels; None if they are not whole rows of ``out``, each in its order.

    The result has the labels' shape without the last axis. Along each row of ``out``, labels count up.
    """
    if labels.ndim < 1 or labels.shape[-1] != width or out.shape[-1] != width:
        return None
    flat = out.reshape(-1, width)
    order = np.argsort(flat[:, 0])
    places = order[np.clip(np.searchsorted(flat[order, 0], labels[..., 0]), 0, len(order) - 1)] if len(order) else None
    return places if places is not None and equal(flat[places], labels) else None


def within(labels: Array, block: Array) -> Array:
    """For each of the labels, whether it is in ``block``, by a table of one byte a label: less memory than sorting."""
    known = np.zeros(max(int(each.max(initial=0)) for each in (labels, block)) + 1, bool)
    known[block] = True
    return known[labels]


def in_order(labels: Array, block: Array) -> bool:
    """Whether the labels that are in ``block`` stand in the order of ``block``, for some order of its axes.

    A part, a transpose and a reshape are in order; a flip, a roll and a repetition are not.
    """
    found = labels[within(labels, block)]
    for axes in permutations(range(block.ndim)):
        transposed = block.transpose(axes).ravel()
        if np.array_equal(transposed[within(transposed, found)], found):
            return True
    return False
