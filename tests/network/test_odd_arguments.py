"""Arrays that are not what they seem: with a mask, of other kinds, or changing while they are looked at."""

import contextlib
import threading

import numpy as np
import pytest
from helpers import assert_same_answer, assert_same_bits
from operations import network, numbers

import lstmkernel as lk

X = numbers(4, 2, 3)
STATE = numbers(2, 2, 5)


def masked(array):
    return np.ma.masked_array(array, np.arange(np.size(array)).reshape(np.shape(array)) % 2 == 0)


class Changing:
    """Each time it is asked for its array, it has another one."""

    def __init__(self, *arrays):
        self.arrays = list(arrays)

    def __array__(self, dtype=None, copy=None):
        return self.arrays.pop(0) if len(self.arrays) > 1 else self.arrays[0]


MASKED = {
    "array": masked,
    "list": lambda array: list(masked(array)),
    "list of lists": lambda array: [list(row) if row.ndim else row for row in masked(array)],
    "object": lambda array: Changing(masked(array)),
}


def of_stream(act):
    return lambda value: act(network("LSTM", "auto").stream(2), value)


def of_pool(act):
    def run(value):
        pool = network("LSTM", "auto").pool(4)
        pool.open(2)
        return act(pool, value)

    return run


def of_weights(kind):
    def run(value):
        net = network(kind, "auto")
        named = net.state_dict()
        net.load_state_dict({**named, next(iter(named)): value})

    return run


lstm, cell, dense, stack = (network(kind, "auto") for kind in ("LSTM", "LSTMCell", "Dense", "Stack"))
WEIGHT = lstm.state_dict()["weight_ih_l0"]
OUT, _, TAPE = lstm.forward(X)
TAKES = {
    "LSTM, x": (X, lstm),
    "LSTM, h": (STATE, lambda value: lstm(X, (value, STATE))),
    "LSTM, c": (STATE, lambda value: lstm(X, (STATE, value))),
    "LSTM, lengths": (np.array([4, 2]), lambda value: lstm(X, lengths=value)),
    "LSTM, reset": (X[..., 0] > 0, lambda value: lstm(X, reset=value)),
    "LSTM, mask": (X[..., 0] > 0, lambda value: lstm(X, mask=value)),
    "LSTM, weight": (WEIGHT, of_weights("LSTM")),
    "forward, x": (X, lstm.forward),
    "backward, d_out": (OUT, lambda value: lstm.backward(TAPE, value)),
    "backward, d_h": (STATE, lambda value: lstm.backward(TAPE, None, (value, None))),
    "trace, x": (X, lambda value: lk.trace(lstm, value)),
    "LSTMCell, x": (X[0], cell),
    "LSTMCell, h": (STATE[0], lambda value: cell(X[0], (value, STATE[0]))),
    "LSTMCell, weight": (WEIGHT, of_weights("LSTMCell")),
    "Dense, x": (X, dense),
    "Dense, weight": (dense.state_dict()["weight"], of_weights("Dense")),
    "Stack, x": (X, stack),
    "Stack, lengths": (np.array([4, 2]), lambda value: stack(X, lengths=value)),
    "Stack, reset": (X[..., 0] > 0, lambda value: stack(X, reset=value)),
    "Stack, weight": (WEIGHT, of_weights("Stack")),
    "Stream, x_t": (X[0], of_stream(lambda stream, value: stream.step(value))),
    "Stream, chunk": (X, of_stream(lambda stream, value: stream(value))),
    "Stream, state": (STATE, of_stream(lambda stream, value: setattr(stream, "state", (value, STATE)))),
    "Stream, mask": (np.array([True, False]), of_stream(lambda stream, value: stream.reset(value))),
    "Pool, ids": (np.array([0, 1]), of_pool(lambda pool, value: pool.step(value, X[0]))),
    "Pool, x": (X[0], of_pool(lambda pool, value: pool.step([0, 1], value))),
    "Pool, closed": (np.array([0, 1]), of_pool(lambda pool, value: pool.close(value))),
}


@pytest.mark.parametrize("kind", MASKED)
@pytest.mark.parametrize("where", TAKES)
def test_a_mask_is_refused(where, kind):
    """The numbers under a mask are none, and NumPy drops masks without a word."""
    array, call = TAKES[where]
    call(array)
    with pytest.raises(TypeError, match=r"^[\w.]+: expected an array without a mask, got a masked one; fill it"):
        call(MASKED[kind](array))


def test_the_ways_out_that_are_named_work():
    filled = np.ma.filled(masked(X), 0)
    lstm(filled, lengths=[4, 2]), lstm(filled, mask=X[..., 0] > 0), dense(filled)
    out = masked(np.empty((4, 2, 5), "float32"))
    for call in (lambda out: lstm(X, out=out), lambda out: lstm.stream(2).step(X[0], out[0])):
        with pytest.raises(TypeError, match=r"out: .* masked one; give its data: out\.data"):
            call(out)
        call(out.data)


def test_a_mapping_is_expected():
    for wrong in (None, 3, "weights", [WEIGHT], lstm.state_dict().items()):
        with pytest.raises(
            TypeError, match=f"state_dict: expected a mapping of names to arrays, got {type(wrong).__name__}"
        ):
            lstm.load_state_dict(wrong)


def test_unequal_lists_are_refused_by_the_arguments_name():
    with pytest.raises(ValueError, match=r"x: expected an array, got list: .*inhomogeneous"):
        lstm([[1, 2, 3], [1]])


# ---------------------------------------------------------------- what changes while it is looked at


def test_what_is_asked_for_twice_is_read_once():
    expected, short = lstm(X), X[:2]
    assert_same_answer(lstm(Changing(X, short)), expected)
    assert_same_bits(lstm(X, lengths=Changing(np.array([4, 2]), np.array([9, 9])))[0], lstm(X, lengths=[4, 2])[0])
    changing = Changing(np.array([4, 2]), np.array([1, 1]))
    assert_same_bits(stack(X, lengths=changing)[0], stack(X, lengths=[4, 2])[0])
    stream = lstm.stream(2)
    assert_same_bits(stream(Changing(X, short)), expected[0])
    stream.reset()
    assert_same_bits(stream(short), expected[0][:2])  # not the call that was prepared for four steps
    stream.reset()
    assert_same_bits(stream(X), expected[0])


class Reshapes:
    """A state that gives x another shape while the call looks at it."""

    def __init__(self, state, array):
        self.state, self.array = state, array

    def __array__(self, dtype=None, copy=None):
        self.array.shape = (1, self.array.size // 3, 3)
        return self.state


@pytest.mark.filterwarnings("ignore:Setting the shape:DeprecationWarning")
def test_x_that_gets_another_shape_is_read_as_it_was():
    expected = lstm(X, (STATE, STATE))
    x = X.copy()
    assert_same_answer(lstm(x, (Reshapes(STATE, x), STATE)), expected)


def test_a_network_that_is_called_from_within_its_call():
    class Calls:
        def __init__(self, act, array):
            self.act, self.array = act, array

        def __array__(self, dtype=None, copy=None):
            self.act()
            return self.array

    expected, other = lstm(X), numbers(7, 3, 3)
    assert_same_answer(lstm(Calls(lambda: lstm(other), X)), expected)
    stream = lstm.stream(2)
    assert_same_bits(stream(Calls(lambda: stream.reset(), X)), expected[0])
    stream.reset()
    first, second = (stream.step(x) for x in X[:2])
    stream.reset()
    got = stream.step(Calls(lambda: assert_same_bits(stream.step(X[0]), first), X[1]))
    assert_same_bits(got, second)
    loads = network("LSTM", "auto")
    doubled = {name: 2 * value for name, value in loads.state_dict().items()}
    assert_same_answer(loads(Calls(lambda: loads.load_state_dict(doubled), X)), expected)


def test_a_thread_with_another_shape_does_not_change_a_streams_answer():
    """x_t may be (1, I) or (I,). A step answers in its own shape, whatever another one asked meanwhile."""
    stream, shapes, stop = lk.LSTM(3, 5, seed=0).stream(), set(), threading.Event()
    flat = X[0, 0]

    def other():
        while not stop.is_set():
            with contextlib.suppress(RuntimeError):
                stream.step(flat)

    thread = threading.Thread(target=other)
    thread.start()
    try:
        for _ in range(2000):
            with contextlib.suppress(RuntimeError):
                shapes.add(stream.step(flat[None]).shape)
    finally:
        stop.set()
        thread.join()
    assert shapes <= {(1, 5)}
