"""y = activation(x W^T + bias): Dense heads, and an LSTM's projection. The Numba form of csrc/kernels/dense.h."""

# mypy: ignore-errors
# Compiled code: its types are Numba's, and inferred.

from __future__ import annotations

from collections import namedtuple

from lstmkernel.backends.numba.jit import inlined, internal, spliced
from lstmkernel.backends.numba.kernels.activation import activate
from lstmkernel.backends.numba.kernels.softmax import SOFTMAX, softmax
from lstmkernel.backends.numba.kernels.tile import ZERO, accumulate, sweep
from lstmkernel.backends.numba.memory import at, lanes
from lstmkernel.backends.numba.target import TILE_ROWS
from lstmkernel.backends.numba.vec.operations import v_load
from lstmkernel.backends.numba.vec.registers import (
    block_size,
    load_tile,
    row_pointers,
    store_tile,
    tile_buffer,
    zero_tile,
)
from lstmkernel.backends.numba.vec.tail import v_store_n

DenseJob = namedtuple("DenseJob", "dense has_bias x x_row y y_row")


@inlined
def dense_tile(rows, blocks, row, block, line, job):
    K = job.dense.in_features
    if job.has_bias:
        sums = load_tile(at(job.dense.bias, block * block_size(job.y)), 0, rows, blocks)
    else:
        sums = zero_tile(job.y, rows, blocks)
    x = row_pointers(at(job.x, row * job.x_row), job.x_row, rows)
    sums = accumulate(sums, x, K, at(job.dense.w, block * K * block_size(job.y)), line, blocks)
    # The sums go through the stack, so that a loop can apply the activation. In registers, each of them would have a
    # copy of every activation: much code for little.
    linear, width = tile_buffer(job.y, rows, blocks), len(blocks) * block_size(job.y)
    store_tile(sums, linear, width, rows, blocks)
    for r in range(len(rows)):
        store_outputs(at(linear, r * width), width, row + r, block * block_size(job.y), job)


@inlined
def store_outputs(linear, width, row, first, job):
    """One row of a tile goes to columns first .. first + width - 1 of y, as far as y has them."""
    y = at(job.y, row * job.y_row)
    for column in range(first, min(first + width, job.dense.out_features), lanes(linear)):
        v_store_n(at(y, column), activate(job.dense.activation, v_load(linear)), job.dense.out_features - column)
        linear = at(linear, lanes(linear))


@internal
def dense_rows(job, N, part):
    """part: the first of the blocks of outputs to compute, and the last + 1."""
    sweep(TILE_ROWS, N, part, job.dense.in_features, False, dense_tile, job)


@spliced
def blocks_of(outputs, p):
    """How many blocks they are, of the pointer's dtype."""
    return (outputs + block_size(p) - 1) // block_size(p)


@spliced
def dense_forward(dense, N, x, x_row, y, y_row):
    dense_rows(DenseJob(dense, True, x, x_row, y, y_row), N, (ZERO, blocks_of(dense.out_features, y)))
    if dense.activation == SOFTMAX:  # which to dense_tile is linear
        for row in range(N):
            softmax(at(y, row * y_row), dense.out_features)
