"""The operations on integers for 8-bit weights: csrc/vec/dot_generic.h, which explains them, and its neighbours.

Four neighbours along K are a group: 4 weights of each of LANES rows of the matrix are one vector of words, and 4
activations are broadcast to all lanes. A _Dot is one way to multiply them, as one of csrc/vec/dot_<isa>.h. target.py
says which of them this CPU has.

A pointer to a row of activations has the type of an activation, int16 or int8, which tells the two kinds of kernels
apart. What lies there depends on the way: bytes in planes, or 16 bits each.
"""

# mypy: ignore-errors
# Compiled code: its types are Numba's, and inferred.

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from lstmkernel.backends.numba.target import DOT, VECTOR_BYTES, VECTOR_CONSTRAINT
from lstmkernel.backends.numba.vec.operations import Vec, emit_constant, emit_load, emit_splat, vec_of
from lstmkernel.backends.numba.vec.registers import emit_at, emit_rows_at

LANES = VECTOR_BYTES // 4
IVEC = Vec(types.int32, LANES)

_BYTE, _SHORT, _WORD = ir.IntType(8), ir.IntType(16), ir.IntType(32)
_WORDS = ir.VectorType(_WORD, LANES)
_SHORTS = ir.VectorType(_SHORT, 2 * LANES)
_BYTES = ir.VectorType(_BYTE, 4 * LANES)

#: Adding it rounds a number to an integer, ties to even, whose low bits are those of the sum.
_SHIFT = 1.5 * 2**23


def _call(builder: ir.IRBuilder, name: str, result: ir.Type, *operands: ir.Value) -> ir.Value:
    function_type = ir.FunctionType(result, [operand.type for operand in operands])
    return builder.call(cgutils.get_or_insert_function(builder.module, function_type, name), operands)


def _shifted(builder: ir.IRBuilder, a: ir.Value, up: int, down: int) -> ir.Value:
    """Each element shifted up, then down with its sign."""
    if up:
        a = builder.shl(a, emit_constant(a.type, up))
    return builder.ashr(a, emit_constant(a.type, down)) if down else a


def _bytes_at(builder: ir.IRBuilder, row: ir.Value, n: ir.Value) -> ir.Value:
    return builder.gep(builder.bitcast(row, _BYTE.as_pointer()), [n])


def _times(builder: ir.IRBuilder, a: ir.Value, n: int) -> ir.Value:
    return builder.mul(a, a.type(n))


def _pinned(builder: ir.IRBuilder, vector: ir.Value) -> ir.Value:
    """The vector. Loads that are emitted later come after it in machine code, too.

    LLVM loads weights early to hide the time that it takes. In a tile that needs nearly all registers, it then keeps
    some of the sums on the stack. This is an assembler statement without an instruction.
    """
    if not VECTOR_CONSTRAINT:
        return vector
    function_type = ir.FunctionType(vector.type, [vector.type])
    return builder.asm(function_type, "", f"={VECTOR_CONSTRAINT},0,~{{memory}}", [vector], side_effect=True)


def _splat_word(builder: ir.IRBuilder, place: ir.Value) -> ir.Value:
    """4 bytes of a row, in all lanes."""
    return emit_splat(builder, builder.load(builder.bitcast(place, _WORD.as_pointer()), align=1), LANES)


class _Dot:
    """The portable way: all products are of 32 bits."""

    def __init__(self, bits: int) -> None:
        self.planes, self.bytes = DOT[bits].planes, DOT[bits].bytes

    def put(self, builder: ir.IRBuilder, row: ir.Value, k: ir.Value, inputs: ir.Value, words: ir.Value) -> None:
        """Activations k .. k + LANES - 1 of a row of `inputs`: the low bits of the words."""
        self._put_low_bits(builder, _bytes_at(builder, row, _times(builder, k, self.bytes)), words)

    def _put_low_bits(self, builder: ir.IRBuilder, place: ir.Value, words: ir.Value) -> None:
        narrow = builder.trunc(words, ir.VectorType(ir.IntType(8 * self.bytes), LANES))
        builder.store(narrow, builder.bitcast(place, narrow.type.as_pointer()), align=1)

    def activations(
        self, builder: ir.IRBuilder, row: ir.Value, group: ir.Value, inputs: ir.Value, plane: int
    ) -> list[ir.Value]:
        """Those of a group, as this plane has them, in all lanes."""
        first = builder.bitcast(
            _bytes_at(builder, row, _times(builder, group, 4 * self.bytes)), ir.IntType(8 * self.bytes).as_pointer()
        )
        numbers = [builder.load(emit_at(builder, first, j), align=1) for j in range(4)]
        return [emit_splat(builder, builder.sext(number, _WORD), LANES) for number in numbers]

    def weights(self, builder: ir.IRBuilder, words: ir.Value) -> list[ir.Value]:
        """Those of a group, in the form that all rows multiply."""
        return [_shifted(builder, words, 24 - 8 * j, 24) for j in range(4)]

    def add(self, builder: ir.IRBuilder, total: ir.Value, w: list[ir.Value], x: list[ir.Value]) -> ir.Value:
        """total + the four products of each lane."""
        for weight, number in zip(w, x, strict=True):
            total = builder.add(total, builder.mul(weight, number))
        return total

    def first(self, builder: ir.IRBuilder, offset: ir.Value, plane: int) -> ir.Value:
        """A sum before the first group. offset: of each lane, -128 times the sum of the weights to come."""
        return emit_constant(_WORDS, 0)

    def whole(self, builder: ir.IRBuilder, sums: list[ir.Value]) -> ir.Value:
        """The sum of the planes' sums."""
        if self.planes == 1:
            return sums[0]
        return builder.add(_shifted(builder, sums[0], 8, 0), sums[1])


class _Shorts(_Dot):
    """vpmaddwd: weights are widened to 16 bits once for all rows; those at even places, then those at odd ones."""

    name = "llvm.x86.avx512.pmaddw.d.512" if VECTOR_BYTES == 64 else "llvm.x86.avx2.pmadd.wd"

    def put(self, builder, row, k, inputs, words):
        """In the order 0 2 1 3 of each group."""
        order = [group + j for group in range(0, LANES, 4) for j in (0, 2, 1, 3)]
        ordered = builder.shuffle_vector(words, words, ir.Constant(_WORDS, order))
        super().put(builder, row, k, inputs, ordered)

    def activations(self, builder, row, group, inputs, plane):
        place = _bytes_at(builder, row, _times(builder, group, 8))
        return [_splat_word(builder, emit_at(builder, place, n)) for n in (0, 4)]

    def weights(self, builder, words):
        shorts = builder.bitcast(words, _SHORTS)
        return [_shifted(builder, shorts, 8, 8), _shifted(builder, shorts, 0, 8)]

    def add(self, builder, total, w, x):
        for weights, numbers in zip(w, x, strict=True):
            pairs = _call(builder, self.name, _WORDS, weights, builder.bitcast(numbers, _SHORTS))
            total = builder.add(total, pairs)
        return total


class _Bytes(_Dot):
    """vpdpbusd: unsigned activations times signed weights.

    An activation gets 128, or 32768 of 16 bits, which the first sum takes back. The plane of high bytes comes first.
    """

    name = f"llvm.x86.avx512.vpdpbusd.{8 * VECTOR_BYTES}"  # where there is no AVX-512, LLVM makes that of AVX-VNNI
    flipped_high, flipped_low = True, False

    def put(self, builder, row, k, inputs, words):
        high = words
        if self.planes == 2:
            self._put_bytes(builder, row, builder.add(inputs, k), words, self.flipped_low)
            high = _shifted(builder, words, 0, 8)
        self._put_bytes(builder, row, k, high, self.flipped_high)

    def _put_bytes(self, builder, row, n, words, flipped):
        """flipped: 128 added, modulo 256."""
        narrow = builder.trunc(words, ir.VectorType(_BYTE, LANES))
        if flipped:
            narrow = builder.xor(narrow, emit_constant(narrow.type, -128))
        place = builder.bitcast(_bytes_at(builder, row, n), narrow.type.as_pointer())
        builder.store(narrow, place, align=1)

    def activations(self, builder, row, group, inputs, plane):
        n = builder.add(_times(builder, inputs, plane), _times(builder, group, 4))
        return [_splat_word(builder, _bytes_at(builder, row, n))]

    def weights(self, builder, words):
        return [words]

    def add(self, builder, total, w, x):
        return _call(builder, self.name, _WORDS, total, x[0], w[0])

    def first(self, builder, offset, plane):
        return emit_constant(_WORDS, 0) if plane else emit_load(builder, offset, IVEC)


class _SignedBytes(_Bytes):
    """sdot: signed activations. Of 16 bits, the low byte gets 128 taken away, which the first sum gives back."""

    flipped_high, flipped_low = False, True

    def add(self, builder, total, w, x):
        w, x = builder.bitcast(w[0], _BYTES), builder.bitcast(x[0], _BYTES)
        return _call(builder, "llvm.aarch64.neon.sdot.v4i32.v16i8", _WORDS, total, w, x)

    def first(self, builder, offset, plane):
        return builder.neg(emit_load(builder, offset, IVEC)) if plane else emit_constant(_WORDS, 0)


class _Magnitudes(_Bytes):
    """vpmaddubsw: the activations' magnitudes times weights that got their signs.

    The sum of two products is at most 2 * 127 * 127, which 16 bits hold.
    """

    flipped_high = False

    def activations(self, builder, row, group, inputs, plane):
        (words,) = super().activations(builder, row, group, inputs, plane)
        numbers = builder.bitcast(words, _BYTES)
        return [self._signed(builder, numbers, numbers), numbers]

    def _signed(self, builder, a, sign):
        return _call(builder, "llvm.x86.avx2.psign.b", _BYTES, a, sign)

    def weights(self, builder, words):
        return [builder.bitcast(words, _BYTES)]

    def add(self, builder, total, w, x):
        magnitudes, numbers = x
        signed = self._signed(builder, w[0], numbers)
        pairs = _call(builder, "llvm.x86.avx2.pmadd.ub.sw", _SHORTS, magnitudes, signed)
        ones = emit_constant(_SHORTS, 1)
        return builder.add(total, _call(builder, "llvm.x86.avx2.pmadd.wd", _WORDS, pairs, ones))

    def first(self, builder, offset, plane):
        return emit_constant(_WORDS, 0)


_WAYS = {
    "portable": _Dot,
    "vpmaddwd": _Shorts,
    "vpmaddubsw": _Magnitudes,
    "vpdpbusd": _Bytes,
    "sdot": _SignedBytes,
}
_DOTS = {kind: _WAYS[DOT[kind.bitwidth].instruction](kind.bitwidth) for kind in (types.int16, types.int8)}


# Numbers become integers.


@intrinsic
def i_zero(typingctx):
    return IVEC(), lambda context, builder, signature, args: emit_constant(_WORDS, 0)


@intrinsic
def i_magnitude(typingctx, largest, x):
    """The larger of `largest` and the bits of |x|.

    As integers, numbers have their order, infinity is above them, and NaN above infinity.
    """

    def codegen(context, builder, signature, args):
        magnitude = builder.and_(builder.bitcast(args[1], _WORDS), emit_constant(_WORDS, 2**31 - 1))
        return builder.select(builder.icmp_signed(">", magnitude, args[0]), magnitude, args[0])

    return largest(largest, x), codegen


@intrinsic
def i_largest(typingctx, a):
    """The largest lane, as the number whose bits it is."""

    def codegen(context, builder, signature, args):
        largest = _call(builder, f"llvm.vector.reduce.smax.v{LANES}i32", _WORD, args[0])
        return builder.bitcast(largest, ir.FloatType())

    return types.float32(a), codegen


@intrinsic
def row_items(typingctx, values, inputs):
    """How far apart rows of activations lie. inputs: of a row, a multiple of LANES."""
    items = _DOTS[values.dtype].bytes * 8 // values.dtype.bitwidth
    return types.intp(values, inputs), lambda context, builder, signature, args: _times(builder, args[1], items)


def levels_of(kind: types.Integer) -> int:
    """LEVELS: the largest activation of that type."""
    return int(2 ** (kind.bitwidth - 1) - 1)


@intrinsic
def levels(typingctx, values):
    """LEVELS, as a number."""
    most = levels_of(values.dtype)
    return types.float32(values), lambda context, builder, signature, args: ir.FloatType()(most)


@intrinsic
def put_activations(typingctx, row, k, inputs, x):
    """Round x to integers and put them to places k .. k + LANES - 1 of a row of `inputs`.

    |x| is at most LEVELS and a half. What becomes of NaN is not defined.
    """

    def codegen(context, builder, signature, args):
        row_at, place, count, numbers = args
        words = builder.bitcast(builder.fadd(numbers, emit_constant(numbers.type, _SHIFT)), _WORDS)
        _DOTS[row.dtype].put(builder, row_at, place, count, words)
        return context.get_dummy_value()

    return types.void(row, k, inputs, x), codegen


# A tile of sums of integers: a tuple of vectors, those of row r, plane p, block b and gate g at
# 4 ((r * planes + p) * blocks + b) + g.


@intrinsic
def first_sums(typingctx, offset, block_stride, values, rows, blocks):
    """The sums before the first group. offset: of the first block."""
    dot = _DOTS[values.dtype]
    result = types.UniTuple(IVEC, 4 * len(rows) * dot.planes * len(blocks))

    def codegen(context, builder, signature, args):
        starts = emit_rows_at(builder, args[0], args[1], blocks)
        places = [emit_at(builder, start, g * LANES) for start in starts for g in range(4)]
        planes = [[dot.first(builder, place, plane) for place in places] for plane in range(dot.planes)]
        return context.make_tuple(builder, result, [total for plane in planes for total in plane] * len(rows))

    return result(offset, block_stride, values, rows, blocks), codegen


@intrinsic
def add_group(typingctx, sums, x, k, inputs, w, block_stride, blocks):
    """The sums and the products of group k. x: a pointer to each row of activations; w: at that group."""
    dot = _DOTS[x.dtype.dtype]

    def codegen(context, builder, signature, args):
        totals, rows = (cgutils.unpack_tuple(builder, args[i]) for i in (0, 1))
        xk = [dot.activations(builder, row, args[2], args[3], plane) for row in rows for plane in range(dot.planes)]
        for b, start in enumerate(emit_rows_at(builder, args[4], args[5], blocks)):
            for g in range(4):
                weights = dot.weights(builder, emit_load(builder, emit_at(builder, start, g * LANES), IVEC))
                for r, numbers in enumerate(xk):
                    i = 4 * (r * len(blocks) + b) + g
                    totals[i] = dot.add(builder, totals[i], weights, numbers)
                if len(rows) > 1:
                    totals[i] = _pinned(builder, totals[i])
        return context.make_tuple(builder, sums, totals)

    return sums(sums, x, k, inputs, w, block_stride, blocks), codegen


@intrinsic
def add_products(typingctx, tile, sums, amplitude, scale, values, blocks):
    """tile[r, b, g] + (float(sum) * amplitude[r]) * scale[b][g], each operation rounded."""
    dot, vec, width = _DOTS[values.dtype], vec_of(types.float32), 4 * len(blocks)

    def codegen(context, builder, signature, args):
        totals, integers = (cgutils.unpack_tuple(builder, args[i]) for i in (0, 1))
        scales = [emit_load(builder, emit_at(builder, args[3], i * LANES), vec) for i in range(width)]
        for r in range(len(totals) // width):
            a = emit_splat(builder, builder.load(emit_at(builder, args[2], r)), LANES)
            for i in range(width):
                planes = [integers[(r * dot.planes + plane) * width + i] for plane in range(dot.planes)]
                number = builder.sitofp(dot.whole(builder, planes), a.type)
                product = builder.fmul(builder.fmul(number, a), scales[i])
                totals[r * width + i] = builder.fadd(totals[r * width + i], product)
        return context.make_tuple(builder, tile, totals)

    return tile(tile, sums, amplitude, scale, values, blocks), codegen
