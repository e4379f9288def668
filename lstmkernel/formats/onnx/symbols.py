"""Labels: a different number for each number of a signal, so that it is known again wherever operators move it."""

from __future__ import annotations

from itertools import permutations
from typing import NamedTuple

import numpy as np

from lstmkernel.backends.packing import Array

#: What a label takes: an int32, and as much again, three times, while it is looked for.
BYTES = 16


class Signal(NamedTuple):
    """Numbers that depend on the inputs: a label for each."""

    labels: Array
    kind: str  # of NumPy's dtype: "f", or "i" for lengths


def equal(a: Array, b: Array) -> bool:
    return a.shape == b.shape and bool((a == b).all())


def rows(labels: Array, out: Array, width: int) -> Array | None:
    """Which rows of ``out`` the labels are, shape without the last axis; None where they are not whole rows in order.

    The labels of ``out``, or of its transpose, count up along its rows.
    """
    if labels.ndim < 1 or labels.shape[-1] != width or out.shape[-1] != width:
        return None
    flat = out.reshape(-1, width)
    order = np.argsort(flat[:, 0])
    places = order[np.clip(np.searchsorted(flat[order, 0], labels[..., 0]), 0, len(order) - 1)] if len(order) else None
    return places if places is not None and equal(flat[places], labels) else None


def within(labels: Array, block: Array) -> Array:
    """Of each of the labels, whether it is in ``block``: a byte a label, where sorting would take many."""
    known = np.zeros(max(int(each.max(initial=0)) for each in (labels, block)) + 1, bool)
    known[block] = True
    return known[labels]


def in_order(labels: Array, block: Array) -> bool:
    """Whether those of the labels that are in ``block`` follow each other as there, for some order of its axes.

    So a part, a transpose and a reshape are in order; a flip, a roll and a repetition are not.
    """
    found = labels[within(labels, block)]
    for axes in permutations(range(block.ndim)):
        turned = block.transpose(axes).ravel()
        if np.array_equal(turned[within(turned, found)], found):
            return True
    return False
