"""The floating-point environment of a kernel: csrc/run/float_control.h.

A kernel rounds to nearest and flushes denormals, so that silence costs what sound costs. Then it restores the caller's
environment. LLVM does not know that arithmetic depends on the control word, so it could move arithmetic across a change
of it. It cannot move a call that is not inlined. So a kernel's body must call ``never_inline``.
"""

# mypy: ignore-errors
# Compiled code: its types are Numba's, and inferred.

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from lstmkernel.backends.numba.target import IS_AARCH64, IS_X86

#: On x86: all exceptions masked, flush to zero, denormals are zero. On Arm: flush to zero.
_MXCSR, _FPCR = 0x1F80 | 0x8000 | 0x0040, 1 << 24


def _call(builder, name, result, *operands):
    function_type = ir.FunctionType(result, [operand.type for operand in operands])
    return builder.call(cgutils.get_or_insert_function(builder.module, function_type, name), operands)


def _read(builder):
    if IS_X86:
        word = cgutils.alloca_once(builder, ir.IntType(32))
        _call(builder, "llvm.x86.sse.stmxcsr", ir.VoidType(), builder.bitcast(word, cgutils.voidptr_t))
        return builder.zext(builder.load(word), ir.IntType(64))
    if IS_AARCH64:
        return _call(builder, "llvm.aarch64.get.fpcr", ir.IntType(64))
    return ir.IntType(64)(0)


def _write(builder, control):
    if IS_X86:
        word = cgutils.alloca_once(builder, ir.IntType(32))
        builder.store(builder.trunc(control, ir.IntType(32)), word)
        _call(builder, "llvm.x86.sse.ldmxcsr", ir.VoidType(), builder.bitcast(word, cgutils.voidptr_t))
    elif IS_AARCH64:
        _call(builder, "llvm.aarch64.set.fpcr", ir.VoidType(), control)


@intrinsic
def enter_kernel(typingctx):
    """Set the kernels' environment; returns the caller's control word."""

    def codegen(context, builder, signature, args):
        callers = _read(builder)
        _write(builder, ir.IntType(64)(_MXCSR if IS_X86 else _FPCR))
        return callers

    return types.int64(), codegen


@intrinsic
def leave_kernel(typingctx, callers):
    def codegen(context, builder, signature, args):
        _write(builder, args[0])
        return context.get_dummy_value()

    return types.void(callers), codegen
