"""layer_forward that keeps what backward.py needs: csrc/record.h.

The same sums by the same tiles, so the same bits, but z stays where it was summed up, and every step's c has a place of
its own. On one thread.
"""

# mypy: ignore-errors
# Compiled code: its types are Numba's, and inferred.

from __future__ import annotations

from collections import namedtuple

from lstmkernel.backends.numba.gate_matmul import input_product
from lstmkernel.backends.numba.jit import internal, spliced
from lstmkernel.backends.numba.layer_forward import recurrent_step
from lstmkernel.backends.numba.memory import at, copy, item_size, lanes, pointer, pointer_to_rows
from lstmkernel.backends.numba.plan import WORD, most_z_rows
from lstmkernel.backends.numba.tape import rows_at, tape_h, tape_h_before, tape_x
from lstmkernel.backends.numba.tile import ZERO

#: Padded widths of a row, and the workspace; as in plan.Group.
RecordGroup = namedtuple("RecordGroup", "c_stride h_stride z_stride hidden h h_next x")


def record_workspace(H: int, P: int, B: int, lanes: int, size: int) -> int:
    """Bytes. What `lay_out_record` lays out."""
    c_stride = -(-H // lanes) * lanes
    z_rows = max(B, most_z_rows.py_func(4 * c_stride * size))
    return B * (c_stride + 2 * (P or c_stride)) * size + WORD + z_rows * WORD


@internal
def lay_out_record(layer, B, work, real):
    hidden = pointer(work, real)
    c_stride = layer.blocks * lanes(hidden)
    h_stride = layer.proj_size or c_stride
    h = at(hidden, B * c_stride)
    words = (work + B * (c_stride + 2 * h_stride) * item_size(hidden) + WORD - 1) // WORD * WORD
    x = pointer_to_rows(words, real)
    return RecordGroup(c_stride, h_stride, 4 * c_stride, hidden, h, at(h, B * h_stride), x)


@internal
def record_inputs(layer, g, tape, s, stop, active, z):
    """z of the inputs of steps s .. stop - 1, `active` rows of the batch at s."""
    z_rows = ZERO
    for step in range(s, stop):
        active = rows_at(tape, step, active)
        for row in range(active):
            g.x[z_rows] = tape_x(tape, step, row)
            z_rows += 1
    input_product(layer, z_rows, g.x, z)


@spliced
def layer_record(layer, tape, work, real):
    g, R = lay_out_record(layer, tape.B, work, real), layer.output_size
    h, h_next, z, c = g.h, g.h_next, tape.z, tape.c
    active = rows_at(tape, tape.first, tape.B)
    for row in range(active):
        copy(at(h, row * g.h_stride), tape_h_before(tape, tape.first, row, R), R)
    s = tape.first
    while s < tape.last and active > 0:
        z_rows = most_z_rows(g.z_stride * item_size(z))
        stop = min(tape.last, s + max(1, z_rows // active))
        record_inputs(layer, g, tape, s, stop, active, z)
        while s < stop:
            active = rows_at(tape, s, active)
            c_next = at(c, tape.B * g.c_stride)
            if active > 0:
                recurrent_step(layer, g, z, h, h_next, c, c_next, active, s & 1)
            h, h_next = h_next, h
            for row in range(active):
                copy(tape_h(tape, s, row), at(h, row * g.h_stride), R)
            z, c = at(z, active * g.z_stride), c_next
            s += 1
