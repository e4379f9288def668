"""Every kernel of the contract on every backend, against the definition in float64. No other memory may be written."""

import ctypes
import importlib
import mmap
import sys
import threading

import numpy as np
import pytest
from helpers import assert_close, normal, sampled

from lstmkernel import backends
from lstmkernel.backends import packing
from lstmkernel.backends.contract import ACTIVATIONS, DENSE_ACTIVATIONS, KERNELS, Batch
from lstmkernel.backends.packing import unpack_gates
from lstmkernel.backends.tape import LayerGradients, LayerTape, ParameterGradients, Parameters, RowsOfTape, active_rows

DEFINITION = backends.get("numpy")

#: Numbers of units around the widths of vectors and of register tiles, of every instruction set.
WIDTHS = sorted({n + d for n in (4, 8, 16, 32) for d in (-1, 0, 1)} | {1, 2, 24, 40, 64, 65})
#: The number of terms of a sum: few, and around powers of two.
DEPTHS = [1, 2, 63, 64, 65, 127, 128, 129, 255, 256, 257, 300]
ROWS = range(1, 14)

every_width = pytest.mark.parametrize("H", sampled(WIDTHS, 1, 3, 8, 17, 40))
every_depth = pytest.mark.parametrize("K", sampled(DEPTHS, 1, 65, 300))
every_row = pytest.mark.parametrize("B", sampled(ROWS, 1, 5, 13))
#: For the tests at the ends of arrays.
every_tail = pytest.mark.parametrize("H", sampled([1, 3, 8, 9, 17, 20, 33], 3, 20))


def weights_of(random, I, H, P, dtype):
    """w_ih, w_hh, bias and w_hr (None without P), so small that sums stay about 1."""
    R = P or H
    return (
        normal(random, (4 * H, I), dtype) / np.sqrt(I).astype(dtype),
        normal(random, (4 * H, R), dtype) / np.sqrt(R).astype(dtype),
        normal(random, (4 * H,), dtype),
        normal(random, (P, H), dtype) / np.sqrt(H).astype(dtype) if P else None,
    )


def double(array):
    return None if array is None else array.astype("float64")


def pack_both(name, arrays):
    """Packed for the backend and, in float64, for the definition."""
    return backends.get(name).pack_layer(*arrays), DEFINITION.pack_layer(*map(double, arrays))


def pack_gates(gates, like):
    """z [N, blocks, 4, lanes] of gates (N, 4, H), laid out as in the weights ``like``."""
    z = like.empty_gates(len(gates))
    lanes = like.bias.shape[-1]
    z[...] = 0
    for unit in range(gates.shape[2]):
        z[:, unit // lanes, :, unit % lanes] = gates[:, :, unit]
    assert np.array_equal(unpack_gates(z, gates.shape[2]), gates)
    return z


class Canaries:
    """Arrays inside larger memory. Its other bytes must not change."""

    def __init__(self, dtype, seed=7):
        self.dtype = np.dtype(dtype)
        self.random = np.random.default_rng(seed)
        self.watched = []

    def place(self, shape, *, inside=None, at=0, content=None):
        """An array of ``shape``: a window at ``at`` along every axis of an array of shape ``inside``."""
        around = inside or shape
        items = int(np.prod(around))
        memory = self.random.integers(1, 255, (items + 64) * self.dtype.itemsize, np.uint8)
        whole = memory.view(self.dtype)[32 : 32 + items].reshape(around)
        array = whole[tuple(slice(at, at + extent) for extent in shape)]
        assert array.shape == shape
        if content is not None:
            array[...] = content
        mine = np.zeros(memory.size, bool)
        offsets = array.ctypes.data - memory.ctypes.data + np.zeros(shape, np.int64)
        for axis, stride in enumerate(array.strides):
            extent = np.arange(shape[axis]) * stride
            offsets = offsets + extent.reshape([-1 if a == axis else 1 for a in range(len(shape))])
        for byte in range(self.dtype.itemsize):
            mine[offsets.reshape(-1) + byte] = True
        self.watched.append((memory, memory.copy(), ~mine))
        return array

    def check(self):
        for memory, before, others in self.watched:
            assert np.array_equal(memory[others], before[others]), "memory outside the result was written"


# ---------------------------------------------------------------- one kernel at a time


def test_the_contract_lists_what_a_backend_has(backend):
    built_on_them = {"lstm_forward", "lstm_ragged", "prepare", "prepare_advance", "address"}
    packing = {"pack_layer", "pack_int8_layer", "pack_lstm", "pack_dense"}
    about_it = {"name", "min_gflops", "takes_float16", *packing}
    assert set(backends.get(backend)._fields) - about_it - built_on_them == set(KERNELS)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation(backend, dtype, random, name):
    for n in (0, *WIDTHS):
        x = 4 * normal(random, (n,), dtype)
        reference = np.empty(n)
        DEFINITION.activation(name, double(x), reference)
        canaries = Canaries(dtype)
        y = canaries.place((n,))
        backends.get(backend).activation(name, x, y)
        assert_close(y, reference, dtype, f"{name} of {n}")
        canaries.check()


@every_width
def test_gate_matmul(backend, dtype, random, H):
    for N, I in [(1, 3), (1, 130), (2, 5), (5, 129), (13, 7), (97, 2), (193, 1)]:
        check_gate_matmul(backend, dtype, random, N, I, H)


@every_depth
def test_gate_matmul_of_long_sums(backend, dtype, random, K):
    for N in ROWS:
        check_gate_matmul(backend, dtype, random, N, K, 9)


def check_gate_matmul(backend, dtype, random, N, I, H):
    weights, reference_weights = pack_both(backend, weights_of(random, I, H, 0, dtype))
    x = normal(random, (N, I), dtype)
    expected = reference_weights.empty_gates(N)
    DEFINITION.gate_matmul(double(x), reference_weights, expected)
    canaries = Canaries(dtype)
    z = canaries.place((N, *weights.bias.shape))
    backends.get(backend).gate_matmul(x, weights, z)
    assert_close(unpack_gates(z, H), unpack_gates(expected, H), dtype, f"z of N={N}, I={I}, H={H}")
    canaries.check()


@every_width
def test_cell_update(backend, dtype, random, H):
    weights, reference_weights = pack_both(backend, weights_of(random, 1, H, 0, dtype))
    for N in (1, 2, 3, 7):
        gates, c_0 = 3 * normal(random, (N, 4, H), dtype), normal(random, (N, H), dtype)
        c_expected, h_expected = double(c_0), np.empty((N, H))
        DEFINITION.cell_update(pack_gates(double(gates), reference_weights), c_expected, h_expected)
        canaries = Canaries(dtype)
        c, h = canaries.place((N, H), content=c_0), canaries.place((N, H))
        backends.get(backend).cell_update(pack_gates(gates, weights), c, h)
        assert_close(c, c_expected, dtype, f"c of N={N}")
        assert_close(h, h_expected, dtype, f"h of N={N}")
        canaries.check()


@pytest.mark.parametrize("activation", DENSE_ACTIVATIONS)
def test_dense_forward(backend, dtype, random, activation):
    for O in WIDTHS:
        check_dense(backend, dtype, random, int(random.integers(1, 14)), 5, O, activation)


@every_depth
def test_dense_forward_of_long_sums(backend, dtype, random, K):
    for N in ROWS:
        check_dense(backend, dtype, random, N, K, 33, "linear")


def check_dense(backend, dtype, random, N, K, O, activation):
    weight, bias = normal(random, (O, K), dtype) / np.sqrt(K).astype(dtype), normal(random, (O,), dtype)
    x = normal(random, (N, K), dtype)
    expected = np.empty((N, O))
    DEFINITION.dense_forward(double(x), DEFINITION.pack_dense(double(weight), double(bias), activation), expected)
    canaries = Canaries(dtype)
    y = canaries.place((N, O))
    kernels = backends.get(backend)
    kernels.dense_forward(x, kernels.pack_dense(weight, bias, activation), y)
    assert_close(y, expected, dtype, f"y of N={N}, K={K}, O={O}")
    canaries.check()


# ---------------------------------------------------------------- the whole layer


def lengths_for(random, T, B):
    return random.integers(0, T + 1, B).astype(np.int64)


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("ragged", [False, True], ids=["full", "lengths"])
@every_width
def test_layer_forward(backend, dtype, random, H, ragged, reverse):
    for T, B, I, P in [(1, 1, 3, 0), (5, 1, 1, max(0, H - 1)), (4, 3, 2, H // 2), (6, 13, 5, 0)]:
        check_layer(backend, dtype, random, T, B, I, H, P, ragged, reverse)


@every_row
def test_layer_forward_of_long_sums(backend, dtype, random, B):
    for H in (64, 65, 128, 129, 257):
        check_layer(backend, dtype, random, 2, B, 300, H, 0, True, False)


@pytest.mark.parametrize(
    ("T", "B", "H"), sampled([(3, 64, 2), (3, 65, 2), (2, 200, 9), (9000, 1, 1), (700, 3, 30)], (3, 65, 2), (2, 200, 9))
)
def test_layer_forward_over_groups_and_chunks(backend, dtype, random, T, B, H):
    """More rows than a row group holds, and more steps than a chunk holds."""
    check_layer(backend, dtype, random, T, B, 2, H, 0, True, True)
    check_layer(backend, dtype, random, T, B, 2, H, H // 2, False, False)


@pytest.mark.slow
def test_a_wide_layer_takes_few_rows_at_a_time(backend, dtype, random):
    check_layer(backend, dtype, random, 2, 40, 3, 2050, 1, True, False)


def check_layer(backend, dtype, random, T, B, I, H, P, ragged, reverse):
    """x is a (B, T, I) array seen as (T, B, I). out is the second half of a (B, T, 2R) array, seen as (T, B, R)."""
    arrays, R = weights_of(random, I, H, P, dtype), P or H
    weights, reference_weights = pack_both(backend, arrays)
    lengths = lengths_for(random, T, B) if ragged else None
    h_0, c_0 = normal(random, (B, R), dtype), normal(random, (B, H), dtype)

    canaries = Canaries(dtype)
    x = canaries.place((B, T, I), inside=(B + 1, T + 1, I + 2), at=1, content=normal(random, (B, T, I), dtype))
    x = x.swapaxes(0, 1)
    out = canaries.place((B, T, R), inside=(B + 2, T + 2, 2 * R + 1), at=1).swapaxes(0, 1)
    h, c = canaries.place((B, R), content=h_0), canaries.place((B, H), content=c_0)
    x_before = x.copy()
    backends.get(backend).layer_forward(x, weights, lengths, reverse, h, c, out)

    h_expected, c_expected, expected = double(h_0), double(c_0), np.empty((T, B, R))
    DEFINITION.layer_forward(double(x), reference_weights, lengths, reverse, h_expected, c_expected, expected)
    what = f"T={T} B={B} I={I} H={H} P={P} lengths={lengths}"
    assert_close(out, expected, dtype, f"out, {what}")
    assert_close(h, h_expected, dtype, f"h, {what}")
    assert_close(c, c_expected, dtype, f"c, {what}")
    assert np.array_equal(x, x_before)
    canaries.check()


# ---------------------------------------------------------------- training: recorded forwards, and the backward pass


class Training:
    """One layer's arrays for both training kernels, made by ``place(content)``. Rows are sorted by length."""

    def __init__(self, random, place, dtype, T, B, I, H, P, ragged, reverse):
        R = P or H
        lengths = np.sort(lengths_for(random, T, B))[::-1].copy() if ragged else None
        steps = active_rows(lengths, T, B)
        x = place(normal(random, (B, T, I), dtype)).swapaxes(0, 1)
        h, h_0 = place(np.zeros((B, T, R), dtype)).swapaxes(0, 1), place(normal(random, (B, R), dtype), whole=True)
        c = place(np.zeros((T + 1, B, H), dtype), whole=True)
        c[0] = normal(random, (B, H), dtype)
        gates = place(np.zeros((int(steps.sum()), 4, H), dtype), whole=True)
        self.tape = LayerTape(x, lengths, reverse, h_0, h, c, gates, 0, T)
        self.d_out = place(normal(random, (B, T, R), dtype)).swapaxes(0, 1)
        d_x = place(normal(random, (B, T, I), dtype)).swapaxes(0, 1)
        states = [place(normal(random, shape, dtype), whole=True) for shape in ((B, R), (B, H))]
        shapes = [(4 * H, I), (4 * H, R), (4 * H,), *([(P, H)] if P else [])]
        found = [place(normal(random, shape, dtype), whole=True) for shape in shapes]
        of_parameters = ParameterGradients(*found, *([] if P else [None]))
        self.gradients = LayerGradients(self.d_out, *states, d_x, False, of_parameters)


def in_double(record):
    """A copy of a tape or of gradients, in float64."""
    wide = {name: array.astype(float) for name, array in record._asdict().items() if is_real(array)}
    if isinstance(record, LayerGradients) and record.parameters is not None:
        wide["parameters"] = ParameterGradients(*map(double, record.parameters))
    return record._replace(**wide)


def is_real(array):
    return isinstance(array, np.ndarray) and array.dtype.kind == "f"


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("ragged", [False, True], ids=["full", "lengths"])
@every_width
def test_training(backend, dtype, random, H, ragged, reverse):
    for T, B, I, P in [(1, 1, 3, 0), (5, 1, 1, max(0, H - 1)), (4, 3, 2, H // 2), (6, 13, 5, 0)]:
        check_training(backend, dtype, random, T, B, I, H, P, ragged, reverse)


@every_row
def test_training_over_tiles(backend, dtype, random, B):
    for I, H in [(1, 64), (63, 65), (64, 9), (65, 40), (200, 129)]:
        check_training(backend, dtype, random, 2, B, I, H, 0, True, False)


@pytest.mark.parametrize(
    ("T", "B", "H"),
    sampled([(3, 100, 5), (2, 300, 9), (600, 1, 3), (90, 7, 30), (3, 2, 1030)], (3, 100, 5), (90, 7, 30)),
)
def test_training_over_chunks(backend, dtype, random, T, B, H):
    """More rows and steps than a chunk holds; and so many units that a chunk holds fewer rows."""
    check_training(backend, dtype, random, T, B, 2, H, 0, True, True)
    check_training(backend, dtype, random, T, B, 2, H, H // 2, False, False)


def check_training(backend, dtype, random, T, B, I, H, P, ragged, reverse):
    """Both kernels in two calls each, against the definition. layer_record has the bits of layer_forward."""
    kernels, arrays = backends.get(backend), weights_of(random, I, H, P, dtype)
    weights, reference_weights = pack_both(backend, arrays)
    canaries = Canaries(dtype)

    def place(content, whole=False):
        around = None if whole else tuple(n + 2 for n in content.shape)
        return canaries.place(content.shape, inside=around, at=int(not whole), content=content)

    case = Training(random, place, dtype, T, B, I, H, P, ragged, reverse)
    case.gradients = case.gradients._replace(add_x=bool(B % 2))
    tape, expected = case.tape, in_double(case.tape)
    gradients, right = case.gradients, in_double(case.gradients)
    what = f"T={T} B={B} I={I} H={H} P={P} lengths={tape.lengths}"

    for steps in ((0, T // 2), (T // 2, T)):
        kernels.layer_record(tape.steps(*steps), weights, 1)
    DEFINITION.layer_record(expected, reference_weights, 1)
    for name in ("h", "gates", "c"):
        assert_close(getattr(tape, name), getattr(expected, name), dtype, f"{name}, {what}")
    out, h, c = np.zeros_like(tape.h), tape.h_0.copy(), tape.c[0].copy()
    kernels.layer_forward(tape.x, weights, tape.lengths, reverse, h, c, out)
    if backend != "numpy":  # BLAS sums more rows in another order
        assert np.array_equal(tape.h, out), what

    parameters = Parameters(arrays[0], arrays[1], arrays[3])
    parts = [RowsOfTape(tape.steps(*steps)) for steps in ((T // 2, T), (0, T // 2))]
    kernels.layer_backward(parts, parameters, gradients, 1)
    DEFINITION.layer_backward([RowsOfTape(expected)], Parameters(*map(double, parameters)), right, 1)
    assert_gradients(gradients, right, dtype, what)
    canaries.check()


def assert_gradients(gradients, right, dtype, what):
    """Relative to the largest element of each array: small elements are sums of many terms of both signs."""
    for name in ("h", "c", "x"):
        assert_of_size(getattr(gradients, name), getattr(right, name), dtype, f"d_{name}, {what}")
    for name, array in gradients.parameters._asdict().items():
        if array is not None:
            assert_of_size(array, getattr(right.parameters, name), dtype, f"d_{name}, {what}")


def assert_of_size(got, reference, dtype, what):
    size = max(1.0, np.abs(reference).max(initial=0))
    assert_close((got / size).astype(dtype), reference / size, dtype, what)


def test_training_without_what_is_not_needed(backend, dtype, random):
    """Without d_out, d_x and the gradients of parameters, the rest is bit-identical."""
    kernels, arrays = backends.get(backend), weights_of(random, 3, 9, 4, dtype)
    weights = kernels.pack_layer(*arrays)
    parameters = Parameters(arrays[0], arrays[1], arrays[3])

    def run(**fields):
        random = np.random.default_rng(0)
        case = Training(random, lambda a, whole=False: a, dtype, 5, 4, 3, 9, 4, True, False)
        case.d_out[...] = 0
        gradients = case.gradients._replace(**fields)
        kernels.layer_record(case.tape, weights, 1)
        kernels.layer_backward([RowsOfTape(case.tape)], parameters, gradients, 1)
        return gradients

    whole, bare = run(), run(out=None, x=None, parameters=None)
    assert np.array_equal(whole.h, bare.h)
    assert np.array_equal(whole.c, bare.c)
    assert np.array_equal(run(x=None).parameters.w_hh, whole.parameters.w_hh)
    assert np.array_equal(run(parameters=None).x, whole.x)


# ---------------------------------------------------------------- no access past the end of an array


class Guarded:
    """Arrays next to a page that may not be touched: the process dies if one element more is read or written."""

    def __init__(self, dtype, end):
        self.dtype, self.end = np.dtype(dtype), end
        self.libc = ctypes.CDLL(None, use_errno=True)

    def empty(self, shape, dtype):
        """Full of NaNs, at a multiple of the itemsize; at a cache line where the size is a multiple of one."""
        page, nbytes = mmap.PAGESIZE, int(np.prod(shape)) * np.dtype(dtype).itemsize
        pages = -(-max(nbytes, 1) // page)
        memory = np.frombuffer(mmap.mmap(-1, (pages + 2) * page), np.uint8)
        for guard in (0, pages + 1):
            address = ctypes.c_void_p(memory.ctypes.data + guard * page)
            assert self.libc.mprotect(address, ctypes.c_size_t(page), 0) == 0
        start = page if self.end == "before" else (pages + 1) * page - nbytes
        memory[page : (pages + 1) * page] = 255
        return memory[start : start + nbytes].view(dtype).reshape(shape)

    def array(self, content):
        array = self.empty(content.shape, self.dtype)
        array[...] = content
        return array


@pytest.fixture(params=["before", "behind"])
def guarded(request, backend, dtype, monkeypatch):
    """Memory for arguments. Packed weights, workspaces and what a layer hands to the next one lie in such memory, too.

    The kernels' own memory comes from five places, which this fixture replaces.
    """
    guarded = Guarded(dtype, request.param)
    monkeypatch.setattr(packing, "empty_weights", guarded.empty)
    if backend.startswith("c:"):
        c = importlib.import_module("lstmkernel.backends.c.calls")
        monkeypatch.setattr(c, "empty", guarded.empty)
        monkeypatch.setattr(c, "_workspace", lambda size: c.ffi.from_buffer(guarded.empty((size,), np.uint8)))
    if backend == "numba":
        arrays = importlib.import_module("lstmkernel.backends.numba.arrays")

        def place(size):
            memory = guarded.empty((size,), np.uint8)
            return memory, memory.ctypes.data

        monkeypatch.setattr(arrays.scratch, "of", place)
        training = importlib.import_module("lstmkernel.backends.numba.run.training")
        monkeypatch.setattr(training, "empty_reused", guarded.empty)
        monkeypatch.setattr(training, "_per_thread", threading.local())
    return guarded


needs_mprotect = pytest.mark.skipif(sys.platform == "win32", reason="needs mprotect")


@needs_mprotect
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_stays_within(backend, dtype, random, guarded, name):
    for n in WIDTHS:
        y = guarded.empty((n,), dtype)
        backends.get(backend).activation(name, guarded.array(normal(random, (n,), dtype)), y)
        assert np.isfinite(y).all()


@needs_mprotect
@every_width
def test_single_kernels_stay_within(backend, dtype, random, guarded, H):
    kernels = backends.get(backend)
    for N, I in [(1, 1), (2, 3), (3, 4), (5, 1), (6, 2), (13, 7)]:
        x = guarded.array(normal(random, (N, I), dtype))
        weights = kernels.pack_layer(*weights_of(random, I, H, 0, dtype))
        z = guarded.empty((N, *weights.bias.shape), dtype)
        c, h = guarded.array(np.zeros((N, H))), guarded.empty((N, H), dtype)
        kernels.gate_matmul(x, weights, z)
        assert np.isfinite(z).all()
        kernels.cell_update(z, c, h)
        assert np.isfinite(c).all()
        assert np.isfinite(h).all()
        for O in (H, 4 * H + 1):
            y = guarded.empty((N, O), dtype)
            dense = kernels.pack_dense(normal(random, (O, I), dtype), normal(random, (O,), dtype), "tanh")
            kernels.dense_forward(x, dense, y)
            assert np.isfinite(y).all()


@needs_mprotect
@every_width
def test_layer_forward_stays_within(backend, dtype, random, guarded, H):
    kernels = backends.get(backend)
    for T, B, I, P in [
        (1, 1, 1, 0),
        (3, 1, 2, (H + 1) // 2),
        (4, 3, 5, 0),
        (2, 13, 3, 1),
        (3, 70, 4, 0),
        (2, 97, 1, H),
    ]:
        weights, R = kernels.pack_layer(*weights_of(random, I, H, P, dtype)), P or H
        for lengths, reverse in [(None, False), (lengths_for(random, T, B), True)]:
            x = guarded.array(normal(random, (B, T, I), dtype)).swapaxes(0, 1)
            h, c = guarded.array(normal(random, (B, R), dtype)), guarded.array(normal(random, (B, H), dtype))
            out = guarded.empty((B, T, R), dtype).swapaxes(0, 1)
            kernels.layer_forward(x, weights, lengths, reverse, h, c, out)
            assert all(np.isfinite(array).all() for array in (out, h, c))


@needs_mprotect
@every_tail
@pytest.mark.parametrize("threads", [1, 2])
def test_training_stays_within(backend, dtype, random, guarded, H, threads):
    kernels = backends.get(backend)
    for T, B, I, P in [(1, 1, 1, 0), (4, 3, 5, (H + 1) // 2), (3, 70, 4, 0), (40, 1, 33, 0), (9, 30, 2, H)]:
        arrays = weights_of(random, I, H, P, dtype)
        weights, parameters = kernels.pack_layer(*arrays), Parameters(arrays[0], arrays[1], arrays[3])
        for ragged in (False, True):
            case = Training(random, lambda a, whole=False: guarded.array(a), dtype, T, B, I, H, P, ragged, ragged)
            kernels.layer_record(case.tape, weights, threads)
            kernels.layer_backward([RowsOfTape(case.tape)], parameters, case.gradients, threads)
            found = [*case.gradients.parameters, case.gradients.h, case.gradients.c, case.gradients.x, case.tape.h]
            assert all(np.isfinite(array).all() for array in found if array is not None)


@needs_mprotect
@every_tail
@pytest.mark.parametrize("D", [1, 2])
@pytest.mark.parametrize("threads", [1, 2])
def test_lstm_forward_stays_within(backend, dtype, random, guarded, H, D, threads):
    kernels = backends.get(backend)
    for T, B, I, P in [(1, 1, 2, 0), (5, 3, 1, (H + 1) // 2), (3, 70, 4, 0), (40, 7, 30, 0)]:
        R, L = P or H, 3
        sizes = [I] + [D * R] * (L - 1)
        packed = [[kernels.pack_layer(*weights_of(random, n, H, P, dtype)) for _ in range(D)] for n in sizes]
        for lengths in (None, lengths_for(random, T, B)):
            x, out = guarded.array(normal(random, (T, B, I), dtype)), guarded.empty((T, B, D * R), dtype)
            h, c = guarded.array(np.zeros((L * D, B, R))), guarded.array(np.ones((L * D, B, H)))
            kernels.lstm_forward(kernels.pack_lstm(packed), Batch(x, lengths, None, h, c, out), threads)
            assert all(np.isfinite(array).all() for array in (out, h, c))
