"""A wait that no exception can end: machine code runs no signal handlers."""

# mypy: ignore-errors
# Compiled code: its types are Numba's, and inferred.

from __future__ import annotations

import sys
from functools import cache

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from lstmkernel.backends.numba.compiled import compiled
from lstmkernel.backends.numba.target import IS_AARCH64, IS_X86

#: After so many looks the core is given to the scheduler: there may be more threads than cores.
_LOOKS = 1024


def _call(builder, name, result, *operands):
    function_type = ir.FunctionType(result, [operand.type for operand in operands])
    return builder.call(cgutils.get_or_insert_function(builder.module, function_type, name), operands)


@intrinsic
def _byte(typingctx, address):
    """The byte there, read anew each time."""

    def codegen(context, builder, signature, args):
        place = builder.inttoptr(args[0], cgutils.voidptr_t)
        return builder.zext(builder.load_atomic(place, "acquire", 1), ir.IntType(64))

    return types.int64(address), codegen


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


def _settle(flags, count, forks, seen):
    """Until the bytes at flags are all 0; or until the byte at forks is no longer ``seen``."""
    looks, place = 0, 0
    while place < count and _byte(forks) == seen:
        if _byte(flags + place) == 0:
            place += 1
            continue
        looks += 1
        _pause()
        if looks % _LOOKS == 0:
            _give_way()


@cache
def settle():
    """The machine code of ``_settle``."""
    return compiled("settle", _settle, "the threads")
