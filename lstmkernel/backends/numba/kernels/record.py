"""layer_forward that keeps what backward.py needs: csrc/kernels/record.h.

The same tiles make the same sums, so results are bit-identical; but every step's gates and c have a place of their own
on the tape. The rows of a tape are sorted, longest first, so the rows of a step are the first ones and lie side by
side. The threads of a team share rows or units (run/team.py).
"""

# mypy: ignore-errors
# Compiled code: its types are Numba's, and inferred.

from __future__ import annotations

from collections import namedtuple

from lstmkernel.backends.numba.jit import inlined, internal, spliced
from lstmkernel.backends.numba.kernels.activation import v_number
from lstmkernel.backends.numba.kernels.cell import next_states, open_gates
from lstmkernel.backends.numba.kernels.dense import blocks_of
from lstmkernel.backends.numba.kernels.float_step import project, small_step_sums, step_sums
from lstmkernel.backends.numba.kernels.input_product import input_product
from lstmkernel.backends.numba.kernels.layer_forward import copy_columns
from lstmkernel.backends.numba.kernels.layout import WORD, most_z_rows
from lstmkernel.backends.numba.kernels.step import outputs_of, sweep_step, units_of
from lstmkernel.backends.numba.kernels.tile import BLOCKS_1, ROWS_1, ZERO
from lstmkernel.backends.numba.memory import at, copy, item_size, lanes, pointer, pointer_to_rows
from lstmkernel.backends.numba.run.team import ALONE, ONE, first_part, is_over, next_part, rank_of
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


@spliced
def record_z_rows(z_stride, item_size):
    """Rows of z of a chunk of several steps. A chunk of one step has as many rows as that step."""
    return most_z_rows(z_stride * item_size)


@spliced
def record_reals(c_stride, h_stride, B, threads, z_rows):
    """Numbers: hidden, h and h_next of all rows; then z of all rows, and of a chunk for each thread."""
    return B * (c_stride + 2 * h_stride) + (B + threads * (z_rows + 1)) * 4 * c_stride


def record_workspace(H: int, P: int, B: int, threads: int, lanes: int, size: int) -> int:
    """Bytes. What `lay_out_record` lays out: after the numbers, each thread's pointers to rows of x."""
    c_stride = -(-H // lanes) * lanes
    z_rows = most_z_rows.py_func(4 * c_stride * size)
    reals = record_reals.py_func(c_stride, P or c_stride, B, threads, z_rows)
    return reals * size + WORD + threads * max(B, z_rows) * WORD


@spliced
def lay_out_record(layer, B, threads, rank, row, z_row, work, real):
    """A group of rows, from `row` on, with z from z_row on. Threads that share the units share z, too."""
    hidden = pointer(work, real)
    c_stride = layer.blocks * lanes(hidden)
    h_stride, z_stride = layer.proj_size or c_stride, 4 * c_stride
    z_rows = record_z_rows(z_stride, item_size(hidden))
    h = at(hidden, B * c_stride + row * h_stride)
    z = at(hidden, B * (c_stride + 2 * h_stride) + z_row * z_stride)
    reals = record_reals(c_stride, h_stride, B, threads, z_rows)
    words = (work + reals * item_size(hidden) + WORD - 1) // WORD * WORD
    x = pointer_to_rows(words + rank * max(B, z_rows) * WORD, real)
    return RecordGroup(c_stride, h_stride, z_stride, at(hidden, row * c_stride), h, at(h, B * h_stride), z, x)


@internal
def point_to_inputs(group, tape, rows, s, stop, active):
    """Pointers to x of the rows at steps s .. stop - 1; `active` rows of the batch take step s. Returns how many."""
    z_rows = ZERO
    for step in range(s, stop):
        active = rows_at(tape, step, active)
        for row in range(rows[0], min(rows[1], active)):
            group.x[z_rows] = tape_x(tape, step, row)
            z_rows += 1
    return z_rows


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


@internal
def keep_h(group, tape, h, columns, s, row, n):
    """These columns of h of n rows go to the tape, after step s."""
    for r in range(n):
        copy_columns(tape_h(tape, s, row + r), at(h, r * group.h_stride), columns)


@spliced
def record_phases(job, tape, h_next, s, row, n, team):
    """Step s of n rows, from `row` on."""
    layer, group = job.layer, job.group
    part = first_part(team, layer.blocks)
    while part[1] >= 0:
        sweep_step(layer, n, part, s & 1, small_record_tile, record_tile, job)
        if not layer.proj_size:
            keep_h(group, tape, h_next, units_of(layer, part, job.z), s, row, n)
        part = next_part(team, layer.blocks)
    if layer.proj_size and not is_over(team):
        outputs = blocks_of(layer.proj_size, job.z)
        part = first_part(team, outputs)
        while part[1] >= 0:
            project(layer, group, h_next, n, part, False)
            keep_h(group, tape, h_next, outputs_of(layer, part, job.z), s, row, n)
            part = next_part(team, outputs)


@internal
def load_first_states(group, tape, rows, R):
    """h of the rows before the first step."""
    for row in range(rows[0], rows[1]):
        copy(at(group.h, (row - rows[0]) * group.h_stride), tape_h_before(tape, tape.first, row, R), R)


@internal
def record_rows(layer, group, tape, rows, team):
    """All steps of the rows, by one thread or by threads that share the units."""
    B, H = tape.B, layer.hidden_size
    h, h_next = group.h, group.h_next
    gates, c = at(tape.gates, rows[0] * 4 * H), at(tape.c, rows[0] * H)
    active = rows_at(tape, tape.first, B)
    part = first_part(team, ONE)
    while part[1] >= 0:
        load_first_states(group, tape, (rows[0], min(rows[1], active)), layer.output_size)
        part = next_part(team, ONE)
    s = tape.first
    while s < tape.last and active > rows[0] and not is_over(team):
        n = min(rows[1], active) - rows[0]
        z, stop = group.z, min(tape.last, s + max(1, record_z_rows(group.z_stride, item_size(group.z)) // n))
        z_rows = point_to_inputs(group, tape, rows, s, stop, active)
        part = first_part(team, layer.blocks)
        while part[1] >= 0:
            input_product(layer, z_rows, group.x, group.z, part)
            part = next_part(team, layer.blocks)
        while s < stop and active > rows[0] and not is_over(team):
            n = min(rows[1], active) - rows[0]
            reported = group.hidden if layer.proj_size else h_next
            job = RecordJob(layer, group, z, h, c, at(c, B * H), gates, reported)
            record_phases(job, tape, h_next, s, rows[0], n, team)
            if is_over(team):
                return
            h, h_next = h_next, h
            z, gates, c = at(z, n * group.z_stride), at(gates, active * 4 * H), at(c, B * H)
            s += 1
            active = rows_at(tape, s, active)


@spliced
def layer_record(layer, tape, work, real, threads, by_units, team):
    """The threads of a team share units (by_units), or rows, and then none waits for another."""
    B, rank = tape.B, rank_of(team)
    if by_units:
        record_rows(layer, lay_out_record(layer, B, threads, rank, ZERO, ZERO, work, real), tape, (ZERO, B), team)
        return
    part = first_part(team, B)
    while part[1] >= 0:
        z_stride = 4 * layer.blocks * lanes(tape.c)
        most_z = record_z_rows(z_stride, item_size(tape.c))
        z_row = rank * (most_z + (B + threads - 1) // threads)
        group = lay_out_record(layer, B, threads, rank, part[0], z_row, work, real)
        record_rows(layer, group, tape, part, ALONE)
        part = next_part(team, B)
