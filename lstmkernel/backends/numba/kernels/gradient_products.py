"""The matrix products of the backward pass: csrc/kernels/gradient_products.h.

Weights are packed transposed (backward_weights.py), so the products with transposed weights are those of a dense layer.
"""

# mypy: ignore-errors
# Compiled code: its types are Numba's, and inferred.

from __future__ import annotations

from collections import namedtuple

from lstmkernel.backends.numba.jit import inlined, internal
from lstmkernel.backends.numba.kernels.activation import LINEAR
from lstmkernel.backends.numba.kernels.dense import DenseJob, dense_rows
from lstmkernel.backends.numba.kernels.tile import ZERO, sweep
from lstmkernel.backends.numba.memory import at
from lstmkernel.backends.numba.run.team import first_part, is_alone, next_part
from lstmkernel.backends.numba.structs import Dense
from lstmkernel.backends.numba.target import TILE_ROWS
from lstmkernel.backends.numba.vec.registers import block_size, load_tile, multiply_add, row_pointers, store_tile

#: x: inputs x_row apart, [N]; z: rows z_row apart; d: [blocks][inputs][4][LANES]. first: of the inputs to compute.
WeightJob = namedtuple("WeightJob", "x x_row inputs N z z_row d first")


@internal
def transposed_product(K, outputs, w, x, x_row, y, y_row, N, part):
    """y[n] = x[n] W for N rows and some blocks of outputs; w [blocks][K][4][LANES]."""
    dense_rows(DenseJob(Dense(K, outputs, LINEAR, w, w), False, x, x_row, y, y_row), N, part)


@inlined
def weight_tile(rows, blocks, row, block, line, job):
    """d[block][row] += sum over k of x[row][k] * z[k][block], with rows that count from job.first."""
    d = at(job.d, (block * job.inputs + job.first + row) * block_size(job.d))
    x = row_pointers(at(job.x, (job.first + row) * job.x_row), job.x_row, rows)
    sums, z = load_tile(d, block_size(d), rows, blocks), at(job.z, block * block_size(d))
    for k in range(job.N):
        sums = multiply_add(sums, x, k, z, block_size(d), blocks)
        z = at(z, job.z_row)
    store_tile(sums, d, block_size(d), rows, blocks)


@internal
def weight_inputs(x, x_row, inputs, N, z, z_row, d, first, count, blocks):
    job = WeightJob(x, x_row, inputs, N, z, z_row, d, first)
    sweep(TILE_ROWS, count, blocks, ZERO, False, weight_tile, job)


@internal
def weight_gradient(x, x_row, inputs, N, z, z_row, d, blocks, team):
    """A phase of tiles that cover all inputs of all blocks, one block after the other."""
    tiles = (inputs + TILE_ROWS - 1) // TILE_ROWS
    if is_alone(team):
        weight_inputs(x, x_row, inputs, N, z, z_row, d, ZERO, inputs, (ZERO, blocks))
        return
    part = first_part(team, blocks * tiles)
    while part[1] >= 0:
        tile = part[0]
        while tile < part[1]:
            block = tile // tiles
            stop = min(part[1], (block + 1) * tiles)
            first = tile % tiles * TILE_ROWS
            count = min(inputs, (stop - block * tiles) * TILE_ROWS) - first
            weight_inputs(x, x_row, inputs, N, z, z_row, d, first, count, (block, block + 1))
            tile = stop
        part = next_part(team, blocks * tiles)
