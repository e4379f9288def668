"""layer_forward that keeps what backward.py needs: csrc/kernels/record.h.

The same tiles make the same sums, so results are bit-identical; but every step's gates and c have a place of their own
on the tape. The rows of a tape are sorted, longest first, so the rows of a step are the first ones and lie side by
side. It runs on one thread.
"""

# mypy: ignore-errors
# Compiled code: its types are Numba's, and inferred.

from __future__ import annotations

from collections import namedtuple

from lstmkernel.backends.numba.jit import inlined, internal, spliced
from lstmkernel.backends.numba.kernels.activation import v_number
from lstmkernel.backends.numba.kernels.cell import next_states, open_gates
from lstmkernel.backends.numba.kernels.input_product import input_product
from lstmkernel.backends.numba.kernels.layout import WORD, most_z_rows
from lstmkernel.backends.numba.kernels.step import project, small_step_sums, step_sums, sweep_step
from lstmkernel.backends.numba.kernels.tile import BLOCKS_1, ROWS_1, ZERO
from lstmkernel.backends.numba.memory import at, copy, item_size, lanes, pointer, pointer_to_rows
from lstmkernel.backends.numba.vec.operations import v_div, v_mul, v_store
from lstmkernel.backends.numba.vec.registers import block_size, load_tile
from lstmkernel.backends.numba.vec.tail import v_load_n, v_store_n

#: Padded widths of a row, and the workspace, as in layout.RowGroup.
RecordGroup = namedtuple("RecordGroup", "c_stride h_stride z_stride hidden h h_next z x")

#: As step.StepJob; c_before, c_next and gates are those of the step on the tape.
RecordJob = namedtuple("RecordJob", "layer group z h c_before c_next gates reported")


@spliced
def row_steps(tape, row):
    return tape.lengths[row] if tape.has_lengths else tape.T


@internal
def rows_at(tape, s, most):
    """How many of the first `most` rows take step s."""
    while most > 0 and row_steps(tape, most - 1) <= s:
        most -= 1
    return most


@spliced
def tape_time(tape, s, row):
    """When a row takes its step s."""
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


def record_workspace(H: int, P: int, B: int, lanes: int, size: int) -> int:
    """Bytes. What `lay_out_record` lays out."""
    c_stride = -(-H // lanes) * lanes
    z_rows = max(B, most_z_rows.py_func(4 * c_stride * size))
    return (B * (c_stride + 2 * (P or c_stride)) + z_rows * 4 * c_stride) * size + WORD + z_rows * WORD


@internal
def lay_out_record(layer, B, work, real):
    hidden = pointer(work, real)
    c_stride = layer.blocks * lanes(hidden)
    h_stride, z_stride = layer.proj_size or c_stride, 4 * c_stride
    h = at(hidden, B * c_stride)
    z = at(h, 2 * B * h_stride)
    z_rows = max(B, most_z_rows(z_stride * item_size(hidden)))
    reals = B * (c_stride + 2 * h_stride) + z_rows * z_stride
    words = (work + reals * item_size(hidden) + WORD - 1) // WORD * WORD
    x = pointer_to_rows(words, real)
    return RecordGroup(c_stride, h_stride, z_stride, hidden, h, at(h, B * h_stride), z, x)


@internal
def record_inputs(layer, group, tape, s, stop, active):
    """z of the inputs of steps s .. stop - 1, `active` rows of the batch at s."""
    z_rows = ZERO
    for step in range(s, stop):
        active = rows_at(tape, step, active)
        for row in range(active):
            group.x[z_rows] = tape_x(tape, step, row)
            z_rows += 1
    input_product(layer, z_rows, group.x, group.z)


@spliced
def keep_gates(quotients, gates, H, n):
    """i, f, g and o of n units (a vector or less) go to [4][H]."""
    write, forget, candidate, candidate_over, output = quotients
    one = v_number(write, 1)
    both = v_div(one, v_mul(write, candidate_over))  # 1 / a = b / (a b)
    v_store_n(gates, v_mul(both, candidate_over), n)
    v_store_n(at(gates, H), v_div(one, forget), n)
    v_store_n(at(gates, 2 * H), v_mul(candidate, v_mul(both, write)), n)
    v_store_n(at(gates, 3 * H), v_div(one, output), n)


@spliced
def keep_cell(z, row, unit, job):
    H = job.layer.hidden_size
    place, n = row * H + unit, H - unit
    quotients = open_gates(load_tile(z, 0, ROWS_1, BLOCKS_1))
    keep_gates(quotients, at(job.gates, row * 4 * H + unit), H, n)
    c_t, h_t = next_states(quotients, v_load_n(at(job.c_before, place), n))
    v_store_n(at(job.c_next, place), c_t, n)
    v_store(at(job.reported, row * job.group.c_stride + unit), h_t)


@spliced
def keep_tile(rows, blocks, row, block, z, job):
    for r in range(len(rows)):
        for b in range(len(blocks)):
            keep_cell(at(z, r * job.group.z_stride + b * block_size(z)), row + r, (block + b) * lanes(z), job)


@inlined
def record_tile(rows, blocks, row, block, line, job):
    keep_tile(rows, blocks, row, block, step_sums(rows, blocks, row, block, line, job), job)


@inlined
def small_record_tile(rows, blocks, row, block, line, job):
    keep_tile(rows, blocks, row, block, small_step_sums(rows, blocks, row, block, job), job)


@spliced
def layer_record(layer, tape, work, real):
    group, R, H = lay_out_record(layer, tape.B, work, real), layer.output_size, layer.hidden_size
    h, h_next, gates, c = group.h, group.h_next, tape.gates, tape.c
    active = rows_at(tape, tape.first, tape.B)
    for row in range(active):
        copy(at(h, row * group.h_stride), tape_h_before(tape, tape.first, row, R), R)
    s = tape.first
    while s < tape.last and active > 0:
        z_rows, z = most_z_rows(group.z_stride * item_size(group.z)), group.z
        stop = min(tape.last, s + max(1, z_rows // active))
        record_inputs(layer, group, tape, s, stop, active)
        while s < stop:
            active = rows_at(tape, s, active)
            c_next = at(c, tape.B * H)
            if active > 0:
                job = RecordJob(layer, group, z, h, c, c_next, gates, group.hidden if layer.proj_size else h_next)
                sweep_step(layer, active, s & 1, small_record_tile, record_tile, job)
                project(layer, group, h_next, active)
            h, h_next = h_next, h
            for row in range(active):
                copy(tape_h(tape, s, row), at(h, row * group.h_stride), R)
            z, gates, c = at(z, active * group.z_stride), at(gates, active * 4 * H), c_next
            s += 1
