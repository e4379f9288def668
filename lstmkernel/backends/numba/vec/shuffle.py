"""The operations that move lanes: csrc/vec/shuffle.h."""

# mypy: ignore-errors
# Compiled code: its types are Numba's, and inferred.

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from lstmkernel.backends.numba.vec.operations import IR_REAL


@intrinsic
def v_transpose4(typingctx, to, source):
    """to[j][i] = source[i][j], i and j in 0..3. Both are tuples of four pointers."""
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
        columns = (
            choose(builder, ab_low, cd_low, 0, 1, 4, 5),
            choose(builder, ab_low, cd_low, 2, 3, 6, 7),
            choose(builder, ab_high, cd_high, 0, 1, 4, 5),
            choose(builder, ab_high, cd_high, 2, 3, 6, 7),
        )
        for column, place in zip(columns, places, strict=True):
            builder.store(column, builder.bitcast(place, four), align=align)
        return context.get_dummy_value()

    return types.void(to, source), codegen
