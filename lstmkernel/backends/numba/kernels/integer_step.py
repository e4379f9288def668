"""The products of a layer with 8-bit weights: of its inputs, of h, and of the projection. csrc/kernels/integer_step.h.

They take the place of those in float_step.py. Each thread of a team makes integers of all rows for itself, because
every unit needs all of them. It does so when it has got its first part of a phase: until that part is done, nobody
writes h.
"""

# mypy: ignore-errors
# Compiled code: its types are Numba's, and inferred.

from __future__ import annotations

from collections import namedtuple
from typing import Any

from lstmkernel.backends.numba.jit import inlined, internal
from lstmkernel.backends.numba.kernels.layer_forward import finish_tile
from lstmkernel.backends.numba.kernels.quantized import accumulate_integers, from_block, groups_of, quantize_row
from lstmkernel.backends.numba.kernels.tile import ZERO, sweep
from lstmkernel.backends.numba.memory import at, lanes
from lstmkernel.backends.numba.target import DOT
from lstmkernel.backends.numba.vec.operations import v_load
from lstmkernel.backends.numba.vec.registers import block_size, load_tile, store_tile, tile_buffer, zero_tile
from lstmkernel.backends.numba.vec.tail import v_store_n

#: to: z, or h_next.
ProductJob = namedtuple("ProductJob", "layer group to")


@internal
def quantize_rows(integers, source, stride, width, rows, bounded):
    for r in range(rows):
        quantize_row(integers, r, at(source, r * stride), width, bounded)


@internal
def quantize_inputs(integers, x, width, z_rows):
    """x: a pointer to each row."""
    for r in range(z_rows):
        quantize_row(integers, r, x[r], width, False)


@inlined
def integer_input_tile(rows, blocks, row, block, line, job):
    layer, group = job.layer, job.group
    z = at(job.to, row * group.z_stride + block * block_size(job.to))
    matrix = from_block(layer.w_x, layer.x_scale, layer.x_offset, block, layer.input_size, group.integers.values)
    sums = load_tile(at(layer.bias, block * block_size(z)), ZERO, rows, blocks)
    sums = accumulate_integers(sums, group.integers, row, layer.input_size, matrix, line, rows, blocks)
    store_tile(sums, z, group.z_stride, rows, blocks)


@inlined
def integer_step_tile(rows, blocks, row, block, line, job):
    layer, group = job.layer, job.group
    z = at(job.z, row * group.z_stride + block * block_size(job.z))
    matrix = from_block(layer.w_h, layer.h_scale, layer.h_offset, block, layer.output_size, group.integers.values)
    sums = load_tile(z, group.z_stride, rows, blocks)
    sums = accumulate_integers(sums, group.integers, row, layer.output_size, matrix, line, rows, blocks)
    store_tile(sums, z, group.z_stride, rows, blocks)
    finish_tile(rows, blocks, row, block, z, job)


@inlined
def integer_projection_tile(rows, blocks, row, block, line, job):
    layer, group = job.layer, job.group
    matrix = from_block(layer.w_r, layer.r_scale, layer.r_offset, block, layer.hidden_size, group.integers.values)
    sums = zero_tile(job.to, rows, blocks)
    sums = accumulate_integers(sums, group.integers, row, layer.hidden_size, matrix, line, rows, blocks)
    outputs, width = tile_buffer(job.to, rows, blocks), len(blocks) * block_size(job.to)
    store_tile(sums, outputs, width, rows, blocks)
    for r in range(len(rows)):
        store_row(at(outputs, r * width), width, row + r, block * block_size(job.to), job)


@inlined
def store_row(outputs, width, row, first, job):
    """One row of a tile goes to columns first .. first + width - 1 of h_next, as far as it has them."""
    h, P = at(job.to, row * job.group.h_stride), job.layer.proj_size
    for column in range(first, min(first + width, P), lanes(outputs)):
        v_store_n(at(h, column), v_load(outputs), P - column)
        outputs = at(outputs, lanes(outputs))


def integer_products(kind: Any) -> tuple[Any, Any, Any]:
    """What layer_forward.run_group takes: inputs_product, step_tiles, project. kind: the type of an activation."""
    most_rows = DOT[kind.bitwidth].rows

    @inlined
    def inputs_product(layer, group, z_rows, part, is_first):
        if is_first:
            quantize_inputs(group.integers, group.x, layer.input_size, z_rows)
        job = ProductJob(layer, group, group.z)
        sweep(most_rows, z_rows, part, groups_of(layer.input_size), False, integer_input_tile, job)

    @inlined
    def step_tiles(job, active, part, backwards, is_first):
        layer, group = job.layer, job.group
        if is_first:
            bounded = layer.proj_size == 0
            quantize_rows(group.integers, job.h, group.h_stride, layer.output_size, active, bounded)
        sweep(most_rows, active, part, groups_of(layer.output_size), backwards, integer_step_tile, job)

    @inlined
    def project(layer, group, h_next, active, part, is_first):
        if is_first:
            quantize_rows(group.integers, group.hidden, group.c_stride, layer.hidden_size, active, True)
        job = ProductJob(layer, group, h_next)
        sweep(most_rows, active, part, groups_of(layer.hidden_size), False, integer_projection_tile, job)

    return inputs_product, step_tiles, project
