"""The rows of a row group: which of the batch they are, and where their steps lie. csrc/kernels/rows.h.

Rows of unequal length are sorted longest first, so that the active ones are always the first of the group.
"""

# mypy: ignore-errors
# Compiled code: its types are Numba's, and inferred.

from __future__ import annotations

from collections import namedtuple

from lstmkernel.backends.numba.jit import internal, spliced
from lstmkernel.backends.numba.kernels.tile import ZERO
from lstmkernel.backends.numba.memory import at, clear

#: What a kernel is to do with one layer and direction: lk_task of csrc/run/dispatch.h. T counts the steps of this task;
#: the first of them is step `start` of the sequence. `lengths` are of the whole sequence; x, out and reset point to
#: that step. lengths, reset, read and write are used where has_lengths, has_reset and has_places say so. Without
#: places, each row of the batch has the same row of h and c.
LayerTask = namedtuple(
    "LayerTask",
    "T x x_step x_row has_lengths lengths has_reset reset reset_step start reverse has_places read write "
    "h c out out_step out_row",
)


@internal
def choose_rows(group, b0, n, task):
    """Rows b0 .. b0 + n - 1 of the batch enter the group, longest first (insertion sort: few rows, stable)."""
    for r in range(n):
        length = max(0, min(task.lengths[b0 + r] - task.start, task.T)) if task.has_lengths else task.T
        place = r
        while place > 0 and group.length[place - 1] < length:
            group.length[place] = group.length[place - 1]
            group.row[place] = group.row[place - 1]
            place -= 1
        group.length[place] = length
        group.row[place] = b0 + r


@internal
def clear_past_ends(layer, group, n, task):
    """Zeros in out where a row has no steps."""
    for r in range(n):
        for t in range(group.length[r], task.T):
            clear(at(task.out, t * task.out_step + group.row[r] * task.out_row), layer.output_size)


@spliced
def time_of(group, r, s, task):
    """When row r of the group takes its step s: each row counts steps from its own beginning."""
    return group.length[r] - 1 - s if task.reverse else s


@spliced
def read_from(group, r, task):
    """The row of h and c that holds the first states of row r of the group."""
    return task.read[group.row[r]] if task.has_places else group.row[r]


@spliced
def write_to(group, r, task):
    """The row of h and c that takes its last states."""
    return task.write[group.row[r]] if task.has_places else group.row[r]


@spliced
def starts_anew(group, r, s, task):
    """Whether its state is to be zero before its step s."""
    return task.has_reset and task.reset[time_of(group, r, s, task) * task.reset_step + group.row[r]] != 0


@internal
def choose_inputs(group, s0, s1, active, task):
    """Pointers to the active rows of x at steps s0 .. s1 - 1, one step after the other. Returns how many."""
    z_rows = ZERO
    for s in range(s0, s1):
        while group.length[active - 1] <= s:
            active -= 1
        for r in range(active):
            group.x[z_rows] = at(task.x, time_of(group, r, s, task) * task.x_step + group.row[r] * task.x_row)
            z_rows += 1
    return z_rows


@spliced
def out_of(group, r, s, task):
    """Where its output of step s goes."""
    return at(task.out, time_of(group, r, s, task) * task.out_step + group.row[r] * task.out_row)


@internal
def still_active(group, active, s):
    """How many of `active` rows have a step s."""
    while active > 0 and group.length[active - 1] <= s:
        active -= 1
    return active
