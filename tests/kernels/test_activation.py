"""sigmoid and tanh: within 2 ulp of the exact value, symmetric, and NaN where NaN goes in. Softmax: within 6 ulp.

exhaustive.c tries all 2^32 floats; here every 997th, and every one where errors are largest.
"""

import csv

import numpy as np
import pytest
from helpers import sampled

from lstmkernel import backends

#: Intervals in which the error is largest, or in which the function takes another branch. Every float is tried.
HOT = [(3.4e-4, 3.5e-4), (0.503, 0.506), (0.3465, 0.3468), (9.0, 9.05), (86.99, 87.01), (87.99, 88.01)]
#: Limits in ulp. NumPy composes its own sigmoid from exp, whose float32 version is itself 2.5 ulp off.
LIMIT = {"float32": 2.0, "float64": 2.0}
NUMPY_LIMIT = 4.0
SOFTMAX_LIMIT = 6.0


def apply(backend, name, x):
    y = np.empty_like(x)
    with np.errstate(all="ignore"):
        backends.get(backend).activation(name, x, y)
    return y


def exact(name, x):
    """The exact values, in a wider format than x."""
    if x.dtype == np.float64 and np.finfo(np.longdouble).nmant <= 52:
        pytest.skip("no format wider than float64 here")
    wide = x.astype(np.float64 if x.dtype == np.float32 else np.longdouble)
    with np.errstate(all="ignore"):
        return np.tanh(wide) if name == "tanh" else 1 / (1 + np.exp(-wide))


def errors_in_ulp(y, expected):
    """The error of each result. 0 in place of a denormal is no error: kernels flush those."""
    info = np.finfo(y.dtype)
    smallest = expected.dtype.type(info.smallest_normal)
    _, exponent = np.frexp(np.maximum(np.abs(expected), smallest))
    ulp = np.ldexp(expected.dtype.type(1), exponent - info.nmant - 1)
    error = np.abs(y - expected) / ulp
    flushed = (y == 0) & (np.abs(expected) < smallest)
    return np.where(flushed, 0, error)


def check(backend, name, x):
    y = apply(backend, name, x)
    nan = np.isnan(x)
    assert np.array_equal(np.isnan(y), nan)
    x, y = x[~nan], y[~nan]
    error = errors_in_ulp(y, exact(name, x))
    worst = int(error.argmax())
    limit = NUMPY_LIMIT if backend == "numpy" else LIMIT[x.dtype.name]
    assert error[worst] <= limit, f"{name}({x[worst]!r}) = {y[worst]!r}, {error[worst]:.3f} ulp off"


def floats(patterns):
    return np.asarray(patterns, np.uint32).view(np.float32)


def between(low, high):
    """Every float32 from low to high, and their negatives."""
    ends = np.array([low, high], np.float32).view(np.uint32)
    positive = floats(np.arange(ends[0], ends[1] + 1, dtype=np.uint32))
    return np.concatenate([positive, -positive])


both = pytest.mark.parametrize("name", ["sigmoid", "tanh"])


@pytest.mark.slow
@both
def test_every_997th_float(backend, name):
    check(backend, name, floats(np.arange(0, 2**32, 997, dtype=np.uint64)))


@both
@pytest.mark.parametrize(("low", "high"), sampled(HOT, (0.503, 0.506), (9.0, 9.05)))
def test_every_float_of_an_interval(backend, name, low, high):
    check(backend, name, between(low, high))


@pytest.mark.slow
@both
def test_samples_of_float64(backend, name):
    random = np.random.default_rng(5)
    samples = [
        random.integers(0, 2**64, 300_000, np.uint64).view(np.float64),  # every magnitude, NaNs too
        random.uniform(-1, 1, 300_000),
        random.uniform(-25, 25, 300_000),
        random.uniform(-750, 750, 300_000),
        2.0 ** random.uniform(-60, 10, 300_000) * random.choice([-1, 1], 300_000),
    ]
    check(backend, name, np.concatenate(samples))


@both
def test_special_values(backend, dtype, name):
    inf, tiny, big = np.inf, np.finfo(dtype).smallest_subnormal, np.finfo(dtype).max
    x = np.array([0.0, -0.0, inf, -inf, np.nan, big, -big, tiny, -tiny], dtype)
    y = apply(backend, name, x)
    if name == "tanh":
        expected = np.array([0.0, -0.0, 1, -1, np.nan, 1, -1], dtype)
        assert np.array_equal(np.signbit(y), np.signbit(x) & ~np.isnan(x))
        assert (np.abs(y[-2:]) <= tiny).all()
    else:
        expected = np.array([0.5, 0.5, 1, 0, np.nan, 1, 0], dtype)
        assert (y[-2:] == 0.5).all()
    assert np.array_equal(y[:7], expected, equal_nan=True)


def test_tanh_is_odd_bit_for_bit(backend, dtype):
    if dtype == "float32":
        x = floats(np.arange(0, 2**31, 997, dtype=np.uint64))
    else:
        x = np.random.default_rng(6).integers(0, 2**63, 1_000_000, np.uint64).view(np.float64)
    x = x[~np.isnan(x)]
    assert (-apply(backend, "tanh", x)).tobytes() == apply(backend, "tanh", -x).tobytes()


@both
def test_results_stay_in_range(backend, dtype, name):
    y = apply(backend, name, np.linspace(-200, 200, 1_000_001).astype(dtype))
    assert y.min() >= (-1 if name == "tanh" else 0)
    assert y.max() <= 1


@pytest.mark.parametrize("O", [1, 2, 3, 16, 17, 100, 1000])
def test_softmax(backend, dtype, random, O):
    """Of rows that lie close together, and of rows with numbers whose exp is next to nothing.

    Their differences are exact in the dtype, because they are multiples of 2^-10: the error is softmax's alone.
    """
    kernels = backends.get(backend)
    weights = kernels.pack_dense(np.eye(O, dtype=dtype), np.zeros(O, dtype), "softmax")
    for spread in (1, 10, 80, 87 if dtype == "float32" else 700):
        z = (random.integers(-1024 * spread, 1, (max(50, 5000 // O), O)) / 1024).astype(dtype)
        y = np.empty_like(z)
        kernels.dense_forward(z, weights, y)
        parts = np.exp(z.astype(np.float64 if dtype == "float32" else np.longdouble) - z.max(axis=1, keepdims=True))
        error = errors_in_ulp(y, parts / parts.sum(axis=1, keepdims=True))
        error[parts < 2 * np.finfo(dtype).smallest_normal] = 0  # zero will do there
        assert error.max() <= SOFTMAX_LIMIT, (spread, error.max())


def test_numpys_own_vectors_for_tanh(backend, data, dtype):
    """They give inputs and exact outputs as bits. Denormals are among them."""
    word = {"float32": np.uint32, "float64": np.uint64}[dtype]
    with (data / "numpy_ulp" / "umath-validation-set-tanh.csv").open() as file:
        rows = [row for row in csv.reader(file) if row and row[0] == f"np.{dtype}"]
    assert len(rows) > 100
    x, expected = (np.array([int(row[i], 16) for row in rows], word).view(dtype) for i in (1, 2))
    y = apply(backend, "tanh", x)
    finite = ~np.isnan(expected)
    assert np.array_equal(np.isnan(y), ~finite)
    error = errors_in_ulp(y[finite], expected[finite].astype(np.longdouble))
    assert error.max() <= LIMIT[dtype] + 0.5  # the expected values are rounded
