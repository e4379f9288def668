"""Run a network over rows of equal length, block by block. The results are bit-identical to one call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any, NamedTuple, Protocol

import numpy as np

from lstmkernel.backends.packing import Array
from lstmkernel.workbench.blockwise.arrays import Index, Shape
from lstmkernel.workbench.blockwise.cut import Cut, Grid, slices
from lstmkernel.workbench.networks import Net, lstms


class Source(Protocol):
    """An array that is read in blocks. ``index`` has slices of its first axes."""

    def read(self, index: Index) -> Array: ...


class Sink(Protocol):
    """An array that is written in blocks."""

    def write(self, index: Index, block: Array) -> None: ...


class Job(NamedTuple):
    """What is to be computed. lengths: (B,), or None; last: only the output at each row's last step."""

    net: Net
    grid: Grid
    cut: Cut
    lengths: Array | None = None
    last: bool = False

    def out_shape(self) -> Shape:
        grid, width = self.grid, self.net.out_features
        if not self.last:
            return (*grid.leading(), width)
        return (grid.B, width) if grid.batched else (width,)


def run(job: Job, source: Source, out: Sink, states: Sequence[Sink], tick: Callable[[int], object]) -> float:
    """Read, compute and write every block; the seconds that the network took.

    states: where h and c of each LSTM go, in order; none if nobody wants them. tick: called with the steps of rows that
    were done.
    """
    in_one_block = job.cut.times >= job.grid.T
    run_rows = _run_last if job.last and in_one_block and not states else _run_rows
    return sum(run_rows(job, rows, source, out, states, tick) for rows in slices(job.grid.B, job.cut.rows))


def _run_last(
    job: Job, rows: slice, source: Source, out: Sink, states: Sequence[Sink], tick: Callable[[int], object]
) -> float:
    """Rows of which only the last output is wanted, and no states: the outputs before it need not be stored."""
    grid, lengths = job.grid, None if job.lengths is None else job.lengths[rows]
    x = source.read(grid.part(slice(0, grid.T), rows))
    start = perf_counter()
    block = job.net.last(x, lengths=lengths)
    seconds = perf_counter() - start
    out.write((rows,) if grid.batched else (), block)
    tick(grid.T * (rows.stop - rows.start))
    return seconds


def _run_rows(
    job: Job, rows: slice, source: Source, out: Sink, states: Sequence[Sink], tick: Callable[[int], object]
) -> float:
    net, grid, seconds = job.net, job.grid, 0.0
    state: Any = None
    lengths = None if job.lengths is None else job.lengths[rows]
    last = _Last(job, rows)
    for times in slices(grid.T, job.cut.times):
        x = source.read(grid.part(times, rows))
        within = None if lengths is None else np.clip(lengths - times.start, 0, times.stop - times.start)
        start = perf_counter()
        block, state = net(x, state, lengths=within)
        seconds += perf_counter() - start
        if job.last:
            last.take(block, times, within)
        else:
            out.write(grid.part(times, rows), block)
        tick((times.stop - times.start) * (rows.stop - rows.start))
    if job.last:
        out.write((rows,) if grid.batched else (), last.out)
    for sink, part in zip(states, flat_states(state), strict=False):
        sink.write((slice(0, len(part)), rows) if grid.batched else (), part)
    return seconds


class _Last:
    """The output at each row's last step, out of blocks of all steps; 0 where a row has none."""

    def __init__(self, job: Job, rows: slice) -> None:
        self._grid = job.grid
        count = (rows.stop - rows.start,) if job.grid.batched else ()
        self.out = np.zeros((*count, job.net.out_features), job.net.dtype)

    def take(self, block: Array, times: slice, lengths: Array | None) -> None:
        """lengths: of the rows within this block; rows that ended earlier have 0."""
        if times.stop == times.start:
            return
        by_row = block.swapaxes(0, 1) if self._grid.batched and not self._grid.rows_first else block
        if lengths is None:
            self.out[...] = by_row[:, -1] if self._grid.batched else block[-1]
            return
        here = np.flatnonzero(lengths)
        self.out[here] = by_row[here, lengths[here] - 1]


def flat_states(states: Any) -> list[Array]:
    """h and c of each LSTM, in order, out of what a network returns."""
    pairs = states if isinstance(states[0], tuple) else (states,)  # a Stack's, or an LSTM's
    return [part for pair in pairs for part in pair]


def state_shapes(net: Net, rows: Shape) -> dict[str, Shape]:
    """The names under which states are saved, in the order of ``flat_states``. rows: (B,), or () if not batched.

    They are h_n and c_n; h_n_0, c_n_0, h_n_1, ... if there are several LSTMs.
    """
    found = lstms(net)
    shapes: dict[str, Shape] = {}
    for number, lstm in enumerate(found):
        place, count = f"_{number}" if len(found) > 1 else "", lstm.num_layers * lstm.shape.directions
        shapes[f"h_n{place}"] = (count, *rows, lstm.shape.output_size)
        shapes[f"c_n{place}"] = (count, *rows, lstm.hidden_size)
    return shapes
