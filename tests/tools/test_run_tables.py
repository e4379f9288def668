"""``lstmkernel run`` over Parquet's and Arrow's tables: rows that are steps, and rows that are sequences."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import assert_same_bits, refused

import lstmkernel as lk
from lstmkernel.cli import main
from lstmkernel.workbench.blockwise import cut, tables

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

LENGTHS = (4, 0, 60, 1, 7, 0, 30)
#: A list column of each kind; the last one has I = 1.
TYPES = {
    "fixed": pa.list_(pa.list_(pa.float32(), 3)),
    "lists": pa.list_(pa.list_(pa.float64())),
    "large": pa.large_list(pa.list_(pa.float32(), 3)),
    "plain": pa.list_(pa.float32()),
}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some steps a block, and some rows of a table at a time."""
    for name, value in {"BLOCK_BYTES": 1000, "LEAST_STEPS": 1, "LEAST_ROWS": 2, "LEAST_TIMES": 3}.items():
        monkeypatch.setattr(cut, name, value)
    monkeypatch.setattr(tables, "READ_BYTES", 700)


@pytest.fixture(params=["parquet", "feather"])
def suffix(request: pytest.FixtureRequest) -> str:
    return request.param


def write(table: Any, path: Path) -> None:
    """With a table's rows in several groups."""
    if path.suffix == ".parquet":
        pq.write_table(table, path, row_group_size=50)
        return
    with pa.ipc.new_file(str(path), table.schema) as file:
        file.write_table(table, max_chunksize=50)


def read(path: Path) -> Any:
    """The column "out", the only one."""
    table = pq.read_table(path) if path.suffix == ".parquet" else pa.ipc.open_file(str(path)).read_all()
    assert table.column_names == ["out"]
    return table.column(0).combine_chunks()


def numbers(column: Any, width: int) -> np.ndarray:
    while not pa.types.is_floating(column.type):
        column = column.flatten()
    return column.to_numpy().reshape(-1, width)


def run(folder: Path, source: Path, target: Path, net: Any, *more: str) -> int:
    lk.save(net, folder / "net.safetensors")
    return main(["run", "--weights", str(folder / "net.safetensors"), str(source), "-o", str(target), *more])


# ---------------------------------------------------------------- rows that are steps


@pytest.mark.parametrize("columns", ["a b c", "list", "fixed"])
@pytest.mark.parametrize("target", ["out.parquet", "out.arrow", "out.npy", "out.npz"])
def test_rows_that_are_steps(tmp_path, random, capsys, suffix, columns, target):
    x, source, target = random.standard_normal((130, 3), np.float32), tmp_path / f"x.{suffix}", tmp_path / target
    if columns == "a b c":
        table = {"c": x[:, 2], "a": x[:, 0], "b": x[:, 1], "when": np.arange(130), "who": ["me"] * 130}
        given = ["--column", "a", "--column", "b", "--column", "c"]
    else:
        type_ = pa.list_(pa.float32(), 3) if columns == "fixed" else pa.list_(pa.float32())
        table, given = {"v": pa.array(list(x), type_)}, []
    write(pa.table(table), source)
    net = lk.Stack([lk.LSTM(3, 5, seed=0), lk.Dense(5, 2, seed=1)])
    out, ((h_n, _),) = net(x)
    assert run(tmp_path, source, target, net, *given, "--state-out", str(tmp_path / "state.npz")) == 0
    assert "T = 130 steps of I = 3 numbers; each row of the table is a step" in capsys.readouterr().out
    found = {".npy": np.load, ".npz": lambda path: np.load(path)["out"]}.get(target.suffix)
    assert_same_bits(found(target) if found else numbers(read(target), 2), out)
    assert_same_bits(np.load(tmp_path / "state.npz")["h_n"], h_n)


@pytest.mark.parametrize("T", [0, 1, 130])
@pytest.mark.parametrize("last", [False, True])
def test_one_column_of_numbers(tmp_path, random, suffix, T, last):
    x = random.integers(-9, 9, (T, 1))
    write(pa.table({"x": x[:, 0]}), tmp_path / f"x.{suffix}")
    net = lk.Stack([lk.LSTM(1, 5, seed=0), lk.Dense(5, 1, seed=1)])
    target = tmp_path / f"out.{suffix}"
    assert run(tmp_path, tmp_path / f"x.{suffix}", target, net, *(["--last"] if last else [])) == 0
    column = read(target)
    assert column.type == pa.float32()
    out, _ = net(x)
    expected = out if not last else out[-1:] if T else np.zeros((1, 1), "f")
    assert_same_bits(column.to_numpy()[:, None], expected)


def test_a_network_that_needs_all_steps(tmp_path, random, suffix):
    x, net = random.standard_normal((130, 3), np.float32), lk.LSTM(3, 5, bidirectional=True, seed=0)
    write(pa.table({name: x[:, i] for i, name in enumerate("abc")}), tmp_path / f"x.{suffix}")
    assert run(tmp_path, tmp_path / f"x.{suffix}", tmp_path / "out.parquet", net) == 0
    assert_same_bits(numbers(read(tmp_path / "out.parquet"), 10), net(x)[0])


# ---------------------------------------------------------------- rows that are sequences


@pytest.mark.parametrize("form", TYPES)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_rows_that_are_sequences(tmp_path, random, capsys, suffix, form, bidirectional):
    I = 1 if form == "plain" else 3
    rows = [random.standard_normal((T, I), np.float32) for T in LENGTHS]
    column = pa.array([row[:, 0].tolist() if I == 1 else row.tolist() for row in rows], TYPES[form])
    write(pa.table({"id": range(len(rows)), "x": column}), tmp_path / f"x.{suffix}")
    net = lk.LSTM(I, 5, bidirectional=bidirectional, seed=0)
    target, state = tmp_path / f"out.{suffix}", tmp_path / "state.npz"
    given = ["--column", "x", "--state-out", str(state)]
    assert run(tmp_path, tmp_path / f"x.{suffix}", target, net, *given) == 0
    said = capsys.readouterr().out
    assert f"B = 7 rows of steps of I = {I} numbers; each row of the table is a sequence" in said
    out = read(target)
    assert [len(row) for row in out.to_pylist()] == list(LENGTHS)
    expected, (h_n, _) = net.ragged(rows)
    assert_same_bits(numbers(out, net.out_features), np.concatenate(expected))
    assert_same_bits(np.load(state)["h_n"], h_n)


@pytest.mark.parametrize("target", ["out.npy", "out.parquet"])
def test_only_the_last_output_of_each_sequence(tmp_path, random, suffix, target):
    rows = [random.standard_normal(T).astype("f") for T in LENGTHS]
    write(pa.table({"x": rows}), tmp_path / f"x.{suffix}")
    net, target = lk.LSTM(1, 5, seed=0), tmp_path / target
    assert run(tmp_path, tmp_path / f"x.{suffix}", target, net, "--last") == 0
    expected = [net(row[:, None])[0][-1] if len(row) else np.zeros(5, "f") for row in rows]
    got = np.load(target) if target.suffix == ".npy" else numbers(read(target), 5)
    assert_same_bits(got, np.stack(expected))


def test_no_sequences(tmp_path, suffix):
    write(pa.table({"x": pa.array([], TYPES["fixed"])}), tmp_path / f"x.{suffix}")
    assert run(tmp_path, tmp_path / f"x.{suffix}", tmp_path / "out.parquet", lk.LSTM(3, 5, seed=0)) == 0
    assert len(read(tmp_path / "out.parquet")) == 0


# ---------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("columns", "given", "message"),
    [
        ({"a": [1.0], "b": [2.0]}, [], "or 3 of numbers; it has a (double), b (double); choose with --column"),
        ({"a": [1.0]}, [], "expected 3 columns of numbers, or one of lists of steps of 3 numbers, got a (double)"),
        ({"a": [1.0]}, ["--column", "b"], "no column 'b'; it has a (double)"),
        ({"a": ["x"]}, [], "got a (string)"),
        ({"a": [[1.0, 2.0]]}, [], "expected steps of 3 numbers, got one of 2"),
        (
            {"a": [[1.0, 2.0, 3.0], None]},
            [],
            "column a, row 1 (the first one is row 0): expected a list of 3 numbers, got a",
        ),
        (
            {"a": [[1.0, 2.0, None]]},
            [],
            "column a, row 0 (the first one is row 0): expected a number, got a missing value",
        ),
        ({"a": [1.0], "b": [None], "c": [1.0]}, [], "choose with --column"),
        (
            {"a": [1.0, 2.0], "b": [1.0, None], "c": [1.0, 2.0]},
            [],
            "column b, row 1 (the first one is row 0): expected",
        ),
        ({"a": [[[1.0, 2.0]]]}, [], "expected steps of 3 numbers, got one of 2"),
        ({"a": [[[1.0, 2.0, 3.0], None]]}, [], "column a, row 0, step 1 (the first ones are 0): expected a list of 3"),
        ({"a": [[[1.0, 2.0, 3.0]], None]}, [], "column a, row 1 (the first one is row 0): expected a list of steps"),
        ({"a": [[[[1.0, 2.0, 3.0]]]]}, [], "got a (list<"),
        ({}, [], "it has no columns"),
    ],
)
def test_tables_that_are_refused(tmp_path, capsys, suffix, columns, given, message):
    write(pa.table(columns), tmp_path / f"x.{suffix}")
    (tmp_path / "out.parquet").write_bytes(b"old")
    assert run(tmp_path, tmp_path / f"x.{suffix}", tmp_path / "out.parquet", lk.LSTM(3, 5, seed=0), *given) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"lstmkernel: error: {tmp_path / f'x.{suffix}'}: ")
    assert message in said
    assert (tmp_path / "out.parquet").read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 3


def test_the_place_of_a_bad_value_is_told(tmp_path, capsys, suffix):
    """Also where the row is not in the first rows that are read, and not in the first group of rows in the file."""

    def said(table, I):
        write(pa.table(table), tmp_path / f"x.{suffix}")
        assert run(tmp_path, tmp_path / f"x.{suffix}", tmp_path / "out.npy", lk.LSTM(I, 5, seed=0), "--last") == 2
        return capsys.readouterr().err

    numbers = np.arange(300.0).tolist()
    assert "x." + suffix + ": column b, row 277 (" in said(
        {"a": numbers, "b": [*numbers[:277], None, *numbers[278:]], "c": numbers}, 3
    )
    step = [1.0, 2.0, 3.0]
    rows = [[step] * (row % 7) for row in range(300)]
    for bad, got in (([1.0, None, 3.0], "expected a number"), (None, "expected a list of 3"), ([1.0], "got one of 1")):
        rows[250] = [step, step, bad, step]
        text = said({"x": pa.array(rows, pa.list_(pa.list_(pa.float32())))}, 3)
        assert "column x, row 250, step 2 (the first ones are 0): " in text
        assert got in text
    rows[250] = None
    assert "column x, row 250 (the first one is row 0): expected a list of steps" in said({"x": rows}, 3)
    assert "column x, row 1, step 2 (" in said({"x": [[1.0], [1.0, 2.0, None]]}, 1)


@pytest.mark.parametrize("cut_at", [3, 100, -1])
def test_files_that_are_no_tables(tmp_path, capsys, suffix, cut_at):
    path = tmp_path / f"x.{suffix}"
    write(pa.table({"x": np.ones(500)}), path)
    path.write_bytes(path.read_bytes()[:cut_at])
    assert run(tmp_path, path, tmp_path / "out.parquet", lk.LSTM(1, 5, seed=0)) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"lstmkernel: error: {path}: ")
    assert said.count("\n") == 1


def test_a_sequence_that_is_too_long_for_memory(tmp_path, capsys, suffix):
    write(pa.table({"x": [np.zeros(1_000_000, "f")]}), tmp_path / f"x.{suffix}")
    net, given = lk.LSTM(1, 5, seed=0), ["--memory", "0.3"]
    assert run(tmp_path, tmp_path / f"x.{suffix}", tmp_path / "out.parquet", net, *given) == 2
    assert "a row of a table is taken whole, and 1000000 steps need about 0.3 GB; " in capsys.readouterr().err


def test_sequences_do_not_fit_an_array(tmp_path, capsys):
    write(pa.table({"x": [[1.0], []]}), tmp_path / "x.parquet")
    assert run(tmp_path, tmp_path / "x.parquet", tmp_path / "out.npy", lk.LSTM(1, 5, seed=0)) == 2
    assert (
        "out.npy: expected a suffix of .parquet, .pq, .arrow, .feather for rows of unequal" in capsys.readouterr().err
    )


@pytest.mark.parametrize("option", ["--batch-first", "--ragged", "--lengths=x.npy", "--array=x"])
def test_options_that_mean_nothing_for_a_table(tmp_path, capsys, option):
    write(pa.table({"x": [1.0]}), tmp_path / "x.parquet")
    arguments = ["run", str(tmp_path / "x.parquet"), "-o", str(tmp_path / "out.npy"), option]
    assert f"{option.split('=')[0]}: not for " in refused(capsys, *arguments)


def test_without_the_extra(tmp_path, capsys, monkeypatch):
    write(pa.table({"x": [1.0]}), tmp_path / "x.parquet")
    np.save(tmp_path / "x.npy", np.ones((4, 1)))
    for name in [name for name in sys.modules if name.split(".")[0] == "pyarrow"]:
        monkeypatch.setitem(sys.modules, name, None)
    for source in ("x.parquet", "x.npy"):
        said = refused(capsys, "run", str(tmp_path / source), "-o", str(tmp_path / "out.parquet"))
        assert "needs pyarrow; pip install 'lstmkernel[arrow]'" in said
