"""A register tile: a tuple of vectors, element 4 (r * blocks + b) + g for row r, block b and gate g.

How many rows and blocks there are must be known when a kernel is compiled, or the tile could not live in registers. A
tuple's length is part of its type, so counts travel as tuples: the row numbers ``(0, 1, 2)`` for three rows, the block
numbers ``(0, 1)`` for two. Each intrinsic here is a loop of csrc/kernels/tile.h, unrolled while code is generated.
"""

# mypy: ignore-errors
# Compiled code: its types are Numba's, and inferred.

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from lstmkernel.backends.numba.memory import emit_buffer
from lstmkernel.backends.numba.vec.operations import emit_fma, emit_load, emit_splat, emit_store, lanes_of, vec_of


@intrinsic
def block_size(typingctx, p):
    """Weights of one input of a block: the four gates of LANES units, or 4 LANES neighbouring outputs."""
    size = 4 * lanes_of(p.dtype)
    return types.intp(p), lambda context, builder, signature, args: ir.IntType(64)(size)


def emit_at(builder: ir.IRBuilder, p: ir.Value, n: ir.Value | int) -> ir.Value:
    """p + n, as C writes it."""
    return builder.gep(p, [ir.IntType(64)(n) if isinstance(n, int) else n])


def emit_rows_at(builder: ir.IRBuilder, p: ir.Value, stride: ir.Value, rows: Any) -> list[ir.Value]:
    """p + r * stride, for each r of the tuple of row or block numbers."""
    return [emit_at(builder, p, builder.mul(stride, ir.IntType(64)(r))) for r in range(len(rows))]


def _places(builder: ir.IRBuilder, args: Any, p: Any, rows: Any, blocks: Any) -> Iterator[ir.Value]:
    """Where the vectors of a tile lie in memory: rows a stride apart, blocks side by side."""
    for start in emit_rows_at(builder, *args, rows):
        for i in range(4 * len(blocks)):
            yield emit_at(builder, start, i * lanes_of(p.dtype))


@intrinsic
def row_pointers(typingctx, p, stride, rows):
    """(p, p + stride, ...): a pointer for each row."""
    result = types.UniTuple(p, len(rows))

    def codegen(context, builder, signature, args):
        return context.make_tuple(builder, result, emit_rows_at(builder, args[0], args[1], rows))

    return result(p, stride, rows), codegen


@intrinsic
def load_pointers(typingctx, p, rows):
    """(p[0], p[1], ...): a pointer for each row, from a table."""
    result = types.UniTuple(p.dtype, len(rows))

    def codegen(context, builder, signature, args):
        pointers = [builder.load(emit_at(builder, args[0], r)) for r in range(len(rows))]
        return context.make_tuple(builder, result, pointers)

    return result(p, rows), codegen


@intrinsic
def load_tile(typingctx, p, row_stride, rows, blocks):
    """A tile from memory. A row stride of 0 gives every row the same: a bias."""
    vec = vec_of(p.dtype)
    result = types.UniTuple(vec, 4 * len(rows) * len(blocks))

    def codegen(context, builder, signature, args):
        vectors = [emit_load(builder, place, vec) for place in _places(builder, args[:2], p, rows, blocks)]
        return context.make_tuple(builder, result, vectors)

    return result(p, row_stride, rows, blocks), codegen


@intrinsic
def load_vectors(typingctx, p, vectors):
    """As many vectors as the tuple has numbers, side by side in memory."""
    vec = vec_of(p.dtype)
    result = types.UniTuple(vec, len(vectors))

    def codegen(context, builder, signature, args):
        loaded = [emit_load(builder, emit_at(builder, args[0], v * vec.length), vec) for v in range(len(vectors))]
        return context.make_tuple(builder, result, loaded)

    return result(p, vectors), codegen


@intrinsic
def store_vectors(typingctx, vectors, p):
    """The inverse."""

    def codegen(context, builder, signature, args):
        for v, vector in enumerate(cgutils.unpack_tuple(builder, args[0])):
            emit_store(builder, vector, emit_at(builder, args[1], v * vectors.dtype.length), vectors.dtype)
        return context.get_dummy_value()

    return types.void(vectors, p), codegen


@intrinsic
def tile_buffer(typingctx, p, rows, blocks):
    """Stack for a tile of the pointer's dtype."""
    count = 4 * len(rows) * len(blocks) * lanes_of(p.dtype)
    return p(p, rows, blocks), lambda context, builder, signature, args: emit_buffer(builder, p.dtype, count)


@intrinsic
def zero_tile(typingctx, p, rows, blocks):
    """A tile of zeros, of the pointer's dtype."""
    result = types.UniTuple(vec_of(p.dtype), 4 * len(rows) * len(blocks))
    return result(p, rows, blocks), lambda context, builder, signature, args: context.get_constant_null(result)


@intrinsic
def store_tile(typingctx, tile, p, row_stride, rows, blocks):
    """The inverse of load_tile."""

    def codegen(context, builder, signature, args):
        vectors = cgutils.unpack_tuple(builder, args[0])
        for vector, place in zip(vectors, _places(builder, args[1:3], p, rows, blocks), strict=True):
            emit_store(builder, vector, place, tile.dtype)
        return context.get_dummy_value()

    return types.void(tile, p, row_stride, rows, blocks), codegen


def _add_input(
    builder: ir.IRBuilder, sums: list[ir.Value], xk: list[ir.Value], blocks: list[ir.Value], vec: Any
) -> None:
    """sums[r, b, g] += xk[r] * blocks[b][g].

    A weight is loaded and used up for all rows before the next: it holds one register at a time.
    """
    for b, start in enumerate(blocks):
        for g in range(4):
            wk = emit_load(builder, emit_at(builder, start, g * vec.length), vec)
            for r, x in enumerate(xk):
                i = 4 * (r * len(blocks) + b) + g
                sums[i] = emit_fma(builder, wk, x, sums[i])


@intrinsic
def multiply_add(typingctx, tile, x, k, w, block_stride, blocks):
    """tile[r, b, g] + x[r][k] * w[b][g], for one input k.

    x holds a pointer for each row; blocks of w lie block_stride apart.
    """
    vec = tile.dtype

    def codegen(context, builder, signature, args):
        sums, pointers = (cgutils.unpack_tuple(builder, args[i]) for i in (0, 1))
        xk = [emit_splat(builder, builder.load(emit_at(builder, pointer, args[2])), vec.length) for pointer in pointers]
        _add_input(builder, sums, xk, emit_rows_at(builder, args[3], args[4], blocks), vec)
        return context.make_tuple(builder, tile, sums)

    return tile(tile, x, k, w, block_stride, blocks), codegen


@intrinsic
def multiply_add_run(typingctx, tile, x, w, block_stride, blocks, run):
    """multiply_add of one row for the next len(run) inputs, unrolled.

    A tile may have twice as many sums: those of the even inputs, then those of the odd ones.
    """
    vec = tile.dtype
    count = 4 * len(blocks)

    def codegen(context, builder, signature, args):
        sums = cgutils.unpack_tuple(builder, args[0])
        halves = [sums[first : first + count] for first in range(0, len(sums), count)]
        for k in range(len(run)):
            xk = emit_splat(builder, builder.load(emit_at(builder, args[1], k)), vec.length)
            w = emit_at(builder, args[2], k * 4 * vec.length)
            _add_input(builder, halves[k % len(halves)], [xk], emit_rows_at(builder, w, args[3], blocks), vec)
        return context.make_tuple(builder, tile, [vector for half in halves for vector in half])

    return tile(tile, x, w, block_stride, blocks, run), codegen


@intrinsic
def gates_of_row(typingctx, tile):
    """(i, f, g, o) of one row's tile: for each gate, a tuple with a vector for each block."""
    gate = types.UniTuple(tile.dtype, len(tile) // 4)
    result = types.UniTuple(gate, 4)

    def codegen(context, builder, signature, args):
        vectors = cgutils.unpack_tuple(builder, args[0])
        return context.make_tuple(builder, result, [context.make_tuple(builder, gate, vectors[g::4]) for g in range(4)])

    return result(tile), codegen
