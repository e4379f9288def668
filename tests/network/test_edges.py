"""The edges: what happens where input is odd, empty or not a number. What is refused is in test_refused.py, interrupted
calls in test_interrupt.py, denormals and rounding modes in test_float_environment.py."""

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
    readonly,
)

import lstmkernel as lk

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


def test_lengths_need_a_batch(default_lstm, random):
    with pytest.raises(ValueError, match="lengths: expected a batched x"):
        default_lstm(normal(random, (6, 5), "float32"), lengths=[3])


# ---------------------------------------------------------------- lengths


def reference_by_rows(lstm, x, state, lengths):
    """Each row alone with its own length, by the definition. out is 0 past a row's end."""
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
def test_lengths_of_any_integers(two_layers, random, kind):
    x, lengths = normal(random, (7, 3, 5), "float32"), np.array([4, 7, 0])
    expected = two_layers(x, lengths=lengths)
    other = {"list": list, "tuple": tuple, "strided": lambda a: np.repeat(a, 2)[::2]}.get(kind)
    assert_same_answer(two_layers(x, lengths=other(lengths) if other else lengths.astype(kind)), expected)


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
def test_wrong_lengths(default_lstm, random, lengths, error, message):
    out = np.full((7, 3, 9), 5, default_lstm.dtype)
    with pytest.raises(error, match=message):
        default_lstm(normal(random, (7, 3, 5), "float32"), lengths=lengths, out=out)
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


def test_no_rows_with_an_empty_list_of_lengths(default_lstm):
    out, _ = default_lstm(np.zeros((4, 0, 5)), lengths=[])
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
def test_other_real_dtypes_are_cast(two_layers, random, other):
    x = (3 * normal(random, (6, 3, 5), "float64")).astype(other)
    state = [(2 * part).astype(other) for part in random_state(random, two_layers, 3)]
    expected = two_layers(x.astype(two_layers.dtype), [part.astype(two_layers.dtype) for part in state])
    assert_same_answer(two_layers(x, state), expected)


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
def test_what_is_not_real_is_a_type_error(default_lstm, other, name):
    for call in (
        lambda: default_lstm(other),
        lambda: default_lstm(np.zeros((6, 3, 5)), (other, np.zeros((2, 3, 9)))),
        lambda: default_lstm(np.zeros((6, 3, 5)), (np.zeros((2, 3, 9)), other)),
        lambda: lk.Dense(5, 2, backend=default_lstm.backend)(other),
    ):
        with pytest.raises(TypeError, match="expected real numbers") as error:
            call()
        assert name in str(error.value)


def layouts(array):
    """The same numbers in other memory layouts."""
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


def test_any_layout(two_layers, random):
    x, (h, c) = normal(random, (6, 3, 5), two_layers.dtype.name), random_state(random, two_layers, 3)
    expected = two_layers(x, (h, c))
    for name, other in layouts(x):
        assert_same_answer(two_layers(other, (h, c)), expected, f"x {name}")
    for (name, other_h), (_, other_c) in zip(layouts(h), layouts(c), strict=True):
        assert_same_answer(two_layers(x, (other_h, other_c)), expected, f"state {name}")


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_broadcast_inputs(two_layers, random, axis):
    shape = [6, 3, 5]
    shape[axis] = 1
    x = np.broadcast_to(normal(random, tuple(shape), two_layers.dtype.name), (6, 3, 5))
    assert 0 in x.strides
    assert_same_answer(two_layers(x), two_layers(x.copy()))


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
    """sigmoid(+-inf) is 1 or 0 and tanh(+-inf) is +-1: a large number alone makes no NaN."""
    lstm = lk.LSTM(1, 1, bias=False, dtype=dtype, backend=backend)
    lstm.load_state_dict({"weight_ih_l0": np.ones((4, 1)), "weight_hh_l0": np.zeros((4, 1))})
    out, _ = lstm(np.array([[np.inf], [np.inf], [-np.inf]]))
    assert_close(out, [[np.tanh(1)], [np.tanh(2)], [0]], dtype)
