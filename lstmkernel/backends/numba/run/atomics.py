"""Numbers that several threads read and write: each operation is one, and all threads see the same order of them."""

# mypy: ignore-errors
# Compiled code: its types are Numba's, and inferred.

from __future__ import annotations

import sys

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from lstmkernel.backends.numba.jit import inlined
from lstmkernel.backends.numba.target import IS_AARCH64, IS_X86

#: After so many looks the core is given to the scheduler: there may be more threads than cores.
_LOOKS = 256
_ORDER, _BYTES = "seq_cst", 8


def _call(builder, name, result, *operands):
    function_type = ir.FunctionType(result, [operand.type for operand in operands])
    return builder.call(cgutils.get_or_insert_function(builder.module, function_type, name), operands)


@intrinsic
def load(typingctx, p, n):
    """p[n], read anew each time."""

    def codegen(context, builder, signature, args):
        return builder.load_atomic(builder.gep(args[0], [args[1]]), _ORDER, _BYTES)

    return types.int64(p, n), codegen


@intrinsic
def store(typingctx, p, n, value):
    def codegen(context, builder, signature, args):
        builder.store_atomic(args[2], builder.gep(args[0], [args[1]]), _ORDER, _BYTES)
        return context.get_dummy_value()

    return types.void(p, n, types.int64), codegen


@intrinsic
def replace(typingctx, p, n, old, new):
    """p[n] = new where it is old. Returns whether it was."""

    def codegen(context, builder, signature, args):
        found = builder.cmpxchg(builder.gep(args[0], [args[1]]), args[2], args[3], _ORDER, _ORDER)
        return builder.extract_value(found, 1)

    return types.boolean(p, n, types.int64, types.int64), codegen


@intrinsic
def _pause(typingctx):
    def codegen(context, builder, signature, args):
        if IS_X86:
            _call(builder, "llvm.x86.sse2.pause", ir.VoidType())
        elif IS_AARCH64:
            _call(builder, "llvm.aarch64.hint", ir.VoidType(), ir.IntType(32)(1))
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def _give_way(typingctx):
    def codegen(context, builder, signature, args):
        if sys.platform != "win32":
            _call(builder, "sched_yield", ir.IntType(32))
        return context.get_dummy_value()

    return types.void(), codegen


@inlined
def spin(looks):
    """One turn of a wait that has looked so many times."""
    _pause()
    if looks % _LOOKS == 0:
        _give_way()
