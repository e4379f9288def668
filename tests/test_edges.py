"""The edges: every row of the table of what happens where input is odd, empty, wrong, or the call is cut short."""

import ctypes
import ctypes.util
import os
import platform
import signal
import subprocess
import sys
import time
from datetime import datetime

import numpy as np
import pytest
from helpers import (
    assert_close,
    assert_close_answer,
    assert_same_answer,
    assert_same_bits,
    definition,
    normal,
    random_state,
    run_python,
)

import lstmkernel as lk
from lstmkernel import checks
from lstmkernel.lstm import CALL_WORK

OPTIONS = {"input_size": 5, "hidden_size": 9, "num_layers": 2}


@pytest.fixture(params=[{}, {"bidirectional": True}, {"proj_size": 4}], ids=["plain", "bidirectional", "projection"])
def lstm(request, backend, dtype):
    return lk.LSTM(**OPTIONS, **request.param, dtype=dtype, backend=backend, seed=2)


@pytest.fixture
def simple(backend, dtype):
    return lk.LSTM(**OPTIONS, dtype=dtype, backend=backend, seed=2)


@pytest.fixture
def checked():
    """For what is refused before any backend is called."""
    return lk.LSTM(**OPTIONS, seed=2)


# ---------------------------------------------------------------- unbatched


@pytest.mark.parametrize("batch_first", [False, True])
def test_two_dimensions_are_unbatched(lstm, random, batch_first):
    lstm = lk.LSTM.from_config({**lstm.config(), "batch_first": batch_first}, lstm.state_dict())
    x, state = normal(random, (6, 5), lstm.dtype.name), random_state(random, lstm, None)
    out, (h, c) = lstm(x, state)
    states = lstm.num_layers * lstm.shape.directions
    assert out.shape == (6, lstm.out_features)
    assert h.shape == (states, lstm.shape.output_size)
    assert c.shape == (states, lstm.hidden_size)
    assert_close_answer((out, (h, c)), definition(lstm)(x, state), lstm.dtype.name)


def test_lengths_need_a_batch(checked, random):
    with pytest.raises(ValueError, match="lengths: expected a batched x"):
        checked(normal(random, (6, 5), "float32"), lengths=[3])


# ---------------------------------------------------------------- lengths


def reference_by_rows(lstm, x, state, lengths):
    """Each row alone at its own length, by the definition; out zero past it."""
    reference = definition(lstm)
    out = np.zeros((*x.shape[:2], lstm.out_features))
    h, c = (np.array(part, np.float64) for part in state)
    for b, length in enumerate(lengths):
        if length:
            got, (h_b, c_b) = reference(x[:length, b : b + 1], (h[:, b : b + 1], c[:, b : b + 1]))
            out[:length, b], h[:, b], c[:, b] = got[:, 0], h_b[:, 0], c_b[:, 0]
    return out, (h, c)


@pytest.mark.parametrize(
    "lengths", [[7, 7, 7, 7], [1, 7, 0, 3], [0, 0, 0, 0], [0, 1, 2, 3], [3, 2, 1, 0], [6, 1, 6, 1]]
)
def test_lengths_in_any_order(lstm, random, lengths):
    x, state = normal(random, (7, 4, 5), lstm.dtype.name), random_state(random, lstm, 4)
    expected = reference_by_rows(lstm, x, state, lengths)
    out, (h, c) = lstm(x, state, lengths=lengths)
    assert_close_answer((out, (h, c)), expected, lstm.dtype.name)
    for b, length in enumerate(lengths):
        assert not out[length:, b].any()
    empty = [b for b, length in enumerate(lengths) if length == 0]
    assert_same_bits(h[:, empty], state[0][:, empty], "h_n of empty rows")
    assert_same_bits(c[:, empty], state[1][:, empty], "c_n of empty rows")


def test_lengths_with_batch_first(lstm, random):
    twin = lk.LSTM.from_config({**lstm.config(), "batch_first": True}, lstm.state_dict())
    x, lengths = normal(random, (7, 4, 5), lstm.dtype.name), [4, 0, 7, 1]
    out, state = twin(x.swapaxes(0, 1), lengths=lengths)
    expected, expected_state = definition(lstm)(x, lengths=lengths)
    assert_close_answer((out.swapaxes(0, 1), state), (expected, expected_state), lstm.dtype.name)


@pytest.mark.filterwarnings("error")
def test_what_lies_past_a_rows_end_does_not_matter(lstm, random):
    x, lengths = normal(random, (7, 4, 5), lstm.dtype.name), [4, 0, 7, 1]
    expected = lstm(x, lengths=lengths)
    for b, length in enumerate(lengths):
        x[length:, b] = np.nan
    assert_same_answer(lstm(x, lengths=lengths), expected)


@pytest.mark.parametrize("kind", ["int8", "uint8", "int32", "uint64", ">i8", "list", "tuple", "strided"])
def test_lengths_of_any_integers(simple, random, kind):
    x, lengths = normal(random, (7, 3, 5), "float32"), np.array([4, 7, 0])
    expected = simple(x, lengths=lengths)
    other = {"list": list, "tuple": tuple, "strided": lambda a: np.repeat(a, 2)[::2]}.get(kind)
    assert_same_answer(simple(x, lengths=other(lengths) if other else lengths.astype(kind)), expected)


@pytest.mark.parametrize(
    ("lengths", "error", "message"),
    [
        ([1, 2], ValueError, r"lengths: expected shape \(B,\) = \(3,\), got \(2,\)"),
        ([[1, 2, 3]], ValueError, r"lengths: expected shape \(B,\) = \(3,\), got \(1, 3\)"),
        (4, ValueError, r"lengths: expected shape \(B,\) = \(3,\), got \(\)"),
        ([1, 8, 2], ValueError, r"lengths: expected 0\.\.7 .*got 8 in row 1"),
        ([1, 2, -1], ValueError, r"lengths: expected 0\.\.7 .*got -1 in row 2"),
        (
            np.array([2**63, 0, 0], np.uint64),
            ValueError,
            r"lengths: expected 0\.\.7 .*got 9223372036854775808 in row 0",
        ),
        ([1.0, 2.0, 3.0], TypeError, "lengths: expected integers, got float64"),
        ([True, True, False], TypeError, "lengths: expected integers, got bool"),
        (["1", "2", "3"], TypeError, "lengths: expected integers, got <U1"),
    ],
)
def test_wrong_lengths(checked, random, lengths, error, message):
    out = np.full((7, 3, 9), 5, checked.dtype)
    with pytest.raises(error, match=message):
        checked(normal(random, (7, 3, 5), "float32"), lengths=lengths, out=out)
    assert (out == 5).all()


# ---------------------------------------------------------------- nothing to do


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize(("T", "B"), [(0, 3), (4, 0), (0, 0)])
def test_no_steps_or_no_rows(lstm, random, T, B, batch_first):
    lstm = lk.LSTM.from_config({**lstm.config(), "batch_first": batch_first}, lstm.state_dict())
    shape = (B, T) if batch_first else (T, B)
    state = random_state(random, lstm, B)
    for lengths in (None, np.zeros(B, int)):
        out, last = lstm(np.zeros((*shape, 5)), state, lengths=lengths)
        assert_same_answer((out, last), (np.zeros((*shape, lstm.out_features), lstm.dtype), state))
        assert last[0] is not state[0]
        assert last[1] is not state[1]


def test_no_steps_unbatched(lstm, random):
    state = random_state(random, lstm, None)
    assert_same_answer(lstm(np.zeros((0, 5)), state), (np.zeros((0, lstm.out_features), lstm.dtype), state))


def test_no_rows_with_an_empty_list_of_lengths(checked):
    out, _ = checked(np.zeros((4, 0, 5)), lengths=[])
    assert out.shape == (4, 0, 9)


def test_no_rows_in_cell_dense_and_stack(backend, dtype):
    options = {"dtype": dtype, "backend": backend}
    h, c = lk.LSTMCell(2, 3, **options)(np.zeros((0, 2)))
    assert h.shape == c.shape == (0, 3)
    assert lk.Dense(2, 3, **options)(np.zeros((4, 0, 2))).shape == (4, 0, 3)
    stack = lk.Stack([lk.LSTM(2, 3, **options), lk.Dense(3, 1, **options)])
    assert stack(np.zeros((0, 4, 2)))[0].shape == (0, 4, 1)
    assert stack(np.zeros((4, 0, 2)), lengths=np.zeros(0, int))[0].shape == (4, 0, 1)


# ---------------------------------------------------------------- dtypes and layouts


@pytest.mark.parametrize(
    "other", ["float16", "float32", "float64", "longdouble", ">f4", ">f8", "int8", "uint16", "int64", "bool"]
)
def test_other_real_dtypes_are_cast(simple, random, other):
    x = (3 * normal(random, (6, 3, 5), "float64")).astype(other)
    state = [(2 * part).astype(other) for part in random_state(random, simple, 3)]
    expected = simple(x.astype(simple.dtype), [part.astype(simple.dtype) for part in state])
    assert_same_answer(simple(x, state), expected)


@pytest.mark.parametrize(
    ("other", "name"),
    [
        (np.zeros((6, 3, 5), "complex64"), "complex64"),
        (np.zeros((6, 3, 5), object), "object"),
        (np.full((6, 3, 5), "1"), "<U1"),
        (np.full((6, 3, 5), b"1"), "S1"),
        (np.full((6, 3, 5), datetime(2000, 1, 1), "datetime64[s]"), "datetime64"),
        (np.zeros((6, 3, 5), "timedelta64[s]"), "timedelta64"),
        (np.zeros((6, 3, 5), [("a", "f4")]), "'a'"),
        (None, "object"),
        ("x", "<U1"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_not_real_is_a_type_error(checked, other, name):
    for call in (
        lambda: checked(other),
        lambda: checked(np.zeros((6, 3, 5)), (other, np.zeros((2, 3, 9)))),
        lambda: checked(np.zeros((6, 3, 5)), (np.zeros((2, 3, 9)), other)),
        lambda: lk.Dense(5, 2, backend=checked.backend)(other),
    ):
        with pytest.raises(TypeError, match="expected real numbers") as error:
            call()
        assert name in str(error.value)


def layouts(array):
    """The same numbers in memory laid out otherwise."""
    shape = array.shape
    yield "read-only", readonly(array.copy())
    yield "Fortran", np.asfortranarray(array)
    yield "swapped axes", np.ascontiguousarray(array.swapaxes(0, 1)).swapaxes(0, 1)
    yield "swapped last axes", np.ascontiguousarray(array.swapaxes(-1, -2)).swapaxes(-1, -2)
    for axis in range(array.ndim):
        back = (*[slice(None)] * axis, slice(None, None, -1))
        yield f"axis {axis} backwards", array[back].copy()[back]
        yield f"axis {axis} strided", np.repeat(array, 3, axis)[(*[slice(None)] * axis, slice(1, None, 3))]
    wide = np.full((*shape[:-1], shape[-1] + 3), np.nan, array.dtype)
    wide[..., 2:-1] = array
    yield "columns of wider rows", wide[..., 2:-1]
    yield "unaligned", unaligned(array)
    yield "unaligned and strided", unaligned(np.repeat(array, 2, 0))[::2]
    yield "odd row stride", odd_strides(array)
    yield "nested lists", array.tolist()
    yield "memoryview", memoryview(array)


def readonly(array):
    array.flags.writeable = False
    return array


def unaligned(array):
    memory = np.zeros(array.nbytes + 1, np.uint8)
    view = memory[1:].view(array.dtype).reshape(array.shape)
    view[...] = array
    assert not view.flags.aligned
    return view


def odd_strides(array):
    """Rows lie apart by a number of bytes that is no multiple of an element."""
    rows = array.reshape(-1, array.shape[-1])
    apart = rows.shape[1] * array.itemsize + 1
    memory = np.zeros(len(rows) * apart, np.uint8)
    view = np.ndarray(rows.shape, array.dtype, memory, strides=(apart, array.itemsize))
    view[...] = rows
    return np.ndarray(array.shape, array.dtype, memory, strides=(apart * array.shape[1], apart, array.itemsize))


def test_any_layout(simple, random):
    x, (h, c) = normal(random, (6, 3, 5), simple.dtype.name), random_state(random, simple, 3)
    expected = simple(x, (h, c))
    for name, other in layouts(x):
        assert_same_answer(simple(other, (h, c)), expected, f"x {name}")
    for (name, other_h), (_, other_c) in zip(layouts(h), layouts(c), strict=True):
        assert_same_answer(simple(x, (other_h, other_c)), expected, f"state {name}")


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_broadcast_inputs(simple, random, axis):
    shape = [6, 3, 5]
    shape[axis] = 1
    x = np.broadcast_to(normal(random, tuple(shape), simple.dtype.name), (6, 3, 5))
    assert 0 in x.strides
    assert_same_answer(simple(x), simple(x.copy()))


def test_inputs_are_left_as_they_were(lstm, random):
    x, state, lengths = normal(random, (6, 3, 5), lstm.dtype.name), random_state(random, lstm, 3), np.array([2, 6, 0])
    before = [array.copy() for array in (x, *state, lengths)]
    _, (h, c) = lstm(x, state, lengths=lengths)
    for array, was in zip((x, *state, lengths), before, strict=True):
        assert_same_bits(array, was)
    assert not any(np.shares_memory(a, b) for a in (h, c) for b in state)


# ---------------------------------------------------------------- NaN and infinity


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", ["x", "h_0", "c_0"])
@pytest.mark.parametrize("lengths", [None, [5, 7, 2, 7, 6, 7, 1]])
def test_one_bad_row_stays_alone(lstm, random, bad, place, lengths):
    x, (h, c) = normal(random, (7, 7, 5), lstm.dtype.name), random_state(random, lstm, 7)
    clean, (clean_h, clean_c) = lstm(x, (h, c), lengths=lengths)
    {"x": x[1], "h_0": h[0], "c_0": c[0]}[place][3, 2] = bad
    out, (h_n, c_n) = lstm(x, (h, c), lengths=lengths)
    others = [b for b in range(7) if b != 3]
    assert_same_bits(out[:, others], clean[:, others], "out of other rows")
    assert_same_bits(h_n[:, others], clean_h[:, others], "h_n of other rows")
    assert_same_bits(c_n[:, others], clean_c[:, others], "c_n of other rows")
    if np.isnan(bad):
        assert np.isnan(c_n[0, 3]).any()
        assert np.isnan(out[-1, 3]).any()


def test_infinite_gates_saturate(backend, dtype):
    """sigmoid(+-inf) is 1 or 0 and tanh(+-inf) is +-1: no NaN comes of a large number alone."""
    lstm = lk.LSTM(1, 1, bias=False, dtype=dtype, backend=backend)
    lstm.load_state_dict({"weight_ih_l0": np.ones((4, 1)), "weight_hh_l0": np.zeros((4, 1))})
    out, _ = lstm(np.array([[np.inf], [np.inf], [-np.inf]]))
    assert_close(out, [[np.tanh(1)], [np.tanh(2)], [0]], dtype)


# ---------------------------------------------------------------- refused, naming what was expected and what came

STATE = (np.zeros((2, 3, 9)), np.zeros((2, 3, 9)))


@pytest.mark.parametrize(
    ("x", "state", "message"),
    [
        (np.zeros(5), None, r"x: expected shape \(T, B, I\).*I = 5, got \(5,\)"),
        (np.zeros(()), None, r"x: expected shape .* got \(\)"),
        (np.zeros((6, 3, 4)), None, r"x: expected shape .*I = 5, got \(6, 3, 4\)"),
        (np.zeros((6, 6)), None, r"x: expected shape .*I = 5, got \(6, 6\)"),
        (np.zeros((1, 6, 3, 5)), None, r"x: expected shape .*I = 5, got \(1, 6, 3, 5\)"),
        (np.zeros((6, 3, 0)), None, r"x: expected shape .*I = 5, got \(6, 3, 0\)"),
        (np.zeros((6, 4, 5)), STATE, r"h_0: expected shape \(L\*D, B, R\) = \(2, 4, 9\), got \(2, 3, 9\)"),
        (np.zeros((6, 3, 5)), (STATE[0][:1], STATE[1]), r"h_0: expected shape .*\(2, 3, 9\), got \(1, 3, 9\)"),
        (np.zeros((6, 3, 5)), (STATE[0], STATE[1][..., 1:]), r"c_0: expected .*\(2, 3, 9\), got \(2, 3, 8\)"),
        (np.zeros((6, 3, 5)), (STATE[0][:, 0], STATE[1]), r"h_0: expected .*\(2, 3, 9\), got \(2, 9\)"),
        (np.zeros((6, 5)), STATE, r"h_0: expected shape \(L\*D, R\) = \(2, 9\), got \(2, 3, 9\)"),
    ],
)
def test_wrong_shapes(checked, x, state, message):
    with pytest.raises(ValueError, match=message):
        checked(x, state)


@pytest.mark.parametrize("state", [STATE[0], STATE[:1], (*STATE, STATE[0]), {"h": 1, "c": 2}, 3, "hc"])
def test_a_state_is_a_pair(checked, state):
    with pytest.raises(TypeError, match=r"state: expected a pair \(h_0, c_0\)"):
        checked(np.zeros((6, 3, 5)), state)


@pytest.mark.parametrize("state", [STATE[0][0], (STATE[0][0],), (*(part[0] for part in STATE), 0), 3, "hc"])
def test_a_cells_state_is_a_pair(state):
    with pytest.raises((TypeError, ValueError), match=r"expected a pair"):
        lk.LSTMCell(5, 9)(np.zeros((3, 5)), state)


def test_a_cell_names_the_shapes_that_it_got():
    cell = lk.LSTMCell(5, 9)
    for x in (np.zeros(()), np.zeros((1, 3, 5)), np.zeros((3, 4)), np.zeros(4)):
        with pytest.raises(ValueError, match="x: expected shape") as error:
            cell(x)
        assert str(error.value).endswith(f"got {x.shape}")
    with pytest.raises(ValueError, match=r"expected .*\(3, 9\), got \(2, 9\)"):
        cell(np.zeros((3, 5)), (np.zeros((2, 9)), np.zeros((3, 9))))


def test_a_stack_wants_a_state_for_each_lstm():
    stack = lk.Stack([lk.LSTM(5, 9, 2), lk.Dense(9, 2)])
    with pytest.raises(ValueError, match=r"state: expected one .* for each of 1 LSTMs, got 2"):
        stack(np.zeros((6, 3, 5)), [STATE, STATE])


@pytest.mark.parametrize("x", [np.zeros(()), np.zeros((3, 4)), np.zeros(0)])
def test_dense_wants_its_width(x):
    with pytest.raises(ValueError, match=r"x: expected shape \(\.\.\., 5\), got") as error:
        lk.Dense(5, 2)(x)
    assert str(x.shape) in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"input_size": 0}, ValueError, "input_size: expected at least 1, got 0"),
        ({"hidden_size": -3}, ValueError, "hidden_size: expected at least 1, got -3"),
        ({"num_layers": 0}, ValueError, "num_layers: expected at least 1, got 0"),
        ({"proj_size": -1}, ValueError, "proj_size: expected at least 0, got -1"),
        ({"proj_size": 9}, ValueError, "proj_size: expected less than hidden_size = 9, got 9"),
        ({"hidden_size": 2.0}, TypeError, "hidden_size: expected an integer, got float"),
        ({"hidden_size": "9"}, TypeError, "hidden_size: expected an integer, got str"),
        ({"hidden_size": None}, TypeError, "hidden_size: expected an integer, got NoneType"),
        ({"num_layers": True}, TypeError, "num_layers: expected an integer, got True"),
        ({"dtype": "float16"}, ValueError, "dtype: expected float32 or float64, got 'float16'"),
        ({"dtype": "int32"}, ValueError, "dtype: expected float32 or float64, got 'int32'"),
        ({"dtype": "real"}, ValueError, "got 'real'"),
        ({"num_threads": 0}, ValueError, "num_threads: expected at least 1, got 0"),
        ({"num_threads": 1.5}, TypeError, "num_threads: expected an integer, got float"),
        ({"hidden_size": 2**31}, ValueError, r"weight_hh_l0: shape \(8589934592, 2147483648\) .* needs \d+ bytes"),
        ({"input_size": 2**62}, ValueError, r"weight_ih_l0: shape \(36, 4611686018427387904\) .* needs \d+ bytes"),
        ({"hidden_size": 2**200}, ValueError, r"shape .* needs \d+ bytes, more than an address holds"),
    ],
)
def test_wrong_sizes(arguments, error, message):
    with pytest.raises(error, match=message):
        lk.LSTM(**{**OPTIONS, **arguments})


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((0, 1), ValueError, "in_features: expected at least 1, got 0"),
        ((1, 0), ValueError, "out_features: expected at least 1, got 0"),
        ((2**40, 2**40), ValueError, r"weight: shape .* needs \d+ bytes"),
        ((1, 1, "softmax"), ValueError, "activation: expected one of linear, tanh, sigmoid, relu, got 'softmax'"),
    ],
)
def test_wrong_dense(arguments, error, message):
    with pytest.raises(error, match=message):
        lk.Dense(*arguments)


def test_integers_of_numpy_are_sizes(dtype):
    assert lk.LSTM(np.int64(2), np.uint8(3), np.int32(1), dtype=dtype).state_dict()["weight_hh_l0"].shape == (12, 3)


MANY_LAYERS = """
import resource, lstmkernel as lk
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
try:
    lk.LSTM(1, 1, num_layers=2**62, backend="numpy")
except (ValueError, MemoryError) as error:
    print(type(error).__name__, error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit on memory")
def test_too_many_layers_are_refused_at_once():
    assert run_python(MANY_LAYERS, timeout=20).stdout.startswith("ValueError")


@pytest.mark.parametrize(
    ("layers", "error", "message"),
    [
        ([], ValueError, "layers: expected at least one"),
        ([lk.LSTM(1, 2), lk.LSTM(3, 1)], ValueError, r"layers\[1\]: expected input width 2.* got 3"),
        ([lk.LSTM(1, 2, bidirectional=True), lk.Dense(2, 1)], ValueError, r"layers\[1\]: expected input width 4"),
        ([lk.LSTM(1, 2), lk.LSTM(2, 1, dtype="float64")], ValueError, "one dtype, got float32, float64"),
        ([lk.LSTM(1, 2), lk.LSTM(2, 1, batch_first=True)], ValueError, "one batch_first"),
        ([lk.LSTM(1, 2), lk.LSTMCell(2, 1)], TypeError, r"layers\[1\]: expected an LSTM or a Dense, got LSTMCell"),
    ],
)
def test_wrong_stacks(layers, error, message):
    with pytest.raises(error, match=message):
        lk.Stack(layers)


def test_a_dense_head_is_zero_past_a_rows_end(backend, dtype, random):
    for batch_first in (False, True):
        options = {"dtype": dtype, "backend": backend, "seed": 1}
        stack = lk.Stack([lk.LSTM(2, 3, batch_first=batch_first, **options), lk.Dense(3, 2, "sigmoid", **options)])
        out, _ = stack(normal(random, (4, 4, 2), dtype), lengths=[4, 0, 2, 3])
        out = out if batch_first else out.swapaxes(0, 1)
        for row, length in zip(out, [4, 0, 2, 3], strict=True):
            assert row[:length].all()
            assert not row[length:].any()


# ---------------------------------------------------------------- out=

X = np.zeros((6, 3, 5), "float32")


def wrong_outs():
    memory = np.full(4 * 6 * 3 * 9 + 1, 5, np.uint8)
    yield np.zeros((6, 3, 8), "float32"), ValueError, r"out: expected shape \(6, 3, 9\), got \(6, 3, 8\)"
    yield np.zeros((3, 6, 9), "float32"), ValueError, r"out: expected shape \(6, 3, 9\), got \(3, 6, 9\)"
    yield np.zeros((6, 3, 9), "float64"), TypeError, "out: expected dtype float32, got float64"
    yield np.zeros((6, 3, 9), ">f4"), TypeError, "out: expected dtype float32, got >f4"
    yield np.zeros((6, 3, 18), "float32")[..., ::2], ValueError, "out: expected a C-contiguous"
    yield np.zeros((3, 6, 9), "float32").swapaxes(0, 1), ValueError, "out: expected a C-contiguous"
    yield readonly(np.zeros((6, 3, 9), "float32")), ValueError, "out: expected .*writeable"
    yield memory[1:].view("float32").reshape(6, 3, 9), ValueError, "out: expected .*aligned"
    yield [[0.0]], TypeError, "out: expected a NumPy array, got list"


@pytest.mark.parametrize(("out", "error", "message"), list(wrong_outs()), ids=lambda value: "")
def test_a_wrong_out_is_refused_and_untouched(out, error, message):
    before = np.array(out).tobytes()
    with pytest.raises(error, match=message):
        lk.LSTM(5, 9, seed=1)(X, out=out)
    assert np.array(out).tobytes() == before


def overlapping(lstm, name):
    """out, x, state and lengths, where out shares memory with the named one."""
    memory = np.zeros(10_000, lstm.dtype)
    out = memory[:108].reshape(2, 6, 9)
    x, state, lengths = np.zeros((2, 6, 5), lstm.dtype), None, None
    if name == "x":
        x = memory[100:160].reshape(2, 6, 5)
    elif name == "state[0]":
        state = (memory[107:215].reshape(2, 6, 9), np.zeros((2, 6, 9)))
    elif name == "state[1]":
        state = (np.zeros((2, 6, 9)), memory[1:109].reshape(2, 6, 9))
    elif name == "lengths":
        lengths = memory.view(np.int64)[:6]
    return out, x, state, lengths


@pytest.mark.parametrize("name", ["x", "state[0]", "state[1]", "lengths"])
def test_an_out_that_overlaps_an_input_is_refused(checked, name):
    out, x, state, lengths = overlapping(checked, name)
    with pytest.raises(ValueError, match="out: overlaps") as error:
        checked(x, state, lengths=lengths, out=out)
    assert name in str(error.value)
    assert not out.any()


@pytest.mark.parametrize("cast", ["reversed", "int32", "lengths"])
def test_an_out_that_overlaps_what_was_cast_is_refused(checked, cast):
    """The caller's own array counts, not the copy that the kernels would read."""
    out = np.zeros((2, 6, 9), "float32")
    x, lengths = np.zeros((2, 6, 5)), None
    if cast == "reversed":
        x = out[:, :, 4::-1]
    elif cast == "int32":
        x = out.view("int32")[:, :, :5]
    else:
        lengths = out.view("int32").ravel()[:6]
    with pytest.raises(ValueError, match="out: overlaps"):
        checked(x, lengths=lengths, out=out)


@pytest.mark.parametrize("name", ["shape", "dtype", "batch_first", "hidden_size", "backend"])
def test_what_kernels_trust_cannot_be_set(checked, name):
    with pytest.raises(AttributeError):
        setattr(checked, name, getattr(checked, name))


@pytest.mark.parametrize("name", ["in_features", "out_features", "activation", "dtype"])
def test_what_kernels_trust_of_a_dense_layer_cannot_be_set(name):
    dense = lk.Dense(2, 3)
    with pytest.raises(AttributeError):
        setattr(dense, name, getattr(dense, name))


def test_lengths_that_change_after_the_check_do_no_harm():
    given = np.array([1, 2])
    assert not np.shares_memory(checks.lengths(given, 2, 2), given)


def test_a_mask_is_refused_rather_than_forgotten(checked):
    with pytest.raises(TypeError, match="x: expected an array without a mask"):
        checked(np.ma.masked_equal(np.zeros((2, 6, 5)), 1))


@pytest.mark.parametrize("dtype", [None, "float16", "bogus", int])
def test_other_dtypes_are_refused(dtype):
    with pytest.raises(ValueError, match="dtype: expected float32 or float64, got"):
        lk.LSTM(1, 2, dtype=dtype)


def test_an_out_that_overlaps_a_parameter_is_refused():
    lstm = lk.LSTM(1, 4, bias=False, seed=1)
    parameter = lstm.state_dict()["weight_hh_l0"].view()
    try:
        parameter.flags.writeable = True
    except ValueError:
        return  # cannot even be tried
    with pytest.raises(ValueError, match="out: overlaps weight_hh_l0"):
        lstm(np.zeros((4, 1)), out=parameter[:4])


def test_an_out_beside_the_input_is_taken(simple, random):
    memory = np.zeros(1000, simple.dtype)
    x, out = memory[:90].reshape(6, 3, 5), memory[90:252].reshape(6, 3, 9)
    x[...] = normal(random, (6, 3, 5), simple.dtype.name)
    assert_same_answer(simple(x, out=out), simple(x.copy()))


# ---------------------------------------------------------------- cut short

INTERRUPTED = """
import sys
import numpy as np
import lstmkernel as lk

row = np.linspace(-1, 1, 1024, dtype="float32")
lstm = lk.LSTM(1024, 1024, proj_size=1, backend=sys.argv[1], seed=0)
h, c = np.ones((1, 1, 1), "float32"), np.ones((1, 1, 1024), "float32")
short = np.broadcast_to(row, (3, 1, 1024))
before = lstm(short, (h, c))
parameters = {name: value.copy() for name, value in lstm.state_dict().items()}
print("ready", flush=True)
try:
    lstm(np.broadcast_to(row, (1_000_000, 1, 1024)), (h, c))
except KeyboardInterrupt:
    pass
else:
    raise SystemExit("it ended before it was interrupted")
assert (h == 1).all() and (c == 1).all()
assert all(np.array_equal(value, parameters[name]) for name, value in lstm.state_dict().items())
after = lstm(short, (h, c))
assert np.array_equal(before[0], after[0]) and np.array_equal(before[1][1], after[1][1])
print("as before", flush=True)
"""


def test_ctrl_c_is_heard(backend):
    """Within a second; five allow for a busy machine."""
    child = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, backend], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert child.stdout.readline() == "ready\n", child.stderr.read()
        time.sleep(0.5)
        child.send_signal(signal.SIGINT)
        output, errors = child.communicate(timeout=5)
        assert output == "as before\n", errors
    finally:
        child.kill()
        child.communicate()


def test_a_dense_layer_cuts_its_work_so_that_ctrl_c_is_heard(monkeypatch):
    """No kernel call is longer than an LSTM's may be."""
    dense = lk.Dense(64, 4096)
    work = []
    idle = dense._backend._replace(dense_forward=lambda x, weights, y: work.append(2 * x.size * y.shape[1]))
    monkeypatch.setattr(dense, "_backend", idle)
    dense(np.zeros((100_000, 64), "float32"))
    assert sum(work) == 2 * 100_000 * 64 * 4096
    assert max(work) <= 2 * CALL_WORK


# ---------------------------------------------------------------- the floating-point environment

TINY = {"float32": 1e-40, "float64": 1e-310}
needs_x86_or_arm = pytest.mark.skipif(
    platform.machine().lower() not in ("x86_64", "amd64", "aarch64", "arm64"), reason="rounding modes by number"
)
UPWARD = 0x800 if platform.machine().lower() in ("x86_64", "amd64") else 0x400000


def halves_tiny_numbers():
    """Whether NumPy on this thread computes with denormals."""
    return all((np.full(4, tiny, dtype) * dtype(0.5)).all() for dtype, tiny in ((np.float32, 1e-40), (float, 1e-310)))


def forgetful(backend, dtype):
    """A network of zeros: every step halves c, for sigmoid(0) is 0.5."""
    lstm = lk.LSTM(1, 9, bias=False, dtype=dtype, backend=backend)
    lstm.load_state_dict({name: np.zeros_like(value) for name, value in lstm.state_dict().items()})
    return lstm


def test_denormals_are_flushed_inside_and_the_callers_kept(compiled, dtype):
    lstm = forgetful(compiled, dtype)
    smallest = float(np.finfo(dtype).smallest_normal)
    state = (np.zeros((1, 1, 9)), np.full((1, 1, 9), 6 * smallest))
    out, (h, c) = lstm(np.zeros((2, 1, 1)), state)
    assert (c == 1.5 * smallest).all()
    out, (h, c) = lstm(np.zeros((3, 1, 1)), state)
    assert not c.any()
    assert not h.any()
    assert not out[2].any()
    assert halves_tiny_numbers()


def test_silence_dies_away(backend, dtype):
    lstm = forgetful(backend, dtype)
    out, (h, c) = lstm(np.zeros((3000, 1, 1)), (np.ones((1, 1, 9)), np.ones((1, 1, 9))))
    assert not out[-1].any()
    assert not h.any()
    assert not c.any()


def test_tiny_inputs_count_as_nothing(backend, dtype):
    lstm = lk.LSTM(**OPTIONS, dtype=dtype, backend=backend, seed=1)
    x = np.full((4, 2, 5), TINY[dtype], dtype)
    assert_close_answer(lstm(x), definition(lstm)(np.zeros_like(x)), dtype)
    assert halves_tiny_numbers()


@pytest.fixture
def flushing():
    """A caller that flushes denormals itself."""
    torch = pytest.importorskip("torch")
    if not torch.set_flush_denormal(True):
        pytest.skip("PyTorch cannot flush denormals here")
    yield
    torch.set_flush_denormal(False)


def test_a_caller_that_flushes_denormals_still_does(compiled, dtype, random, flushing):
    lstm = lk.LSTM(**OPTIONS, dtype=dtype, backend=compiled, seed=1)
    x = normal(random, (6, 3, 5), dtype)
    result = lstm(x)
    assert not halves_tiny_numbers()
    import torch

    torch.set_flush_denormal(False)
    assert_same_answer(result, lstm(x))
    assert halves_tiny_numbers()


@needs_x86_or_arm
def test_a_caller_that_rounds_upward_still_does(compiled, dtype, random):
    libm = ctypes.CDLL(ctypes.util.find_library("m"))
    lstm = lk.LSTM(**OPTIONS, proj_size=4, dtype=dtype, backend=compiled, seed=1)
    dense = lk.Dense(4, 3, "tanh", dtype=dtype, backend=compiled, seed=1)
    x, lengths = normal(random, (6, 3, 5), dtype), np.array([6, 2, 4])
    expected = lstm(x, lengths=lengths)
    expected_y = dense(expected[0])
    nearest = libm.fegetround()
    try:
        assert libm.fesetround(UPWARD) == 0
        result = lstm(x, lengths=lengths)
        y = dense(expected[0])
        still = libm.fegetround()
    finally:
        libm.fesetround(nearest)
    assert still == UPWARD
    assert_same_answer(result, expected)
    assert_same_bits(y, expected_y)


@pytest.mark.skipif(os.name != "posix", reason="MXCSR by way of glibc")
def test_the_callers_exception_flags_are_left_alone(compiled, random):
    """An inexact or overflowing kernel raises no flag that NumPy would turn into a warning of its own."""
    lstm = lk.LSTM(**OPTIONS, backend=compiled, seed=1)
    with np.errstate(all="raise"):
        lstm(np.full((6, 3, 5), 1e38, "float32"))
        lstm(np.full((6, 3, 5), 1e-38, "float32"))
        assert np.float32(1) + np.float32(1) == 2
