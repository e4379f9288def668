"""A step of many rows of a layer of few units: the lanes of a vector are rows instead of units.

The Numba form of csrc/kernels/transposed.h. The states and the inputs of a group are transposed, [H][stride] and
[I][stride] instead of [rows][...]. What is broadcast are the weights, each one straight from the packed
[block][K][4][LANES]. Every sum has the terms and the order that it has in step_tile.

Tiles have at most 3 vectors, whose 12 sums keep two FMA units busy. C's tiles are taller, but here every further height
takes more time to compile.
"""

# mypy: ignore-errors
# Compiled code: its types are Numba's, and inferred.

from __future__ import annotations

from collections import namedtuple

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from lstmkernel.backends.numba.jit import inlined, internal, spliced
from lstmkernel.backends.numba.kernels.cell import cells
from lstmkernel.backends.numba.kernels.rows import choose_inputs, out_of, read_from, starts_anew, still_active, write_to
from lstmkernel.backends.numba.kernels.tile import BLOCKS_1, FEW_UNITS, ROWS_1, ROWS_2, ROWS_3, ZERO
from lstmkernel.backends.numba.kernels.transpose import transpose, transpose_back
from lstmkernel.backends.numba.memory import at, clear, lanes
from lstmkernel.backends.numba.vec.operations import emit_fma, emit_splat, v_add, vec_of
from lstmkernel.backends.numba.vec.registers import block_size, load_vectors, store_vectors, zero_tile

MOST_VECTORS = 3

#: A row group, transposed: element (row, j) is at [j * stride + row].
TransposedGroup = namedtuple("TransposedGroup", "layer stride x h h_next c")


@intrinsic
def splat_gates(typingctx, p, vectors):
    """A unit's four numbers, LANES apart, in all lanes of each vector: (i, i, ..., f, ...) for len(vectors) vectors."""
    vec = vec_of(p.dtype)
    result = types.UniTuple(vec, 4 * len(vectors))

    def codegen(context, builder, signature, args):
        splats = [_splat(builder, args[0], gate, vec) for gate in range(4) for _ in range(len(vectors))]
        return context.make_tuple(builder, result, splats)

    return result(p, vectors), codegen


@intrinsic
def multiply_add_unit(typingctx, sums, x, w):
    """sums[g, v] + x[v] * w[g], for one input: vectors x side by side, a unit's weights LANES apart."""
    vec, count = sums.dtype, len(sums) // 4

    def codegen(context, builder, signature, args):
        total = cgutils.unpack_tuple(builder, args[0])
        xk = cgutils.unpack_tuple(builder, args[1])
        for gate in range(4):
            wk = _splat(builder, args[2], gate, vec)
            for v in range(count):
                total[gate * count + v] = emit_fma(builder, wk, xk[v], total[gate * count + v])
        return context.make_tuple(builder, sums, total)

    return sums(sums, x, w), codegen


def _splat(builder, p, gate, vec):
    number = builder.load(builder.gep(p, [ir.IntType(64)(gate * vec.length)]))
    return emit_splat(builder, number, vec.length)


@intrinsic
def by_gate(typingctx, sums):
    """(i, f, g, o): for each gate, a tuple of vectors."""
    count = len(sums) // 4
    gate = types.UniTuple(sums.dtype, count)
    result = types.UniTuple(gate, 4)

    def codegen(context, builder, signature, args):
        vectors = cgutils.unpack_tuple(builder, args[0])
        gates = [context.make_tuple(builder, gate, vectors[g * count : (g + 1) * count]) for g in range(4)]
        return context.make_tuple(builder, result, gates)

    return result(sums), codegen


@spliced
def accumulate_unit(sums, x, stride, first, K, skip, w, vectors):
    """The sum over k = first, first + skip, ... below K of x[k][v] * w[k][g]."""
    for k in range(first, K, skip):
        sums = multiply_add_unit(sums, load_vectors(at(x, k * stride), vectors), at(w, k * block_size(w)))
    return sums


@inlined
def unit_tile(vectors, unit, row, group):
    """One unit of len(vectors) vectors of rows, from `row` on."""
    layer, stride = group.layer, group.stride
    I, H = layer.input_size, layer.hidden_size
    block, lane = unit // lanes(group.c), unit % lanes(group.c)
    w_x = at(layer.w_x, block * I * block_size(group.c) + lane)
    w_h = at(layer.w_h, block * H * block_size(group.c) + lane)
    h = at(group.h, row)
    sums = splat_gates(at(layer.bias, block * block_size(group.c) + lane), vectors)
    sums = accumulate_unit(sums, at(group.x, row), stride, 0, I, 1, w_x, vectors)
    if H <= FEW_UNITS:  # the odd k have a sum of their own, as in small_step_sums
        zero = zero_tile(group.c, vectors, BLOCKS_1)
        sums = v_add(
            accumulate_unit(sums, h, stride, 0, H, 2, w_h, vectors),
            accumulate_unit(zero, h, stride, 1, H, 2, w_h, vectors),
        )
    else:
        sums = accumulate_unit(sums, h, stride, 0, H, 1, w_h, vectors)
    place = unit * stride + row
    c_t, h_t = cells(by_gate(sums), load_vectors(at(group.c, place), vectors))
    store_vectors(c_t, at(group.c, place))
    store_vectors(h_t, at(group.h_next, place))


@internal
def transposed_step(group, vectors):
    """One step of the first `vectors` vectors of rows, from h to h_next."""
    tiles = (vectors + MOST_VECTORS - 1) // MOST_VECTORS
    for unit in range(group.layer.hidden_size):
        done = ZERO
        for t in range(tiles):
            height = (vectors - done + tiles - t - 1) // (tiles - t)
            if height == 1:
                unit_tile(ROWS_1, unit, done * lanes(group.c), group)
            elif height == 2:
                unit_tile(ROWS_2, unit, done * lanes(group.c), group)
            else:
                unit_tile(ROWS_3, unit, done * lanes(group.c), group)
            done += height


@spliced
def take_column(to, column, stride, H):
    """A row's h or c, which is a column of the group."""
    for unit in range(H):
        to[unit] = column[unit * stride]


@spliced
def clear_column(column, stride, H):
    for unit in range(H):
        column[unit * stride] = 0


@internal
def run_transposed_group(layer, group, n, task):
    """n rows over all their steps."""
    I, H, stride, rows = layer.input_size, layer.hidden_size, group.rows, group.x
    x = group.z
    h = at(x, I * stride)
    h_next = at(h, H * stride)
    c = at(h_next, H * stride)
    clear(x, (I + 3 * H) * stride)  # lanes without a row too: they are computed, never read
    for r in range(n):
        rows[r] = at(task.h, read_from(group, r, task) * H)
    transpose(h, stride, rows, n, H)
    for r in range(n):
        rows[r] = at(task.c, read_from(group, r, task) * H)
    transpose(c, stride, rows, n, H)
    active = still_active(group, n, ZERO)
    s = ZERO
    while active > 0:
        choose_inputs(group, s, s + 1, active, task)
        transpose(x, stride, rows, active, I)
        if task.has_reset:
            for r in range(active):
                if starts_anew(group, r, s, task):
                    clear_column(at(h, r), stride, H)
                    clear_column(at(c, r), stride, H)
        transposed_step(TransposedGroup(layer, stride, x, h, h_next, c), (active + lanes(c) - 1) // lanes(c))
        h, h_next = h_next, h
        for r in range(active):
            rows[r] = out_of(group, r, s, task)
        transpose_back(rows, h, stride, active, H)
        while active > 0 and group.length[active - 1] == s + 1:
            active -= 1
            row = write_to(group, active, task)
            take_column(at(task.h, row * H), at(h, active), stride, H)
            take_column(at(task.c, row * H), at(c, active), stride, H)
        s += 1
