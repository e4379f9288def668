"""The matrix products of the backward pass: csrc/kernels/gradient_products.h.

Weights come packed, transposed, and their gradients go back packed (run/training.py), so the products with transposed
weights are those of a dense layer.
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
from lstmkernel.backends.numba.structs import Dense
from lstmkernel.backends.numba.target import TILE_ROWS
from lstmkernel.backends.numba.vec.registers import block_size, load_tile, multiply_add, row_pointers, store_tile

#: x: inputs x_row apart, [N]; z: rows z_row apart; d: [blocks][inputs][4][LANES].
WeightJob = namedtuple("WeightJob", "x x_row inputs N z z_row d")


@internal
def transposed_product(K, outputs, w, x, x_row, y, y_row, N):
    """y[n] = x[n] W for N rows; w [blocks][K][4][LANES]."""
    dense_rows(DenseJob(Dense(K, outputs, LINEAR, w, w), False, x, x_row, y, y_row), N)


@inlined
def weight_tile(rows, blocks, row, block, line, job):
    """d[block][row] += sum over k of x[row][k] * z[k][block]."""
    d = at(job.d, (block * job.inputs + row) * block_size(job.d))
    x = row_pointers(at(job.x, row * job.x_row), job.x_row, rows)
    sums, z = load_tile(d, block_size(d), rows, blocks), at(job.z, block * block_size(d))
    for k in range(job.N):
        sums = multiply_add(sums, x, k, z, block_size(d), blocks)
        z = at(z, job.z_row)
    store_tile(sums, d, block_size(d), rows, blocks)


@internal
def weight_gradient(job, blocks):
    sweep(TILE_ROWS, job.inputs, blocks, ZERO, False, weight_tile, job)
