"""Denormals are flushed inside the kernels; the caller's floating-point environment is restored."""

import ctypes
import ctypes.util
import os
import platform

import numpy as np
import pytest
from helpers import assert_close_answer, assert_same_answer, assert_same_bits, definition, normal
from networks import make

import lstmkernel as lk

TINY = {"float32": 1e-40, "float64": 1e-310}
needs_x86_or_arm = pytest.mark.skipif(
    platform.machine().lower() not in ("x86_64", "amd64", "aarch64", "arm64"), reason="rounding modes by number"
)
UPWARD = 0x800 if platform.machine().lower() in ("x86_64", "amd64") else 0x400000


def halves_tiny_numbers():
    """Whether NumPy on this thread computes with denormals."""
    return all((np.full(4, tiny, dtype) * dtype(0.5)).all() for dtype, tiny in ((np.float32, 1e-40), (float, 1e-310)))


def forgetful(backend, dtype):
    """A network of zeros: every step halves c, because sigmoid(0) is 0.5."""
    lstm = lk.LSTM(1, 9, bias=False, dtype=dtype, backend=backend)
    lstm.load_state_dict({name: np.zeros_like(value) for name, value in lstm.state_dict().items()})
    return lstm


def test_denormals_are_flushed_inside_and_the_callers_kept(compiled_backend, dtype):
    lstm = forgetful(compiled_backend, dtype)
    smallest = float(np.finfo(dtype).smallest_normal)
    state = (np.zeros((1, 1, 9)), np.full((1, 1, 9), 6 * smallest))
    out, (h, c) = lstm(np.zeros((2, 1, 1)), state)
    assert (c == 1.5 * smallest).all()
    out, (h, c) = lstm(np.zeros((3, 1, 1)), state)
    assert not c.any()
    assert not h.any()
    assert not out[2].any()
    assert halves_tiny_numbers()


def test_silence_dies_away(backend, dtype):
    lstm = forgetful(backend, dtype)
    out, (h, c) = lstm(np.zeros((3000, 1, 1)), (np.ones((1, 1, 9)), np.ones((1, 1, 9))))
    assert not out[-1].any()
    assert not h.any()
    assert not c.any()


def test_tiny_inputs_count_as_nothing(backend, dtype):
    lstm = make("two layers", backend, dtype)
    x = np.full((4, 2, 5), TINY[dtype], dtype)
    assert_close_answer(lstm(x), definition(lstm)(np.zeros_like(x)), dtype)
    assert halves_tiny_numbers()


@pytest.fixture
def flushing():
    """A caller that flushes denormals itself."""
    torch = pytest.importorskip("torch")
    if not torch.set_flush_denormal(True):
        pytest.skip("PyTorch cannot flush denormals here")
    yield
    torch.set_flush_denormal(False)


def test_a_caller_that_flushes_denormals_still_does(compiled_backend, dtype, random, flushing):
    lstm = make("two layers", compiled_backend, dtype)
    x = normal(random, (6, 3, 5), dtype)
    result = lstm(x)
    assert not halves_tiny_numbers()
    import torch

    torch.set_flush_denormal(False)
    assert_same_answer(result, lstm(x))
    assert halves_tiny_numbers()


@needs_x86_or_arm
def test_a_caller_that_rounds_upward_still_does(compiled_backend, dtype, random):
    libm = ctypes.CDLL(ctypes.util.find_library("m"))
    lstm = make("projected", compiled_backend, dtype)
    dense = lk.Dense(4, 3, "tanh", dtype=dtype, backend=compiled_backend, seed=1)
    x, lengths = normal(random, (6, 3, 5), dtype), np.array([6, 2, 4])
    expected = lstm(x, lengths=lengths)
    expected_y = dense(expected[0])
    nearest = libm.fegetround()
    try:
        assert libm.fesetround(UPWARD) == 0
        result = lstm(x, lengths=lengths)
        y = dense(expected[0])
        still = libm.fegetround()
    finally:
        libm.fesetround(nearest)
    assert still == UPWARD
    assert_same_answer(result, expected)
    assert_same_bits(y, expected_y)


@pytest.mark.skipif(os.name != "posix", reason="MXCSR through glibc")
def test_the_callers_exception_flags_are_left_alone(compiled_backend, random):
    """Kernels round and overflow, and raise no flag of which NumPy would make a warning."""
    lstm = make("two layers", compiled_backend)
    inputs = [np.full((6, 3, 5), value, "float32") for value in (1e38, 1e-38)]
    with np.errstate(all="raise"):
        for x in inputs:
            lstm(x)
        assert np.float32(1) + np.float32(1) == 2
