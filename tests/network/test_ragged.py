"""Rows of unequal length in one array: each gives the bits of a call of its own, and none is padded."""

import io
import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
from helpers import (
    Watched,
    assert_close,
    assert_ctrl_c_is_heard,
    assert_same_bits,
    normal,
    random_state,
    readonly,
)
from networks import NETWORKS, each, make, with_head

import lstmkernel as lk
from lstmkernel import backends
from lstmkernel.engine import arrow, blocks, call_length, ragged, segments
from lstmkernel.host import progress, spinner


@pytest.fixture(params=["in place", "in blocks"])
def small_blocks(request, monkeypatch):
    """So that few rows and steps fill several blocks or, where the kernels take rows in place, several calls."""
    if request.param == "in blocks":
        monkeypatch.setattr(ragged, "_takes_them_in_place", lambda chain: False)
    monkeypatch.setattr(call_length, "CALL_SECONDS", 1e-5)
    monkeypatch.setattr(blocks, "THREAD_BYTES", 1 << 11)
    monkeypatch.setattr(blocks, "THREAD_ROWS", 8)
    monkeypatch.setattr(blocks, "LEAST_ROWS", 3)
    monkeypatch.setattr(blocks, "LEAST_STEPS", 4)
    monkeypatch.setattr(segments, "SORTED_ROWS", 16)
    monkeypatch.setattr(segments, "LEAST_ROWS", 3)
    monkeypatch.setattr(segments, "SEGMENT_BYTES", 1 << 12)


def rows_of(random, count=40, width=5, dtype="float32", longest=13):
    """flat and offsets. Some rows are empty, one is long, and some steps of flat are before or after all rows."""
    lengths = random.integers(0, longest, count)
    lengths[:3] = 0, 3 * longest, 1
    offsets = 2 + np.concatenate([[0], np.cumsum(lengths)])
    return normal(random, (offsets[-1] + 3, width), dtype), offsets


def as_call(net, row):
    """A call of that row alone: out, and (h, c) of each LSTM."""
    out, states = net(row)
    return out, states if isinstance(net, lk.Stack) else (states,)


def assert_as_each_alone(net, flat, offsets, got, compare=assert_same_bits):
    out, states = got
    states = states if isinstance(net, lk.Stack) else (states,)
    for row, (start, stop) in enumerate(pairwise(offsets)):
        expected, expected_states = as_call(net, flat[start:stop])
        compare(out[start:stop], expected, f"row {row}")
        for pair, expected_pair in zip(states, expected_states, strict=True):
            for part, expected_part in zip(pair, expected_pair, strict=True):
                compare(part[:, row], expected_part, f"states of row {row}")


@pytest.mark.parametrize("network", NETWORKS)
def test_each_row_has_the_bits_of_a_call_alone(network, random, small_blocks):
    net = make(network)
    flat, offsets = rows_of(random, width=net.input_size)
    assert_as_each_alone(net, flat, offsets, net.ragged(flat, offsets))


@each("two directions", "projected", "variant")
def test_on_every_backend(network, compiled_backend, dtype, random, small_blocks):
    net = make(network, compiled_backend, dtype)
    flat, offsets = rows_of(random, count=20, dtype=dtype)
    assert_as_each_alone(net, flat, offsets, net.ragged(flat, offsets))


def test_numpy_is_close(random, small_blocks):
    net = make("two layers", "numpy")
    flat, offsets = rows_of(random)
    compare = lambda got, expected, what: assert_close(got, np.float64(expected), "float32", what)  # noqa: E731
    assert_as_each_alone(net, flat, offsets, net.ragged(flat, offsets), compare)


STACKS = {
    "head": lambda lstm: with_head(lstm),
    "heads between and skip": lambda lstm: lk.Stack(
        [lstm, lk.Dense(9, 4, seed=3), lk.LSTM(4, 3, 2, seed=4), lk.Dense(3, 2, "tanh", seed=5)], skip=0.5
    ),
    "a direction more": lambda lstm: lk.Stack([lstm, lk.LSTM(9, 3, bidirectional=True, seed=4)]),
    "heads alone": lambda lstm: lk.Stack([lk.Dense(5, 9, seed=3), lk.Dense(9, 2, "relu", seed=4)], skip=1),
}


@pytest.mark.parametrize("stack", STACKS)
def test_stacks(stack, random, small_blocks):
    net = STACKS[stack](make("two layers"))
    flat, offsets = rows_of(random)
    assert_as_each_alone(net, flat, offsets, net.ragged(flat, offsets))


# ---------------------------------------------------------------- the last step, and first states


def assert_same_states(got, expected):
    """(h, c), or a tuple of them."""
    for part, other in zip(got, expected, strict=True):
        if isinstance(part, tuple):
            assert_same_states(part, other)
        else:
            assert_same_bits(part, other)


def last_of_each(net, flat, offsets):
    """What ``last`` gives of each row alone."""
    rows = [
        net.last(flat[start:stop]) if stop > start else np.zeros(net.out_features) for start, stop in pairwise(offsets)
    ]
    return np.array(rows, net.dtype)


@pytest.mark.parametrize("network", NETWORKS)
def test_the_last_step_of_each_row(network, random, small_blocks):
    net = make(network)
    flat, offsets = rows_of(random, width=net.input_size)
    y, states = net.ragged(flat, offsets, last=True)
    assert_same_bits(y, last_of_each(net, flat, offsets))
    assert_same_states(states, net.ragged(flat, offsets)[1])


@pytest.mark.parametrize("stack", STACKS)
def test_the_last_step_of_stacks(stack, random, small_blocks):
    net = STACKS[stack](make("two layers"))
    flat, offsets = rows_of(random)
    y, states = net.ragged(flat, offsets, last=True)
    assert_same_bits(y, last_of_each(net, flat, offsets))
    assert_same_states(states, net.ragged(flat, offsets)[1])
    out = np.full_like(y, 7)
    assert net.ragged(flat, offsets, last=True, out=out)[0] is out
    assert_same_bits(out, y)
    rows = [flat[start:stop] for start, stop in pairwise(offsets)]
    assert_same_bits(net.ragged(rows, last=True)[0], y)


@pytest.mark.parametrize("options", [{}, {"num_layers": 2}, {"reverse": True}, {"bidirectional": True}])
def test_of_last_steps_no_others_are_stored(options):
    net = with_head(lk.LSTM(2, 16, num_threads=1, seed=0, **options))
    offsets = np.arange(0, 100_001, 50)
    flat = np.zeros((100_000, 2), "float32")
    tracemalloc.start()
    try:
        net.ragged(flat, offsets, last=True)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 2 * (2 << 20) < 100_000 * 16 * 4


def test_heads_run_once_a_row(random):
    watched = Watched("auto")
    net = with_head(lk.LSTM(5, 9, backend=watched.name, num_threads=1, seed=0))
    flat, offsets = rows_of(random)
    net.ragged(flat, offsets, last=True)
    assert sum(len(x) for x, *_ in watched.of("dense_forward")) == np.count_nonzero(np.diff(offsets))


@each("two layers", "two directions", "learned state", "batch first")
def test_first_states(network, random, small_blocks):
    lstm = make(network)
    flat, offsets = rows_of(random, width=lstm.input_size)
    h, c = random_state(random, lstm, len(offsets) - 1)
    kept = h.copy()
    for net, given in ((lstm, (h, c)), (with_head(lstm), [(h, c)])):
        out, states = net.ragged(flat, offsets, state=given)
        y, _ = net.ragged(flat, offsets, state=given, last=True)
        last_h, last_c = states if net is lstm else states[0]
        for row, (start, stop) in enumerate(pairwise(offsets)):
            own = h[:, row], c[:, row]
            expected, last = net(flat[start:stop], own if net is lstm else [own])
            assert_same_bits(out[start:stop], expected)
            assert_same_states((last_h[:, row], last_c[:, row]), last if net is lstm else last[0])
            if stop > start:
                assert_same_bits(y[row], net.last(flat[start:stop], own if net is lstm else [own]))
    assert_same_bits(h, kept)


def test_rows_go_on(random):
    """Rows in two calls, of which the second one begins where the first one ended."""
    net, (flat, offsets) = make("two layers"), rows_of(random)
    cuts = offsets[:-1] + np.diff(offsets) // 2
    expected, _ = net.ragged(flat, offsets)
    first = [flat[start:stop] for start, stop in zip(offsets, cuts, strict=False)]
    second = [flat[start:stop] for start, stop in zip(cuts, offsets[1:], strict=False)]
    outs, state = net.ragged(first)
    more, _ = net.ragged(second, state=state)
    for row, (start, stop) in enumerate(pairwise(offsets)):
        assert_same_bits(np.concatenate([outs[row], more[row]]), expected[start:stop])


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (
            (np.zeros((2, 3, 9)), np.zeros((2, 4, 9))),
            r"h_0: expected shape \(L\*D, B, R\) = \(2, 4, 9\), got \(2, 3, 9\)",
        ),
        ([(np.zeros((2, 4, 9)),) * 2], r"state: expected a pair \(h_0, c_0\), got 1 of them"),
    ],
)
def test_states_that_are_refused(state, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make("two layers").ragged(FLAT, [0, 3, 3, 5, 20], state=state)


def test_outs_of_last_steps_that_are_refused():
    with pytest.raises(ValueError, match=r"out: expected shape \(2, 9\), got \(20, 9\)"):
        make("plain").ragged(FLAT, [0, 3, 20], last=True, out=np.zeros((20, 9), "float32"))


def test_threads_give_the_same_bits(random, eight_cores):
    net, alone = make("two layers", num_threads=3), make("two layers", num_threads=1)
    flat, offsets = rows_of(random, count=700)
    out, states = net.ragged(flat, offsets)
    expected, expected_states = alone.ragged(flat, offsets)
    assert_same_bits(out, expected)
    assert_same_bits(states[1], expected_states[1])


@pytest.mark.skipif(not backends.c_is_built(), reason="the C kernels were not built")
def test_c_takes_rows_where_they_lie(random):
    """Whatever the layers and the dtype of what is given. But long rows of two directions would be one long call."""
    kernels = Watched("c")
    net, (flat, offsets) = make("two directions", kernels.name), rows_of(random)
    long = make("two directions", kernels.name).engine.call_rows(1) + 1
    for model, given, bounds, called in (
        (net, flat, offsets, "lstm_ragged"),
        (with_head(net), flat, offsets, "lstm_ragged"),
        (lk.Stack([lk.Dense(5, 5, "tanh", seed=1), net]), flat, offsets, "lstm_ragged"),
        (net, flat.astype("float64"), offsets, "lstm_ragged"),
        (net, normal(random, (long, 5), "float32"), [0, long], "lstm_forward"),
    ):
        kernels.calls.clear()
        model.ragged(given, bounds)
        assert {name for name in kernels.called if name.startswith("lstm")} == {called}


@pytest.mark.skipif(not backends.c_is_built(), reason="the C kernels were not built")
def test_few_long_rows_take_little_memory(random):
    """What a layer hands to a head is not stored for all of their steps."""
    net, steps = with_head(lk.LSTM(1, 64, num_threads=1, seed=0)), 40_000
    flat = normal(random, (2 * steps, 1), "float32")
    tracemalloc.start()
    try:
        net.ragged(flat, [0, steps, 2 * steps])
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 4 << 20 < steps * 64 * 4


def test_steps_of_no_row_are_zero(random):
    flat, offsets = rows_of(random)
    net, out = make("two layers"), np.full((len(flat), 9), 7, "float32")
    assert net.ragged(flat, offsets, out=out)[0] is out
    assert (out[:2] == 0).all()
    assert (out[-3:] == 0).all()
    assert (out[2:-3] != 7).all()


@pytest.mark.parametrize("kind", ["int32", "int64", "uint8", ">i4", "list", "read-only"])
def test_offsets_of_every_kind(kind, random):
    net, (flat, offsets) = make("plain"), rows_of(random, count=9)
    ways = {"list": list, "read-only": lambda array: readonly(array.copy())}
    given = ways.get(kind, lambda array: array.astype(kind))(offsets)
    assert_same_bits(net.ragged(flat, given)[0], net.ragged(flat, offsets)[0])


@pytest.mark.parametrize("kind", ["float64", "int8", ">f4", "columns", "unaligned", "read-only", "lists"])
def test_flat_of_every_kind(kind, random):
    """As in a call."""
    net, (flat, offsets) = make("two layers"), rows_of(random, count=9)
    ways = {
        "columns": np.asfortranarray,
        "unaligned": lambda array: np.frombuffer(b"." + array.tobytes(), "f4", -1, 1).reshape(array.shape),
        "read-only": lambda array: readonly(array.copy()),
        "lists": np.ndarray.tolist,
    }
    given = ways.get(kind, lambda array: array.astype(kind))(flat)
    assert_as_each_alone(net, np.asarray(given), offsets, net.ragged(given, offsets))


def test_a_file_that_is_mapped(random, tmp_path):
    net, (flat, offsets) = make("two layers"), rows_of(random)
    np.save(tmp_path / "flat.npy", flat)
    out = np.lib.format.open_memmap(tmp_path / "out.npy", "w+", "float32", (len(flat), 9))
    net.ragged(np.load(tmp_path / "flat.npy", mmap_mode="r"), offsets, out=out)
    out.flush()
    assert_same_bits(np.load(tmp_path / "out.npy"), net.ragged(flat, offsets)[0])


def test_a_sliced_arrow_array(random):
    pa = pytest.importorskip("pyarrow")
    net, (flat, offsets) = make("plain"), rows_of(random)
    steps = pa.FixedSizeListArray.from_arrays(flat.ravel(), 5)
    array = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), steps)[7:29]
    values = array.values.flatten().to_numpy().reshape(-1, 5)
    out, (h, _) = net.ragged(values, array.offsets)
    assert h.shape == (1, 22, 9)
    first, last = offsets[7], offsets[29]
    assert_same_bits(out[first:last], net.ragged(flat, offsets)[0][first:last])


def column_of(pa, kind, flat, offsets):
    """Rows of steps as a column of Arrow, and the rows that it has."""
    rows = [flat[start:stop] for start, stop in pairwise(offsets)]
    steps, inner = pa.array(flat.ravel()), 5
    fixed = pa.FixedSizeListArray.from_arrays(steps, inner)
    places = pa.array(offsets, pa.int32())
    if kind == "lists of lists":
        lists = pa.ListArray.from_arrays(np.arange(0, flat.size + 1, inner, dtype="i4"), steps)
        return pa.ListArray.from_arrays(places, lists), rows
    if kind == "large":
        return pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), fixed), rows
    if kind == "rows of one length":
        return pa.FixedSizeListArray.from_arrays(fixed[:60], 12)[1:4], [flat[12 * row :][:12] for row in (1, 2, 3)]
    column = pa.ListArray.from_arrays(places, fixed)
    if kind == "sliced":
        return column[7:29], rows[7:29]
    if kind == "chunks":
        return pa.chunked_array([column[:4], column[4:4], column[6:20]]), rows[:4] + rows[6:20]
    if kind == "one chunk":
        return pa.chunked_array([column[3:9]]), rows[3:9]
    if kind == "no chunk":
        return pa.chunked_array([], column.type), []
    return column, rows


COLUMNS = ["plain", "lists of lists", "large", "rows of one length", "sliced", "chunks", "one chunk", "no chunk"]


@pytest.mark.parametrize("kind", COLUMNS)
@pytest.mark.parametrize("dtype", ["float32", "float64", "int16"])
def test_a_column_of_arrow(kind, dtype, random):
    pa = pytest.importorskip("pyarrow")
    net, (flat, offsets) = make("two layers"), rows_of(random)
    column, rows = column_of(pa, kind, (10 * flat).astype(dtype), offsets)
    for last in (False, True):
        out, states = net.ragged(column, last=last)
        outs, expected_states = net.ragged(rows, last=last)
        expected = outs if last else np.concatenate([np.empty((0, 9), "float32"), *outs])
        assert_same_bits(out, expected)
        assert_same_states(states, expected_states)
    out = np.empty((len(rows), 9), "float32")
    assert net.ragged(column, last=True, out=out)[0] is out


def test_a_column_of_numbers_for_one_input(random):
    pa = pytest.importorskip("pyarrow")
    net, rows = lk.LSTM(1, 4, seed=0), [[0.5, 1.0], [], [0.25]]
    expected, _ = net.ragged([np.reshape(row, (-1, 1)) for row in rows])
    for column in (
        pa.array(rows),
        pa.array(rows, pa.list_(pa.float32())),
        pa.array([[[x] for x in row] for row in rows]),
    ):
        assert_same_bits(net.ragged(column)[0], np.concatenate(expected))


@pytest.mark.parametrize("kind", ["plain", "lists of lists", "large", "rows of one length", "sliced", "one chunk"])
def test_the_numbers_of_arrow_are_not_copied(kind, random):
    pa = pytest.importorskip("pyarrow")
    flat, offsets = rows_of(random)
    flat = np.ascontiguousarray(flat)
    column, _ = column_of(pa, kind, flat, offsets)
    x, _ = arrow.rows_of(column, 5, np.dtype("float32"))
    assert np.shares_memory(x, flat)


def test_columns_of_arrow_that_are_refused():
    pa = pytest.importorskip("pyarrow")
    net, step = make("plain"), [0.5] * 5
    for rows, error, message in (
        ([[step], None], ValueError, r"got a missing one \(null\), row 1; to leave out such rows"),
        ([[step], [step, None]], ValueError, r"got a missing step \(null\), row 1, step 1; to leave out such rows"),
        (
            [[step], [], [step, [0.5, None, 0, 0, 0]]],
            ValueError,
            r"got a missing one \(null\), row 2, step 1; to take 0",
        ),
        ([[step], [step, [0.5] * 4]], ValueError, "expected steps of I = 5 numbers, got 4, row 1, step 1"),
        ([[["a"] * 5]], TypeError, "flat: expected real numbers that cast to float32"),
        ([[0.5], [0.25]], TypeError, r"expected a column of lists of lists of I = 5 numbers, got list<item: double>"),
        ([0.5, 0.25], TypeError, "lists of lists of I = 5 numbers, got double"),
    ):
        with pytest.raises(error, match=message):
            net.ragged(pa.array(rows))
    with pytest.raises(ValueError, match="row 1, step 1"):
        net.ragged(pa.chunked_array([[[step]], [[step, None]]]))
    with pytest.raises(TypeError, match="got Table; give one of its columns"):
        net.ragged(pa.table({"x": [[step]]}))


def test_the_ways_out_of_missing_values():
    """As the messages say them."""
    pa = pytest.importorskip("pyarrow")
    net, step = make("plain"), [0.5] * 5
    column = pa.array([[step], None, [step, None], [step, step]])
    kept = column.filter(pa.array([row is not None and None not in row for row in column.to_pylist()]))
    expected, _ = net.ragged([np.full((1, 5), 0.5), np.full((2, 5), 0.5)])
    assert_same_bits(net.ragged(kept)[0], np.concatenate(expected))
    column = pa.chunked_array([[[step], [[0.5, None, 0.5, 0.5, 0.5]]]]).combine_chunks()
    flat = np.nan_to_num(column.values.flatten().to_numpy(zero_copy_only=False)).reshape(-1, 5)
    out, _ = net.ragged(flat, column.offsets)
    assert_same_bits(out[1:], net(np.float32([[0.5, 0, 0.5, 0.5, 0.5]]))[0])
    column = pa.array([[step, [0.5, None, 0.5, 0.5, 0.5]]], pa.list_(pa.list_(pa.float32(), 5), 2))
    with pytest.raises(ValueError, match=r"and 2 \* numpy.arange\(len\(column\) \+ 1\)"):
        net.ragged(column)
    assert_same_bits(net.ragged(flat, 2 * np.arange(len(column) + 1))[0], net(flat)[0])


def test_a_frame_whose_numbers_may_be_missing_has_a_way_out():
    pandas = pytest.importorskip("pandas")
    frame, net = pandas.DataFrame(np.ones((4, 5))).astype("Float32"), make("plain")
    with pytest.raises(TypeError, match=r"got object; give its to_numpy\('float32'\)"):
        net(frame)
    assert_same_bits(net(frame.to_numpy("float32"))[0], net(np.ones((4, 5), "f"))[0])


@pytest.mark.parametrize("kind", [list, tuple, "objects"])
def test_a_list_gives_a_list(kind, random):
    net, (flat, offsets) = make("two layers"), rows_of(random)
    rows = [flat[start:stop] for start, stop in pairwise(offsets)]
    if kind == "objects":
        given = np.empty(len(rows), object)
        given[:] = rows
    else:
        given = kind(rows)
    outs, states = net.ragged(given)
    expected, expected_states = net.ragged(flat, offsets)
    assert isinstance(outs, list)
    for row, out in enumerate(outs):
        assert_same_bits(out, expected[offsets[row] : offsets[row + 1]])
    assert_same_bits(states[0], expected_states[0])
    out = np.empty((len(flat) - 5, 9), "float32")
    assert np.shares_memory(net.ragged(given, out=out)[0][1], out)


@each("two layers", "two directions", "learned state")
def test_no_rows_and_empty_rows(network):
    net = make(network)
    first = net(np.zeros((0, 3, net.input_size)))[1]
    out, (h, c) = net.ragged(np.zeros((4, net.input_size)), [2, 2, 2, 2])
    assert (out == 0).all()
    assert_same_bits(h, first[0])
    assert_same_bits(c, first[1])
    for flat, offsets in ((np.zeros((0, net.input_size)), [0]), ([], None)):
        out, (h, _) = net.ragged(flat, offsets)
        assert len(out) == 0
        assert h.shape == (h.shape[0], 0, h.shape[2])


def test_nan_stays_in_its_row(random):
    net, (flat, offsets) = make("two layers"), rows_of(random)
    clean = net.ragged(flat, offsets)[0]
    flat[offsets[5]] = np.nan
    out = net.ragged(flat, offsets)[0]
    own = slice(offsets[5], offsets[6])
    assert np.isnan(out[own]).all()
    out[own] = clean[own]
    assert_same_bits(out, clean)


def test_nothing_is_padded(random):
    """One long row among many short ones: padded, they would be 500 times the data."""
    lengths = np.full(1000, 2)
    lengths[500] = 2000
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    flat = normal(random, (offsets[-1], 5), "float32")
    net = make("two directions", num_threads=1)
    tracemalloc.start()
    out, states = net.ragged(flat, offsets)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 8 * (flat.nbytes + out.nbytes + sum(state.nbytes for state in states))


# ---------------------------------------------------------------- refused


FLAT = np.zeros((20, 5), "float32")


@pytest.mark.parametrize(
    ("flat", "offsets", "error", "message"),
    [
        (FLAT[:, :4], [0, 2], ValueError, r"flat: expected shape \(N, I\) with I = 5, got \(20, 4\)"),
        (FLAT[0], [0, 2], ValueError, r"flat: expected shape \(N, I\) with I = 5, got \(5,\)"),
        (FLAT.astype(complex), [0, 2], TypeError, "flat: expected real numbers that cast to float32, got complex128"),
        (FLAT, [], ValueError, r"offsets: expected shape \(rows \+ 1,\), got \(0,\)"),
        (FLAT, [[0, 2]], ValueError, r"offsets: expected shape \(rows \+ 1,\), got \(1, 2\)"),
        (FLAT, [0.0, 2.0], TypeError, "offsets: expected integers, got float64"),
        (FLAT, [-1, 2], ValueError, r"offsets: expected 0..20 \(the steps of flat\), got -1, the start of row 0"),
        (FLAT, [21, 22], ValueError, r"offsets: expected 0..20 .*, got 21, the start of row 0"),
        (FLAT, [0, 5, 25], ValueError, r"offsets: expected 0..20 .*, got 25, the end of row 1"),
        (FLAT, [0, 5, 3, 9], ValueError, "offsets: row 1 ends at step 3, before its start, 5; if you have lengths"),
        (FLAT, None, TypeError, r"without offsets, give a list of arrays \(T, I\), .*not ndarray"),
        ([FLAT, FLAT[:, 1:]], None, ValueError, r"flat\[1\]: expected shape \(T, I\) with I = 5, got \(20, 4\)"),
        ([FLAT, "abc"], None, TypeError, r"flat\[1\]: expected real numbers that cast to float32"),
    ],
)
def test_refused(flat, offsets, error, message):
    with pytest.raises(error, match=message):
        make("plain").ragged(flat, offsets)


@pytest.mark.parametrize("lengths", [[5, 5, 5, 5], [0, 3, 7, 10]])  # ascending: they could be offsets
def test_lengths_in_place_of_offsets_give_a_warning(lengths):
    net = make("plain")
    with pytest.warns(UserWarning, match=r"add up to 20, .* leave out .* give numpy.concatenate") as seen:
        net.ragged(FLAT, lengths)
    assert seen[0].filename == __file__
    net.ragged(FLAT, np.concatenate([[0], np.cumsum(lengths)]))  # the way out; this does not warn
    net.ragged(FLAT, [0, 20])  # nor do offsets that leave out nothing


def test_outs_that_are_refused(random):
    net, (flat, offsets) = make("plain"), rows_of(random)
    wrong = {
        "shape": np.zeros((len(flat), 8), "float32"),
        "dtype": np.zeros((len(flat), 9), "float64"),
        "C-contiguous": np.zeros((9, len(flat)), "float32").T,
        "overlaps flat": np.lib.stride_tricks.as_strided(flat, (len(flat), 9), (36, 4)),
    }
    before = flat.copy()
    for message, out in wrong.items():
        with pytest.raises((TypeError, ValueError), match=message):
            net.ragged(flat, offsets, out=out)
    assert_same_bits(flat, before)


@pytest.mark.parametrize("net", [make("plain"), make("batch first"), with_head(make("plain"))])
def test_a_call_says_where_unequal_rows_go(net):
    I = net.input_size
    with pytest.raises(ValueError, match=r"rows of unequal length; use net.ragged\(list\) .*, or pad .* give lengths="):
        net([np.zeros((5, I)), np.zeros((7, I))])
    for other in ([np.zeros((5, I)), np.zeros((5, 2))], [[1.0, 2.0], [3.0]], [np.zeros(3), 1]):
        with pytest.raises(ValueError, match="x: expected an array, got list: setting an array element"):
            net(other)


# ---------------------------------------------------------------- long work


INTERRUPTED = """
import sys
import numpy as np
import lstmkernel as lk

lstm = lk.LSTM(64, 256, backend=sys.argv[1], seed=0)
flat = np.broadcast_to(np.float32(0.5), (1000, 64)).repeat(1, 0)
offsets = np.arange(0, 1001, 50)
before = lstm.ragged(flat, offsets)[0]
many = flat.repeat(300, 0)
print("ready", flush=True)
try:
    while True:
        lstm.ragged(many, np.arange(0, len(many) + 1, 500))
except KeyboardInterrupt:
    pass
assert np.array_equal(lstm.ragged(flat, offsets)[0], before)
print("as before", flush=True)
"""


def test_ctrl_c_is_heard():
    assert_ctrl_c_is_heard(INTERRUPTED, "numpy")


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_long_work_shows_a_bar(random, monkeypatch, small_blocks):
    net, (flat, offsets) = make("plain"), rows_of(random)
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    net.ragged(flat, offsets)
    assert terminal.getvalue() == ""
    monkeypatch.setattr(progress, "PATIENCE", -1)
    net.ragged(flat, offsets)
    assert "ragged rows" in terminal.getvalue()
    assert "100%" in terminal.getvalue()
    before = terminal.getvalue()
    with spinner.silenced():
        net.ragged(flat, offsets)
    assert terminal.getvalue() == before
