"""One direction of one layer over all time steps and rows: csrc/kernels/layer_forward.h, which explains the plan.

Rows are taken in groups that keep their states in a small workspace and run through all of time together (layout.py).
Time is taken in chunks: the input product of a chunk is one matrix product, whose result stays in L2. Then the steps
follow one by one (step.py): each is a recurrent product whose tiles finish in registers with the cell. The threads of a
team (run/team.py) have their own blocks of units, and wait for each other after every step, when h is complete.

C keeps all of this in one struct that it updates. Compiled tuples are values. So what never changes is a tuple here;
what does (h and h_next, which swap, and the number of active rows) is a local variable.
"""

# mypy: ignore-errors
# Compiled code: its types are Numba's, and inferred.

from __future__ import annotations

from lstmkernel.backends.numba.jit import inlined, internal, spliced
from lstmkernel.backends.numba.kernels.cell import cell
from lstmkernel.backends.numba.kernels.dense import blocks_of
from lstmkernel.backends.numba.kernels.float_step import inputs_product, project, small_step_sums, step_sums
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
from lstmkernel.backends.numba.kernels.step import StepJob, outputs_of, sweep_step, units_of
from lstmkernel.backends.numba.kernels.tile import BLOCKS_1, ROWS_1, ZERO
from lstmkernel.backends.numba.kernels.transposed import run_transposed_group
from lstmkernel.backends.numba.memory import at, clear, copy, lanes
from lstmkernel.backends.numba.run.team import ONE, first_part, is_over, next_part
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
def step_tiles(job, active, part, backwards, is_first):
    sweep_step(job.layer, active, part, backwards, small_step_tile, step_tile, job)


@spliced
def copy_columns(to, source, columns):
    copy(at(to, columns[0]), at(source, columns[0]), columns[1] - columns[0])


@spliced
def clear_columns(to, columns):
    clear(at(to, columns[0]), columns[1] - columns[0])


@internal
def load_states(layer, group, n, part, task):
    """Some blocks of units of the group's states, before the first step.

    With a projection h has other columns, and whoever has the first units loads all of them.
    """
    H, R, units = layer.hidden_size, layer.output_size, units_of(layer, part, group.c)
    outputs = (ZERO, R if part[0] == 0 else ZERO) if layer.proj_size else units
    for r in range(n):
        h, c, row = at(group.h, r * group.h_stride), at(group.c, r * group.c_stride), read_from(group, r, task)
        clear_columns(c, (part[0] * lanes(c), part[1] * lanes(c)))  # units past H too: they are computed, never read
        if group.length[r] > 0 and starts_anew(group, r, ZERO, task):
            clear_columns(h, outputs)
        else:
            copy_columns(h, at(task.h, row * R), outputs)
            copy_columns(c, at(task.c, row * H), units)


@internal
def report_h(layer, group, h, columns, s, active, go_on, task):
    """After step s: these columns of h go to out, and to the caller's states in rows whose last step this was.

    Those are all but the first `go_on`. Where a row starts anew in the next step, h becomes zero.
    """
    R = layer.output_size
    for r in range(active):
        h_of_row = at(h, r * group.h_stride)
        copy_columns(out_of(group, r, s, task), h_of_row, columns)
        if r >= go_on:
            copy_columns(at(task.h, write_to(group, r, task) * R), h_of_row, columns)
        elif starts_anew(group, r, s + 1, task):
            clear_columns(h_of_row, columns)


@internal
def report_c(layer, group, columns, s, active, go_on, task):
    """The same for c, which has no out."""
    for r in range(0 if task.has_reset else go_on, active):
        c = at(group.c, r * group.c_stride)
        if r >= go_on:
            copy_columns(at(task.c, write_to(group, r, task) * layer.hidden_size), c, columns)
        elif starts_anew(group, r, s + 1, task):
            clear_columns(c, columns)


@internal
def begin_rows(layer, group, n, part, task):
    """Before the first step. Whoever has the first units writes the zeros of out."""
    load_states(layer, group, n, part, task)
    if part[0] == 0:
        clear_past_ends(layer, group, n, task)


@spliced
def input_phase(layer, group, n, s0, z_rows, inputs_product, task, team):
    """z of a chunk, of z_rows rows. Before the first step the states are loaded, too.

    It is a phase of its own, because a step may write its output over the chunk's inputs.
    """
    part, is_first = first_part(team, layer.blocks), True
    while part[1] >= 0:
        if s0 == 0:
            begin_rows(layer, group, n, part, task)
        inputs_product(layer, group, z_rows, part, is_first)
        part, is_first = next_part(team, layer.blocks), False


@spliced
def step_phases(layer, group, z, h, h_next, s, active, go_on, tiles, project, task, team):
    """Step s of the first `active` rows, from h to h_next; `go_on` of them take another one. c changes in place."""
    job = StepJob(layer, group, z, h, group.c, group.hidden if layer.proj_size else h_next)
    part, is_first = first_part(team, layer.blocks), True
    while part[1] >= 0:
        tiles(job, active, part, s & 1, is_first)  # every other step backwards
        if not layer.proj_size:
            report_h(layer, group, h_next, units_of(layer, part, h), s, active, go_on, task)
        report_c(layer, group, units_of(layer, part, h), s, active, go_on, task)
        part, is_first = next_part(team, layer.blocks), False
    if layer.proj_size and not is_over(team):
        outputs = blocks_of(layer.proj_size, h)
        part, is_first = first_part(team, outputs), True
        while part[1] >= 0:
            project(layer, group, h_next, active, part, is_first)
            report_h(layer, group, h_next, outputs_of(layer, part, h), s, active, go_on, task)
            part, is_first = next_part(team, outputs), False


@spliced
def run_group(layer, group, n, task, inputs_product, tiles, project, team):
    """tiles: step_tiles, or those of a variant. For 8-bit weights, integer_step.py has all three functions."""
    h, h_next = group.h, group.h_next
    active = still_active(group, n, ZERO)
    if active == 0:
        part = first_part(team, ONE)
        while part[1] >= 0:
            clear_past_ends(layer, group, n, task)
            part = next_part(team, ONE)
    s0 = ZERO
    while active > 0 and not is_over(team):
        s, s1, z = s0, min(s0 + group.steps, group.length[0]), group.z
        input_phase(layer, group, n, s0, choose_inputs(group, s0, s1, active, task), inputs_product, task, team)
        while s < s1 and not is_over(team):
            go_on = still_active(group, active, s + 1)
            step_phases(layer, group, z, h, h_next, s, active, go_on, tiles, project, task, team)
            h, h_next = h_next, h
            z = at(z, active * group.z_stride)
            active = go_on
            s += 1
        s0 = s1


@spliced
def all_groups(layer, group, B, task, inputs_product, tiles, project, team):
    """All rows, one group after the other. Lanes are units."""
    b0 = ZERO
    while b0 < B and not is_over(team):
        n = min(group.rows, B - b0)
        choose_rows(group, b0, n, task)
        run_group(layer, group, n, task, inputs_product, tiles, project, team)
        b0 += group.rows


@spliced
def layer_forward(layer, group, B, task, team):
    b0 = ZERO
    while b0 < B and not is_over(team):
        n = min(group.rows, B - b0)
        choose_rows(group, b0, n, task)
        if group.transposed:
            clear_past_ends(layer, group, n, task)
            run_transposed_group(layer, group, n, task)
        else:
            run_group(layer, group, n, task, inputs_product, step_tiles, project, team)
        b0 += group.rows
