"""Streams: chunks give the bits of the whole; a call that fails changes nothing."""

from __future__ import annotations

import copy
import os
import pickle
import signal
import threading
import time
import traceback
import tracemalloc

import numpy as np
import pytest
from helpers import Watched, assert_close, assert_same_bits, held_open, normal, same_or_close
from networks import make

import lstmkernel as lk

#: Networks and rows.
CASES = [
    ("few units", 1),
    ("two blocks and a tail", 3),
    ("batch first", 70),
    ("whole blocks, projected", 2),
]


def stack_on(lstm):
    """lstm, a Dense layer, a second LSTM and another Dense layer."""
    kind = {"dtype": lstm.dtype, "backend": lstm.backend, "seed": 1}
    above = lk.LSTM(4, 6, batch_first=lstm.batch_first, **kind)
    return lk.Stack([lstm, lk.Dense(lstm.out_features, 4, "relu", **kind), above, lk.Dense(6, 3, "softmax", **kind)])


def time_first(net, x):
    return x.swapaxes(0, 1) if net.batch_first else x


def in_chunks(stream, net, x, random):
    """out (T, B, ...), from chunks of 0 to 4 steps and from single steps, with and without out=."""
    parts, t = [], 0
    while t < len(x):
        size = int(random.integers(0, 5))
        step = size == 1
        part = x[t] if step else np.ascontiguousarray(time_first(net, x[t : t + size]))
        y = np.empty((*part.shape[:-1], net.out_features), x.dtype) if random.random() < 0.5 else None
        got = stream.step(part, out=y) if step else stream(part, out=y)
        assert y is None or got is y
        parts.append(got[None] if step else time_first(net, got))
        t += size
    return np.concatenate(parts)


@pytest.mark.parametrize("kind", ["LSTM", "Stack"])
@pytest.mark.parametrize(("network", "B"), CASES)
def test_chunks_give_the_bits_of_the_whole(backend, dtype, random, network, B, kind):
    lstm = make(network, backend, dtype)
    net = lstm if kind == "LSTM" else stack_on(lstm)
    x = normal(random, (40, B, 3), dtype)
    whole, last = net(time_first(net, x))
    stream = net.stream(B)
    got = in_chunks(stream, net, x, random)
    pairs = [(got, time_first(net, whole))]
    states = zip([stream.state] if kind == "LSTM" else stream.state, [last] if kind == "LSTM" else last, strict=True)
    pairs += [pair for got_state, state in states for pair in zip(got_state, state, strict=True)]
    for g, w in pairs:
        same_or_close(g, w, lstm)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("B", [pytest.param(1, marks=pytest.mark.slow), 97])
def test_long_chunks_of_one_shape(backend, random, B, threads):
    """So long that time goes up through the layers chunk by chunk. From the second one on, they are prepared calls."""
    kernels = Watched(backend)
    stream = make("two blocks and a tail", kernels.name, num_threads=threads).stream(B)
    x = normal(random, (2 * (9000 // B), B, 3), "float32")
    got = np.concatenate([stream(part) for part in np.split(x, 2)])
    lstm = make("two blocks and a tail", backend, num_threads=threads)
    whole, prepared = len(kernels.of("lstm_forward")), len(kernels.of("advance"))
    assert (whole, prepared) == (1, 1) or (whole > 2 and prepared == 0), "none where a chunk is cut into calls"
    same_or_close(got, lstm(x)[0], lstm)


def test_more_shapes_than_are_remembered(random):
    lstm = lk.LSTM(3, 4, seed=0)
    kernels = Watched(lstm.backend)
    stream, same = lk.LSTM(3, 4, backend=kernels.name, seed=0).stream(), lstm.stream()
    for steps in (1, 2, 3, 4, 5, 6, 5, 4, 1, 2, 1, 2, *range(1, 20)):
        x = normal(random, (steps, 1, 3), "float32")
        np.testing.assert_array_equal(stream(x), [same.step(x_t) for x_t in x])
        assert len(kernels.prepared["prepare_advance"]) <= 2 * (1 + 4), (
            "both ways for a step and for 4 lengths of chunks"
        )


@pytest.mark.parametrize("kind", ["LSTM", "Stack"])
def test_one_row_alone(backend, random, kind):
    net = make("plain", backend)
    net = net if kind == "LSTM" else stack_on(net)
    x = normal(random, (5, 5), "float32")
    whole, _ = net(x)
    stream, width = net.stream(), net.out_features
    got = [stream.step(x[0]), *stream(x[1:3]), stream.step(x[3:4])[0], stream(x[4:][:, None])[0, 0]]
    assert_close(np.array(got), whole, "float32")
    assert stream.step(x[0]).shape == (width,)
    assert stream(x).shape == (5, width)


def mono(kind, backend):
    """A network of one input and one output."""
    options = {"backend": backend, "seed": 0}
    if kind == "LSTM":
        return lk.LSTM(1, 1, **options)
    lstm = lk.LSTM(1, 6, batch_first=kind == "batch first", initial_state=True, **options)
    return lk.Stack([lstm, lk.Dense(6, 1, **options)], skip=kind == "skip")


@pytest.mark.parametrize("kind", ["LSTM", "batch first", "skip"])
def test_a_mono_sound(backend, random, kind):
    net, sound = mono(kind, backend), normal(random, 24, "float32")
    expected, stream, out = net(sound[:, None])[0][:, 0], net.stream(), np.empty(6, "float32")
    blocks = [stream(sound[:6]), stream(sound[6:12]), stream(sound[12:18], out), stream(sound[18:22, None])[:, 0]]
    samples = [stream.step(float(sound[22])), stream.step(sound[23], np.empty((), "float32"))]
    assert blocks[2] is out
    assert [sample.shape for sample in samples] == [(), ()]
    assert_close(np.concatenate([*blocks, samples]), expected, "float32")


def test_a_mono_sound_is_for_one_input_one_output_and_one_row():
    for net, B, shapes in ((lk.LSTM(1, 2), 1, r"\(T, B, I\) or \(T, I\)"), (lk.LSTM(1, 1), 2, r"\(T, B, I\)")):
        stream = net.stream(B)
        with pytest.raises(ValueError, match=rf"chunk: expected shape {shapes} with B = {B} and I = 1, got \(5,\)"):
            stream(np.zeros(5, "f4"))
        with pytest.raises(ValueError, match=r"x_t: expected shape .*, got \(\)"):
            stream.step(0.5)


def test_other_layouts_are_taken_as_calls_take_them(random):
    stream, same = lk.LSTM(3, 4, seed=0).stream(2), lk.LSTM(3, 4, seed=0).stream(2)
    x = normal(random, (2, 3), "float32")
    for strange in (np.asfortranarray(x), x.astype(">f4"), x.tolist(), x[:, ::-1].copy()[:, ::-1], np.float64(x)):
        np.testing.assert_array_equal(stream.step(strange), same.step(x))
    unaligned = np.frombuffer(b"\0" + x.tobytes(), np.uint8)[1:].view("float32").reshape(2, 3)
    np.testing.assert_array_equal(stream.step(unaligned), same.step(x))


# ---------------------------------------------------------------- states


@pytest.mark.parametrize("kind", ["LSTM", "Stack"])
def test_states_are_copies(backend, random, kind):
    net = make("two blocks and a tail", backend)
    net = net if kind == "LSTM" else stack_on(net)
    stream, x = net.stream(2), normal(random, (6, 2, 3), "float32")
    stream(x[:2])
    state = stream.state
    first = stream(x[2:])
    stream.state = state
    for part in [state] if kind == "LSTM" else state:
        part[0][...] = np.nan
    np.testing.assert_array_equal(stream(x[2:]), first)
    stream.state = None
    assert_close(stream(x), net(x)[0], "float32")


def test_reset(backend, random):
    net = stack_on(make("few units", backend))
    stream, x = net.stream(3), normal(random, (4, 3, 3), "float32")
    stream(x)
    stream.reset([True, False, True])
    got = stream(x[:2])
    anew, on = net(x[:2])[0], net(np.concatenate([x, x[:2]]))[0][4:]
    assert_close(got, np.where(np.array([True, False, True])[:, None], anew, on), "float32")
    stream.reset()
    assert_close(stream(x), net(x)[0], "float32")


def test_the_weights_are_those_of_the_start(backend, random):
    lstm, x = make("few units", backend), normal(random, (4, 1, 3), "float32")
    expected, _ = lstm(x)
    stream = lstm.stream()
    lstm.load_state_dict({name: 0 * value for name, value in lstm.state_dict().items()})
    assert_close(np.concatenate([stream(x[:2]), stream.step(x[2])[None], stream(x[3:])]), expected, "float32")


def test_pickle_and_copy(backend, random):
    stream, x = make("few units", backend).stream(2), normal(random, (4, 2, 3), "float32")
    stream(x)
    others = [pickle.loads(pickle.dumps(stream)), copy.deepcopy(stream)]
    expected = stream.step(x[0])
    for other in others:
        np.testing.assert_array_equal(other.step(x[0]), expected)


# ---------------------------------------------------------------- refused


#: The stream has seen a chunk of the first shape.
CHUNK, NEW_CHUNK = np.zeros((2, 2, 3), "f4"), np.zeros((3, 2, 3), "f4")
REFUSED = [
    (lambda s: s.step(np.zeros((3, 3), "f4")), ValueError, r"x_t: expected shape \(2, 3\), got \(3, 3\)"),
    (lambda s: s.step(np.zeros(3, "f4")), ValueError, r"x_t: expected shape \(2, 3\), got \(3,\)"),
    (lambda s: s.step(np.zeros((2, 3), complex)), TypeError, "x_t: expected real numbers"),
    (lambda s: s.step(np.zeros((2, 3), "f4"), np.zeros((2, 3), "f4")), ValueError, r"out: expected shape \(2, 4\)"),
    (lambda s: s.step(np.zeros((2, 3), "f4"), np.zeros((2, 4))), TypeError, "out: expected dtype float32"),
    (lambda s: s.step(np.zeros((2, 3), "f4"), [0]), TypeError, "out: expected a NumPy array"),
    (lambda s: s.step(np.zeros((2, 3), "f4"), np.zeros((4, 2), "f4").T), ValueError, "out: expected a C-contiguous"),
    (lambda s: s(np.zeros((5, 3), "f4")), ValueError, r"chunk: expected shape \(T, B, I\) with B = 2"),
    (lambda s: s(np.zeros((5, 1, 3), "f4")), ValueError, r"chunk: expected .* got \(5, 1, 3\)"),
    (lambda s: s(CHUNK, np.zeros((2, 2, 3), "f4")), ValueError, r"out: expected shape \(2, 2, 4\), got \(2, 2, 3\)"),
    (lambda s: s(CHUNK, np.zeros((2, 2, 4))), TypeError, "out: expected dtype float32"),
    (lambda s: s(CHUNK, [0]), TypeError, "out: expected a NumPy array"),
    (
        lambda s: s(NEW_CHUNK, np.zeros((3, 2, 3), "f4")),
        ValueError,
        r"out: expected shape \(3, 2, 4\), got \(3, 2, 3\)",
    ),
    (lambda s: s(NEW_CHUNK, np.zeros((3, 4, 2), "f4").swapaxes(1, 2)), ValueError, "out: expected a C-contiguous"),
    (lambda s: s.reset([True]), ValueError, r"mask: expected shape \(B,\)"),
    (lambda s: s.reset([1, 0]), TypeError, "mask: expected bool"),
    (lambda s: setattr(s, "state", (1, 2, 3)), TypeError, r"state: expected a pair \(h_0, c_0\)"),
    (lambda s: setattr(s, "state", (np.zeros((1, 2, 4)), np.zeros((1, 1, 4)))), ValueError, "c_0: expected shape"),
]


@pytest.mark.parametrize(("call", "error", "message"), REFUSED)
def test_refused_and_nothing_changed(backend, random, call, error, message):
    stream = lk.LSTM(3, 4, backend=backend, seed=0).stream(2)
    stream(normal(random, (2, 2, 3), "float32"))
    before = stream.state
    with pytest.raises(error, match=message):
        call(stream)
    for now, then in zip(stream.state, before, strict=True):
        np.testing.assert_array_equal(now, then)


@pytest.mark.parametrize("kind", ["LSTM", "Stack"])
def test_out_that_overlaps_x_is_refused(backend, random, kind):
    net = lk.LSTM(3, 3, backend=backend, seed=0)
    stream = (net if kind == "LSTM" else lk.Stack([net, lk.Dense(3, 3, backend=backend)])).stream(2)
    memory = normal(random, (4, 3), "float32")
    kept, before = memory.copy(), stream.step(memory[:2])
    stream.reset()
    for out in (memory[:2], memory[1:3]):
        with pytest.raises(ValueError, match="out: overlaps x_t"):
            stream.step(memory[:2], out)
    chunk = memory[:2, None].repeat(2, axis=1)
    for _ in range(2):  # the second time its shape is known
        for out in (chunk, chunk.reshape(-1)[::-1][::-1].reshape(chunk.shape)):
            with pytest.raises(ValueError, match="out: overlaps chunk"):
                stream(chunk, out)
        stream(chunk)
        stream.reset()
    np.testing.assert_array_equal(memory, kept)
    np.testing.assert_array_equal(stream.step(memory[:2], memory[2:]), before)


def test_backwards_is_refused():
    for net in (lk.LSTM(2, 3, bidirectional=True), lk.Stack([lk.LSTM(2, 3), lk.LSTM(3, 4, bidirectional=True)])):
        with pytest.raises(
            ValueError, match=r"LSTM\(.*\) cannot stream: its backward direction needs the whole sequence first"
        ):
            net.stream()


# ---------------------------------------------------------------- threads and interrupts


def test_32_threads_with_a_stream_each(backend, random):
    lstm = lk.LSTM(8, 40, 2, backend=backend, seed=0, num_threads=2)
    inputs = normal(random, (32, 50, 1, 8), "float32")
    expected = [
        np.concatenate([stream.step(x)[None] for x in inputs[i]])
        for i, stream in enumerate(lstm.stream() for _ in range(32))
    ]
    got = [None] * 32

    def run(i):
        stream = lstm.stream()
        got[i] = np.concatenate([stream.step(x)[None] for x in inputs[i]])

    threads = [threading.Thread(target=run, args=(i,)) for i in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for g, e in zip(got, expected, strict=True):
        np.testing.assert_array_equal(g, e)


def test_two_threads_at_once_are_refused(random):
    inside, done, got = threading.Event(), threading.Event(), []
    stream = lk.LSTM(8, 5, 2, backend=held_open(inside, done), seed=0).stream()
    x = normal(random, (40, 1, 8), "float32")
    expected = lk.LSTM(8, 5, 2, backend="numpy", seed=0)(x)[0]
    thread = threading.Thread(target=lambda: got.append(stream(x)))
    thread.start()
    assert inside.wait(30)
    try:
        for call in (lambda: stream.step(x[0]), lambda: stream(x), stream.reset, lambda: stream.state):
            with pytest.raises(RuntimeError, match="by another thread: give each thread a stream of its own"):
                call()
    finally:
        done.set()
        thread.join()
    np.testing.assert_array_equal(got[0], expected)


def test_an_interrupt_changes_nothing(random):
    stream = lk.LSTM(8, 1024, 2, seed=0).stream()
    stream.step(normal(random, (1, 8), "float32"))
    before, x = stream.state, np.zeros((20_000, 1, 8), "float32")
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    start = time.perf_counter()
    with pytest.raises(KeyboardInterrupt):
        stream(x)
    assert time.perf_counter() - start < 5  # seconds: the whole takes 10 and more
    for now, then in zip(stream.state, before, strict=True):
        np.testing.assert_array_equal(now, then)


class AlarmError(Exception):
    """Comes between any two lines, as KeyboardInterrupt does."""


def interrupt(*_):
    raise AlarmError


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs a timer of microseconds")
@pytest.mark.parametrize("kind", ["LSTM", "Stack"])
def test_an_interrupted_step_was_not_taken(kind, random):
    lstms = [lk.LSTM(1, 1, seed=0), lk.LSTM(1, 1, seed=1)]
    stream, x = (lstms[0] if kind == "LSTM" else lk.Stack(lstms)).stream(), np.ones((1, 1), "float32")
    out, interrupted, previous = np.empty((1, 1), "float32"), 0, signal.signal(signal.SIGALRM, interrupt)
    try:
        for _ in range(500):
            before, taken, inside = stream.state, 0, False
            try:
                signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-6, 2e-5))
                for taken in range(100):  # noqa: B007
                    stream.step(x, out)
            except AlarmError as error:
                inside = "step" in [frame.name for frame in traceback.extract_tb(error.__traceback__)]
                interrupted += inside
            signal.setitimer(signal.ITIMER_REAL, 0)
            after, stream.state = stream.state, before
            for _ in range(taken):
                stream.step(x, out)
            if not inside and not np.array_equal(after, stream.state):  # after the last one had returned
                stream.step(x, out)
            np.testing.assert_array_equal(after, stream.state)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    assert interrupted > 50


# ---------------------------------------------------------------- memory and system calls


@pytest.mark.parametrize("steps", [1, 7])
def test_a_step_or_chunk_leaves_no_memory_behind(backend, steps):
    stream = lk.LSTM(8, 40, 2, backend=backend, seed=0).stream()
    x, out = np.ones((steps, 8), "float32"), np.empty((steps, 40), "float32")
    call = stream.step if steps == 1 else stream
    for _ in range(10):
        call(x, out)
    tracemalloc.start()
    try:
        for _ in range(3):
            call(x, out)
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        for _ in range(1000 // steps):
            call(x, out)
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 100  # bytes, of all steps
    if backend.startswith("c:"):
        assert peak - before < 600  # the call's own arguments, freed when it returns


@pytest.mark.parametrize("skip", [0, 0.5])
def test_prepared_chunks_of_several_rows_that_come_first(random, skip):
    """From the second chunk of a shape on, they go through memory that was made once."""
    net = lk.Stack([lk.LSTM(3, 5, batch_first=True, seed=0), lk.Dense(5, 2, seed=1)], skip=skip)
    for model in (net, net.layers[0]):
        stream, x = model.stream(4), normal(random, (4, 60, 3), "float32")
        expected, _ = model(x)
        for start in range(0, 60, 6):
            chunk, out = x[:, start : start + 6].copy(), np.full((4, 6, model.out_features), 7, "float32")
            assert stream(chunk, out=out) is out
            assert_same_bits(out, expected[:, start : start + 6])
        both = np.zeros(4 * 6 * 8, "float32")
        chunk, out = both[:72].reshape(4, 6, 3), both[10 : 10 + out.size].reshape(out.shape)
        before = stream.state
        with pytest.raises(ValueError, match="out: overlaps chunk"):
            stream(chunk, out=out)
        assert repr(stream.state) == repr(before)
