"""Terminals and files that take no more than ASCII, that are full, or that nobody reads."""

from __future__ import annotations

import io
import subprocess
import sys

import pytest

import lstmkernel as lk
from lstmkernel import plan
from lstmkernel.cli import main
from lstmkernel.host import disk_cache, spinner
from lstmkernel.host.plain_text import plain

COMMANDS = [["info"], ["cache"], ["explain"], ["compare", "--help"], ["cache", "--json"]]


def test_plain():
    assert plain("a → b ─ …, \u2018x\u2019 \xd7 é") == "a > b - ., 'x' x \\xe9"
    assert plain("\udcff") == "\\udcff"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp437"])
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_command_prints_in_any_encoding(monkeypatch, tmp_path, command, encoding):
    monkeypatch.setenv("LSTMKERNEL_CACHE_DIR", str(tmp_path / "cäche"))
    monkeypatch.setenv("COLUMNS", "50")  # names are cut short
    disk_cache.keep("plans", f"{'long' * 20}-{'0' * 20}.json", b"{}")
    stdout, stderr = (io.TextIOWrapper(io.BytesIO(), encoding=encoding) for _ in range(2))
    monkeypatch.setattr(sys, "stdout", stdout)
    monkeypatch.setattr(sys, "stderr", stderr)
    try:
        status = main(command)
    except SystemExit as done:  # --help
        status = done.code
    stdout.flush()
    stderr.flush()
    assert (status, stderr.buffer.getvalue()) == (0, b"")
    assert stdout.buffer.getvalue()


def test_an_error_about_a_name_of_other_letters(monkeypatch):
    stderr = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stderr", stderr)
    assert main(["info", "nicht-dä.pt"]) == 2
    stderr.flush()
    assert b"nicht-d\\xe4.pt" in stderr.buffer.getvalue()


def test_a_plan_prints_as_ascii():
    contenders = (
        plan.Contender("c:avx2", seconds=1e-5, error=0.1),
        plan.Contender("c:avx2 special", note="der Compiler sagt: \u2018x\u2019 ungültig"),
    )
    made = plan.Plan("LSTM(2, 3)", 1, None, "calls", 1, "CPU\xae", "c:avx2", "c:avx2", contenders, 0.0)
    assert str(made).isascii()
    assert "taken" in str(made)
    assert repr(made).isascii()


def test_what_accelerate_did_prints_as_ascii():
    torch = pytest.importorskip("torch")
    from lstmkernel.torch import accelerate

    done = accelerate(torch.nn.Sequential(torch.nn.LSTM(2, 3)))
    assert str(done).isascii()


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_the_spinner_on_any_terminal(monkeypatch, encoding):
    class Terminal(io.TextIOWrapper):
        def isatty(self):
            return True

    screen = Terminal(io.BytesIO(), encoding=encoding)
    shown = screen.buffer
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(spinner, "PATIENCE", 0)
    monkeypatch.setenv("TERM", "xterm")
    failed = []
    monkeypatch.setattr("threading.excepthook", failed.append)
    with spinner.spinning("compiling → kernels"):
        for _ in range(200):
            if b"kernels" in shown.getvalue():
                break
            spinner.threading.Event().wait(0.05)
            screen.flush()
    assert not failed
    assert b"compiling > kernels" in shown.getvalue()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs a shell")
@pytest.mark.parametrize(
    ("redirected", "status", "said"),
    [
        (">&-", 0, ""),
        (">/dev/full", 2, "No space left"),
        ("2>&- >&-", 0, ""),
        ("| true; exit ${PIPESTATUS[0]}", 141, ""),
    ],
)
def test_output_that_goes_nowhere(redirected, status, said):
    command = f'"{sys.executable}" -m lstmkernel info {redirected}'
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == status
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert said in done.stderr


def test_a_network_prints_as_ascii():
    assert repr(lk.LSTM(2, 3, seed=0)).isascii()
