"""Pre-activations of all gates from the inputs of many rows, z = x W_ih^T + bias: csrc/gate_matmul.h."""

# mypy: ignore-errors
# Compiled code: its types are Numba's, and inferred.

from __future__ import annotations

from collections import namedtuple

from lstmkernel.backends.numba.jit import inlined, internal, spliced
from lstmkernel.backends.numba.memory import at
from lstmkernel.backends.numba.registers import load_pointers, load_tile, quad, store_tile
from lstmkernel.backends.numba.tile import accumulate, slice_of, sweep

#: x: a pointer to each row, [I]; z: [N][blocks][4][LANES]
GateMatmulJob = namedtuple("GateMatmulJob", "layer x z z_row")

#: Rows that gate_matmul takes at once.
SLAB = 96


@inlined
def gate_matmul_tile(rows, panels, row, block, start, stop, job):
    I = job.layer.input_size
    z = at(job.z, row * job.z_row + block * quad(job.z))
    if start == 0:
        sums = load_tile(at(job.layer.bias, block * quad(z)), 0, rows, panels)
    else:
        sums = load_tile(z, job.z_row, rows, panels)
    x = load_pointers(at(job.x, row), rows)
    w = at(job.layer.w_x, block * I * quad(z))
    sums = accumulate(sums, x, start, stop, w, I * quad(z), panels)
    store_tile(sums, z, job.z_row, rows, panels)


@internal
def input_product(layer, N, x, z):
    """x: N row pointers."""
    blocks = layer.blocks
    job = GateMatmulJob(layer, x, z, blocks * quad(z))
    sweep(N, blocks, layer.input_size, slice_of(z), gate_matmul_tile, job)


@spliced
def gate_matmul(layer, N, x, x_row, z, rows):
    """rows: room for SLAB pointers."""
    z_row = layer.blocks * quad(z)
    for n0 in range(0, N, SLAB):
        n = min(N - n0, SLAB)
        for r in range(n):
            rows[r] = at(x, (n0 + r) * x_row)
        input_product(layer, n, rows, at(z, n0 * z_row))
