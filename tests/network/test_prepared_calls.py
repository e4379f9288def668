"""Prepared calls, for shapes that were seen before: the same answer, the same errors, nothing kept that may change."""

import numpy as np
import pytest
from helpers import Watched, assert_same_answer, normal, random_state
from networks import KINDS, OWN, each, make

import lstmkernel as lk


def shapes_of_x(lstm):
    for shape in [(1, 1), (6, 1), (1, 4), (5, 3), (7,)]:
        yield (*shape, lstm.input_size)


@each(*KINDS, *OWN)
def test_the_second_call_answers_as_the_first(backend, dtype, random, network):
    lstm = make(network, backend, dtype)
    for shape in shapes_of_x(lstm):
        x = normal(random, shape, dtype)
        first = lstm(x)
        assert_same_answer(lstm(x), first, f"{shape}, again")
        B = 1 if len(shape) == 2 else shape[0] if lstm.batch_first else shape[1]
        state = random_state(random, lstm, B)
        if len(shape) == 2:
            state = tuple(part[:, 0] for part in state)
        whole = lk.LSTM.from_config(lstm.config(), lstm.state_dict())(x, state)  # a model that has seen nothing
        before = [part.copy() for part in state]
        assert_same_answer(lstm(x, state), whole, f"{shape}, from a state")
        assert all(np.array_equal(part, was) for part, was in zip(state, before, strict=True))


@pytest.mark.parametrize("initial_state", [False, True])
def test_a_call_is_prepared_where_it_can_be(backend, random, initial_state):
    kernels = Watched(backend)
    lstm = lk.LSTM(3, 4, initial_state=initial_state, backend=kernels.name, seed=0)
    x, out = normal(random, (2, 5, 3), "float32"), np.empty((2, 5, 4), "float32")
    lstm(x)
    kernels.calls.clear()
    lstm(x)
    lstm(x, (np.zeros((1, 5, 4), "float32"), np.zeros((1, 5, 4), "float32")))
    assert lstm(x, out=out)[0] is out
    assert_same_answer((out, lstm(x)[1]), lstm(x))
    assert set(kernels.called) == {"prepared call"}
    kernels.calls.clear()
    lstm(x, lengths=[1, 2, 2, 0, 1])
    assert "prepared call" not in kernels.called


def test_outputs_that_are_not_ready_are_refused_as_ever(random):
    lstm = lk.LSTM(4, 4, seed=0)
    x = normal(random, (1, 4, 4), "float32")
    state = tuple(normal(random, (1, 4, 4), "float32") for _ in range(2))
    expected = lstm(x, state)
    for out, message in [
        (x, "out: overlaps x"),
        (state[0], r"out: overlaps state\[0\]"),
        (state[1], r"out: overlaps state\[1\]"),
        (np.empty((1, 4, 5), "float32"), r"out: expected shape \(1, 4, 4\)"),
        (np.empty((1, 4, 8), "float32")[..., ::2], "C-contiguous"),
        (np.frombuffer(bytes(64), "float32").reshape(1, 4, 4), "writeable"),
    ]:
        with pytest.raises(ValueError, match=message):
            lstm(x, state, out=out)
    with pytest.raises(TypeError, match="out: expected dtype float32"):
        lstm(x, state, out=np.empty((1, 4, 4)))
    unbatched = lk.LSTM(1, 1, seed=0)
    column = normal(random, (4, 1), "float32")
    unbatched(column)
    weight = unbatched.state_dict()["weight_ih_l0"]  # (4, 1), as the output is
    weight.flags.writeable = True
    with pytest.raises(ValueError, match="out: overlaps weight_ih_l0"):
        unbatched(column, out=weight)
    view = np.empty((2, 4, 4), "float32")[1:]
    assert_same_answer(lstm(x, state, out=view), expected)


@pytest.mark.parametrize("kind", ["strided", "read-only", "other dtype", "swapped", "list", "subclass", "unaligned"])
def test_other_inputs_of_that_shape_are_checked_and_cast(random, kind):
    lstm = lk.LSTM(3, 4, seed=0)
    x = normal(random, (2, 5, 3), "float32")
    expected = lstm(x)
    other = {
        "strided": lambda: np.repeat(x, 2, axis=1)[:, ::2],
        "read-only": lambda: np.frombuffer(x.tobytes(), "float32").reshape(x.shape),
        "other dtype": lambda: x.astype("float64"),
        "swapped": lambda: x.astype(x.dtype.newbyteorder()),
        "list": x.tolist,
        "subclass": lambda: x.view(np.memmap),
        "unaligned": lambda: np.frombuffer(b"." + x.tobytes(), np.uint8)[1:].view("float32").reshape(x.shape),
    }[kind]()
    assert_same_answer(lstm(other), expected, kind)


def test_a_wrong_state_is_refused_after_a_right_one(random):
    lstm = lk.LSTM(3, 4, seed=0)
    x = normal(random, (2, 5, 3), "float32")
    good = np.zeros((1, 5, 4), "float32")
    lstm(x, (good, good))
    for bad in [(good, good[:, :4]), (good[0], good[0]), (good,), (good, good, good), (good, good.astype(complex))]:
        with pytest.raises((ValueError, TypeError), match=r"state|h_0|c_0"):
            lstm(x, bad)
    with pytest.raises(ValueError, match="x: expected"):
        lstm(x[:, :, :2])


def test_new_weights_show(random):
    lstm, other = lk.LSTM(3, 4, seed=0), lk.LSTM(3, 4, seed=1)
    x = normal(random, (2, 5, 3), "float32")
    lstm(x)
    lstm.load_state_dict(other.state_dict())
    assert_same_answer(lstm(x), other(x), "after load_state_dict")


def test_a_bounded_number_is_remembered(backend):
    kernels = Watched(backend)
    lstm = lk.LSTM(3, 4, backend=kernels.name, seed=0)
    for T in range(1, 200):
        lstm(np.zeros((T, 1, 3), "float32"))
        assert 1 <= len(kernels.prepared["prepare"]) <= 64
