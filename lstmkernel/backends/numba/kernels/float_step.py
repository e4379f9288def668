"""The products of a layer whose weights are numbers: of its inputs, of h, and of the projection.

The Numba form of csrc/kernels/float_step.h. integer_step.py has the same for 8-bit weights.
"""

# mypy: ignore-errors
# Compiled code: its types are Numba's, and inferred.

from __future__ import annotations

from lstmkernel.backends.numba.jit import inlined, spliced
from lstmkernel.backends.numba.kernels.activation import LINEAR
from lstmkernel.backends.numba.kernels.dense import DenseJob, dense_rows
from lstmkernel.backends.numba.kernels.input_product import input_product
from lstmkernel.backends.numba.kernels.tile import accumulate
from lstmkernel.backends.numba.memory import at
from lstmkernel.backends.numba.structs import Dense
from lstmkernel.backends.numba.vec.operations import v_add
from lstmkernel.backends.numba.vec.registers import (
    block_size,
    load_tile,
    multiply_add,
    row_pointers,
    store_tile,
    zero_tile,
)


@inlined
def inputs_product(layer, group, z_rows, part, is_first):
    """z of a chunk, for the units at hand. is_first, here and below: it begins the phase for this thread."""
    input_product(layer, z_rows, group.x, group.z, part)


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


@inlined
def project(layer, group, h_next, active, part, is_first):
    """Some blocks of h_next, from `hidden`."""
    projection = Dense(layer.hidden_size, layer.proj_size, LINEAR, layer.w_r, layer.w_r)
    dense_rows(DenseJob(projection, False, group.hidden, group.c_stride, h_next, group.h_stride), active, part)
