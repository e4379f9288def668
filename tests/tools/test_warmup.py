"""warmup, and the spinner while Numba compiles."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time

import pytest
from helpers import run_python, usable

import lstmkernel as lk
from lstmkernel.host import spinner


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
from lstmkernel.backends.numba.frames import Kernels
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


@pytest.mark.skipif("numba" not in usable(), reason="needs Numba")
def test_only_what_is_used_is_compiled():
    run_python("""
import numpy as np, lstmkernel as lk
from lstmkernel.backends.numba.frames import Kernels
compiled, right = [], Kernels._compile
def counted(self, name, kernel):
    compiled.append(f"{name} {self._real}")
    return right(self, name, kernel)
Kernels._compile = counted
lstm, dense = lk.LSTM(2, 3, backend="numba", seed=0), lk.Dense(3, 1, backend="numba", seed=0)
assert compiled == []
lstm(np.zeros((2, 2)))
lstm.stream().step(np.zeros((1, 2)))
assert compiled == ["lstm_forward float32"], compiled
dense(np.zeros((1, 3)))
assert compiled == ["lstm_forward float32", "dense_forward float32"], compiled
""")


PROGRAM = """
import sys, time, contextlib
from lstmkernel.host import spinner
spinner.PATIENCE = 0.05
with spinner.silenced() if sys.argv[2] == "beside a bar" else contextlib.nullcontext():
    with spinner.spinning("compiling this"):
        time.sleep(float(sys.argv[1]))
"""


def on_a_terminal(*arguments):
    """What PROGRAM writes to a stderr that is a terminal."""
    master, slave = pty.openpty()
    with os.fdopen(slave, "wb") as stderr:
        command = [sys.executable, "-c", PROGRAM, *arguments]
        subprocess.run(command, stderr=stderr, env={**os.environ, "TERM": "xterm"}, check=True, timeout=60)
        shown = os.read(master, 10000).decode() if select.select([master], [], [], 0)[0] else ""
    os.close(master)
    return shown


def test_a_spinner_on_a_terminal_when_it_takes_long():
    assert "compiling this" in on_a_terminal("2", "alone")


def test_no_spinner_for_a_moment_or_beside_a_progress_bar():
    assert on_a_terminal("0", "alone") == ""
    assert on_a_terminal("1", "beside a bar") == ""


def test_no_spinner_in_a_log(capsys, monkeypatch):
    monkeypatch.setattr(spinner, "PATIENCE", 0)
    with spinner.spinning("compiling this"):
        time.sleep(0.1)
    assert capsys.readouterr().err == ""


def test_no_spinner_where_nobody_can_tell(monkeypatch):
    monkeypatch.setattr(spinner, "PATIENCE", 0)
    closed = open(os.devnull, "w")  # noqa: SIM115
    closed.close()
    for stderr in (None, closed, object()):
        monkeypatch.setattr(sys, "stderr", stderr)
        with spinner.spinning("compiling this"):
            pass
