"""Rows of a batch that run through time together: which, and where their steps lie. csrc/kernels/rows.h.

Rows of unequal length are sorted longest first, so that the active ones are always the first of the group.
"""

# mypy: ignore-errors
# Compiled code: its types are Numba's, and inferred.

from __future__ import annotations

from collections import namedtuple

from lstmkernel.backends.numba.jit import internal, spliced
from lstmkernel.backends.numba.kernels.tile import ZERO
from lstmkernel.backends.numba.memory import at, clear

#: The caller's arrays. lengths, reset (csrc/run/dispatch.h), read and write are pointers, used where has_lengths,
#: has_reset or has_places says so. Without places, rows of h and c are the batch's. T counts the steps of this call;
#: the first of them is step `start` of the sequence. `lengths` are of the whole sequence; x and out point to that step.
Call = namedtuple(
    "Call",
    "T x x_step x_row has_lengths lengths has_reset reset reset_step start reverse has_places read write "
    "h c out out_step out_row",
)


@internal
def choose_rows(g, b0, n, call):
    """Rows b0 .. b0 + n - 1 of the batch enter the group, longest first (insertion sort: few rows, stable)."""
    for r in range(n):
        length = max(0, min(call.lengths[b0 + r] - call.start, call.T)) if call.has_lengths else call.T
        place = r
        while place > 0 and g.length[place - 1] < length:
            g.length[place] = g.length[place - 1]
            g.row[place] = g.row[place - 1]
            place -= 1
        g.length[place] = length
        g.row[place] = b0 + r


@internal
def clear_past_ends(layer, g, n, call):
    """Zeros in out where a row has no steps."""
    for r in range(n):
        for t in range(g.length[r], call.T):
            clear(at(call.out, t * call.out_step + g.row[r] * call.out_row), layer.output_size)


@spliced
def time_of(g, r, s, call):
    """When row r of the group takes its step s."""
    return g.length[r] - 1 - s if call.reverse else s


@spliced
def read_from(g, r, call):
    """The row of h and c that row r of the group has its first states from."""
    return call.read[g.row[r]] if call.has_places else g.row[r]


@spliced
def write_to(g, r, call):
    """The row that takes its last ones."""
    return call.write[g.row[r]] if call.has_places else g.row[r]


@spliced
def starts_anew(g, r, s, call):
    """Whether its state is to be zero before its step s."""
    return call.has_reset and call.reset[time_of(g, r, s, call) * call.reset_step + g.row[r]] != 0


@internal
def choose_inputs(g, s0, s1, active, call):
    """Pointers to every step's active rows of x, one after the other. Returns how many."""
    z_rows = ZERO
    for s in range(s0, s1):
        while g.length[active - 1] <= s:
            active -= 1
        for r in range(active):
            g.x[z_rows] = at(call.x, time_of(g, r, s, call) * call.x_step + g.row[r] * call.x_row)
            z_rows += 1
    return z_rows


@spliced
def out_of(g, r, s, call):
    """Where it puts its output."""
    return at(call.out, time_of(g, r, s, call) * call.out_step + g.row[r] * call.out_row)


@internal
def still_active(g, active, s):
    """How many of `active` rows have a step s."""
    while active > 0 and g.length[active - 1] <= s:
        active -= 1
    return active
