"""A step of many rows of a layer of few units: the lanes of a vector are rows instead of units.

The Numba form of csrc/kernels/transposed.h.

The states and the inputs of a group are turned, [H][stride] and [I][stride] instead of [rows][...], and weights are
what is broadcast, each one straight from the packed [block][K][4][LANES]. Every sum has the terms and the order that it
has in step_tile. Tiles are of at most 3 vectors, whose 12 sums keep two FMA units busy; C's are taller, but here every
further height is more to compile.
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
from lstmkernel.backends.numba.kernels.layout import FEW_UNITS
from lstmkernel.backends.numba.kernels.rows import choose_inputs, out_of, read_from, starts_anew, still_active, write_to
from lstmkernel.backends.numba.kernels.tile import PANELS_1, ROWS_1, ROWS_2, ROWS_3, ZERO
from lstmkernel.backends.numba.kernels.transpose import turn, turn_back
from lstmkernel.backends.numba.memory import at, clear, lanes
from lstmkernel.backends.numba.vec.operations import emit_fma, emit_splat, v_add, vec_of
from lstmkernel.backends.numba.vec.registers import load_vectors, quad, store_vectors, zero_tile

MOST_VECTORS = 3

#: A group of rows, turned: element (row, j) at [j * stride + row].
Crowd = namedtuple("Crowd", "layer stride x h h_next c")


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
    """(i, f, g, o), of each a tuple of vectors."""
    count = len(sums) // 4
    part = types.UniTuple(sums.dtype, count)
    result = types.UniTuple(part, 4)

    def codegen(context, builder, signature, args):
        vectors = cgutils.unpack_tuple(builder, args[0])
        parts = [context.make_tuple(builder, part, vectors[g * count : (g + 1) * count]) for g in range(4)]
        return context.make_tuple(builder, result, parts)

    return result(sums), codegen


@spliced
def accumulate_unit(sums, x, stride, first, K, skip, w, vectors):
    """The sum over k = first, first + skip, ... below K of x[k][v] * w[k][g]."""
    for k in range(first, K, skip):
        sums = multiply_add_unit(sums, load_vectors(at(x, k * stride), vectors), at(w, k * quad(w)))
    return sums


@inlined
def unit_tile(vectors, unit, row, g):
    """One unit of len(vectors) vectors of rows, from `row` on."""
    layer, stride = g.layer, g.stride
    I, H = layer.input_size, layer.hidden_size
    block, lane = unit // lanes(g.c), unit % lanes(g.c)
    w_x = at(layer.w_x, block * I * quad(g.c) + lane)
    w_h = at(layer.w_h, block * H * quad(g.c) + lane)
    h = at(g.h, row)
    sums = splat_gates(at(layer.bias, block * quad(g.c) + lane), vectors)
    sums = accumulate_unit(sums, at(g.x, row), stride, 0, I, 1, w_x, vectors)
    if H <= FEW_UNITS:  # the odd k have a sum of their own, as in small_step_tile
        zero = zero_tile(g.c, vectors, PANELS_1)
        sums = v_add(
            accumulate_unit(sums, h, stride, 0, H, 2, w_h, vectors),
            accumulate_unit(zero, h, stride, 1, H, 2, w_h, vectors),
        )
    else:
        sums = accumulate_unit(sums, h, stride, 0, H, 1, w_h, vectors)
    place = unit * stride + row
    c_t, h_t = cells(by_gate(sums), load_vectors(at(g.c, place), vectors))
    store_vectors(c_t, at(g.c, place))
    store_vectors(h_t, at(g.h_next, place))


@internal
def crowd_step(g, vectors):
    """One step of the first `vectors` vectors of rows, from h to h_next."""
    tiles = (vectors + MOST_VECTORS - 1) // MOST_VECTORS
    for unit in range(g.layer.hidden_size):
        done = ZERO
        for t in range(tiles):
            height = (vectors - done + tiles - t - 1) // (tiles - t)
            if height == 1:
                unit_tile(ROWS_1, unit, done * lanes(g.c), g)
            elif height == 2:
                unit_tile(ROWS_2, unit, done * lanes(g.c), g)
            else:
                unit_tile(ROWS_3, unit, done * lanes(g.c), g)
            done += height


@spliced
def take_column(to, column, stride, H):
    """A row's h or c, of which the group has a column."""
    for unit in range(H):
        to[unit] = column[unit * stride]


@spliced
def clear_column(column, stride, H):
    for unit in range(H):
        column[unit * stride] = 0


@internal
def run_turned_group(layer, group, n, call):
    """n rows over all their steps."""
    I, H, stride, rows = layer.input_size, layer.hidden_size, group.rows, group.x
    x = group.z
    h = at(x, I * stride)
    h_next = at(h, H * stride)
    c = at(h_next, H * stride)
    clear(x, (I + 3 * H) * stride)  # lanes without a row: computed, never read
    for r in range(n):
        rows[r] = at(call.h, read_from(group, r, call) * H)
    turn(h, stride, rows, n, H)
    for r in range(n):
        rows[r] = at(call.c, read_from(group, r, call) * H)
    turn(c, stride, rows, n, H)
    active = still_active(group, n, 0)
    s = ZERO
    while active > 0:
        choose_inputs(group, s, s + 1, active, call)
        turn(x, stride, rows, active, I)
        if call.has_reset:
            for r in range(active):
                if starts_anew(group, r, s, call):
                    clear_column(at(h, r), stride, H)
                    clear_column(at(c, r), stride, H)
        crowd_step(Crowd(layer, stride, x, h, h_next, c), (active + lanes(c) - 1) // lanes(c))
        h, h_next = h_next, h
        for r in range(active):
            rows[r] = out_of(group, r, s, call)
        turn_back(rows, h, stride, active, H)
        while active > 0 and group.length[active - 1] == s + 1:
            active -= 1
            row = write_to(group, active, call)
            take_column(at(call.h, row * H), at(h, active), stride, H)
            take_column(at(call.c, row * H), at(c, active), stride, H)
        s += 1
