"""Products with 8-bit weights: rows of numbers become rows of integers, and sums of integers are exact.

The Numba form of csrc/kernels/quantized.h, which explains it.
"""

# mypy: ignore-errors
# Compiled code: its types are Numba's, and inferred.

from __future__ import annotations

from collections import namedtuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from lstmkernel.backends.numba.jit import internal, spliced
from lstmkernel.backends.numba.kernels.tile import LINE_BYTES, ZERO
from lstmkernel.backends.numba.memory import at, item_size, lanes, prefetch
from lstmkernel.backends.numba.vec.dot import (
    add_group,
    add_products,
    first_sums,
    i_largest,
    i_magnitude,
    i_zero,
    levels,
    levels_of,
    put_activations,
    row_items,
)
from lstmkernel.backends.numba.vec.operations import v_load, v_mul, v_splat
from lstmkernel.backends.numba.vec.registers import block_size, row_pointers
from lstmkernel.backends.numba.vec.tail import v_load_n
from lstmkernel.backends.packing import part_inputs

GROUP_INPUTS = 4

#: o * tanh(c) may round to a little more than 1. Up to this, the amplitude is 1. A smaller one than LEAST_AMPLITUDE
#: counts as 0.
NEARLY_ONE, LEAST_AMPLITUDE = np.float32(1 + 2.0**-17), np.float32(2.0**-100)

_ZERO, _ONE, _NAN, _MOST = np.float32(0), np.float32(1), np.float32(np.nan), np.finfo(np.float32).max

#: Rows of integers, of the type of an activation, and an amplitude for each.
Integers = namedtuple("Integers", "values amplitude")

#: A matrix of 8-bit weights, from some block on: w [blocks][groups][4][LANES] words; scale [blocks][4][LANES]; offset
#: [blocks][parts][4][LANES].
Matrix = namedtuple("Matrix", "w scale offset")


@spliced
def groups_of(inputs):
    return (inputs + GROUP_INPUTS - 1) // GROUP_INPUTS


@intrinsic
def part_groups(typingctx, values):
    """How many groups one part of a sum has: a constant in compiled code."""
    groups = part_inputs(levels_of(values.dtype)) // GROUP_INPUTS
    return types.intp(values), lambda context, builder, signature, args: ir.IntType(64)(groups)


@spliced
def parts_of(inputs, values):
    return (groups_of(inputs) + part_groups(values) - 1) // part_groups(values)


@spliced
def padded(inputs, x):
    return (inputs + lanes(x) - 1) // lanes(x) * lanes(x)


@spliced
def values_of(integers, row, K):
    return at(integers.values, row * row_items(integers.values, padded(K, integers.amplitude)))


@internal
def amplitude_of(x, K, bounded):
    magnitude, whole = i_zero(), K - K % lanes(x)
    for k in range(ZERO, whole, lanes(x)):
        magnitude = i_magnitude(magnitude, v_load(at(x, k)))
    if whole < K:
        magnitude = i_magnitude(magnitude, v_load_n(at(x, whole), K - whole))
    largest = i_largest(magnitude)
    if bounded and largest <= NEARLY_ONE:
        return _ONE
    if largest < LEAST_AMPLITUDE:
        return _ZERO
    return largest if largest <= _MOST else _NAN


@internal
def quantize_row(integers, row, x, K, bounded):
    """Row `row` of the integers, from x [K]. bounded: whether |x| is mostly at most 1."""
    values, amplitude, factor = values_of(integers, row, K), amplitude_of(x, K, bounded), _ZERO
    if amplitude > _ZERO:
        factor = levels(values) / amplitude
    whole = K - K % lanes(x)
    for k in range(ZERO, whole, lanes(x)):
        put_activations(values, k, padded(K, x), v_mul(v_load(at(x, k)), v_splat(factor)))
    if whole < K:
        put_activations(values, whole, padded(K, x), v_mul(v_load_n(at(x, whole), K - whole), v_splat(factor)))
    integers.amplitude[row] = amplitude


@spliced
def from_block(w, scale, offset, block, K, values):
    """The matrix from that block on."""
    return Matrix(
        at(w, block * groups_of(K) * block_size(w)),
        at(scale, block * block_size(scale)),
        at(offset, block * parts_of(K, values) * block_size(offset)),
    )


@spliced
def add_groups(sums, x, first, last, inputs, w, w_block, line, blocks):
    """Sums of the groups first .. last - 1. line: as for accumulate."""
    w = at(w, first * block_size(w))
    ahead = w_block + line * (LINE_BYTES // item_size(w)) if line >= 0 else 0
    for k in range(first, last):
        if len(x) > 1:
            prefetch(w, ahead)
        sums = add_group(sums, x, k, inputs, w, w_block, blocks)
        w = at(w, block_size(w))
    return sums


@spliced
def accumulate_integers(tile, integers, row, K, matrix, line, rows, blocks):
    """tile[r, b, g] += the product of row `row` + r of the integers with the matrix, part by part."""
    groups, parts, inputs = groups_of(K), parts_of(K, integers.values), padded(K, integers.amplitude)
    x = row_pointers(values_of(integers, row, K), row_items(integers.values, inputs), rows)
    for part in range(parts):
        first = part * part_groups(integers.values)
        last = min(first + part_groups(integers.values), groups)
        offset = at(matrix.offset, part * block_size(matrix.offset))
        sums = first_sums(offset, parts * block_size(offset), integers.values, rows, blocks)
        sums = add_groups(sums, x, first, last, inputs, matrix.w, groups * block_size(matrix.w), line, blocks)
        tile = add_products(tile, sums, at(integers.amplitude, row), matrix.scale, integers.values, blocks)
    return tile
