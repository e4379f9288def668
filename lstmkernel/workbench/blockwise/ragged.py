"""Run a network over rows of unequal length, which lie one after the other, some rows at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from time import perf_counter
from typing import Any, NamedTuple, Protocol

import numpy as np

from lstmkernel.backends.packing import Array
from lstmkernel.workbench.blockwise.cut import slices
from lstmkernel.workbench.blockwise.grid import Sink, Source, flat_states
from lstmkernel.workbench.networks import Net


class Rows(NamedTuple):
    """Some rows one after the other: x (n, I), and where each begins, (rows + 1,), the first one at 0.

    A very long row comes alone and in parts: the first one begins it, the last one ends it.
    """

    x: Array
    offsets: Array
    begins: bool = True
    ends: bool = True


class Appended(Protocol):
    """Where outputs go, in order: those of all steps, (n, width), or of rows, (rows, width)."""

    def append(self, block: Array, offsets: Array) -> None: ...


class Flat:
    """One array (N, width) that takes them one after the other."""

    def __init__(self, sink: Sink) -> None:
        self._sink, self._at = sink, 0

    def append(self, block: Array, offsets: Array) -> None:
        self._sink.write((slice(self._at, self._at + len(block)),), block)
        self._at += len(block)


def checked_offsets(path: str, offsets: Array, N: int) -> Array:
    """ValueError if they are not 0 at first, N at last, and ascending."""
    are_inside = len(offsets) and offsets[0] >= 0 and offsets[-1] <= N and not np.any(offsets[1:] < offsets[:-1])
    if not are_inside or offsets[0] != 0 or offsets[-1] != N:
        some = np.array2string(offsets, threshold=6, separator=", ")
        way_out = "if you have lengths, save numpy.concatenate([[0], numpy.cumsum(lengths)])"
        if are_inside:
            way_out = "if the rows are a part of the input, save x[offsets[0]:offsets[-1]] and offsets - offsets[0]"
        raise ValueError(
            f"{path}: expected offsets from 0 to {N}, the number of steps in the input, ascending (one more than there "
            f"are rows), got {some}; {way_out}"
        )
    return offsets.astype(np.int64)


def together(offsets: Array, steps: int) -> Iterator[slice]:
    """Rows that have at most so many steps together; a longer row alone."""
    row, count = 0, len(offsets) - 1
    while row < count:
        end = int(np.searchsorted(offsets, offsets[row] + steps, side="right")) - 1
        end = max(row + 1, end)
        yield slice(row, end)
        row = end


def of_array(source: Source, offsets: Array, steps: int, whole: bool) -> Iterator[Rows]:
    """The rows of an array (N, I), about so many steps at a time. whole: no row is divided."""
    for rows in together(offsets, steps):
        begin, end = int(offsets[rows.start]), int(offsets[rows.stop])
        most = end - begin if whole else steps
        for part in slices(end - begin, max(most, 1)):
            own = np.clip(offsets[rows.start : rows.stop + 1] - begin - part.start, 0, part.stop - part.start)
            x = source.read((slice(begin + part.start, begin + part.stop),))
            yield Rows(x, own, part.start == 0, part.stop == end - begin)


def run(
    net: Net,
    all_rows: Iterable[Rows],
    out: Appended,
    states: Sequence[Sink],
    last: bool,
    tick: Callable[[int, int], object],
) -> float:
    """Read, compute and write all rows; the seconds that the network took.

    states: where h and c of each LSTM go, in order; none if nobody wants them. last: only the output at each row's last
    step. tick: called with the numbers of rows and of steps that were done.
    """
    seconds, row = 0.0, 0
    state: Any = None
    for rows in all_rows:
        start = perf_counter()
        block, state = _block(net, rows, state, last)
        seconds += perf_counter() - start
        count = len(rows.offsets) - 1
        if rows.ends or not last:
            out.append(block, rows.offsets)
        if rows.ends:
            for sink, part in zip(states, flat_states(state), strict=False):
                sink.write((slice(0, len(part)), slice(row, row + count)), part.reshape(len(part), count, -1))
            row += count
        tick(count if rows.ends else 0, len(rows.x))
    return seconds


def _block(net: Net, rows: Rows, state: Any, last: bool) -> tuple[Array, Any]:
    """The output at all steps, or only at each row's last step; and the last states."""
    if rows.begins and rows.ends:
        return net.ragged(rows.x, rows.offsets, last=last)
    out, state = net(rows.x, None if rows.begins else state)
    return out[-1:] if last else out, state
