"""The arrays of training: what a layer's direction keeps of the forward pass for the backward pass, and the gradients.

Rows are sorted, the longest first, so the rows that take a step are always the first ones. Every row counts its *steps*
from its own beginning: step s of row b is at time s or, backwards, at time lengths[b] - 1 - s.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lstmkernel.backends.packing import Array


class LayerTape(NamedTuple):
    """Steps first .. last - 1 of one layer in one direction, of T time steps and B rows."""

    x: Array  # (T, B, I): the layer's input
    lengths: Array | None  # (B,) int64, descending; None: T each
    reverse: bool
    h_0: Array  # (B, R), contiguous: h before step 0
    h: Array  # (T, B, R), by time; not written where a row has no step
    c: Array  # (last - first + 1, B, H), contiguous: at n, the cell state before step first + n
    gates: Array  # (N, 4, H), contiguous: i, f, g, o, for each step all rows that take it
    first: int
    last: int

    def steps(self, first: int, last: int) -> LayerTape:
        """A tape of some of the steps. The arrays are views."""
        rows = active_rows(self.lengths, *self.x.shape[:2])
        start, stop = (int(rows[self.first : step].sum()) for step in (first, last))
        c = self.c[first - self.first : last - self.first + 1]
        return self._replace(c=c, gates=self.gates[start:stop], first=first, last=last)

    def rows(self, rows: slice) -> LayerTape:
        """A tape of one step, for some of the rows that take it. c is a copy, the other arrays are views."""
        lengths = None if self.lengths is None else self.lengths[rows]
        c = np.ascontiguousarray(self.c[:, rows])
        return self._replace(
            x=self.x[:, rows], lengths=lengths, h_0=self.h_0[rows], h=self.h[:, rows], c=c, gates=self.gates[rows]
        )

    def active_steps(self) -> list[tuple[int, int]]:
        """(step, number of rows that take it), of all steps that a row takes."""
        rows = active_rows(self.lengths, *self.x.shape[:2])
        return [(step, int(rows[step])) for step in range(self.first, self.last) if rows[step]]

    def h_before(self, step: int, rows: int) -> Array:
        """(rows, R): h before that step."""
        return self.h_0[:rows] if step == 0 else self.h[self.times(step - 1, rows), np.arange(rows)]

    def times(self, step: int, rows: int) -> Array:
        """(rows,): the time at which each of the first rows takes that step."""
        T, B, _ = self.x.shape
        if not self.reverse:
            return np.full(rows, step)
        lengths = np.full(B, T) if self.lengths is None else self.lengths
        return np.asarray(lengths[:rows] - 1 - step)


class RowsOfTape(NamedTuple):
    """A tape, and which of the batch's rows it is of."""

    tape: LayerTape
    rows: slice = slice(None)


class Parameters(NamedTuple):
    """The weights of one layer and direction, contiguous. Gates lie along the first axis, in the order i, f, g, o."""

    w_ih: Array  # (4H, I)
    w_hh: Array  # (4H, R)
    w_hr: Array | None  # (P, H)


class ParameterGradients(NamedTuple):
    """Gradients of the parameters, contiguous. The kernel adds to them."""

    w_ih: Array  # (4H, I)
    w_hh: Array  # (4H, R)
    bias: Array  # (4H,): the gradient of bias_ih, and of bias_hh
    w_hr: Array | None  # (P, H); None without a projection


class LayerGradients(NamedTuple):
    """Gradients at one layer and direction. Contiguous, but out and x may have any strides along T and B."""

    out: Array | None  # (T, B, R), read; None for zeros
    h: Array  # (B, R): of h after the last step; the kernel replaces it by that before the first step
    c: Array  # (B, H): of c, likewise
    x: Array | None  # (T, B, I), written where rows have steps; None if not needed
    add_x: bool  # whether the kernel adds to x instead of writing it
    parameters: ParameterGradients | None  # None if not needed

    def rows(self, rows: slice) -> LayerGradients:
        """Those of some rows, and of the parameters. The arrays are views."""
        out, x = (None if array is None else array[:, rows] for array in (self.out, self.x))
        return self._replace(out=out, h=self.h[rows], c=self.c[rows], x=x)


def active_rows(lengths: Array | None, T: int, B: int) -> Array:
    """(T,) int64: how many rows take each step."""
    if lengths is None:
        return np.full(T, B, np.int64)
    return np.searchsorted(-lengths, -np.arange(T), side="left").astype(np.int64)
