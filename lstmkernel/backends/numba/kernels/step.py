"""One step of a row group, for every kind of layer: csrc/kernels/step.h, which states the bounds.

First the tiles: z of the inputs plus the recurrent product, then the cell, which each kind of layer has for itself.
Then the projection, in a layer that has one. Each of the two is a phase, of blocks of units or outputs (run/team.py).
"""

# mypy: ignore-errors
# Compiled code: its types are Numba's, and inferred.

from __future__ import annotations

from collections import namedtuple

from lstmkernel.backends.numba.jit import inlined, spliced
from lstmkernel.backends.numba.kernels.activation import LINEAR
from lstmkernel.backends.numba.kernels.dense import DenseJob, dense_rows
from lstmkernel.backends.numba.kernels.tile import FEW_UNITS, accumulate, sweep
from lstmkernel.backends.numba.memory import at, lanes
from lstmkernel.backends.numba.structs import Dense
from lstmkernel.backends.numba.target import TILE_ROWS
from lstmkernel.backends.numba.vec.operations import v_add
from lstmkernel.backends.numba.vec.registers import (
    block_size,
    load_tile,
    multiply_add,
    row_pointers,
    store_tile,
    zero_tile,
)

#: Tiles of a layer of FEW_UNITS have two sums for each pre-activation, which share the registers.
SMALL_TILE_ROWS = max(1, TILE_ROWS // 2)

#: z and h: of the step at hand. reported: where the cell writes o * tanh(c): h_next, or `hidden` where a projection
#: makes h of it.
StepJob = namedtuple("StepJob", "layer group z h c reported")


@spliced
def step_sums(rows, blocks, row, block, line, job):
    """The pre-activations of a tile: z of the inputs, and the recurrent product. They replace z.

    Returns where they are, for a loop over cells. In registers, the cell would be compiled anew for each row: much
    code.
    """
    R, group = job.layer.output_size, job.group
    z = at(job.z, row * group.z_stride + block * block_size(job.z))
    h = row_pointers(at(job.h, row * group.h_stride), group.h_stride, rows)
    w = at(job.layer.w_h, block * R * block_size(z))
    sums = accumulate(load_tile(z, group.z_stride, rows, blocks), h, R, w, line, blocks)
    store_tile(sums, z, group.z_stride, rows, blocks)
    return z


@spliced
def small_step_sums(rows, blocks, row, block, job):
    """The same for layers of FEW_UNITS: the sum over h in two parts.

    That of the even k goes on from the inputs' sum, that of the odd k is added to it. Half the chain of dependent FMAs,
    which is much of a small layer's step.
    """
    R, group = job.layer.output_size, job.group
    z = at(job.z, row * group.z_stride + block * block_size(job.z))
    h = row_pointers(at(job.h, row * group.h_stride), group.h_stride, rows)
    w = at(job.layer.w_h, block * R * block_size(z))
    even, odd = load_tile(z, group.z_stride, rows, blocks), zero_tile(z, rows, blocks)
    for pair in range(R // 2):
        k = 2 * pair
        even = multiply_add(even, h, k, at(w, k * block_size(w)), R * block_size(w), blocks)
        odd = multiply_add(odd, h, k + 1, at(w, (k + 1) * block_size(w)), R * block_size(w), blocks)
    if R & 1:
        even = multiply_add(even, h, R - 1, at(w, (R - 1) * block_size(w)), R * block_size(w), blocks)
    store_tile(v_add(even, odd), z, group.z_stride, rows, blocks)
    return z


@spliced
def sweep_step(layer, active, part, backwards, small_tile, tile, job):
    """Cover some blocks of units of the active rows with one of two tiles; small_tile is for layers of FEW_UNITS."""
    if layer.hidden_size <= FEW_UNITS:
        sweep(SMALL_TILE_ROWS, active, part, layer.output_size, False, small_tile, job)
    else:
        sweep(TILE_ROWS, active, part, layer.output_size, backwards, tile, job)


@inlined
def project(layer, group, h_next, active, part):
    """Some blocks of h_next, from `hidden`."""
    projection = Dense(layer.hidden_size, layer.proj_size, LINEAR, layer.w_r, layer.w_r)
    dense_rows(DenseJob(projection, False, group.hidden, group.c_stride, h_next, group.h_stride), active, part)


@spliced
def units_of(layer, part, p):
    """The columns of c of some blocks of units, and of h without a projection: the first, and the last + 1."""
    return part[0] * lanes(p), min(part[1] * lanes(p), layer.hidden_size)


@spliced
def outputs_of(layer, part, p):
    """The columns of h of some blocks of a projection's outputs."""
    return part[0] * block_size(p), min(part[1] * block_size(p), layer.proj_size)
