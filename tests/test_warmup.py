"""warmup, and the spinner while Numba compiles."""

from __future__ import annotations

import os
import pty
import select
import sys
import time

import pytest
import rich.console  # noqa: F401 - now, so that a spinner appears at once
import rich.status  # noqa: F401
from helpers import run_python, usable

import lstmkernel as lk
from lstmkernel import spinner


@pytest.mark.parametrize("name", usable())
def test_warmup_returns_seconds(name, dtype):
    assert 0 <= lk.warmup(name, dtype) < 120


def test_warmup_refuses_what_lstm_refuses():
    with pytest.raises(ValueError, match="unknown backend 'cuda'"):
        lk.warmup("cuda")
    with pytest.raises(ValueError, match="float32 or float64"):
        lk.warmup(dtype="float16")


@pytest.mark.skipif("numba" not in usable(), reason="needs Numba")
def test_nothing_is_left_to_compile(tmp_path):
    run_python(
        """
import numpy as np, lstmkernel as lk
lk.warmup("numba")
from lstmkernel.backends.numba.kernels import Kernels
def refuse(*arguments): raise AssertionError(f"compiles {arguments[1]}")
Kernels._compile = refuse
options = {"backend": "numba", "seed": 0}
lk.LSTM(3, 20, 2, bidirectional=True, **options)(np.zeros((4, 30, 3)), lengths=[4, 2] * 15)
lk.LSTM(3, 20, proj_size=2, **options)(np.zeros((4, 3)))
lk.LSTMCell(3, 4, **options)(np.zeros((1, 3)))
lk.Dense(3, 4, "tanh", **options)(np.zeros((1, 3)))
""",
        env={"LSTMKERNEL_CACHE_DIR": str(tmp_path)},
    )


@pytest.fixture
def terminal(monkeypatch):
    """What appears on a stderr that is a terminal, with little patience."""
    master, slave = pty.openpty()
    monkeypatch.setattr(spinner, "PATIENCE", 0.05)
    monkeypatch.setenv("TERM", "xterm")
    with os.fdopen(slave, "w") as stderr:
        monkeypatch.setattr(sys, "stderr", stderr)
        yield lambda: os.read(master, 10000).decode() if _readable(master) else ""
    os.close(master)


def _readable(descriptor):
    return bool(select.select([descriptor], [], [], 0.2)[0])


def test_a_spinner_on_a_terminal_when_it_takes_long(terminal):
    with spinner.spinning("compiling this"):
        time.sleep(0.4)
    assert "compiling this" in terminal()


def test_no_spinner_for_a_moment(terminal):
    with spinner.spinning("compiling this"):
        pass
    time.sleep(0.1)
    assert terminal() == ""


def test_no_spinner_beside_a_progress_bar(terminal):
    with spinner.silenced(), spinner.spinning("compiling this"):
        time.sleep(0.4)
    assert terminal() == ""


def test_no_spinner_in_a_log(capsys, monkeypatch):
    monkeypatch.setattr(spinner, "PATIENCE", 0)
    with spinner.spinning("compiling this"):
        time.sleep(0.1)
    assert capsys.readouterr().err == ""
