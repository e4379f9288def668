"""8-bit weights on Numba: products against the definition, in every way to multiply; networks against C, by bits."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("numba")

from helpers import assert_same_answer, assert_same_bits, normal, random_state, unavailable
from llvmlite import binding
from numba import float32, int8, int16, int32, njit

import lstmkernel as lk
from lstmkernel import backends
from lstmkernel.backends.numba import backend as numba_backend
from lstmkernel.backends.numba import specialised, target
from lstmkernel.backends.numba.kernels import quantized
from lstmkernel.backends.numba.kernels.tile import BLOCKS_2, ROWS_2
from lstmkernel.backends.numba.memory import at, pointer
from lstmkernel.backends.numba.run.plan import Sizes, plan_lstm
from lstmkernel.backends.numba.vec.dot import LANES, levels_of
from lstmkernel.backends.numba.vec.registers import block_size, load_tile, store_tile
from lstmkernel.backends.numpy.int8 import LEAST_AMPLITUDE, NEARLY_ONE, add_product, quantize_rows
from lstmkernel.backends.packing import Int8Matrix, LayerWeights, pack_int8_layer, unpack_gates

KINDS = [pytest.param(int16, id="int16"), pytest.param(int8, id="int8")]
ACTIVATIONS = pytest.mark.parametrize("activations", ["int16", "int8"])

# ---------------------------------------------------------------- products, of two rows and two blocks

UNITS, ROWS = 2 * LANES, 2


@cache
def compiled_product(kind):
    @njit(error_model="numpy")
    def product(x, K, bounded, values, amplitude, w, scale, offset, line, z):
        rows_of_x, sums = pointer(x, float32), pointer(z, float32)
        integers = quantized.Integers(pointer(values, kind), pointer(amplitude, float32))
        for r in range(2):
            quantized.quantize_row(integers, r, at(rows_of_x, r * K), K, bounded)
        w, scale, offset = pointer(w, int32), pointer(scale, float32), pointer(offset, int32)
        matrix = quantized.from_block(w, scale, offset, 0, K, integers.values)
        z_row = 2 * block_size(sums)
        tile = load_tile(sums, z_row, ROWS_2, BLOCKS_2)
        tile = quantized.accumulate_integers(tile, integers, 0, K, matrix, line, ROWS_2, BLOCKS_2)
        store_tile(tile, sums, z_row, ROWS_2, BLOCKS_2)

    return product


def matrix_of(random, K, levels, kind_of_numbers):
    """With the largest of integers, sums are as large as they may be."""
    values = random.integers(-127, 128, (4 * UNITS, K)).astype(np.int8)
    if kind_of_numbers == "largest":
        values[...] = np.where(np.arange(4 * UNITS) % 2, 127, -127)[:, None]
    return Int8Matrix(values, random.random(4 * UNITS, np.float32) / 64, levels)


def packed(matrix, lanes) -> LayerWeights:
    of_h = matrix._replace(values=matrix.values[:, :1])
    return pack_int8_layer(matrix, of_h, np.zeros(4 * UNITS, np.float32), None, lanes)


def rows_of_numbers(random, K):
    """Pairs of rows, and whether they are said to be bounded."""
    usual = random.standard_normal((ROWS, K)).astype(np.float32)
    small = (usual / 8).astype(np.float32)
    yield "normal", usual, False
    yield "largest", np.ones((ROWS, K), np.float32), False
    if K > 2000:  # the rest would take long, and differs in its rows alone
        return
    yield "bounded", np.clip(usual, -1, 1), True
    yield "small and bounded", small, True
    yield "not bounded after all", 3 * usual, True
    for name, numbers in (
        ("nearly 1", (NEARLY_ONE, np.nextafter(NEARLY_ONE, np.float32(2)))),
        ("nearly 0", (LEAST_AMPLITUDE, np.nextafter(LEAST_AMPLITUDE, np.float32(0)))),
        ("not finite", (np.nan, -np.inf)),
    ):
        rows = (small if name == "nearly 1" else np.zeros_like(small)).copy()
        rows[:, K // 2] = numbers
        yield name, rows, True
        yield name, -rows[::-1], False
    ties = (random.integers(-60, 60, (ROWS, K)) + np.float32(0.5)).astype(np.float32)
    ties[:, -1] = 127  # 8 bits: the factor is 1, and a half is rounded to even
    yield "ties", ties, False


def check_product(random, K, kind):
    levels = levels_of(kind)
    inputs = -(-K // LANES) * LANES
    for n, (name, x, bounded) in enumerate(rows_of_numbers(random, K)):
        matrix = matrix_of(random, K, levels, name)
        expected = random.standard_normal((ROWS, 4 * UNITS)).astype(np.float32)
        own = packed(matrix, LANES)
        z = np.ascontiguousarray(
            expected.reshape(ROWS, 4, UNITS // LANES, LANES).transpose(0, 2, 1, 3), dtype=np.float32
        )
        size = ROWS * inputs * target.DOT[kind.bitwidth].bytes
        values, amplitude = np.full(size + 64, 85, np.uint8), np.zeros(ROWS, np.float32)
        x = np.ascontiguousarray(x)
        arrays = (values, amplitude, own.w_x, own.scales.x.scale, own.scales.x.offset)
        addresses = [array.ctypes.data for array in arrays]
        compiled_product(kind)(x.ctypes.data, K, bounded, *addresses, n % 3 - 1, z.ctypes.data)
        assert (values[size:] == 85).all(), f"{name}: past the end of the integers"
        assert_same_bits(amplitude, quantize_rows(x, levels, bounded)[1], f"{name}: amplitudes")
        definition = packed(matrix, UNITS)
        add_product(expected, x, definition.w_x, definition.scales.x, levels, bounded)
        got = unpack_gates(z, UNITS).reshape(ROWS, -1)
        assert_same_bits(got, expected, f"{name}, {K} inputs, {kind}", any_nan=True)


def check_products(kind):
    """Every tail of a vector and of a group, and several parts of a sum."""
    random = np.random.default_rng(0)
    for K in (*range(1, LANES + 2), 130, 511, 512, 513, 1030, 1537, *([(1 << 17) + 5] if kind is int8 else [])):
        check_product(random, K, kind)


@pytest.mark.parametrize("kind", KINDS)
def test_products_are_those_of_the_definition(kind):
    check_products(kind)


#: CPUs that multiply in other ways: by their features, the instruction for activations of 16 bits and of 8.
CPUS = {
    "x86-64": ("sse2", ("portable", "portable")),
    "haswell": ("avx,avx2,fma", ("vpmaddwd", "vpmaddubsw")),
    "alderlake": ("avx,avx2,fma,avxvnni", ("vpdpbusd", "vpdpbusd")),
    "skylake-avx512": ("avx,avx2,fma,avx512f,avx512bw,avx512vl,avx512dq,avx512cd", ("vpmaddwd", "vpmaddwd")),
}

SCRIPT = """
import test_numba_int8
from lstmkernel.backends.numba import target
assert tuple(target.DOT[bits].instruction for bits in (16, 8)) == {ways}, target.HOST
for kind in (test_numba_int8.int16, test_numba_int8.int8):
    test_numba_int8.check_products(kind)
"""


@pytest.mark.slow
@pytest.mark.skipif(not target.IS_X86, reason="names x86 CPUs")
@pytest.mark.parametrize("name", CPUS)
def test_every_way_to_multiply(name):
    features, ways = CPUS[name]
    host = binding.get_host_cpu_features()
    if missing := [feature for feature in features.split(",") if not host.get(feature)]:
        pytest.skip(f"this CPU has no {', '.join(missing)}")
    here = Path(__file__).parent
    environment = {
        **os.environ,
        "NUMBA_CPU_NAME": name,
        "NUMBA_CPU_FEATURES": ",".join("+" + feature for feature in features.split(",")),
        "PYTHONPATH": os.pathsep.join([str(here), str(here.parent), *sys.path]),
    }
    subprocess.run([sys.executable, "-c", SCRIPT.format(ways=ways)], env=environment, check=True)


# ---------------------------------------------------------------- networks, beside C


def on_both(activations, *sizes, num_threads=1, **arguments):
    """The same network on Numba and on C."""
    if not backends.c_is_built():
        pytest.skip("the C kernels were not built")
    if reason := unavailable("numba"):
        pytest.skip(reason)
    return [
        lk.LSTM(*sizes, backend=backend, seed=1, num_threads=num_threads, **arguments).quantize(
            "int8", activations=activations
        )
        for backend in ("numba", "c")
    ]


def assert_same_calls(pair, *arguments, what="", **options):
    got, expected = (net(*arguments, **options) for net in pair)
    assert_same_answer(got, expected, what)


#: I, H, proj_size.
SIZES = [
    (1, 7, 0),
    (5, 16, 0),
    (130, 64, 0),
    (700, 16, 0),
    (5, 530, 0),
    (1, 16, 3),
    (130, 64, 40),
    (700, 530, 65),
]


@ACTIVATIONS
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_calls(activations, sizes, random):
    I, H, P = sizes
    pair = on_both(activations, I, H, proj_size=P)
    for B in (1, 3, 8, 100):
        x = normal(random, (4, B, I), "float32")
        if B > 1:
            x[1, 1], x[2, 0, 0] = np.nan, np.inf  # they stay in their rows
        h_0, c_0 = random_state(random, pair[0], B)
        state = 4 * h_0, c_0  # |h_0| > 1
        assert_same_calls(pair, x, what=f"{B} rows")
        lengths = random.integers(0, 5, B)
        assert_same_calls(pair, x, state, lengths=lengths, what=f"{B} rows of unequal length")
        assert_same_calls(pair, x, state, reset=random.random((4, B)) < 0.3, what=f"{B} rows with resets")


@ACTIVATIONS
def test_long_calls(activations, random):
    """Several groups of rows, several chunks of steps, and zeros."""
    for I, H, P, T, B in [(3, 17, 0, 700, 1), (3, 40, 0, 30, 210), (200, 20, 7, 90, 30)]:
        pair = on_both(activations, I, H, proj_size=P)
        x = normal(random, (T, B, I), "float32")
        x[T // 3 : T // 2] = 0
        assert_same_calls(pair, x, lengths=random.integers(0, T + 1, B), what=str((I, H, P)))


@ACTIVATIONS
@pytest.mark.parametrize(
    "arguments",
    [
        {"num_layers": 3},
        {"num_layers": 2, "bidirectional": True},
        {"num_layers": 2, "bidirectional": True, "proj_size": 5, "batch_first": True},
        {"reverse": True, "bias": False},
        {"initial_state": True, "num_layers": 2},
    ],
    ids=str,
)
def test_kinds_of_networks(activations, arguments, random):
    pair = on_both(activations, 6, 19, **arguments)
    x = normal(random, (9, 9, 6), "float32")
    assert_same_calls(pair, x)
    assert_same_calls(pair, x, random_state(random, pair[0], 9), lengths=random.integers(0, 10, 9))
    flat, offsets = normal(random, (40, 6), "float32"), np.array([0, 3, 3, 17, 40])
    assert_same_answer(*(net.ragged(flat, offsets) for net in pair), "ragged")


@ACTIVATIONS
def test_states_that_are_kept(activations, random):
    """Streams and pools go on where they were."""
    pair = on_both(activations, 6, 33, num_layers=2, proj_size=5)
    x = normal(random, (12, 2, 6), "float32")
    whole = pair[1](x)[0]
    stream, pool = pair[0].stream(batch_size=2), pair[0].pool(4)
    assert_same_bits(np.concatenate([stream(x[:5]), stream(x[5:11]), stream.step(x[11])[None]]), whole, "stream")
    ids = pool.open(2)
    assert_same_bits(np.stack([pool.step(ids, x_t) for x_t in x]), whole, "pool")


@ACTIVATIONS
@pytest.mark.parametrize(("H", "P", "B"), [(64, 0, 1), (200, 0, 1), (200, 40, 3), (40, 0, 40)])
def test_two_threads(activations, H, P, B, threads_as_asked, random):
    """For so many steps that the second thread comes before the end."""
    T = 100 if B == 40 else 3000
    plan = plan_lstm(1, 1, [Sizes(30, H, P or H, 4, LANES)], T, B, 2)
    assert plan.threads == 2
    assert bool(plan.rounds) == (B == 40), "a few rows: a team; many: tasks"
    pair = on_both(activations, 30, H, proj_size=P, num_threads=2)
    x = normal(random, (T, B, 30), "float32")
    for _ in range(3):
        assert_same_calls(pair, x, lengths=T - random.integers(0, 31, B))


# ---------------------------------------------------------------- around the kernels


class Fenced:
    """Workspaces of exactly the size that is asked for, with bytes after them that nobody may write."""

    def __init__(self):
        self.places = []

    def of(self, size):
        memory = np.full(size + 4096, 85, np.uint8)
        self.places.append((memory, size))
        return memory, memory.ctypes.data

    def check(self):
        assert self.places
        for memory, size in self.places:
            assert (memory[size:] == 85).all()


@ACTIVATIONS
def test_the_workspace_is_large_enough(activations, monkeypatch, random):
    if reason := unavailable("numba"):
        pytest.skip(reason)
    fenced = Fenced()
    monkeypatch.setattr(numba_backend, "scratch", fenced)
    for (I, H, P), B, T in product([(700, 16, 0), (3, 530, 0), (3, 20, 19)], (1, 7, 100), (1, 5)):
        net = lk.LSTM(I, H, proj_size=P, backend="numba", seed=0, num_threads=1)
        net.quantize("int8", activations=activations)(normal(random, (T, B, I), "float32"))
    fenced.check()


def kernel_of(lstm):
    """The name of the one that runs it. It is compiled when it is asked for."""
    return lstm.engine.weights.native._kernel


def test_each_network_asks_for_its_own_kernel():
    lstm = lk.LSTM(3, 5, backend="numba", seed=0)
    assert kernel_of(lstm) == kernel_of(lstm.quantize("float16")) == "lstm_forward"
    assert kernel_of(lstm.quantize("int8")) == "i8a16_forward"
    assert kernel_of(lstm.quantize("int8", activations="int8")) == "i8a8_forward"


def test_kernels_with_constants_have_none():
    assert specialised.backend([(3, 5, 0)], [False], np.dtype(np.float32)).pack_int8_layer is None
