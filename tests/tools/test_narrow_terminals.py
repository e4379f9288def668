"""Narrow terminals: no number in a table is cut. Lines run over instead."""

from __future__ import annotations

import re

import pytest

import lstmkernel as lk
from lstmkernel.cli import main

NUMBER = re.compile(r"-?\d+\.\d+")


@pytest.fixture
def printed(capsys, monkeypatch):
    """``printed(columns, *arguments)``: what a command prints on a terminal of that width."""

    def printed(columns, *arguments):
        monkeypatch.setenv("COLUMNS", str(columns))
        assert main(arguments) == 0
        return capsys.readouterr().out

    return printed


@pytest.mark.parametrize("columns", [20, 60])
def test_explain(printed, columns):
    wide, narrow = (printed(width, "explain", "--layer", "1") for width in (100, columns))
    assert NUMBER.findall(narrow) == NUMBER.findall(wide)
    assert len(NUMBER.findall(wide)) > 100


def test_bench_stream(printed, tmp_path):
    lk.save(lk.LSTM(1, 2, seed=0), tmp_path / "with_a_long_name.safetensors")
    out = printed(40, "bench", "stream", "--weights", str(tmp_path / "with_a_long_name.safetensors"), "--seconds", "0")
    assert "…" not in out
    assert out.count("with_a_long_name.safetensors, 64 steps") == 2


def test_threads(printed):
    if lk.info()["backends"]["c:generic"] is not None:
        pytest.skip("the C kernels were not built")
    out = printed(40, "threads", "--shape", "1,50,16,16", "--threads", "1", "--seconds", "0")
    assert "…" not in out
    (row,) = [line for line in out.splitlines() if "1,50,16,16" in line]
    assert "one thread" in row
    assert row.rstrip().endswith("1.00")


def test_a_wide_terminal_sees_what_it_saw(printed):
    assert all(len(line) <= 80 for line in printed(80, "explain").splitlines())
