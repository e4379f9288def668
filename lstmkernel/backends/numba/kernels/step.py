"""One step of a row group, for every kind of layer: csrc/kernels/step.h, which states the bounds.

First the tiles: z of the inputs plus the recurrent product, then the cell, which each kind of layer has for itself.
Then the projection, in a layer that has one. Each of the two is a phase, of blocks of units or outputs (run/team.py).
"""

# mypy: ignore-errors
# Compiled code: its types are Numba's, and inferred.

from __future__ import annotations

from collections import namedtuple

from lstmkernel.backends.numba.jit import spliced
from lstmkernel.backends.numba.kernels.tile import FEW_UNITS, sweep
from lstmkernel.backends.numba.memory import lanes
from lstmkernel.backends.numba.target import TILE_ROWS
from lstmkernel.backends.numba.vec.registers import block_size

#: Tiles of a layer of FEW_UNITS have two sums for each pre-activation, which share the registers.
SMALL_TILE_ROWS = max(1, TILE_ROWS // 2)

#: z and h: of the step at hand. reported: where the cell writes o * tanh(c): h_next, or `hidden` where a projection
#: makes h of it.
StepJob = namedtuple("StepJob", "layer group z h c reported")


@spliced
def sweep_step(layer, active, part, backwards, small_tile, tile, job):
    """Cover some blocks of units of the active rows with one of two tiles; small_tile is for layers of FEW_UNITS."""
    if layer.hidden_size <= FEW_UNITS:
        sweep(SMALL_TILE_ROWS, active, part, layer.output_size, False, small_tile, job)
    else:
        sweep(TILE_ROWS, active, part, layer.output_size, backwards, tile, job)


@spliced
def units_of(layer, part, p):
    """The columns of c of some blocks of units, and of h without a projection: the first, and the last + 1."""
    return part[0] * lanes(p), min(part[1] * lanes(p), layer.hidden_size)


@spliced
def outputs_of(layer, part, p):
    """The columns of h of some blocks of a projection's outputs."""
    return part[0] * block_size(p), min(part[1] * block_size(p), layer.proj_size)
