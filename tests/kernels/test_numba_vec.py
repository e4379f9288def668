"""The Numba backend: each vector operation alone against scalar NumPy, then every kernel against C, bit for bit."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from fractions import Fraction
from functools import cache, partial
from itertools import product

import numpy as np
import pytest

pytest.importorskip("numba")

import helpers
from helpers import ROOT
from numba import float32, float64, njit
from numba.types import Tuple, UniTuple

from lstmkernel import backends
from lstmkernel.backends.contract import DENSE_ACTIVATIONS
from lstmkernel.backends.numba import memory, structs
from lstmkernel.backends.numba.kernels.activation import CONSTANTS, Q
from lstmkernel.backends.numba.memory import pointer, pointer_to_rows
from lstmkernel.backends.numba.run.float_control import enter_kernel, leave_kernel
from lstmkernel.backends.numba.target import HAS_FMA, IS_X86, VECTOR_BYTES
from lstmkernel.backends.numba.vec import operations, registers, tail
from lstmkernel.backends.packing import unpack_gates

REALS = [pytest.param(float32, id="float32"), pytest.param(float64, id="float64")]
DTYPES = [np.float32, np.float64]
DTYPE_OF = {float32: np.dtype(np.float32), float64: np.dtype(np.float64)}


def compiled(function):
    return njit(error_model="numpy")(function)


assert_same_bits = partial(helpers.assert_same_bits, any_nan=True)


def edges(dtype):
    """Numbers that separate the right operation from its neighbours."""
    about = np.finfo(dtype)
    positive = [0, 1, 1 + about.eps, 1 - about.epsneg, 1.5, np.pi, 1e-3, 12345.678, about.tiny, about.max, np.inf]
    return np.array([*positive, *np.negative(positive), np.nan], dtype)


@cache
def vector_function(operation, real, arity):
    """operation as a function of the addresses of one result and `arity` operands."""
    load = operations.v_load
    if arity == 1:
        return compiled(lambda y, a: operations.v_store(pointer(y, real), operation(load(pointer(a, real)))))
    if arity == 2:
        return compiled(
            lambda y, a, b: operations.v_store(
                pointer(y, real), operation(load(pointer(a, real)), load(pointer(b, real)))
            )
        )
    return compiled(
        lambda y, a, b, c: operations.v_store(
            pointer(y, real), operation(load(pointer(a, real)), load(pointer(b, real)), load(pointer(c, real)))
        )
    )


def apply(operation, real, *operands):
    """operation over whole arrays, a vector at a time."""
    n, lanes = len(operands[0]), operations.lanes_of(real)
    padded = [np.append(a, np.zeros(-n % lanes, a.dtype)) for a in operands]
    y = np.empty_like(padded[0])
    function = vector_function(operation, real, len(operands))
    for start in range(0, len(y), lanes):
        function(*(array[start:].ctypes.data for array in (y, *padded)))
    return y[:n]


def combinations(dtype, count):
    return [np.array(column, dtype) for column in zip(*product(edges(dtype), repeat=count), strict=True)]


BINARY = {
    "v_add": np.add,
    "v_sub": np.subtract,
    "v_mul": np.multiply,
    "v_div": np.divide,
    "v_min": lambda a, b: np.where(a < b, a, b),
    "v_max": lambda a, b: np.where(a > b, a, b),
    "v_copysign": np.copysign,
}


@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize("name", BINARY)
def test_binary_operation(name, real):
    a, b = combinations(DTYPE_OF[real], 2)
    with np.errstate(all="ignore"):
        expected = BINARY[name](a, b)
    assert_same_bits(apply(getattr(operations, name), real, a, b), expected)


def nearest(exact, dtype):
    """The number of that dtype nearest to a fraction; no ties among the test's numbers."""
    guess = dtype.type(float(exact))
    candidates = [guess, np.nextafter(guess, dtype.type(np.inf)), np.nextafter(guess, dtype.type(-np.inf))]
    return min(candidates, key=lambda candidate: abs(Fraction(float(candidate)) - exact))


def fma(a, b, c, dtype):
    if not HAS_FMA or not np.isfinite([a, b, c]).all():
        return a * b + c
    exact = Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c))
    return nearest(exact, dtype) if exact else a * b + c  # the sign of zero


@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize(("name", "sign"), [("v_fma", 1), ("v_fnma", -1)])
def test_fma_rounds_once(name, sign, real):
    dtype = DTYPE_OF[real]
    largest = np.sqrt(np.finfo(dtype).max) / 2  # products stay finite
    a, b, c = combinations(dtype, 3)
    chosen = [~(np.isfinite(n) & (np.abs(n) > largest)) & ~((n != 0) & (np.abs(n) < 1e-9)) for n in (a, b, c)]
    a, b, c = (n[np.logical_and.reduce(chosen)] for n in (a, b, c))
    with np.errstate(all="ignore"):
        expected = np.array([fma(sign * x, y, z, dtype) for x, y, z in zip(a, b, c, strict=True)], dtype)
    assert_same_bits(apply(getattr(operations, name), real, a, b, c), expected)
    if HAS_FMA:
        with np.errstate(all="ignore"):
            assert (expected != (sign * a * b + c)).sum() > np.isnan(expected).sum()  # some can tell one from two


@pytest.mark.parametrize("real", REALS)
def test_operation_on_tuples_of_vectors(real):
    """One result for each place of the tuples; a single vector stands beside all of them."""
    lanes = operations.lanes_of(real)

    @compiled
    def sums(y, x):
        y, x = pointer(y, real), pointer(x, real)
        a, b, c = (
            operations.v_load(x),
            operations.v_load(memory.at(x, lanes)),
            operations.v_load(memory.at(x, 2 * lanes)),
        )
        first, second = operations.v_fma((a, b), c, operations.v_sub((b, c), a))
        operations.v_store(y, first)
        operations.v_store(memory.at(y, lanes), second)

    a, b, c = x = np.arange(1, 3 * lanes + 1, dtype=DTYPE_OF[real]).reshape(3, lanes)
    y = np.empty((2, lanes), x.dtype)
    sums(y.ctypes.data, x.ctypes.data)
    assert_same_bits(y, np.array([a * c + (b - a), b * c + (c - a)]))  # small integers: exact


@pytest.mark.parametrize("real", REALS)
def test_operands_that_do_not_match_are_refused(real):
    other = float32 if real is float64 else float64
    vector, pair = operations.vec_of(real), UniTuple(operations.vec_of(real), 2)
    for operands in (
        (vector, real),
        (vector, operations.vec_of(other)),
        (pair, UniTuple(vector, 3)),
        (Tuple((real, real)),),
    ):
        with pytest.raises(TypeError, match="expected"):
            operations.elementwise(None, *operands)


@pytest.mark.parametrize("real", REALS)
def test_pow2(real):
    dtype = DTYPE_OF[real]
    about = np.finfo(dtype)
    n = np.arange(about.minexp, about.maxexp, dtype=dtype)
    shifted = n + dtype.type(float.fromhex(CONSTANTS[real]["ROUND_SHIFT"]))
    assert_same_bits(apply(operations.v_pow2, real, shifted), np.exp2(n.astype(np.float64)).astype(dtype))


@pytest.mark.parametrize("real", REALS)
def test_splat(real):
    lanes, dtype = operations.lanes_of(real), DTYPE_OF[real]
    splat = compiled(lambda y, x: operations.v_store(pointer(y, real), operations.v_splat(pointer(x, real)[0])))
    for number in edges(dtype):
        x, y = np.array([number]), np.empty(lanes, dtype)
        splat(y.ctypes.data, x.ctypes.data)
        assert_same_bits(y, np.repeat(x, lanes))


@pytest.mark.parametrize("real", REALS)
def test_load_and_store_touch_one_vector_at_any_address(real):
    lanes, dtype = operations.lanes_of(real), DTYPE_OF[real]
    move = compiled(lambda y, x: operations.v_store(pointer(y, real), operations.v_load(pointer(x, real))))
    for start in range(lanes + 1):
        x, y = np.arange(1, 3 * lanes, dtype=dtype), np.zeros(3 * lanes, dtype)
        move(y[start:].ctypes.data, x[1:].ctypes.data)
        expected = np.zeros_like(y)
        expected[start : start + lanes] = x[1 : 1 + lanes]
        assert_same_bits(y, expected)


@pytest.mark.parametrize("real", REALS)
def test_tails_touch_n_numbers_and_load_zeros_beyond(real):
    lanes, dtype = operations.lanes_of(real), DTYPE_OF[real]
    load = compiled(lambda y, x, n: operations.v_store(pointer(y, real), tail.v_load_n(pointer(x, real), n)))
    store = compiled(lambda y, x, n: tail.v_store_n(pointer(y, real), operations.v_load(pointer(x, real)), n))
    x = np.arange(1, lanes + 1, dtype=dtype)
    for n in range(1, lanes + 3):
        loaded, stored = np.full((2, lanes), -1, dtype)
        load(loaded.ctypes.data, x.ctypes.data, n)
        store(stored.ctypes.data, x.ctypes.data, n)
        kept = np.arange(lanes) < n
        assert_same_bits(loaded, np.where(kept, x, dtype.type(0)))
        assert_same_bits(stored, np.where(kept, x, dtype.type(-1)))


@pytest.mark.parametrize("real", REALS)
def test_memory(real):
    dtype = DTYPE_OF[real]

    @compiled
    def shuffle(y, x):
        p = memory.at(pointer(x, real), 2)
        memory.copy(pointer(y, real), p, 3)
        memory.clear(memory.at(pointer(y, real), 4), 2)
        return memory.lanes(p), memory.item_size(p)

    x, y = np.arange(8, dtype=dtype), np.full(8, 9, dtype)
    assert shuffle(y.ctypes.data, x.ctypes.data) == (operations.lanes_of(real), dtype.itemsize)
    np.testing.assert_array_equal(y, [2, 3, 4, 9, 0, 0, 9, 9])


Inner = structs.struct("Inner", "int count", "number scale")
Outer = structs.struct("Outer", "flag first", (Inner, "inner other"), "flag last", "numbers numbers", "ints counts")


@pytest.mark.parametrize("real", REALS)
def test_struct(real):
    """Compiled code reads what Python wrote, by the names of the fields."""

    @compiled
    def read(address, y):
        outer, y = structs.struct_at(Outer, address, real), pointer(y, real)
        y[0], y[1], y[2], y[3] = outer.inner.count, outer.other.scale, outer.numbers[1], outer.counts[1]
        return outer.first, outer.last

    dtype = DTYPE_OF[real]
    y, counts = np.empty(4, dtype), np.array([5, 6])
    for scale in (-0.1, np.inf):
        numbers = np.array([7, scale], dtype)
        words = structs.packed(Outer(False, Inner(-3, 2.5), Inner(1, scale), True, numbers, counts))
        assert read(words.ctypes.data, y.ctypes.data) == (False, True)
        assert_same_bits(y, np.array([-3, scale, scale, 6], dtype))
    nothing = structs.packed(Outer(True, Inner(0, 0.0), Inner(0, 0.0), False, None, counts.ctypes.data))
    assert nothing.tolist() == [1, 0, 0, 0, 0, 0, 0, counts.ctypes.data]


@pytest.mark.slow
@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize("from_table", [False, True])
@pytest.mark.parametrize(("rows", "blocks"), [(1, 1), (1, 2), (1, 3), (2, 1), (3, 1), (6, 1)])
def test_tile(rows, blocks, from_table, real):
    """z + x w^T of a tile whose rows and blocks lie apart, and a zero tile beside."""
    dtype, size = DTYPE_OF[real], 4 * operations.lanes_of(real)
    row_numbers, block_numbers = tuple(range(rows)), tuple(range(blocks))
    width, K = size * blocks + 3, 5

    @compiled
    def product_(z, zero, x, table, w):
        z, x, w = pointer(z, real), pointer(x, real), pointer(w, real)
        tile = registers.load_tile(z, width, row_numbers, block_numbers)
        if from_table:
            pointers = registers.load_pointers(pointer_to_rows(table, real), row_numbers)
        else:
            pointers = registers.row_pointers(x, K, row_numbers)
        for k in range(K):
            start = memory.at(w, k * registers.block_size(w))
            tile = registers.multiply_add(tile, pointers, k, start, K * size, block_numbers)
        registers.store_tile(tile, z, width, row_numbers, block_numbers)
        empty = registers.zero_tile(z, row_numbers, block_numbers)
        registers.store_tile(empty, pointer(zero, real), width, row_numbers, block_numbers)

    rng = np.random.default_rng(0)
    z, x, w = (rng.integers(-9, 9, shape).astype(dtype) for shape in ((rows, width), (rows, K), (blocks, K, size)))
    zero = np.ones_like(z)
    table = np.array([row.ctypes.data for row in x], np.int64)
    expected = z.copy()
    expected[:, : size * blocks] += np.einsum("rk,pkq->rpq", x, w).reshape(rows, -1)  # small integers: exact
    product_(z.ctypes.data, zero.ctypes.data, x.ctypes.data, table.ctypes.data, w.ctypes.data)
    assert_same_bits(z, expected)
    assert_same_bits(zero[:, : size * blocks], np.zeros((rows, size * blocks), dtype))
    assert (zero[:, size * blocks :] == 1).all()


# The floating-point environment.


@cache
def control_word():
    """Functions that read and set it."""

    @compiled
    def read():
        callers = enter_kernel()
        leave_kernel(callers)
        return callers

    return read, compiled(lambda word: leave_kernel(word))


@pytest.mark.skipif(not IS_X86, reason="MXCSR")
def test_kernels_know_their_control_word_and_restore_the_callers():
    numba = backends.get("numba")
    read, write = control_word()
    toward_zero, flags = 0x7F80, 0x3F
    x = np.linspace(-9, 9, 1000, dtype=np.float32)
    usual, unusual = np.empty_like(x), np.empty_like(x)
    numba.activation("tanh", x, usual)
    callers = read()
    write(toward_zero)
    try:
        numba.activation("tanh", x, unusual)
        after = read()
    finally:
        write(callers)
    assert after & ~flags == toward_zero
    assert callers & ~flags == 0x1F80
    assert_same_bits(unusual, usual)


@pytest.mark.parametrize("dtype", DTYPES)
def test_denormals_are_flushed_in_kernels_only(dtype):
    numba = backends.get("numba")
    denormal = np.finfo(dtype).tiny / dtype(4)
    c, h = np.full((2, 1, 1), denormal)
    weights = numba.pack_layer(*(np.zeros(shape, dtype) for shape in ((4, 1), (4, 1), (4,))), None)
    z = weights.empty_gates(1)
    z[...] = 0
    numba.cell_update(z, c, h)
    assert c[0, 0] == 0
    assert denormal / dtype(2) != 0


# The kernels, held against C.


@pytest.fixture(scope="module")
def pair():
    if not backends.c_is_built():
        pytest.skip("the C kernels were not built")
    return backends.get("numba"), backends.get("c")


def assert_equal_results(run, pair):
    for ours, theirs in zip(run(pair[0]), run(pair[1]), strict=True):
        assert_same_bits(ours, theirs)


def layer(rng, dtype, I, H, P):
    R = P or H
    shapes = ((4 * H, I), (4 * H, R), (4 * H,))
    w_r = (rng.standard_normal((P, H)) / 2).astype(dtype) if P else None
    return [(rng.standard_normal(shape) / 2).astype(dtype) for shape in shapes] + [w_r]


SIZES = [*range(1, 41), 64, 100, 130]


def number(expression):
    """A sum of C's literals."""
    literals = [re.sub(r"(p[+-]\d+)f", r"\1", literal) for literal in expression.split(" + ")]
    return sum(float.fromhex(literal) if "x" in literal else float(literal) for literal in literals)


@pytest.mark.parametrize("real", REALS)
def test_constants_are_those_of_c(real):
    """Bits tell a wrong last digit of a high coefficient once in a million numbers; reading tells it at once."""
    header = ROOT / "csrc/kernels/activation.h"
    if not header.exists():
        pytest.skip("no C sources")
    of_float, of_double = header.read_text().split("#else", 1)
    text = (of_float.split("#ifdef", 1)[1] if real is float32 else of_double).split("#endif")[0]
    text = re.sub(r"enum \{.*?\};", "", text)
    coefficients = re.search(r"Q\[.*?\{(.*?)\}", text, re.DOTALL)[1].split(",")
    named = re.findall(r"([A-Z][A-Z\d_]+) = (-?\d[^,;}]*)[,;]", text)
    assert [float.fromhex(q) for q in Q[real]] == [number(q.strip()) for q in coefficients]
    assert {name: float.fromhex(constant) for name, constant in CONSTANTS[real].items()} == {
        name: number(expression) for name, expression in named
    }


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", backends.ACTIVATIONS)
def test_activation_bits(name, dtype, pair):
    special = [*edges(dtype), *(np.finfo(dtype).tiny / dtype(8) * np.array([1, -1], dtype))]
    x = np.concatenate([special, np.linspace(-100, 100, 4001), np.linspace(-9, 9, 1 << 18)]).astype(dtype)

    def run(backend):
        for n in (*range(40), len(x)):
            y = np.empty_like(x[:n])
            backend.activation(name, x[:n], y)
            yield y

    assert_equal_results(run, pair)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
def test_gate_matmul_bits(dtype, pair):
    rng = np.random.default_rng(0)
    for H, N in product(SIZES, (1, 2, 3, 4, 5, 8, 97, 200)):
        I = int(rng.choice([1, 2, 7, 40, 150, 300]))
        w = layer(rng, dtype, I, H, 0)
        x = rng.standard_normal((N, I)).astype(dtype)

        def run(backend, w=w, x=x, H=H, N=N):
            weights = backend.pack_layer(*w)
            z = weights.empty_gates(N)
            backend.gate_matmul(x, weights, z)
            return [np.ascontiguousarray(unpack_gates(z, H))]

        assert_equal_results(run, pair)


@pytest.mark.parametrize("dtype", DTYPES)
def test_cell_update_bits(dtype, pair):
    rng = np.random.default_rng(0)
    for H, N in product(SIZES, (0, 1, 3)):
        w = layer(rng, dtype, 1, H, 0)
        gates = rng.standard_normal((N, 4, H)).astype(dtype) * 4
        c0 = rng.standard_normal((N, H)).astype(dtype)

        def run(backend, w=w, gates=gates, c0=c0, H=H, N=N):
            z = backend.pack_layer(*w).empty_gates(N)
            z[...] = 0
            _, blocks, _, lanes = z.shape
            padded = np.zeros((N, 4, blocks * lanes), c0.dtype)
            padded[:, :, :H] = gates
            z[...] = padded.reshape(N, 4, blocks, lanes).swapaxes(1, 2)
            c, h = c0.copy(), np.empty_like(c0)
            backend.cell_update(z, c, h)
            return [c, h]

        assert_equal_results(run, pair)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", DENSE_ACTIVATIONS)
def test_dense_forward_bits(activation, dtype, pair):
    rng = np.random.default_rng(0)
    for O, N in product(SIZES, (0, 1, 2, 3, 4, 9)):
        K = int(rng.choice([1, 2, 7, 40, 600]))
        weight, bias, x = (rng.standard_normal(shape).astype(dtype) for shape in ((O, K), (O,), (N, K)))

        def run(backend, weight=weight, bias=bias, x=x, N=N, O=O):
            y = np.full((N, O), np.nan, x.dtype)
            backend.dense_forward(x, backend.pack_dense(weight, bias, activation), y)
            return [y]

        assert_equal_results(run, pair)


def layer_cases(rng, H):
    """Batches, steps and layouts for a hidden size; every value of each in turn, in changing company."""
    for B in range(1, 10):
        yield {
            "B": B,
            "T": int(rng.integers(0, 6)),
            "I": int(rng.choice([1, 2, 3, 9, 40])),
            "P": int(rng.choice([0, 0, 1, (H + 1) // 2, H + 3])),
            "reverse": bool(rng.integers(2)),
            "with_lengths": bool(rng.integers(2)),
            "batch_first": bool(rng.integers(2)),
        }
    yield {"B": 150, "T": 3, "I": 4, "P": 0, "reverse": True, "with_lengths": True, "batch_first": False}
    yield {"B": 1, "T": 1500, "I": 1, "P": 0, "reverse": False, "with_lengths": False, "batch_first": False}
    yield {"B": 3, "T": 900, "I": 1, "P": H, "reverse": True, "with_lengths": True, "batch_first": True}
    yield {"B": 0, "T": 2, "I": 1, "P": 0, "reverse": False, "with_lengths": False, "batch_first": False}


def check_layer(rng, dtype, pair, H, B, T, I, P, reverse, with_lengths, batch_first):
    R = P or H
    w = layer(rng, dtype, I, H, P)
    x = rng.standard_normal((B, T, I) if batch_first else (T, B, I)).astype(dtype)
    x = x.swapaxes(0, 1) if batch_first else x
    h0, c0 = rng.standard_normal((B, R)).astype(dtype), rng.standard_normal((B, H)).astype(dtype)
    lengths = rng.integers(0, T + 1, B) if with_lengths else None
    if B > 1 and T:
        x[0, 1] = np.nan  # stays in its row

    def run(backend):
        h, c = h0.copy(), c0.copy()
        both = np.full((T, B, 2 * R), 7, dtype)  # the layer writes one half, as a direction does
        backend.layer_forward(x, backend.pack_layer(*w), lengths, reverse, h, c, both[:, :, R:])
        return [both, h, c]

    assert_equal_results(run, pair)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("H", SIZES)
def test_layer_forward_bits(H, dtype, pair):
    rng = np.random.default_rng(H)
    for case in layer_cases(rng, H):
        check_layer(rng, dtype, pair, H, **case)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("H", range(1, 18))
def test_small_layer_bits(H, dtype, pair):
    """Up to 16 units sum over h in two parts; with a projection, R is odd or even whatever H is."""
    rng = np.random.default_rng(H)
    for B, P, reverse in product(range(1, 9), (0, 1, 2, 15, 16, H), (False, True)):
        case = {"T": 5, "I": 3, "with_lengths": False, "batch_first": False}
        check_layer(rng, dtype, pair, H, B=B, P=P, reverse=reverse, **case)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("blocks", range(1, 8))
def test_single_row_bits(blocks, dtype, pair):
    """Steps that go from the first block to the last, and back."""
    rng = np.random.default_rng(blocks)
    lanes = VECTOR_BYTES // np.dtype(dtype).itemsize
    for H, P, reverse in product((blocks * lanes, blocks * lanes - 1), (0, 5), (False, True)):
        check_layer(rng, dtype, pair, H, B=1, T=7, I=2, P=P, reverse=reverse, with_lengths=False, batch_first=False)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
def test_layer_forward_bits_of_far_weights(dtype, pair):
    """More than L2 holds: many rows prefetch the next block's."""
    rng = np.random.default_rng(0)
    usual = {"T": 3, "P": 0, "reverse": False, "with_lengths": True, "batch_first": False}
    for H, I, B in ((300, 3, 26), (3, 300, 5), (300, 300, 30), (600, 600, 2)):
        check_layer(rng, dtype, pair, H, B=B, I=I, **usual)


PLAIN = """
from itertools import product
import numpy as np
from lstmkernel import backends
from lstmkernel.backends.numba import target
assert (target.VECTOR_BYTES, target.HAS_FMA) == (16, False), target.HOST
both = backends.get("numba"), backends.get("c:generic")
rng = np.random.default_rng(0)
for dtype in (np.float32, np.float64):
    weight, bias, x = (rng.standard_normal(shape).astype(dtype) for shape in ((37, 300), (37,), (5, 300)))
    results = []
    for backend in both:
        y = np.empty((5, 37), dtype)
        backend.dense_forward(x, backend.pack_dense(weight, bias, "tanh"), y)
        results.append(y)
    np.testing.assert_array_equal(*results)
    for H, P, B in product((7, 16, 17, 40), (0, 3), (1, 2, 7)):
        shapes = ((4 * H, 5), (4 * H, P or H), (4 * H,), *([(P, H)] if P else []))
        w = [(rng.standard_normal(shape) / 2).astype(dtype) for shape in shapes] + [None] * (not P)
        x, h0, c0 = (rng.standard_normal(shape).astype(dtype) for shape in ((6, B, 5), (B, P or H), (B, H)))
        results = []
        for backend in both:
            h, c, out = h0.copy(), c0.copy(), np.empty((6, B, P or H), dtype)
            backend.layer_forward(x, backend.pack_layer(*w), None, False, h, c, out)
            results.append(np.concatenate([*out, h, c], axis=None))
        np.testing.assert_array_equal(*results)
"""


@pytest.mark.slow
@pytest.mark.skipif(not IS_X86, reason="names an x86 CPU")
def test_without_fma_the_bits_are_those_of_generic_c(pair):
    environment = {**os.environ, "NUMBA_CPU_NAME": "x86-64", "NUMBA_CPU_FEATURES": "+sse2"}
    subprocess.run([sys.executable, "-c", PLAIN], env=environment, check=True)
