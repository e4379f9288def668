"""Pre-activations of all gates from the inputs of many rows, z = x W_ih^T + bias: csrc/kernels/input_product.h."""

# mypy: ignore-errors
# Compiled code: its types are Numba's, and inferred.

from __future__ import annotations

from collections import namedtuple

from lstmkernel.backends.numba.jit import inlined, internal, spliced
from lstmkernel.backends.numba.kernels.tile import ZERO, accumulate, sweep
from lstmkernel.backends.numba.memory import at
from lstmkernel.backends.numba.target import TILE_ROWS
from lstmkernel.backends.numba.vec.registers import block_size, load_pointers, load_tile, store_tile

#: x: a pointer to each row, [I]; z: [N][blocks][4][LANES].
GateMatmulJob = namedtuple("GateMatmulJob", "layer x z z_row")

#: Rows that gate_matmul takes at once.
ROWS_AT_ONCE = 96


@inlined
def gate_matmul_tile(rows, blocks, row, block, line, job):
    I = job.layer.input_size
    z = at(job.z, row * job.z_row + block * block_size(job.z))
    sums = load_tile(at(job.layer.bias, block * block_size(z)), 0, rows, blocks)
    x = load_pointers(at(job.x, row), rows)
    sums = accumulate(sums, x, I, at(job.layer.w_x, block * I * block_size(z)), line, blocks)
    store_tile(sums, z, job.z_row, rows, blocks)


@internal
def input_product(layer, N, x, z, part):
    """x: N row pointers. part: the first of the blocks to compute, and the last + 1."""
    job = GateMatmulJob(layer, x, z, layer.blocks * block_size(z))
    sweep(TILE_ROWS, N, part, layer.input_size, False, gate_matmul_tile, job)


@spliced
def gate_matmul(layer, N, x, x_row, z, rows):
    """rows: room for ROWS_AT_ONCE pointers."""
    z_row = layer.blocks * block_size(z)
    for n0 in range(0, N, ROWS_AT_ONCE):
        n = min(N - n0, ROWS_AT_ONCE)
        for r in range(n):
            rows[r] = at(x, (n0 + r) * x_row)
        input_product(layer, n, rows, at(z, n0 * z_row), (ZERO, layer.blocks))
