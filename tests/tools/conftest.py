"""Fixtures of the tests of commands."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lstmkernel as lk
from lstmkernel.workbench.blockwise import cut


@pytest.fixture
def weights(tmp_path: Path) -> str:
    """An LSTM 3 -> 5 in a file."""
    path = str(tmp_path / "weights.safetensors")
    lk.save(lk.LSTM(3, 5, seed=0), path)
    return path


@pytest.fixture
def save(tmp_path: Path, random: np.random.Generator) -> Callable[..., tuple[str, Any]]:
    """``save(*shape)``: a file of random numbers, and the numbers."""

    def save(*shape: int) -> tuple[str, Any]:
        x = random.standard_normal(shape, np.float32)
        np.save(tmp_path / "x.npy", x)
        return str(tmp_path / "x.npy"), x

    return save


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some rows and some steps a block, so that small arrays take many."""
    for name, value in {"BLOCK_BYTES": 1000, "LEAST_STEPS": 1, "LEAST_ROWS": 2, "LEAST_TIMES": 3}.items():
        monkeypatch.setattr(cut, name, value)


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The session's compiled code, which xdist's workers share: compiling takes seconds."""
    own = tmp_path_factory.getbasetemp()
    return str((own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "built")


@pytest.fixture
def kept(built: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is compiled goes there."""
    monkeypatch.setenv("LSTMKERNEL_CACHE_DIR", built)
