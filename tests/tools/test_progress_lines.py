"""Where stderr is no terminal, long work says in lines how far it is: a few a minute, and none if it is short."""

import io
import sys
import time
from types import SimpleNamespace

import pytest

import lstmkernel as lk
from lstmkernel import plan
from lstmkernel.cli import main
from lstmkernel.host import progress_lines, spinner
from lstmkernel.workbench import compare, progress


class Log(io.StringIO):
    """A stderr that is no terminal."""

    def wait_for(self, text):
        for _ in range(600):
            if text in self.getvalue():
                return self.getvalue()
            time.sleep(0.05)
        raise AssertionError(f"{text!r} not in {self.getvalue()!r}")


@pytest.fixture
def log(monkeypatch):
    stderr = Log()
    monkeypatch.setattr(progress_lines, "sys", SimpleNamespace(stderr=stderr))  # pytest replaces that of sys again
    return stderr


@pytest.fixture
def often(monkeypatch):
    monkeypatch.setattr(progress_lines, "APART", 0.01)


def test_lines_say_what_and_for_how_long(log, often):
    with spinner.spinning("compiling \u2192 this", lines=True):
        log.wait_for("\n")
    lines = log.getvalue().splitlines()
    assert set(lines) == {"compiling > this (0 s so far)"}


def test_no_lines_for_short_work_or_beside_a_bar(log, monkeypatch):
    with spinner.spinning("compiling this", lines=True):
        pass
    monkeypatch.setattr(progress_lines, "APART", 0.01)
    with spinner.silenced(), spinner.spinning("compiling this", lines=True):
        time.sleep(0.1)
    with spinner.spinning("compiling this"):  # whoever wants lines says so
        time.sleep(0.1)
    assert log.getvalue() == ""


@pytest.mark.parametrize("stderr", [None, object()])
def test_a_stderr_that_takes_no_lines(monkeypatch, often, stderr, capsys):
    failed = []
    monkeypatch.setattr("threading.excepthook", failed.append)
    monkeypatch.setattr(sys, "stderr", stderr)
    with spinner.spinning("compiling this", lines=True):
        time.sleep(0.1)
    assert not failed
    assert capsys.readouterr().out == ""


def test_compare_says_how_far_it_is(log, often, monkeypatch, capsys):
    first_calls = compare.first_calls

    def slow(name, *arguments):
        log.wait_for(f"lstmkernel compare: compile {name} (")
        return first_calls(name, *arguments)

    monkeypatch.setattr(compare, "first_calls", slow)
    shape = ["--shape", "1,3,2,3", "--kernel", "cell_update", "--seconds", "0.01"]
    assert main(["compare", *shape, "--backend", "numpy"]) == 0
    assert "lstmkernel compare" not in capsys.readouterr().out


def test_what_is_left_is_told_once_it_is_known(log, often):
    with progress.Steps("measuring") as steps:
        steps.begin("check this")
        assert "left" not in log.wait_for("measuring: check this (")
        steps.expect(70)
        steps.done(28)
        log.wait_for("measuring: check this; about 42 s are left (")


def test_compile_says_that_it_runs(log, often, monkeypatch, tmp_path):
    monkeypatch.setenv("LSTMKERNEL_CACHE_DIR", str(tmp_path))
    contest = plan._contest

    def slow(*arguments):
        log.wait_for("lstmkernel: compiling and comparing kernels for LSTM(2, 3, ")
        return contest(*arguments)

    monkeypatch.setattr(plan, "_contest", slow)
    monkeypatch.setattr(plan.candidates, "names", lambda own: [own])
    lk.LSTM(2, 3, backend="numpy", seed=0).compile(1, 2)
