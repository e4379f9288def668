"""Loads and stores of less than a whole vector: csrc/vec/tail.h.

They go through a small buffer, because masked stores are slow on some CPUs and missing on others. Where vectors have 64
bytes, loads have masks, as in csrc/vec/avx512.h.
"""

# mypy: ignore-errors
# Compiled code: its types are Numba's, and inferred.

from __future__ import annotations

from llvmlite import ir
from numba.core import cgutils
from numba.extending import intrinsic

from lstmkernel.backends.numba.jit import inlined
from lstmkernel.backends.numba.memory import buffer, clear, copy, lanes
from lstmkernel.backends.numba.target import VECTOR_BYTES
from lstmkernel.backends.numba.vec.operations import IR_REAL, v_load, v_store, vec_of


@intrinsic
def load_first(typingctx, p, n):
    """The first n lanes, and zeros in the others. n may be more than all."""
    vec = vec_of(p.dtype)

    def codegen(context, builder, signature, args):
        real, count, word = IR_REAL[vec.real], vec.length, args[1].type
        n = builder.select(builder.icmp_signed("<", args[1], word(count)), args[1], word(count))
        bits = builder.trunc(builder.sub(builder.shl(word(1), n), word(1)), ir.IntType(count))
        zeros = ir.Constant(ir.VectorType(real, count), [0.0] * count)
        operands = [
            builder.bitcast(args[0], zeros.type.as_pointer()),
            ir.IntType(32)(vec.real.bitwidth // 8),  # the alignment
            builder.bitcast(bits, ir.VectorType(ir.IntType(1), count)),
            zeros,
        ]
        function_type = ir.FunctionType(zeros.type, [operand.type for operand in operands])
        name = f"v{count}f{vec.real.bitwidth}"
        load = cgutils.get_or_insert_function(builder.module, function_type, f"llvm.masked.load.{name}.p0{name}")
        return builder.call(load, operands)

    return vec(p, n), codegen


@inlined
def v_load_n(p, n):
    if VECTOR_BYTES == 64:
        return load_first(p, n)
    if n >= lanes(p):
        return v_load(p)
    padded = buffer(p)
    clear(padded, lanes(p))
    copy(padded, p, n)
    return v_load(padded)


@inlined
def v_store_n(p, a, n):
    if n >= lanes(p):
        v_store(p, a)
        return
    whole = buffer(p)
    v_store(whole, a)
    for lane in range(n):
        p[lane] = whole[lane]
