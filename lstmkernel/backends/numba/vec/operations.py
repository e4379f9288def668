"""The vector operations: a Numba type that is an LLVM vector, and the intrinsics of csrc/vec/generic.h on it.

Numba's own loops use vector registers only where LLVM's vectoriser finds a way. A type whose data model *is* an LLVM
vector always does: a local variable of type Vec is in a register as an int is, each intrinsic becomes one instruction,
and the kernels read like C with intrinsics.

No kernel names its dtype. It comes in with a typed pointer (memory.py) and spreads by type inference. This is Numba's
form of C's ``typedef float real``.

Every operation is exact or rounds once, to nearest, so results are bit-identical to C. There is no fastmath, and LLVM
fuses a multiplication with an addition only where ``llvm.fma`` says so.
"""

# mypy: ignore-errors
# Compiled code: its types are Numba's, and inferred.

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

from lstmkernel.backends.numba.target import HAS_FMA, VECTOR_BYTES

#: A dtype that kernels compute in, as LLVM knows it, and the integer of its size. int32 is for sums of 8-bit weights
#: (dot.py).
IR_REAL = {types.float32: ir.FloatType(), types.float64: ir.DoubleType(), types.int32: ir.IntType(32)}
IR_WORD = {types.float32: ir.IntType(32), types.float64: ir.IntType(64)}
MANTISSA_BITS = {types.float32: 23, types.float64: 52}


class Vec(types.Type):  # type: ignore[misc]
    """`length` numbers of type `real` in one register."""

    def __init__(self, real: types.Number, length: int) -> None:
        self.real, self.length = real, length
        super().__init__(name=f"Vec({real}, {length})")


@register_model(Vec)
class VecModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, dmm: Any, fe_type: Vec) -> None:
        super().__init__(dmm, fe_type, ir.VectorType(IR_REAL[fe_type.real], fe_type.length))


def lanes_of(real: types.Float) -> int:
    """LANES of csrc/vec/<isa>.h."""
    return VECTOR_BYTES // (real.bitwidth // 8)


def vec_of(real: types.Float) -> Vec:
    return Vec(real, lanes_of(real))


# Emitters: they append instructions to an LLVM function. The intrinsics here and in registers.py are made of them.


def emit_load(builder: ir.IRBuilder, pointer: ir.Value, vec: Vec) -> ir.Value:
    """From an address that is only as aligned as one number."""
    llvm_type = ir.VectorType(IR_REAL[vec.real], vec.length)
    return builder.load(builder.bitcast(pointer, llvm_type.as_pointer()), align=vec.real.bitwidth // 8)


def emit_store(builder: ir.IRBuilder, value: ir.Value, pointer: ir.Value, vec: Vec) -> None:
    builder.store(value, builder.bitcast(pointer, value.type.as_pointer()), align=vec.real.bitwidth // 8)


def emit_splat(builder: ir.IRBuilder, number: ir.Value, length: int) -> ir.Value:
    undefined = ir.Constant(ir.VectorType(number.type, length), ir.Undefined)
    first = builder.insert_element(undefined, number, ir.IntType(32)(0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), length), [0] * length)
    return builder.shuffle_vector(first, undefined, zeros)


def emit_intrinsic(builder: ir.IRBuilder, name: str, *operands: ir.Value) -> ir.Value:
    """Call LLVM's intrinsic of that name, on vectors of one type."""
    vec = operands[0].type
    function_type = ir.FunctionType(vec, [vec] * len(operands))
    full_name = f"{name}.v{vec.count}{vec.element.intrinsic_name}"
    return builder.call(cgutils.get_or_insert_function(builder.module, function_type, full_name), operands)


def emit_fma(builder: ir.IRBuilder, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
    if HAS_FMA:
        return emit_intrinsic(builder, "llvm.fma", a, b, c)
    return builder.fadd(builder.fmul(a, b), c)


def emit_constant(vec: ir.VectorType, number: float) -> ir.Constant:
    return ir.Constant(vec, [number] * vec.count)


def vec_in(operand: types.Type) -> Vec:
    """The type of a vector, or of each vector in a tuple."""
    vec = operand.dtype if isinstance(operand, types.UniTuple) else operand
    if not isinstance(vec, Vec):
        raise TypeError(f"expected a vector or a tuple of vectors, got {operand}")
    return vec


def in_step(emit: Callable[..., list[ir.Value]], *operands: types.Type) -> tuple[Any, Any]:
    """An intrinsic on vectors or on tuples of vectors: its signature and its code generator.

    emit: takes a list of vectors for each operand, and returns the list of the result's vectors. A vector beside a
    tuple counts for each element of the tuple.
    """
    counts = {len(operand) for operand in operands if isinstance(operand, types.UniTuple)}
    vecs = {vec_in(operand) for operand in operands}
    if len(vecs) > 1 or len(counts) > 1:
        raise TypeError(f"expected vectors of one type, or as many of them, got {operands}")
    (count,) = counts or {1}
    result = types.UniTuple(*vecs, count) if counts else operands[0]

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        lists = [
            cgutils.unpack_tuple(builder, arg) if isinstance(operand, types.UniTuple) else [arg] * count
            for arg, operand in zip(args, operands, strict=True)
        ]
        vectors = emit(builder, *lists)
        return context.make_tuple(builder, result, vectors) if counts else vectors[0]

    return result(*operands), codegen


def elementwise(emit: Callable[..., ir.Value], *operands: types.Type) -> tuple[Any, Any]:
    """The same for an operation that treats each vector of a tuple by itself."""
    return in_step(lambda builder, *lists: [emit(builder, *each) for each in zip(*lists, strict=True)], *operands)


# The operations, in the order of csrc/vec/generic.h.


@intrinsic
def v_load(typingctx, p):
    vec = vec_of(p.dtype)
    return vec(p), lambda context, builder, signature, args: emit_load(builder, args[0], vec)


@intrinsic
def v_store(typingctx, p, a):
    def codegen(context, builder, signature, args):
        emit_store(builder, args[1], args[0], a)
        return context.get_dummy_value()

    return types.void(p, a), codegen


@intrinsic
def v_splat(typingctx, number):
    vec = vec_of(number)
    return vec(number), lambda context, builder, signature, args: emit_splat(builder, args[0], vec.length)


@intrinsic
def v_add(typingctx, a, b):
    return elementwise(lambda builder, a, b: builder.fadd(a, b), a, b)


@intrinsic
def v_sub(typingctx, a, b):
    return elementwise(lambda builder, a, b: builder.fsub(a, b), a, b)


@intrinsic
def v_mul(typingctx, a, b):
    return elementwise(lambda builder, a, b: builder.fmul(a, b), a, b)


@intrinsic
def v_div(typingctx, a, b):
    return elementwise(lambda builder, a, b: builder.fdiv(a, b), a, b)


@intrinsic
def v_fma(typingctx, a, b, c):
    """a * b + c"""
    return elementwise(emit_fma, a, b, c)


@intrinsic
def v_fnma(typingctx, a, b, c):
    """c - a * b"""
    return elementwise(lambda builder, a, b, c: emit_fma(builder, builder.fneg(a), b, c), a, b, c)


@intrinsic
def v_min(typingctx, a, b):
    """The smaller; b where either is NaN or both are zero, as on x86."""
    return elementwise(lambda builder, a, b: builder.select(builder.fcmp_ordered("<", a, b), a, b), a, b)


@intrinsic
def v_max(typingctx, a, b):
    """The larger; b where either is NaN or both are zero."""
    return elementwise(lambda builder, a, b: builder.select(builder.fcmp_ordered(">", a, b), a, b), a, b)


@intrinsic
def v_zero_below(typingctx, a, x, least):
    """a, but 0 where x < least, which a NaN is not."""

    def emit(builder, a, x, least):
        return builder.select(builder.fcmp_ordered("<", x, least), emit_constant(a.type, 0.0), a)

    return elementwise(emit, a, x, least)


@intrinsic
def v_copysign(typingctx, a, sign):
    """The magnitude of a, the sign of the other."""
    return elementwise(lambda builder, a, sign: emit_intrinsic(builder, "llvm.copysign", a, sign), a, sign)


@intrinsic
def v_pow2(typingctx, shifted):
    """2^n, where shifted = n + 1.5 * 2^MANTISSA_BITS + the exponent's bias.

    The biased exponent of 2^n then lies in the lowest bits of the mantissa, one shift away from its place.
    """
    vec = vec_in(shifted)
    words = ir.VectorType(IR_WORD[vec.real], vec.length)
    shift = ir.Constant(words, [MANTISSA_BITS[vec.real]] * vec.length)
    return elementwise(
        lambda builder, shifted: builder.bitcast(builder.shl(builder.bitcast(shifted, words), shift), shifted.type),
        shifted,
    )
