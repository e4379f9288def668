"""The kernels' arrays: what one layer and direction keeps of a forward pass for the backward one, and what flows back.

Rows are sorted longest first, so that the rows which take a step are always the first ones. Time is told in *steps*,
which every row counts from its own beginning: step s of row b is at time s or, backwards, at time lengths[b] - 1 - s.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lstmkernel.backends.packing import Array


class LayerTape(NamedTuple):
    """Steps first .. last - 1 of one layer in one direction, for T times and B rows."""

    x: Array  # (T, B, I), what the layer reads
    lengths: Array | None  # (B,) int64, descending; None: T each
    reverse: bool
    h_0: Array  # (B, R), contiguous: before step 0
    h: Array  # (T, B, R), at its time; nothing is written where a row has no step
    c: Array  # (last - first + 1, B, H), contiguous: before step first + n at n
    gates: Array  # (N, 4, H), contiguous: i, f, g, o; all rows of a step, one step after the other
    first: int
    last: int

    def steps(self, first: int, last: int) -> LayerTape:
        """A part of them."""
        rows = active_rows(self.lengths, *self.x.shape[:2])
        start, stop = (int(rows[self.first : step].sum()) for step in (first, last))
        c = self.c[first - self.first : last - self.first + 1]
        return self._replace(c=c, gates=self.gates[start:stop], first=first, last=last)

    def active_steps(self) -> list[tuple[int, int]]:
        """Each step that rows take, and how many do."""
        rows = active_rows(self.lengths, *self.x.shape[:2])
        return [(step, int(rows[step])) for step in range(self.first, self.last) if rows[step]]

    def h_before(self, step: int, rows: int) -> Array:
        """(rows, R): what that step begins with."""
        return self.h_0[:rows] if step == 0 else self.h[self.times(step - 1, rows), np.arange(rows)]

    def times(self, step: int, rows: int) -> Array:
        """(rows,) when the first rows take a step."""
        T, B, _ = self.x.shape
        if not self.reverse:
            return np.full(rows, step)
        lengths = np.full(B, T) if self.lengths is None else self.lengths
        return np.asarray(lengths[:rows] - 1 - step)


class Parameters(NamedTuple):
    """One layer's and direction's weights, gates i, f, g, o along the first axis; contiguous."""

    w_ih: Array  # (4H, I)
    w_hh: Array  # (4H, R)
    w_hr: Array | None  # (P, H)


class ParameterGradients(NamedTuple):
    """dL/d... of the parameters, contiguous: what is found is added."""

    w_ih: Array  # (4H, I)
    w_hh: Array  # (4H, R)
    bias: Array  # (4H,), of bias_ih and of bias_hh
    w_hr: Array | None  # (P, H); None without a projection


class LayerGradients(NamedTuple):
    """dL/d... of what goes in and out of one layer and direction. Contiguous, but for out and x along T and B."""

    out: Array | None  # (T, B, R): read; None is zeros
    h: Array  # (B, R): after the last step; becomes that before the first one, of rows that have steps
    c: Array  # (B, H): likewise
    x: Array | None  # (T, B, I): where rows have steps; None: not needed
    add_x: bool  # to what x has; else it is written
    parameters: ParameterGradients | None  # None: not needed


def active_rows(lengths: Array | None, T: int, B: int) -> Array:
    """(T,) int64: how many rows take each step."""
    if lengths is None:
        return np.full(T, B, np.int64)
    return np.searchsorted(-lengths, -np.arange(T), side="left").astype(np.int64)
