"""Pools: every stream gives the bits of a Stream of its own, no matter which others are in the same call. A call that
is refused changes nothing.
"""

from __future__ import annotations

import copy
import pickle
import signal
import threading
import traceback
import tracemalloc
from functools import partial

import numpy as np
import pytest
from helpers import Watched, assert_close, held_open, normal, same_or_close
from networks import each, make, with_head

import lstmkernel as lk
from lstmkernel import backends
from lstmkernel.host.compile_c import CompileError
from lstmkernel.tuning import candidates


@pytest.mark.parametrize("kind", ["LSTM", "Stack"])
@each("few units", "two blocks and a tail", "projected to a few")
def test_each_has_the_bits_of_its_own_stream(backend, dtype, random, network, kind):
    """They are opened, closed and reset, and advance in any order with any others."""
    lstm = make(network, backend, dtype)
    net = lstm if kind == "LSTM" else with_head(lstm)
    pool, alone = net.pool(40), {}
    for _ in range(60):
        for new in pool.open(random.integers(0, 40 - len(pool) + 1) // 4):
            alone[int(new)] = net.stream()
        ids = random.permutation(sorted(alone))
        again, gone = np.split(ids[: len(ids) // 4], [len(ids) // 8])
        pool.reset(again)
        for i in again:
            alone[i].reset()
        pool.close(gone)
        for i in gone:
            del alone[i]
        some = random.permutation(sorted(alone))[: random.integers(0, len(alone) + 1)].astype(np.int64)
        x = normal(random, (len(some), lstm.input_size), dtype)
        y = pool.step(some, x)
        expected = np.array([alone[i].step(row) for i, row in zip(some, x, strict=True)], dtype)
        same_or_close(y, expected.reshape(y.shape), lstm)
        assert len(pool) == len(alone)
        assert sorted(pool.ids) == sorted(alone)


def pairs(state):
    """The (h, c) of an LSTM, or those of a Stack, one after the other."""
    return [state] if isinstance(state[0], np.ndarray) else list(state)


@pytest.mark.parametrize("kind", ["LSTM", "Stack"])
@each("two blocks and a tail", "batch first", "learned state")
def test_chunks_states_and_forks(backend, random, network, kind):
    """Each stream has a twin, a ``Stream``. Chunks, states that are taken and given, and copies keep them alike."""
    lstm = make(network, backend)
    net = lstm if kind == "LSTM" else with_head(lstm)
    pool, twins = net.pool(40), {}

    def follow(ids, states):
        for row, i in enumerate(ids):
            twin = twins[int(i)] = net.stream()
            own = [(h[:, row : row + 1], c[:, row : row + 1]) for h, c in pairs(states)]
            twin.state = own[0] if kind == "LSTM" else own

    ids = pool.open(3)
    follow(ids, pool.state(ids))
    for _ in range(12):
        some = random.permutation(sorted(twins))[: random.integers(1, 6)]
        x = normal(random, (random.integers(0, 5), len(some), lstm.input_size), "float32")
        given = x.swapaxes(0, 1) if lstm.batch_first else x
        out = np.empty((*given.shape[:2], net.out_features), "float32") if random.random() < 0.5 else None
        y = pool(some, given, out)
        assert out is None or y is out
        for row, i in enumerate(some):
            same_or_close(y[row] if lstm.batch_first else y[:, row], twins[i](x[:, row]), lstm)
        for i in some:
            for got, right in zip(pairs(pool.state([i])), pairs(twins[i].state), strict=True):
                same_or_close(got[0], right[0], lstm)
                same_or_close(got[1], right[1], lstm)
        what = random.integers(0, 3)
        if what == 0 and len(pool) < 30:
            follow(pool.fork(some.repeat(2)), pool.state(some.repeat(2)))
        elif what == 1 and len(pool) < 30:
            follow(pool.open(len(some), pool.state(some)), pool.state(some))
        else:
            states = pool.state(some[::-1].copy())
            pool.set_state(some, states)
            follow(some, states)


def test_a_fork_goes_its_own_way(random):
    streams, x = lk.LSTM(3, 5, seed=0).pool(4), normal(random, (2, 3), "float32")
    first = streams.open()
    streams.step(first, x[:1])
    saved = streams.state(first)
    ahead = streams.step(first, x[1:])
    (copied,) = streams.fork(first)
    streams.set_state(first, saved)  # back to where it was
    np.testing.assert_array_equal(streams.step(first, x[1:]), ahead)
    np.testing.assert_array_equal(streams.step([copied], x[:1]), streams.step(first, x[:1]))
    streams.set_state(first, None)
    same = streams.open()
    np.testing.assert_array_equal(streams.step(first, x[:1]), streams.step(same, x[:1]))


def test_a_mono_sound(random):
    streams, sound = lk.LSTM(1, 1, seed=0).pool(3), normal(random, 7, "float32")
    alone = streams.open(2)[1:]
    np.testing.assert_array_equal(streams(alone, sound), lk.LSTM(1, 1, seed=0)(sound[:, None])[0][:, 0])


def test_many_rows_whose_lanes_are_rows(backend, random):
    """So many that their states are transposed, csrc/kernels/transposed.h; in two row groups, on two threads."""
    lstm = lk.LSTM(3, 6, backend=backend, num_threads=2, seed=0)
    streams, one = lstm.pool(300), lstm.stream(130)
    ids = streams.open(300)[::2][:130]
    for _ in range(3):
        x = normal(random, (130, 3), "float32")
        assert_close(streams.step(ids, x), one.step(x), "float32")


@pytest.mark.parametrize("kind", ["LSTM", "Stack"])
@pytest.mark.parametrize("many", ["pool", "stream"])
def test_a_step_of_very_many_rows_is_cut_into_calls(backend, random, kind, many):
    """So that Ctrl-C is heard between them. The layer that takes longest decides, here the Dense one."""
    x = normal(random, (20, 3), "float32")
    kernels = Watched(backend, min_gflops=5e-5)

    def network(backend):
        lstm = lk.LSTM(3, 3, 2, backend=backend, num_threads=1, seed=0)
        head = lk.Dense(3, 2000, backend=backend, seed=1)
        return lk.Stack([lstm, head]) if kind == "Stack" else lstm

    net, (expected, _) = network(kernels.name), network(backend)(np.stack([x, x, x]))
    streams = net.pool(20) if many == "pool" else net.stream(20)
    step = partial(streams.step, streams.open(20)[::-1]) if many == "pool" else streams.step
    memory = np.zeros(20 * net.out_features, "float32")
    with pytest.raises(ValueError, match="out: overlaps x"):
        step(memory[:60].reshape(20, 3), memory.reshape(20, -1))
    assert not kernels.of("advance")
    for right in expected:
        kernels.calls.clear()
        assert_close(step(x), right, "float32")
        calls = len(kernels.of("advance"))
        assert calls == 3, "of at most 8 rows, which take as long as one"


def test_ids_are_never_given_twice():
    streams = lk.LSTM(2, 3, seed=0).pool(3)
    seen = set()
    for _ in range(50):
        ids = streams.open(2)
        assert ids.dtype == np.int64
        assert not seen & set(ids.tolist())
        seen |= set(ids.tolist())
        streams.close(ids)
    assert len(streams) == 0


def test_more_sets_and_sizes_than_are_remembered(random):
    lstm = lk.LSTM(3, 5, seed=0)
    kernels = Watched(lstm.backend)
    streams, alone = lk.LSTM(3, 5, backend=kernels.name, seed=0).pool(80), [lstm.stream() for _ in range(80)]
    streams.open(80)
    tracemalloc.start()
    try:
        for _ in range(2):
            before, _ = tracemalloc.get_traced_memory()
            for size in range(16, 80):  # as many as are remembered
                some = random.permutation(80)[:size]
                x = normal(random, (size, 3), "float32")
                expected = [alone[i].step(row) for i, row in zip(some, x, strict=True)]
                np.testing.assert_array_equal(streams.step(some, x), expected)
                assert len(kernels.prepared["prepare_advance"]) <= 64
                kernels.calls.clear()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 100_000  # bytes, of 64 more sets


def test_kernels_with_constants(random):
    """A compiled model's pool runs on its kernels."""
    lstm = lk.LSTM(3, 12, seed=0)
    special = lstm.backend + candidates.SPECIALISED
    try:
        kernels, _ = candidates.build(special, lstm.shape.layer_sizes(), lstm.shape.backwards, lstm.dtype)
    except (backends.BackendError, CompileError) as reason:
        pytest.skip(str(reason))
    backends.register(kernels._replace(name="with constants"))
    streams, same = lk.LSTM(3, 12, backend="with constants", seed=0).pool(4), lstm.pool(4)
    ids = streams.open(4)
    same.open(4)
    for n in (1, 3, 4):
        x = normal(random, (n, 3), "float32")
        np.testing.assert_array_equal(streams.step(ids[:n], x), same.step(ids[:n], x))


def test_pickle_and_copy(random):
    streams, x = lk.LSTM(3, 5, seed=0).pool(4), normal(random, (2, 3), "float32")
    streams.close(streams.open(3)[:1])
    ids = streams.ids
    streams.step(ids[:1], x[:1])
    others = [pickle.loads(pickle.dumps(streams)), copy.deepcopy(streams)]
    expected, opened = streams.step(ids, x), streams.open()
    for other in others:
        np.testing.assert_array_equal(other.step(ids, x), expected)
        np.testing.assert_array_equal(other.open(), opened)


# ---------------------------------------------------------------- refused

X = np.zeros((2, 3), "f4")
CHUNK, STATE = np.zeros((5, 2, 3), "f4"), (np.zeros((1, 2, 3), "f4"), np.zeros((1, 2, 3), "f4"))
REFUSED = [
    (lambda p: p([0, 2], CHUNK), ValueError, "ids: no stream 2 is open"),
    (lambda p: p([1, 1], CHUNK), ValueError, "ids: stream 1 is named more than once"),
    (lambda p: p([0, 1], X), ValueError, r"chunk: expected shape \(T, B, I\) with B = 2 and I = 3, got \(2, 3\)"),
    (lambda p: p([0, 1], CHUNK, CHUNK), ValueError, "out: overlaps chunk"),
    (lambda p: p([0, 1], CHUNK, CHUNK[:4]), ValueError, r"out: expected shape \(5, 2, 3\), got \(4, 2, 3\)"),
    (lambda p: p.fork([0, 1, 1]), RuntimeError, "the pool is full: 3 streams asked for, 2 of 4 are free"),
    (lambda p: p.fork([2]), ValueError, "ids: no stream 2 is open"),
    (lambda p: p.state([-1]), ValueError, "ids: no stream -1 is open"),
    (lambda p: p.set_state([1, 1], STATE), ValueError, "ids: stream 1 is named more than once"),
    (lambda p: p.set_state([0, 2], STATE), ValueError, "ids: no stream 2 is open"),
    (lambda p: p.set_state([0], STATE), ValueError, r"h_0: expected shape \(L\*D, B, R\) = \(1, 1, 3\)"),
    (lambda p: p.open(1, STATE), ValueError, r"h_0: expected shape \(L\*D, B, R\) = \(1, 1, 3\)"),
    (lambda p: p.open(2, STATE[:1]), TypeError, r"state: expected a pair \(h_0, c_0\), got 1 of them"),
    (lambda p: p.step([0, 2], X), ValueError, "ids: no stream 2 is open"),
    (lambda p: p.step([0, 7], X), ValueError, "ids: no stream 7 is open"),
    (lambda p: p.step([0, -1], X), ValueError, "ids: no stream -1 is open"),
    (lambda p: p.step([1, 1], X), ValueError, "ids: stream 1 is named more than once"),
    (lambda p: p.step([0, 1, 3], X), ValueError, r"x: expected shape \(n, I\) = \(3, 3\), got \(2, 3\)"),
    (lambda p: p.step([0, 1], X[:, :2]), ValueError, r"x: expected shape \(n, I\) = \(2, 3\), got \(2, 2\)"),
    (lambda p: p.step([0.0, 1.0], X), TypeError, "ids: expected integers, got float64"),
    (lambda p: p.step([[0, 1]], X), ValueError, r"ids: expected shape \(n,\), got \(1, 2\)"),
    (lambda p: p.step([0, 1], X, np.zeros((2, 5), "f4")), ValueError, r"out: expected shape \(2, 3\)"),
    (lambda p: p.step([0, 1], X, X), ValueError, "out: overlaps x"),
    (lambda p: p.close([0, 0]), ValueError, "ids: stream 0 is named more than once"),
    (lambda p: p.close([0, 2]), ValueError, "ids: no stream 2 is open"),
    (lambda p: p.reset([0, 2]), ValueError, "ids: no stream 2 is open"),
    (lambda p: p.open(3), RuntimeError, "the pool is full: 3 streams asked for, 2 of 4 are free"),
    (lambda p: p.open(-1), ValueError, "n: expected at least 0, got -1"),
]


@pytest.mark.parametrize(("call", "error", "message"), REFUSED)
def test_refused_and_nothing_moved(backend, random, call, error, message):
    streams = lk.LSTM(3, 3, backend=backend, seed=0).pool(4)
    streams.open(3)
    streams.close([2])
    ids = streams.ids
    streams.step(ids, normal(random, (2, 3), "float32"))
    same = copy.deepcopy(streams)
    with pytest.raises(error, match=message):
        call(streams)
    np.testing.assert_array_equal(streams.ids, same.ids)
    x = normal(random, (2, 3), "float32")
    np.testing.assert_array_equal(streams.step(ids, x), same.step(ids, x))


def test_a_closed_id_is_refused_after_it_was_used():
    streams = lk.LSTM(3, 3, seed=0).pool(4)
    ids = streams.open(2)
    streams.step(ids, X)
    streams.close(ids[:1])
    with pytest.raises(ValueError, match="no stream 0 is open"):
        streams.step(ids, X)


def test_what_a_closed_slot_holds_is_no_id():
    streams = lk.LSTM(3, 3, seed=0).pool(3)
    streams.close(streams.open(3)[1:2])
    for no_id in range(-20, 0):
        with pytest.raises(ValueError, match=f"no stream {no_id} is open"):
            streams.step([no_id], X[:1])


def test_backwards_and_sizes_are_refused():
    with pytest.raises(ValueError, match="needs the whole sequence first"):
        lk.LSTM(2, 3, bidirectional=True).pool(4)
    with pytest.raises(ValueError, match="capacity: expected at least 1, got 0"):
        lk.LSTM(2, 3).pool(0)


def test_two_threads_at_once_are_refused():
    inside, done = threading.Event(), threading.Event()
    streams = lk.LSTM(3, 3, backend=held_open(inside, done), seed=0).pool(4)
    ids = streams.open(2)
    thread = threading.Thread(target=streams.step, args=(ids, X))
    thread.start()
    assert inside.wait(30)
    try:
        for call in (
            lambda: streams.step(ids, X),
            streams.open,
            lambda: streams.close(ids),
            lambda: streams.reset(ids),
            lambda: streams(ids, CHUNK),
            lambda: streams.fork(ids),
            lambda: streams.state(ids),
            lambda: streams.set_state(ids, STATE),
        ):
            message = "this pool is in use by another thread: guard it with a lock, or step it from one thread"
            with pytest.raises(RuntimeError, match=message):
                call()
    finally:
        done.set()
        thread.join()
    streams.step(ids, X)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs a timer of microseconds")
def test_an_interrupted_step_was_taken_by_none(random):
    streams, x = lk.LSTM(3, 3, seed=0).pool(8), normal(random, (8, 3), "float32")
    ids, interrupted = streams.open(8), 0

    class AlarmError(Exception):
        pass

    def interrupt(*_):
        raise AlarmError

    def states(of):
        """Seen in the next step, which depends on all of them."""
        return copy.deepcopy(of).step(ids, x)

    previous = signal.signal(signal.SIGALRM, interrupt)
    try:
        for _ in range(500):
            before, taken, inside = copy.deepcopy(streams), 0, False
            try:
                signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-6, 4e-5))
                for taken in range(100):  # noqa: B007
                    streams.step(ids, x)
            except AlarmError as error:
                inside = "step" in [frame.name for frame in traceback.extract_tb(error.__traceback__)]
                interrupted += inside
            signal.setitimer(signal.ITIMER_REAL, 0)
            for _ in range(taken):
                before.step(ids, x)
            if not inside and not np.array_equal(states(streams), states(before)):  # after the last one had returned
                before.step(ids, x)
            np.testing.assert_array_equal(states(streams), states(before))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    assert interrupted > 50
