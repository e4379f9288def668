"""Windows: at each input, and over a recording, the bits of a call on each window alone."""

import copy
import pickle
import threading

import numpy as np
import pytest
from helpers import assert_close, assert_same_bits, held_open, normal
from networks import NETWORKS, each, make, with_head

import lstmkernel as lk
from lstmkernel.engine import blocks

FORWARD = [name for name, kind in NETWORKS.items() if not kind.get("bidirectional") and not kind.get("reverse")]


def anew(net, x, t, length):
    """The answer after x[t] (T, B, I), or (T, I), by a call on the window."""
    steps = x[max(0, t - length + 1) : t + 1]
    if net.batch_first and steps.ndim == 3:
        steps = steps.swapaxes(0, 1)
    return np.atleast_2d(net.last(steps))


def assert_ticks(net, window, x, first=0, compare=assert_same_bits):
    """Each step answers as a call on the window that begins at ``first`` or later."""
    for t in range(first, len(x)):
        compare(window.step(x[t]), anew(net, x[first:], t - first, window.length), f"input {t}")


# ---------------------------------------------------------------- at each new input


@pytest.mark.parametrize("network", FORWARD)
def test_each_answer_has_the_bits_of_the_window_alone(network, random):
    net = make(network)
    assert_ticks(net, net.window(5, 2), normal(random, (12, 2, net.input_size), "float32"))


@each("two layers", "projected", "learned state")
def test_on_every_backend(network, compiled_backend, dtype, random):
    net = make(network, compiled_backend, dtype)
    assert_ticks(net, net.window(4), normal(random, (9, 1, net.input_size), dtype))


def test_numpy_is_close(random):
    net = make("two layers", "numpy")
    compare = lambda got, expected, what: assert_close(got, np.float64(expected), "float32", what)  # noqa: E731
    assert_ticks(net, net.window(4, 2), normal(random, (9, 2, 5), "float32"), compare=compare)


def skipping(lstm):
    return lk.Stack([lstm, lk.Dense(9, 4, seed=3), lk.LSTM(4, 3, seed=4), lk.Dense(3, 3, "tanh", seed=5)], skip=0.5)


STACKS = {
    "head": with_head,
    "heads between, and skip": skipping,
    "two heads": lambda lstm: lk.Stack([lstm, lk.Dense(9, 4, "relu", seed=3), lk.Dense(4, 1, seed=5)]),
    "skip alone": lambda lstm: lk.Stack([lstm, lk.LSTM(9, 5, seed=4)], skip=2),
    "heads alone": lambda lstm: lk.Stack([lk.Dense(5, 9, seed=3), lk.Dense(9, 2, seed=4)]),
}


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("B", [1, 3])
def test_stacks(stack, B, random):
    net = STACKS[stack](make("plain"))
    assert_ticks(net, net.window(3, B), normal(random, (8, B, 5), "float32"))


def test_heads_run_once_a_window(random, monkeypatch):
    net, rows = with_head(make("plain")), []
    run = type(net.layers[1].engine).run
    monkeypatch.setattr(type(net.layers[1].engine), "run", lambda self, x, y: (rows.append(len(x)), run(self, x, y)))
    window = net.window(6, 2)
    for x_t in normal(random, (9, 2, 5), "float32"):
        window.step(x_t)
        window.advance()
    assert rows == [2] * 9


@pytest.mark.parametrize("length", [1, 2, 20])
def test_short_and_long_windows(length, random):
    net = make("two layers")
    assert_ticks(net, net.window(length), normal(random, (9, 1, 5), "float32"))


@pytest.mark.parametrize("pattern", ["never", "always", "twice", "sometimes"])
def test_advance_changes_no_answer(pattern, random):
    """Nor does what the caller writes to x_t after the answer."""
    net, x = make("two layers"), normal(random, (12, 2, 5), "float32")
    window, x_t, out = net.window(4, 2), np.empty((2, 5), "float32"), np.empty((2, 9), "float32")
    window.advance()
    for t in range(12):
        x_t[...] = x[t]
        assert window.step(x_t, out) is out
        assert_same_bits(out, anew(net, x, t, 4))
        x_t[...] = np.nan
        times = {"never": 0, "always": 1, "twice": 2, "sometimes": t % 3 % 2}[pattern]
        for _ in range(times):
            window.advance()


def test_one_row_may_come_without_its_batch(random):
    net, x = make("plain"), normal(random, (6, 5), "float32")
    window = net.window(3)
    for t in range(6):
        answer = window.step(x[t] if t % 2 else x[t].tolist())
        assert answer.shape == (9,)
        assert_same_bits(answer, anew(net, x, t, 3)[0])


def test_nan_is_gone_with_its_window(random):
    net, x = make("two layers"), normal(random, (9, 1, 5), "float32")
    clean = net.windows(x, 3)
    x[2] = np.nan
    window = net.window(3)
    answers = np.array([window.step(x_t) for x_t in x])
    assert np.isnan(answers[2:5]).all()
    assert_same_bits(answers[5:], clean[3:])


def test_weights_are_those_of_the_beginning(random):
    net, x = make("plain"), normal(random, (6, 1, 5), "float32")
    window, before = net.window(3), copy.copy(net)
    net.load_state_dict(make("plain", seed=9).state_dict())
    assert_ticks(before, window, x)


# ---------------------------------------------------------------- states


@pytest.mark.parametrize("waits", [False, True])
def test_reset(waits, random):
    net, x = make("learned state"), normal(random, (12, 3, 3), "float32")
    window = net.window(4, 3)
    for t in range(7):
        window.step(x[t])
    if not waits:
        window.advance()
    window.reset(np.array([False, True, False]))
    for t in range(7, 9):
        answer = window.step(x[t])
        for row, first in enumerate((0, 7, 0)):
            assert_same_bits(answer[row : row + 1], anew(net, x[first:, row : row + 1], t - first, 4))
    window.reset()
    assert_ticks(net, window, x, 9)


@pytest.mark.parametrize("net", [make("two layers"), with_head(make("plain"))])
@pytest.mark.parametrize("inputs", [0, 2, 7])
def test_a_state_comes_back(net, inputs, random):
    x, window = normal(random, (12, 2, 5), "float32"), net.window(4, 2)
    for t in range(inputs):
        window.step(x[t])
    state = window.state
    assert state[0].tolist() == [min(inputs, 3)] * 2
    others = [net.window(4, 2), pickle.loads(pickle.dumps(window)), copy.deepcopy(window)]
    others[0].step(x[0])
    others[0].state = state
    for t in range(inputs, 12):
        for each_of_them in (window, *others):
            assert_same_bits(each_of_them.step(x[t]), anew(net, x, t, 4))
    window.state = None
    assert_ticks(net, window, x)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda taken, pair: taken, TypeError, r"state: expected a pair \(taken, \(h, c\)\), got ndarray"),
        (lambda taken, pair: (taken[:1], pair), ValueError, r"taken: expected shape \(B,\) = \(2,\), got \(1,\)"),
        (lambda taken, pair: (taken * 1.0, pair), TypeError, "taken: expected integers, got float64"),
        (lambda taken, pair: (taken + 9, pair), ValueError, r"taken: expected 0..3 \(length - 1\), got \[11 11\]"),
        (lambda taken, pair: (taken, pair[:1]), TypeError, r"state: expected a pair \(h, c\), got 1 of them"),
        (
            lambda taken, pair: (taken, (pair[0][:1], pair[1])),
            ValueError,
            r"h: expected .* = \(2, 3, 2, 9\), got \(1, ",
        ),
    ],
)
def test_wrong_states(change, error, message, random):
    net, x = make("two layers"), normal(random, (5, 2, 5), "float32")
    window = net.window(4, 2)
    for t in range(2):
        window.step(x[t])
    with pytest.raises(error, match=message):
        window.state = change(*window.state)
    with pytest.raises(ValueError, match="expected one"):
        with_head(make("plain")).window(4, 2).state = (np.zeros(2, int), ())
    assert_same_bits(window.step(x[2]), anew(net, x, 2, 4))


# ---------------------------------------------------------------- refused


def test_two_directions_are_sent_to_windows():
    for name in ("two directions", "reverse"):
        with pytest.raises(ValueError, match=r"backward direction.*use net.windows\(x, length\)"):
            make(name).window(3)


@pytest.mark.parametrize(("length", "B", "error"), [(0, 1, ValueError), (3, 0, ValueError), (2.5, 1, TypeError)])
def test_wrong_sizes(length, B, error):
    with pytest.raises(error, match=r"length|batch_size"):
        make("plain").window(length, B)


def test_what_is_refused_changes_nothing(random):
    net, x = skipping(make("plain")), normal(random, (6, 1, 5), "float32")
    for model in (net, make("plain")):
        window, memory = model.window(3), np.zeros(20, "float32")
        width = model.out_features
        for t in range(6):
            for wrong, out, error in (
                (x[t, :, :4], None, ValueError),
                (x[t].astype(complex), None, TypeError),
                (x[t], np.empty((1, width + 1), "float32"), ValueError),
                (x[t], np.empty((1, width), "float64"), TypeError),
                (memory[:5].reshape(1, 5), memory[3 : 3 + width].reshape(1, width), ValueError),
            ):
                with pytest.raises(error):
                    window.step(wrong, out)
            assert_same_bits(window.step(x[t]), anew(model, x, t, 3))


@pytest.mark.parametrize("method", ["step", "advance", "reset", "state", "set"])
def test_two_threads_are_refused(method):
    inside, done = threading.Event(), threading.Event()
    window = lk.LSTM(3, 4, backend=held_open(inside, done), seed=0).window(3)
    uses = {
        "step": lambda: window.step(np.zeros(3)),
        "advance": window.advance,
        "reset": window.reset,
        "state": lambda: window.state,
        "set": lambda: setattr(window, "state", None),
    }
    thread = threading.Thread(target=window.step, args=(np.zeros(3),))
    thread.start()
    try:
        assert inside.wait(60)
        with pytest.raises(RuntimeError, match="this window is in use by another thread"):
            uses[method]()
    finally:
        done.set()
        thread.join()
    uses[method]()


def failing(name, calls):
    """``name`` as a backend whose call number ``calls[0]`` is interrupted after it has done its work."""
    from lstmkernel import backends

    kernels = backends.get(name)

    def prepare_advance(*arguments):
        advance = kernels.prepare_advance(*arguments)

        def run(x, out):
            advance(x, out)
            calls[0] -= 1
            if calls[0] == 0:
                raise KeyboardInterrupt
            return 0

        return run

    backends.register(kernels._replace(name="failing", prepare_advance=prepare_advance))
    return "failing"


@pytest.mark.parametrize("at", range(1, 9))
def test_an_interrupted_step_changes_nothing(at, random):
    x, calls = normal(random, (6, 2, 5), "float32"), [at]
    net = make("two layers", failing("numpy", calls))
    window, expected = net.window(3, 2), make("two layers", "numpy").window(3, 2)
    for x_t in x:
        try:
            answer = window.step(x_t)
        except KeyboardInterrupt:
            answer = window.step(x_t)
        assert_same_bits(answer, expected.step(x_t))
    assert calls[0] <= 0


# ---------------------------------------------------------------- over a recording


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("B", [None, 2, 30])
def test_windows_of_a_recording(network, B, random, monkeypatch):
    monkeypatch.setattr(blocks, "THREAD_ROWS", 8)
    net = make(network)
    rows = () if B is None else (B,)
    x = normal(random, (17, *rows, net.input_size), "float32")
    given = x.swapaxes(0, 1) if net.batch_first and B else x
    y = net.windows(given, 6, 2)
    assert y.shape == ((B, 6, net.out_features) if net.batch_first and B else (6, *rows, net.out_features))
    for place in (0, 3, 5):
        expected = anew(net, x, 2 * place + 5, 6)
        assert_same_bits(np.atleast_2d(y[:, place] if net.batch_first and B else y[place]), expected)


@pytest.mark.parametrize("stack", STACKS)
def test_windows_of_stacks(stack, random):
    net, x = STACKS[stack](make("plain")), normal(random, (9, 5), "float64")
    y = net.windows(x, 4)
    for place in range(6):
        assert_same_bits(y[place : place + 1], anew(net, x, place + 3, 4))


@each("two directions", "projected")
def test_windows_on_every_backend(network, compiled_backend, dtype, random):
    net, x = make(network, compiled_backend, dtype), normal(random, (9, 5), dtype)
    y = net.windows(x, 4, 5)
    assert len(y) == 2
    for place in range(2):
        assert_same_bits(y[place : place + 1], anew(net, x, 5 * place + 3, 4))


def test_windows_of_every_length(random):
    net, x = make("plain"), normal(random, (7, 5), "float32")
    assert net.windows(x, 7, 9).shape == (1, 9)
    assert net.windows(x, 1).shape == (7, 9)
    assert net.windows(x[:, None][:, :0], 3).shape == (5, 0, 9)
    for length, stride, message in (
        (8, 1, "x: expected at least length = 8 time steps, got 7"),
        (0, 1, "length"),
        (1, 0, "stride"),
    ):
        with pytest.raises(ValueError, match=message):
            net.windows(x, length, stride)


@each("plain", "batch first")
@pytest.mark.parametrize("B", [None, 3])
def test_windows_into_an_array(network, B, random):
    net = make(network)
    x = normal(random, (17, net.input_size) if B is None else (B, 17, net.input_size), "float32")
    x = x if B is None or net.batch_first else x.swapaxes(0, 1)
    y = net.windows(x, 6, 2)
    out = np.full_like(y, 7)
    assert net.windows(x, 6, 2, out=out) is out
    assert_same_bits(out, y)
    for wrong, message in (
        (out[..., 1:], r"out: expected shape"),
        (out.astype("float64"), "out: expected dtype float32"),
        (np.lib.stride_tricks.as_strided(x, out.shape, out.strides), "out: overlaps x"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            net.windows(x, 6, 2, out=wrong)


def test_windows_are_not_copied(random):
    import tracemalloc

    net, x = make("plain", num_threads=1), normal(random, (3000, 5), "float32")
    y = net.windows(x, 100)
    tracemalloc.start()
    net.windows(x, 100)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 2 * y.nbytes + (3 << 20)  # all windows: 5.8 MB, and their outputs 10.4 MB
