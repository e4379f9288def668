"""Fixtures: every backend of the one list, both dtypes, a seeded source of random numbers, the data of others."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest
from helpers import DATA, DTYPES, OPTIONS

import lstmkernel as lk
from lstmkernel import backends


def _runnable(name: str) -> str:
    reason = backends.unavailable(name)
    if reason:
        pytest.skip(reason)
    return name


@pytest.fixture(params=backends.NAMES)
def backend(request: pytest.FixtureRequest) -> str:
    """The name of each backend; those that cannot run here skip, with the reason."""
    return _runnable(request.param)


@pytest.fixture(params=[name for name in backends.NAMES if name != "numpy"])
def compiled(request: pytest.FixtureRequest) -> str:
    """As ``backend``, without NumPy: its BLAS sums in an order of its own, and flushes no denormals."""
    return _runnable(request.param)


@pytest.fixture(params=DTYPES)
def dtype(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def random(request: pytest.FixtureRequest) -> np.random.Generator:
    """Seeded by the test's own name: the same numbers on every run, others in every test."""
    return np.random.default_rng(zlib.crc32(request.node.name.encode()))


@pytest.fixture
def data() -> Path:
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


@pytest.fixture(params=[{}, {"bidirectional": True}, {"proj_size": 4}], ids=["plain", "bidirectional", "projection"])
def lstm(request, backend, dtype):
    return lk.LSTM(**OPTIONS, **request.param, dtype=dtype, backend=backend, seed=2)


@pytest.fixture
def simple(backend, dtype):
    return lk.LSTM(**OPTIONS, dtype=dtype, backend=backend, seed=2)


@pytest.fixture
def checked():
    """For what is refused before any backend is called."""
    return lk.LSTM(**OPTIONS, seed=2)
