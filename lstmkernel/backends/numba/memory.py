"""Pointers into the caller's arrays and workspace.

Kernels take arrays as addresses (places.py), which Numba does several times faster than its own arrays. ``pointer``
gives an address its type once. The types of all numbers then follow by inference.
"""

# mypy: ignore-errors
# Compiled code: its types are Numba's, and inferred.

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from lstmkernel.backends.numba.target import VECTOR_BYTES
from lstmkernel.backends.numba.vec.operations import IR_REAL, lanes_of


@intrinsic
def pointer(typingctx, address, kind):
    """The address as a pointer to numbers of type `kind`: numba.float32, numba.int64, ..."""
    result = types.CPointer(kind.dtype)

    def codegen(context, builder, signature, args):
        return builder.inttoptr(args[0], context.get_value_type(result))

    return result(address, kind), codegen


@intrinsic
def pointer_to_rows(typingctx, address, real):
    """The address as a pointer to pointers to reals: C's ``const real **``."""
    result = types.CPointer(types.CPointer(real.dtype))

    def codegen(context, builder, signature, args):
        return builder.inttoptr(args[0], context.get_value_type(result))

    return result(address, real), codegen


@intrinsic
def cast(typingctx, p, kind):
    """The same place, as a pointer to numbers of type `kind`."""
    result = types.CPointer(kind.dtype)

    def codegen(context, builder, signature, args):
        return builder.bitcast(args[0], context.get_value_type(result))

    return result(p, kind), codegen


@intrinsic
def at(typingctx, p, n):
    """p + n, in C's words."""
    return p(p, n), lambda context, builder, signature, args: builder.gep(args[0], [args[1]])


@intrinsic
def lanes(typingctx, p):
    """LANES for the pointer's dtype: a constant in compiled code."""
    count = lanes_of(p.dtype)
    return types.intp(p), lambda context, builder, signature, args: ir.IntType(64)(count)


@intrinsic
def item_size(typingctx, p):
    """sizeof(real) for the pointer's dtype: a constant likewise."""
    size = p.dtype.bitwidth // 8
    return types.intp(p), lambda context, builder, signature, args: ir.IntType(64)(size)


def emit_buffer(builder: ir.IRBuilder, real: types.Float, count: int) -> ir.Value:
    """Stack for so many numbers, uninitialised.

    All buffers have the same alignment, and it must be set here. LLVM raises it by itself where vectors are stored. But
    it may let two buffers share one place, in code that Numba then links into a caller and compiles again, and then
    only one of the two alignments is left.
    """
    place = cgutils.alloca_once(builder, IR_REAL[real], size=count)
    place.align = VECTOR_BYTES
    return place


@intrinsic
def buffer(typingctx, p):
    """Stack for a vector of the pointer's dtype."""
    return p(p), lambda context, builder, signature, args: emit_buffer(builder, p.dtype, lanes_of(p.dtype))


@intrinsic
def copy(typingctx, to, source, n):
    """memcpy of n numbers."""

    def codegen(context, builder, signature, args):
        cgutils.raw_memcpy(builder, args[0], args[1], args[2], to.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(to, source, n), codegen


@intrinsic
def clear(typingctx, to, n):
    """Zero n numbers."""

    def codegen(context, builder, signature, args):
        size = builder.mul(args[1], args[1].type(to.dtype.bitwidth // 8))
        cgutils.memset(builder, args[0], size, 0)
        return context.get_dummy_value()

    return types.void(to, n), codegen


@intrinsic
def prefetch(typingctx, p, n):
    """Fetch the cache line of p[n] into L1, for reading."""

    def codegen(context, builder, signature, args):
        place = builder.bitcast(builder.gep(args[0], [args[1]]), cgutils.voidptr_t)
        i32 = ir.IntType(32)
        function_type = ir.FunctionType(ir.VoidType(), [cgutils.voidptr_t, i32, i32, i32])
        function = cgutils.get_or_insert_function(builder.module, function_type, "llvm.prefetch.p0i8")
        builder.call(function, [place, i32(0), i32(3), i32(1)])  # a read; all levels; data
        return context.get_dummy_value()

    return types.void(p, n), codegen
