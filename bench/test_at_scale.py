"""bench/at_scale.py: both forms of the rows give one answer, and the table compares with one core."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("distributed")

import at_scale
import dask.dataframe as dd

import lstmkernel as lk
from lstmkernel.dask import score


def test_both_forms_give_the_same_bits(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(at_scale, "FILE_ROWS", 40)
    steps = at_scale.write_rows(tmp_path, 100)
    frame = dd.read_parquet(tmp_path / "rows", dtype_backend="pyarrow")
    got = score(lk.LSTM(at_scale.I, at_scale.H, seed=0), frame["x"], last=True).compute(scheduler="sync")
    expected = at_scale.by_ragged(tmp_path, 1)
    assert expected.shape == (100, at_scale.H)
    assert np.array_equal(got.to_numpy(), expected)
    assert steps == len(np.load(tmp_path / "flat.npy", mmap_mode="r"))


def test_the_table_compares_with_one(tmp_path: Path) -> None:
    taken = {"a, 1 thread": [at_scale.Took(4, 3), at_scale.Took(6, 3)], "a, 2 threads": [at_scale.Took(2, 2)] * 2}
    *_, one, two = at_scale.table(taken, 100, 3000).splitlines()
    assert one == "| a, 1 thread | 20 | 0.00 | 3.0 | 1.00 |"
    assert two == "| a, 2 threads | 50 | 0.00 | 2.0 | 2.50 |"


def test_ways_that_differ_are_refused() -> None:
    answers = iter([np.zeros(3), np.ones(3)])
    way = at_scale.Way("x", lambda: next(answers), lambda: [0.0])
    with pytest.raises(AssertionError, match="x: other bits"):
        at_scale.in_turns([way], rounds=2)
