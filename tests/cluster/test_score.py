"""score on arrays, data frames and bags: the bits of one machine, in order, lazily; what is refused says a way out."""

from __future__ import annotations

import pickle
import re
from typing import Any

import networks
import numpy as np
import pytest
from helpers import assert_same_bits

import lstmkernel as lk

dask = pytest.importorskip("dask")
import dask.array as da  # noqa: E402
import dask.bag as db  # noqa: E402
import dask.dataframe as dd  # noqa: E402
import pandas as pd  # noqa: E402
import pyarrow as pa  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402

from lstmkernel.dask import score  # noqa: E402
from lstmkernel.dask.worker_network import WorkerNetwork  # noqa: E402
from lstmkernel.host import cores  # noqa: E402

KINDS = ("two layers", "two directions", "batch first", "batch first, two directions", "learned state")


def rows_of(random: np.random.Generator, net: Any, count: int = 23) -> list[np.ndarray]:
    """Sequences (T_i, I) of 0 to 9 steps."""
    return [random.standard_normal((T, net.input_size)).astype("f") for T in random.integers(0, 10, count)]


def alone(net: Any, row: np.ndarray) -> np.ndarray:
    """(T_i, O): one row on this machine."""
    return net(row)[0]


def last_alone(net: Any, row: np.ndarray) -> np.ndarray:
    return alone(net, row)[-1] if len(row) else np.zeros(net.out_features, net.dtype)


def nets() -> list[Any]:
    made = [pytest.param(networks.make(name), id=name) for name in KINDS]
    return [*made, pytest.param(networks.with_head(networks.make("two layers")), id="stack")]


# ---------------------------------------------------------------- arrays


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("net", nets())
def test_array(net: Any, last: bool, random: np.random.Generator) -> None:
    """Chunks of rows, of time and of features, with lengths and without."""
    shape = (17, 8, net.input_size) if net.batch_first else (8, 17, net.input_size)
    x, lengths = random.standard_normal(shape).astype("f"), random.integers(0, 9, 17)
    for given, collection in ((None, da.from_array(x, chunks=5)), (lengths, da.from_array(x, chunks=(5, 4, 2)))):
        got = score(net, collection, last=last, lengths=given)
        expected, _ = net(x, lengths=given)
        if last:
            by_row = expected if net.batch_first else expected.swapaxes(0, 1)
            counts = np.full(17, 8) if given is None else given
            expected = np.stack(
                [row[n - 1] if n else np.zeros_like(row[0]) for row, n in zip(by_row, counts, strict=True)]
            )
        assert (got.shape, got.dtype) == (expected.shape, expected.dtype)
        assert_same_bits(got.compute(scheduler="threads"), expected)
        assert_same_bits(got[..., -1:].compute(scheduler="sync"), expected[..., -1:])


def test_array_rechunk_keeps_the_size_of_chunks() -> None:
    net = networks.make("plain")
    x = da.zeros((100, 60, 5), chunks=(10, 60, 5), dtype="f")
    got = score(net, x)
    assert got.chunks == ((100,), (6,) * 10, (9,))
    assert score(net, da.zeros((100, 60, 5), chunks=(-1, (10, 50), -1))).chunks[1] == (10, 50)


def test_array_of_unknown_rows(random: np.random.Generator) -> None:
    net = networks.make("batch first")
    x = random.standard_normal((10, 4, 3)).astype("f")
    lazy = da.from_array(x, chunks=(3, 2, -1))
    few = lazy[lazy[:, 0, 0] > 0]
    expected, _ = net(x[x[:, 0, 0] > 0])
    assert_same_bits(score(net, few).compute(), expected)
    with pytest.raises(ValueError, match=r"compute_chunk_sizes\(\)"):
        score(net, few, lengths=np.ones(5, int))
    few.compute_chunk_sizes()
    assert_same_bits(score(net, few, lengths=np.full(len(expected), 4)).compute(), expected)


def test_array_refused() -> None:
    net, first = networks.make("plain"), networks.make("batch first")
    with pytest.raises(
        ValueError, match=r"expected shape \(T, B, I\), got \(7, 5\); x\[:, None\] is a batch of one row"
    ):
        score(net, x := da.zeros((7, 5)))
    assert score(net, x[:, None]).compute().shape == (7, 1, 9)
    with pytest.raises(ValueError, match=r"x\[None\] is a batch"):
        score(first, da.zeros((7, 3)))
    with pytest.raises(ValueError, match=r"\(T, B, I\) with I = 5, got \(7, 2, 4\)"):
        score(net, da.zeros((7, 2, 4)))
    with pytest.raises(TypeError, match="expected real numbers that cast to float32, got complex128"):
        score(net, da.zeros((7, 2, 5), dtype=complex))
    with pytest.raises(ValueError, match="lengths: expected 2 along axis 0"):
        score(net, da.zeros((7, 2, 5)), lengths=[1, 2, 3])
    with pytest.raises(ValueError, match="lengths: expected 1 dimension"):
        score(net, da.zeros((7, 2, 5)), lengths=np.ones((2, 1), int))


# ---------------------------------------------------------------- bags and frames


@pytest.mark.parametrize("net", nets())
def test_bag(net: Any, random: np.random.Generator) -> None:
    rows = rows_of(random, net)
    bag = db.from_sequence(rows, npartitions=4)
    for got, row in zip(score(net, bag).compute(scheduler="sync"), rows, strict=True):
        assert_same_bits(got, alone(net, row))
    for got, row in zip(score(net, bag, last=True).compute(scheduler="sync"), rows, strict=True):
        assert_same_bits(got, last_alone(net, row))
    assert score(net, bag.filter(lambda row: False)).compute(scheduler="sync") == []


def test_bag_refused() -> None:
    net, narrow = networks.make("plain"), lk.LSTM(1, 4, seed=0)
    bag = db.from_sequence([np.zeros((3, 5)), np.zeros((3, 4))], npartitions=1)
    with pytest.raises(
        ValueError, match=r"sequence 1 of its partition: expected shape \(T, I\) with I = 5, got \(3, 4\)"
    ):
        score(net, bag).compute(scheduler="sync")
    with pytest.raises(ValueError, match="lengths: expected None for a bag"):
        score(net, bag, lengths=[1])
    got = score(narrow, db.from_sequence([[1.0, 2.0], []], npartitions=1)).compute(scheduler="sync")
    assert_same_bits(got[0], alone(narrow, np.array([[1], [2]])))


def as_objects(rows: list[np.ndarray]) -> pd.Series:
    return pd.Series(rows, dtype=object)


def as_lists_of_arrays(rows: list[np.ndarray]) -> pd.Series:
    return pd.Series([list(row) for row in rows], dtype=object)


def as_arrow(rows: list[np.ndarray]) -> pd.Series:
    kind = pa.list_(pa.list_(pa.float64()))
    return pd.Series([row.tolist() for row in rows], dtype=pd.ArrowDtype(kind))


def as_large_lists_of_fixed(rows: list[np.ndarray]) -> pd.Series:
    kind = pa.large_list(pa.list_(pa.float32(), rows[0].shape[1]))
    return pd.Series([row.tolist() for row in rows], dtype=pd.ArrowDtype(kind))


@pytest.mark.parametrize("column", [as_objects, as_lists_of_arrays, as_arrow, as_large_lists_of_fixed])
def test_frame(column: Any, random: np.random.Generator) -> None:
    """Four ways to hold sequences; the index stays; a part of a column, whose Arrow offsets do not begin at 0."""
    net = networks.make("two directions")
    rows = rows_of(random, net)
    frame = pd.DataFrame({"x": column(rows), "id": range(len(rows))}).set_index(np.arange(10, 10 + len(rows)))
    with dask.config.set({"dataframe.convert-string": False}):
        lazy = dd.from_pandas(frame, npartitions=3)
    whole, part = score(net, lazy, column="x"), score(net, lazy["x"].loc[15:], last=True)
    assert whole.divisions == lazy.divisions
    got = whole.compute(scheduler="sync")
    assert (got.name, list(got.index)) == ("out", list(frame.index))
    assert got.dtype == whole.dtype
    for value, row in zip(got, rows, strict=True):
        assert_same_bits(np.array(value, "f").reshape(-1, net.out_features), alone(net, row))
    got = part.compute(scheduler="sync")
    assert list(got.columns) == [f"out_{place}" for place in range(net.out_features)]
    assert list(got.index) == list(range(15, 10 + len(rows)))
    assert_same_bits(got.to_numpy(), np.stack([last_alone(net, row) for row in rows[5:]]))


def test_parquet(tmp_path: Any, random: np.random.Generator) -> None:
    """From Parquet, as objects and as Arrow, to Parquet and back."""
    net = networks.with_head(lk.LSTM(1, 7, seed=0))
    rows = rows_of(random, net)
    for part in range(2):
        lists = [row[:, 0].tolist() for row in rows[part::2]]
        pq.write_table(pa.table({"x": lists}), tmp_path / f"{part}.parquet")
    expected = np.stack([last_alone(net, row) for row in rows[0::2] + rows[1::2]])
    for options in ({}, {"dtype_backend": "pyarrow"}):
        frame = dd.read_parquet(tmp_path, **options)
        assert_same_bits(score(net, frame["x"], last=True).compute(scheduler="sync").to_numpy(), expected)
    outputs = score(net, frame["x"])
    outputs.to_frame().to_parquet(tmp_path / "out")
    again = dd.read_parquet(tmp_path / "out", dtype_backend="pyarrow")
    assert again["out"].compute().tolist() == outputs.compute().tolist()


def lazily(values: list[Any], kind: Any = object) -> Any:
    with dask.config.set({"dataframe.convert-string": False}):
        return dd.from_pandas(pd.DataFrame({"x": pd.Series(values, dtype=kind)}), npartitions=1)


def test_frame_refused_at_once() -> None:
    net = networks.make("plain")
    with pytest.raises(ValueError, match="column: expected the name of the one with the sequences, of 'x'; got None"):
        score(net, lazily([[1.0]]))
    text = dd.from_pandas(pd.DataFrame({"x": [[[1.0, 2.0]]]}), npartitions=1)["x"]
    with pytest.raises(TypeError, match=r"got str.*convert-string"):
        score(net, text)


def test_frame_of_steps_says_how_to_gather_them() -> None:
    net = lk.LSTM(1, 3, seed=0)
    frame = dd.from_pandas(pd.DataFrame({"id": [1, 1, 2, 1], "x": [0.5, 1, 2, 3]}), npartitions=1)
    with pytest.raises(TypeError, match=r"got float64; if a sequence.*frame.groupby\('id'\)\['x'\].agg\(list\)"):
        score(net, frame["x"])
    got = score(net, frame.groupby("id")["x"].agg(list), last=True).compute(scheduler="sync")
    assert_same_bits(got.loc[1].to_numpy(), last_alone(net, np.array([[0.5], [1], [3]])))


@pytest.mark.parametrize(
    ("values", "kind", "says"),
    [
        ([[[1.0, 2.0]]], object, "expected I = 5 numbers a step, got 2"),
        ([[[1.0] * 5], None], object, "got a row that is missing (1 of 2)"),
        ([[[1.0] * 5, None]], object, "got a step that is missing"),
        ([[[1.0, None, 1, 1, 1]]], object, "expected numbers, got 1 that are missing"),
        (["words"], object, "expected a list in each row, got string"),
        ([[["a"] * 5]], object, "expected real numbers that cast to float32"),
        ([[[1.0] * 5], 3.0], object, "expected a list of numbers, or of lists of them"),
        ([[1.0, 2.0]], object, "a list of I = 5 numbers for each step, got numbers"),
        ([[1.0, 2.0]], pd.ArrowDtype(pa.list_(pa.float32())), "a list of I = 5 numbers for each step, got numbers"),
    ],
)
def test_frame_refused_in_the_task(values: list[Any], kind: Any, says: str) -> None:
    with pytest.raises((ValueError, TypeError)) as caught:
        score(networks.make("plain"), lazily(values, kind)["x"]).compute(scheduler="sync")
    assert says in str(caught.value)


def test_ways_out_of_a_flat_list_and_of_missing_rows() -> None:
    net = networks.make("plain")
    series = lazily([np.arange(10.0), np.zeros(5)])["x"]
    steps = series.map(lambda row: np.reshape(row, (-1, 5)), meta=(series.name, object))
    got = score(net, steps, last=True).compute(scheduler="sync")
    assert_same_bits(got.to_numpy()[0], last_alone(net, np.arange(10).reshape(2, 5)))
    frame = lazily([[[1.0] * 5], None])
    assert len(score(net, frame.dropna(subset=["x"]), column="x").compute(scheduler="sync")) == 1


@pytest.mark.parametrize("kind", [object, "arrow"])
@pytest.mark.parametrize(("missing", "I"), [([[1.0] * 3, None], 3), ([[1.0, None, 1.0]], 3), ([1.0, None], 1)])
def test_the_way_out_of_a_missing_step_or_number_leaves_out_its_row(missing: list[Any], I: int, kind: Any) -> None:
    net, row = lk.LSTM(I, 2, seed=0), [[1.0] * 3] if I == 3 else [1.0]
    of_numbers = pa.list_(pa.float32())
    arrow = pd.ArrowDtype(pa.list_(of_numbers) if I == 3 else of_numbers)
    frame = lazily([missing, row, missing], arrow if kind == "arrow" else kind)
    with pytest.raises(ValueError, match="missing") as caught:
        score(net, frame, column="x", last=True).compute(scheduler="sync")
    code = re.search(r"; (frame\[.*\]) leaves out such rows", str(caught.value))
    assert code
    left = eval(code[1], {"frame": frame, "pandas": pd, "numpy": np})
    got = score(net, left, column="x", last=True).compute(scheduler="sync")
    assert_same_bits(got.to_numpy(), last_alone(net, np.ones((1, I)))[None])


# ---------------------------------------------------------------- the rest


def test_what_is_no_collection_is_refused() -> None:
    net = networks.make("plain")
    for given in (np.zeros((3, 2, 5)), pd.Series([[1.0]])):
        with pytest.raises(TypeError, match=r"dask.array.from_array, dask.dataframe.from_pandas"):
            score(net, given)
    with pytest.raises(TypeError, match="net: expected an LSTM or a Stack, got Dense"):
        score(lk.Dense(5, 2), da.zeros((3, 2, 5)))
    for wrong in (None, 0):
        with pytest.raises((TypeError, ValueError), match="num_threads"):
            score(net, da.zeros((3, 2, 5)), num_threads=wrong)


def test_weights_are_those_of_the_moment() -> None:
    net, x = networks.make("plain"), np.ones((3, 2, 5), "f")
    lazy, before = score(net, da.from_array(x)), net(x)[0]
    net.load_state_dict({name: value + 1 for name, value in net.state_dict().items()})
    assert_same_bits(lazy.compute(), before)
    assert_same_bits(score(net, da.from_array(x)).compute(), net(x)[0])


def test_a_pickle_has_the_weights_of_the_moment() -> None:
    net, x = networks.make("plain"), np.ones((3, 2, 5), "f")
    held, before = WorkerNetwork(net, 1), net(x)[0]
    net.load_state_dict({name: value + 1 for name, value in net.state_dict().items()})
    assert_same_bits(pickle.loads(pickle.dumps(held)).net(x)[0], before)


def test_equal_networks_have_equal_names() -> None:
    x = da.zeros((3, 2, 5))
    names = {score(networks.make("plain"), x).name for _ in range(2)}
    assert len(names) == 1
    others = [score(networks.make("plain", seed=3), x), score(networks.make("plain"), x, last=True)]
    assert len(names | {other.name for other in others}) == 3
    assert all(name.startswith("lstm_score-") for name in names)


def test_threads_of_a_task(monkeypatch: pytest.MonkeyPatch) -> None:
    """One, unless asked for; also behind a head, and after a pickle."""
    monkeypatch.setattr(cores, "available", lambda: 8)
    for threads in (1, 3):
        for net in (networks.make("plain"), networks.with_head(networks.make("plain", num_threads=2))):
            held = WorkerNetwork(net, threads)
            for each in (held, pickle.loads(pickle.dumps(held))):
                engine = each.net.engine.networks[0] if isinstance(net, lk.Stack) else each.net.engine
                assert engine.threads() == threads
            assert net.num_threads is None if isinstance(net, lk.LSTM) else net.layers[0].num_threads == 2
