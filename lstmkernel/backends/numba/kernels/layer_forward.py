"""One direction of one layer over all time steps and rows: csrc/kernels/layer_forward.h, which explains the plan.

Rows are taken in groups that keep their states in a small workspace and run through all of time together. Time is taken
in chunks: the input product of a chunk is one matrix product, whose result stays in L2; then the steps follow one by
one, each a recurrent product whose tiles finish in registers with the cell update. Rows of unequal length are sorted
longest first, so that the active ones are always the first of the group (group.py).

C keeps all of this in one struct that it updates. Compiled tuples are values, so what never changes is a tuple here,
and what does (h and h_next, which swap; the number of active rows) is a local variable.
"""

# mypy: ignore-errors
# Compiled code: its types are Numba's, and inferred.

from __future__ import annotations

from collections import namedtuple

from lstmkernel.backends.numba.jit import inlined, internal, spliced
from lstmkernel.backends.numba.kernels.activation import LINEAR
from lstmkernel.backends.numba.kernels.cell import cell
from lstmkernel.backends.numba.kernels.dense import DenseJob, dense_rows
from lstmkernel.backends.numba.kernels.input_product import input_product
from lstmkernel.backends.numba.kernels.layer import Dense
from lstmkernel.backends.numba.kernels.layout import FEW_UNITS
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
from lstmkernel.backends.numba.kernels.tile import PANELS_1, ROWS_1, ZERO, accumulate, sweep
from lstmkernel.backends.numba.kernels.transposed import run_turned_group
from lstmkernel.backends.numba.memory import at, clear, copy, lanes
from lstmkernel.backends.numba.target import TILE_ROWS
from lstmkernel.backends.numba.vec.operations import v_add, v_load, v_store
from lstmkernel.backends.numba.vec.registers import load_tile, multiply_add, quad, row_pointers, store_tile, zero_tile

#: Two tiles of sums share the registers.
SMALL_TILE_ROWS = max(1, TILE_ROWS // 2)

#: reported: where h goes: h_next, or `hidden` where a projection makes h of it.
StepJob = namedtuple("StepJob", "layer group z h c reported")


@spliced
def step_sums(rows, panels, row, block, line, job):
    """The pre-activations of a tile: z of the inputs, and the recurrent product. They replace z, for a loop over cells.

    Returns where they are. In registers, the cell update would be compiled anew for each row: much code.
    """
    R, g = job.layer.output_size, job.group
    z = at(job.z, row * g.z_stride + block * quad(job.z))
    h = row_pointers(at(job.h, row * g.h_stride), g.h_stride, rows)
    w = at(job.layer.w_h, block * R * quad(z))
    store_tile(accumulate(load_tile(z, g.z_stride, rows, panels), h, R, w, line, panels), z, g.z_stride, rows, panels)
    return z


@spliced
def small_step_sums(rows, panels, row, block, job):
    """The same for layers of FEW_UNITS: the sum over h in two parts.

    That of the even k goes on from the inputs' sum, that of the odd k is added to it. Half the chain of dependent FMAs,
    which is much of a small layer's step.
    """
    R, g = job.layer.output_size, job.group
    z = at(job.z, row * g.z_stride + block * quad(job.z))
    h = row_pointers(at(job.h, row * g.h_stride), g.h_stride, rows)
    w = at(job.layer.w_h, block * R * quad(z))
    even, odd = load_tile(z, g.z_stride, rows, panels), zero_tile(z, rows, panels)
    for pair in range(R // 2):
        k = 2 * pair
        even = multiply_add(even, h, k, at(w, k * quad(w)), R * quad(w), panels)
        odd = multiply_add(odd, h, k + 1, at(w, (k + 1) * quad(w)), R * quad(w), panels)
    if R & 1:
        even = multiply_add(even, h, R - 1, at(w, (R - 1) * quad(w)), R * quad(w), panels)
    store_tile(v_add(even, odd), z, g.z_stride, rows, panels)
    return z


@spliced
def finish_tile(rows, panels, row, block, z, job):
    g = job.group
    for r in range(len(rows)):
        for p in range(len(panels)):
            unit = (row + r) * g.c_stride + (block + p) * lanes(z)
            finish_cell(at(z, r * g.z_stride + p * quad(z)), unit, job)


@spliced
def finish_cell(z, unit, job):
    c_t, h_t = cell(load_tile(z, 0, ROWS_1, PANELS_1), v_load(at(job.c, unit)))
    v_store(at(job.c, unit), c_t)
    v_store(at(job.reported, unit), h_t)


@inlined
def step_tile(rows, panels, row, block, line, job):
    finish_tile(rows, panels, row, block, step_sums(rows, panels, row, block, line, job), job)


@inlined
def small_step_tile(rows, panels, row, block, line, job):
    """`line` is of no use: its weights are always near."""
    finish_tile(rows, panels, row, block, small_step_sums(rows, panels, row, block, job), job)


@inlined
def recurrent_step(layer, g, z, h, h_next, active, backwards):
    """One step of the first `active` rows: c in place, from h to h_next."""
    job = StepJob(layer, g, z, h, g.c, g.hidden if layer.proj_size else h_next)
    sweep_step(layer, active, backwards, small_step_tile, step_tile, job)
    project(layer, g, h_next, active)


@spliced
def sweep_step(layer, active, backwards, small_tile, tile, job):
    if layer.hidden_size <= FEW_UNITS:
        sweep(SMALL_TILE_ROWS, active, layer.blocks, layer.output_size, False, small_tile, job)
    else:
        sweep(TILE_ROWS, active, layer.blocks, layer.output_size, backwards, tile, job)


@inlined
def project(layer, g, h_next, active):
    """h_next from `hidden`, where there is a projection."""
    if layer.proj_size:
        projection = Dense(layer.hidden_size, layer.proj_size, LINEAR, layer.w_r, layer.w_r)
        dense_rows(DenseJob(projection, False, g.hidden, g.c_stride, h_next, g.h_stride), active)


@internal
def load_states(layer, g, n, call):
    """The group's states before the first step."""
    H, R = layer.hidden_size, layer.output_size
    for r in range(n):
        row = read_from(g, r, call)
        copy(at(g.h, r * g.h_stride), at(call.h, row * R), R)
        clear(at(g.c, r * g.c_stride), g.c_stride)  # units past H, too: they are computed, never read
        copy(at(g.c, r * g.c_stride), at(call.c, row * H), H)


@internal
def reset_states(layer, g, h, s, active, call):
    """Zero states before step s, where that is asked for."""
    for r in range(active):
        if starts_anew(g, r, s, call):
            clear(at(h, r * g.h_stride), layer.output_size)
            clear(at(g.c, r * g.c_stride), layer.hidden_size)


@inlined
def report(layer, g, h, s, active, call):
    """h goes to out; rows whose last step this was go to the caller. Returns how many rows go on."""
    H, R = layer.hidden_size, layer.output_size
    for r in range(active):
        copy(out_of(g, r, s, call), at(h, r * g.h_stride), R)
    while active > 0 and g.length[active - 1] == s + 1:
        active -= 1
        row = write_to(g, active, call)
        copy(at(call.h, row * R), at(h, active * g.h_stride), R)
        copy(at(call.c, row * H), at(g.c, active * g.c_stride), H)
    return active


@spliced
def run_group(layer, g, active, call, step):
    """step: recurrent_step, or that of a variant."""
    h, h_next = g.h, g.h_next
    active = still_active(g, active, 0)
    s0 = ZERO
    while active > 0:
        s1 = min(s0 + g.steps, g.length[0])
        input_product(layer, choose_inputs(g, s0, s1, active, call), g.x, g.z)
        z = g.z
        for s in range(s0, s1):
            if call.has_reset:
                reset_states(layer, g, h, s, active, call)
            step(layer, g, z, h, h_next, active, s & 1)  # every other step backwards
            h, h_next = h_next, h
            z = at(z, active * g.z_stride)
            active = report(layer, g, h, s, active, call)
        s0 += g.steps


@spliced
def layer_forward(layer, group, B, call):
    for b0 in range(0, B, group.rows):
        n = min(group.rows, B - b0)
        choose_rows(group, b0, n, call)
        clear_past_ends(layer, group, n, call)
        if group.turned:
            run_turned_group(layer, group, n, call)
        else:
            load_states(layer, group, n, call)
            run_group(layer, group, n, call, recurrent_step)
