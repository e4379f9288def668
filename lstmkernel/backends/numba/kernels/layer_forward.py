"""One direction of one layer over all time steps and rows: csrc/kernels/layer_forward.h, which explains the plan.

Rows are taken in groups that keep their states in a small workspace and run through all of time together (layout.py).
Time is taken in chunks: the input product of a chunk is one matrix product, whose result stays in L2. Then the steps
follow one by one (step.py): each is a recurrent product whose tiles finish in registers with the cell.

C keeps all of this in one struct that it updates. Compiled tuples are values. So what never changes is a tuple here;
what does (h and h_next, which swap, and the number of active rows) is a local variable.
"""

# mypy: ignore-errors
# Compiled code: its types are Numba's, and inferred.

from __future__ import annotations

from lstmkernel.backends.numba.jit import inlined, internal, spliced
from lstmkernel.backends.numba.kernels.cell import cell
from lstmkernel.backends.numba.kernels.input_product import input_product
from lstmkernel.backends.numba.kernels.rows import (
    choose_inputs,
    choose_rows,
    clear_past_ends,
    out_of,
    read_from,
    starts_anew,
    still_active,
    write_to,
)
from lstmkernel.backends.numba.kernels.step import small_step_sums, step_sums, sweep_step, take_step
from lstmkernel.backends.numba.kernels.tile import BLOCKS_1, ROWS_1, ZERO
from lstmkernel.backends.numba.kernels.transposed import run_transposed_group
from lstmkernel.backends.numba.memory import at, clear, copy, lanes
from lstmkernel.backends.numba.vec.operations import v_load, v_store
from lstmkernel.backends.numba.vec.registers import block_size, load_tile


@spliced
def finish_tile(rows, blocks, row, block, z, job):
    for r in range(len(rows)):
        for b in range(len(blocks)):
            unit = (row + r) * job.group.c_stride + (block + b) * lanes(z)
            finish_cell(at(z, r * job.group.z_stride + b * block_size(z)), unit, job)


@spliced
def finish_cell(z, unit, job):
    c_t, h_t = cell(load_tile(z, 0, ROWS_1, BLOCKS_1), v_load(at(job.c, unit)))
    v_store(at(job.c, unit), c_t)
    v_store(at(job.reported, unit), h_t)


@inlined
def step_tile(rows, blocks, row, block, line, job):
    finish_tile(rows, blocks, row, block, step_sums(rows, blocks, row, block, line, job), job)


@inlined
def small_step_tile(rows, blocks, row, block, line, job):
    """`line` has no use: its weights are always near."""
    finish_tile(rows, blocks, row, block, small_step_sums(rows, blocks, row, block, job), job)


@inlined
def step_tiles(job, active, backwards):
    sweep_step(job.layer, active, backwards, small_step_tile, step_tile, job)


@internal
def load_states(layer, group, n, task):
    """The group's states before the first step."""
    H, R = layer.hidden_size, layer.output_size
    for r in range(n):
        row = read_from(group, r, task)
        copy(at(group.h, r * group.h_stride), at(task.h, row * R), R)
        clear(at(group.c, r * group.c_stride), group.c_stride)  # units past H too: they are computed, never read
        copy(at(group.c, r * group.c_stride), at(task.c, row * H), H)


@internal
def reset_states(layer, group, h, s, active, task):
    """Zero states before step s, where that is asked for."""
    for r in range(active):
        if starts_anew(group, r, s, task):
            clear(at(h, r * group.h_stride), layer.output_size)
            clear(at(group.c, r * group.c_stride), layer.hidden_size)


@inlined
def report(layer, group, h, s, active, task):
    """h goes to out; rows whose last step this was go to the caller. Returns how many rows go on."""
    H, R = layer.hidden_size, layer.output_size
    for r in range(active):
        copy(out_of(group, r, s, task), at(h, r * group.h_stride), R)
    while active > 0 and group.length[active - 1] == s + 1:
        active -= 1
        row = write_to(group, active, task)
        copy(at(task.h, row * R), at(h, active * group.h_stride), R)
        copy(at(task.c, row * H), at(group.c, active * group.c_stride), H)
    return active


@spliced
def run_group(layer, group, active, task, tiles):
    """tiles: step_tiles, or those of a variant."""
    h, h_next = group.h, group.h_next
    active = still_active(group, active, 0)
    s0 = ZERO
    while active > 0:
        s1 = min(s0 + group.steps, group.length[0])
        input_product(layer, choose_inputs(group, s0, s1, active, task), group.x, group.z)
        z = group.z
        for s in range(s0, s1):
            if task.has_reset:
                reset_states(layer, group, h, s, active, task)
            take_step(layer, group, z, h, h_next, active, s & 1, tiles)  # every other step backwards
            h, h_next = h_next, h
            z = at(z, active * group.z_stride)
            active = report(layer, group, h, s, active, task)
        s0 += group.steps


@spliced
def layer_forward(layer, group, B, task):
    for b0 in range(0, B, group.rows):
        n = min(group.rows, B - b0)
        choose_rows(group, b0, n, task)
        clear_past_ends(layer, group, n, task)
        if group.transposed:
            run_transposed_group(layer, group, n, task)
        else:
            load_states(layer, group, n, task)
            run_group(layer, group, n, task, step_tiles)
