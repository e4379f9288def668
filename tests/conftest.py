"""Fixtures: every backend of the one list, both dtypes, a seeded source of random numbers, the data of others."""

from __future__ import annotations

import os
import zlib
from pathlib import Path

import networks
import numpy as np
import pytest
from helpers import DATA, DTYPES, unavailable

import lstmkernel as lk
from lstmkernel import backends
from lstmkernel.host import cores


def pytest_configure(config: pytest.Config) -> None:
    """Compiling Numba's kernels takes minutes, which ``-m "not slow"`` does not have. xdist's workers inherit it."""
    if not hasattr(config, "workerinput") and config.option.markexpr == "not slow" and not _numba_is_compiled():
        os.environ["TESTS_WITHOUT_NUMBA"] = "1"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What ``-m "not slow"`` leaves out beside the tests that are marked.

    Backends that cannot run here, and NumPy in float64. The generic C kernels, but in the tests of backends and
    kernels: they are the same code as the others.
    """
    if config.option.markexpr != "not slow":
        return
    missing = {name for name in backends.NAMES if unavailable(name)}
    for item in items:
        callspec = getattr(item, "callspec", None)
        names = {value for value in callspec.params.values() if isinstance(value, str)} if callspec else set()
        of_kernels = item.path.name in ("test_backends.py", "test_kernels.py")
        if names & missing or {"numpy", "float64"} <= names or ("c:generic" in names and not of_kernels):
            item.add_marker(pytest.mark.slow)


def _numba_is_compiled() -> bool:
    """Whether its largest kernels are on disk."""
    if backends.unavailable("numba"):
        return False
    from lstmkernel.backends.numba.jit_cache import DiskCache

    names = [f"{kernel}-{dtype}" for kernel in ("lstm_forward", "layer_record", "layer_backward") for dtype in DTYPES]
    names += ["i8a16_forward-float32", "i8a8_forward-float32"]
    return all(DiskCache(name).content() is not None for name in names)


def _runnable(name: str) -> str:
    reason = unavailable(name)
    if reason:
        pytest.skip(reason)
    return name


@pytest.fixture(params=backends.NAMES)
def backend(request: pytest.FixtureRequest) -> str:
    """The name of each backend; those that cannot run here skip, with the reason."""
    return _runnable(request.param)


@pytest.fixture(params=[name for name in backends.NAMES if name != "numpy"])
def compiled_backend(request: pytest.FixtureRequest) -> str:
    """As ``backend``, without NumPy: its BLAS sums in an order of its own, and does not flush denormals."""
    return _runnable(request.param)


@pytest.fixture(params=DTYPES)
def dtype(request: pytest.FixtureRequest) -> str:
    """The name of each dtype that networks have."""
    return request.param


@pytest.fixture
def random(request: pytest.FixtureRequest) -> np.random.Generator:
    """Seeded by the test's own name: the same numbers on every run, other numbers in every test."""
    return np.random.default_rng(zlib.crc32(request.node.name.encode()))


@pytest.fixture
def data() -> Path:
    """The folder of files that others made; where it is absent, the test skips."""
    if not DATA.is_dir():
        pytest.skip(f"no outside data: {DATA.parent.name}/{DATA.name} is not beside the project")
    return DATA


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of whoever runs the tests must not decide what they test."""
    for name in ("BACKEND", "ISA", "NUM_THREADS"):
        monkeypatch.delenv(f"LSTMKERNEL_{name}", raising=False)


@pytest.fixture(scope="session", autouse=True)
def one_torch_thread() -> None:
    """Small networks gain nothing from PyTorch's threads, and other tests want the cores."""
    try:
        import torch
    except ImportError:
        return
    torch.set_num_threads(1)


@pytest.fixture
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many threads as asked for, up to 8, whatever the machine has."""
    monkeypatch.setattr(cores, "available", lambda: 8)


@pytest.fixture
def threads_as_asked(monkeypatch: pytest.MonkeyPatch, eight_cores: None) -> None:
    """``eight_cores``, and Numba uses threads for little work, too."""
    if not backends.unavailable("numba"):
        from lstmkernel.backends.numba.run import cost

        for limit in ("MIN_SHARED_NS", "JOIN_NS", "WAKING_NS"):
            monkeypatch.setattr(cost, limit, 0)


@pytest.fixture(params=["two layers", "two directions", "projected"])
def lstm(request: pytest.FixtureRequest, backend: str, dtype: str) -> lk.LSTM:
    """Three networks of 5 inputs, 9 units and 2 layers, on every backend."""
    return networks.make(request.param, backend, dtype)


@pytest.fixture
def two_layers(backend: str, dtype: str) -> lk.LSTM:
    """Only the first of them."""
    return networks.make("two layers", backend, dtype)


@pytest.fixture
def default_lstm() -> lk.LSTM:
    """The same on the default backend: for what is refused before any backend is called."""
    return networks.make("two layers")
