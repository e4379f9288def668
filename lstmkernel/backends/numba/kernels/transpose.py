"""Rows become columns, and back: turn and turn_back of csrc/kernels/transposed.h.

In squares of 4, the last of which lie over those before where 4 does not divide.
"""

# mypy: ignore-errors
# Compiled code: its types are Numba's, and inferred.

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from lstmkernel.backends.numba.jit import internal
from lstmkernel.backends.numba.memory import at
from lstmkernel.backends.numba.vec.operations import IR_REAL


@intrinsic
def turn_square(typingctx, to, source):
    """to[j][i] = source[i][j], i and j in 0..3, of two tuples of four pointers."""
    real = IR_REAL[to.dtype.dtype]
    align = to.dtype.dtype.bitwidth // 8
    four = ir.VectorType(real, 4).as_pointer()

    def choose(builder, a, b, *places):
        return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(ir.IntType(32), 4), places))

    def codegen(context, builder, signature, args):
        places, rows = (cgutils.unpack_tuple(builder, arg) for arg in args)
        a, b, c, d = (builder.load(builder.bitcast(row, four), align=align) for row in rows)
        ab_low, ab_high = choose(builder, a, b, 0, 4, 1, 5), choose(builder, a, b, 2, 6, 3, 7)
        cd_low, cd_high = choose(builder, c, d, 0, 4, 1, 5), choose(builder, c, d, 2, 6, 3, 7)
        turned = (
            choose(builder, ab_low, cd_low, 0, 1, 4, 5),
            choose(builder, ab_low, cd_low, 2, 3, 6, 7),
            choose(builder, ab_high, cd_high, 0, 1, 4, 5),
            choose(builder, ab_high, cd_high, 2, 3, 6, 7),
        )
        for column, place in zip(turned, places, strict=True):
            builder.store(column, builder.bitcast(place, four), align=align)
        return context.get_dummy_value()

    return types.void(to, source), codegen


@internal
def turn(to, to_stride, source, rows, columns):
    """to[j * to_stride + i] = source[i][j], i in 0 .. rows - 1, j in 0 .. columns - 1; source: a pointer for each i."""
    if rows < 4 or columns < 4:
        for i in range(rows):
            for j in range(columns):
                to[j * to_stride + i] = source[i][j]
        return
    for row in range(0, rows, 4):
        for column in range(0, columns, 4):
            i, j = min(row, rows - 4), min(column, columns - 4)
            t = at(to, j * to_stride + i)
            columns_of_to = (t, at(t, to_stride), at(t, 2 * to_stride), at(t, 3 * to_stride))
            a, b, c, d = source[i], source[i + 1], source[i + 2], source[i + 3]
            turn_square(columns_of_to, (at(a, j), at(b, j), at(c, j), at(d, j)))


@internal
def turn_back(to, source, stride, rows, columns):
    """The other way: to[i][j] = source[j * stride + i]; to: a pointer for each row."""
    if rows < 4 or columns < 4:
        for i in range(rows):
            for j in range(columns):
                to[i][j] = source[j * stride + i]
        return
    for row in range(0, rows, 4):
        for column in range(0, columns, 4):
            i, j = min(row, rows - 4), min(column, columns - 4)
            s = at(source, j * stride + i)
            a, b, c, d = to[i], to[i + 1], to[i + 2], to[i + 3]
            turn_square(
                (at(a, j), at(b, j), at(c, j), at(d, j)), (s, at(s, stride), at(s, 2 * stride), at(s, 3 * stride))
            )
