"""The data that a network is quantized for: checked once, and divided into steps to fit to and steps to measure.

Each sequence is cut into tenths, and every fifth tenth is held back: weights are not fitted to it, so the errors that
are measured there are those of new data. Where sequences are shorter than ten steps, every fifth sequence is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from lstmkernel.backends.large import slices
from lstmkernel.backends.packing import Array
from lstmkernel.certificate import TENTHS
from lstmkernel.engine import arguments
from lstmkernel.engine.chain import Chain
from lstmkernel.engine.sound import warn_of_whole_numbers

#: One in so many parts is held back.
HELD_BACK = 5

#: Numbers of a chunk, at most, of all that is computed at its steps.
CHUNK = 1 << 21


class Item(NamedTuple):
    """Sequences of one length."""

    x: Array  # (T, B, I)
    first: int  # the number of its first sequence among all

    def chunks(self, width: int, whole: bool) -> Iterator[slice]:
        """Steps that are run at once. width: numbers of a step. whole: all of them, for a backward direction."""
        T, B, _ = self.x.shape
        return slices(T, T if whole else CHUNK // (B * width))

    def tenths(self, times: slice) -> Array:
        """In which tenth of its sequence each step is, (steps,)."""
        return np.arange(times.start, times.stop) * TENTHS // len(self.x)

    def held_back(self, times: slice) -> Array:
        """bool (steps, B)."""
        T, B, _ = self.x.shape
        sequences = self.first + np.arange(B)
        if T >= TENTHS:
            held: Array = (self.tenths(times)[:, None] + sequences) % HELD_BACK == HELD_BACK - 1
            return held
        return np.broadcast_to(sequences % HELD_BACK == HELD_BACK - 1, (times.stop - times.start, B))


class Data(NamedTuple):
    """All sequences."""

    items: tuple[Item, ...]
    rows: int
    steps: int  # of all sequences together
    held_back: int  # steps; 0 where there are too few sequences of too few steps
    digest: str


def checked(given: Any, chain: Chain) -> Data:
    """``calibrate``: an array as x of a call, or a list or an iterator of such arrays.

    Raises TypeError and ValueError, which name the array and the place, for what the network cannot take, for numbers
    that are not finite, and for data without a step.
    """
    several = _several(given)
    named = _named(given, several)
    arrays = [array for array in (_checked(name, x, chain) for name, x in named) if array.size]
    if not arrays:
        raise ValueError(f"calibrate: expected at least one step, got none in {len(named)} arrays; give x of calls")
    items, rows = [], 0
    for x in arrays:
        items.append(Item(x, rows))
        rows += x.shape[1]
    held_back = sum(int(item.held_back(slice(0, len(item.x))).sum()) for item in items)
    steps = sum(x.shape[0] * x.shape[1] for x in arrays)
    return Data(tuple(items), rows, steps, held_back, _digest(arrays))


def of_steps(given: Any) -> Any:
    """``calibrate`` of a cell, whose x is one step: each array must have an axis of steps. A list of an iterator's."""
    if given is None:
        return None
    several = _several(given)
    for name, x in _named(given, several):
        if np.ndim(x) == 2:
            raise ValueError(
                f"{name}: expected shape (T, B, I), steps that a loop over the cell takes, got {np.shape(x)}; give "
                "x[:, None] for T steps of one row; rows of one step do not tell what weight_hh is multiplied by"
            )
    return given if several is None else several


def _several(given: Any) -> list[Any] | None:
    """The arrays of a list or an iterator; None for one array."""
    if isinstance(given, str | bytes) or given is None:
        raise TypeError(f"calibrate: expected an array, a list of arrays or an iterator, got {type(given).__name__}")
    if hasattr(given, "__array__") or not hasattr(given, "__iter__"):
        return None
    return list(given)


def _named(given: Any, several: list[Any] | None) -> list[tuple[str, Any]]:
    return [("calibrate", given)] if several is None else [(f"calibrate[{i}]", x) for i, x in enumerate(several)]


def _checked(name: str, given: Any, chain: Chain) -> Array:
    """(T, B, I), finite."""
    warn_of_whole_numbers(name, given, chain)
    x, I = arguments.real(name, given, chain.dtype), chain.input_size
    if x.ndim not in (2, 3) or x.shape[-1] != I:
        batched = "(B, T, I)" if chain.batch_first else "(T, B, I)"
        raise ValueError(f"{name}: expected shape {batched} or (T, I) with I = {I}, got {x.shape}")
    if not np.isfinite(x).all():
        place = tuple(map(int, np.argwhere(~np.isfinite(x))[0]))
        raise ValueError(f"{name}: expected finite numbers, got {x[place]:g} at {list(place)}; leave that sequence out")
    if x.ndim == 2:
        return x[:, None]
    return x.swapaxes(0, 1) if chain.batch_first else x


def _digest(arrays: list[Array]) -> str:
    found = hashlib.sha256()
    for x in arrays:
        found.update(repr(x.shape).encode())
        for part in slices(len(x), CHUNK // (x.shape[1] * x.shape[2])):
            found.update(np.ascontiguousarray(x[part]).astype("<f8" if x.dtype == np.float64 else "<f4").tobytes())
    return found.hexdigest()[:16]
