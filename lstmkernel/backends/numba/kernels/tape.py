"""What one layer and direction keeps of a forward pass for the backward one, as compiled code sees it: lk_tape.

Rows are sorted longest first, so those of a step are the first ones and lie side by side.
"""

# mypy: ignore-errors
# Compiled code: its types are Numba's, and inferred.

from __future__ import annotations

from collections import namedtuple

from numba import int64

from lstmkernel.backends.numba.jit import internal, spliced
from lstmkernel.backends.numba.kernels.tile import ZERO
from lstmkernel.backends.numba.memory import at, pointer

#: lengths: a pointer, used where has_lengths says so.
Tape = namedtuple("Tape", "T B first last has_lengths lengths reverse x x_step x_row h_0 h h_step h_row c gates")


@internal
def tape_at(address, real):
    field = pointer(address, int64)
    sizes = (field[0], field[1], field[2], field[3])
    rows_of_x, rows_of_h = (
        (pointer(field[6], real), field[7], field[8]),
        (pointer(field[10], real), field[11], field[12]),
    )
    given = (field[4] != 0, pointer(field[4], int64), field[5] != 0)
    return Tape(
        *sizes,
        *given,
        *rows_of_x,
        pointer(field[9], real),
        *rows_of_h,
        pointer(field[13], real),
        pointer(field[14], real),
    )


@spliced
def row_steps(tape, row):
    return tape.lengths[row] if tape.has_lengths else tape.T


@internal
def rows_at(tape, s, most):
    """How many of the first `most` rows take step s."""
    while most > 0 and row_steps(tape, most - 1) <= s:
        most -= 1
    return most


@internal
def rows_before(tape, s, active):
    """How many rows take step s, where `active` take the one after it."""
    while active < tape.B and row_steps(tape, active) > s:
        active += 1
    return active


@spliced
def tape_time(tape, s, row):
    return row_steps(tape, row) - 1 - s if tape.reverse else s


@spliced
def tape_x(tape, s, row):
    return at(tape.x, tape_time(tape, s, row) * tape.x_step + row * tape.x_row)


@spliced
def tape_h(tape, s, row):
    return at(tape.h, tape_time(tape, s, row) * tape.h_step + row * tape.h_row)


@spliced
def tape_h_before(tape, s, row, R):
    """h that step s begins with."""
    return at(tape.h_0, row * R) if s == 0 else tape_h(tape, s - 1, row)


@internal
def all_rows(tape):
    """Of all the tape's steps; and of the last step alone."""
    count, active = ZERO, tape.B
    for s in range(tape.first, tape.last):
        active = rows_at(tape, s, active)
        count += active
    return count, active
