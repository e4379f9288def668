"""reset=: an episode that starts inside a sequence gives the same bits as alone."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from helpers import Watched, assert_close, normal, random_state, same_or_close
from networks import make

import lstmkernel as lk

#: Networks and rows: one row and several, few units and many, lanes that are units and lanes that are rows.
CASES = [
    ("few units", 1),
    ("two blocks and a tail", 3),
    ("plain", 70),
    ("few units", 70),
    ("two directions with a tail", 40),
    ("projected", 4),
    ("projected, two directions", 4),
]


def marks(random, T, B):
    """Where episodes start: some have many steps, some have one, some start at step 0."""
    reset = random.random((T, B)) < 0.2
    reset[3:5, B // 2] = True
    return reset


def in_episodes(lstm, x, state, lengths, reset):
    """(out, (h_n, c_n)) of every episode of every row run alone."""
    T, B, _ = x.shape
    out = np.zeros((T, B, lstm.out_features), lstm.dtype)
    h_n, c_n = (part.copy() for part in state)
    D = 2 if lstm.bidirectional else 1
    forwards = np.arange(len(h_n)) % D == 0
    for b in range(B):
        starts = [0, *(t for t in range(1, lengths[b]) if reset[t, b]), lengths[b]]
        episodes = [(low, high) for low, high in pairwise(starts) if high > low]
        for place, (low, high) in enumerate(episodes):
            h, c = (part[:, b : b + 1].copy() for part in state)
            if low or reset[0, b]:  # the forward direction comes from another episode
                h[forwards], c[forwards] = 0, 0
            if place < len(episodes) - 1:  # the backward one does
                h[~forwards], c[~forwards] = 0, 0
            part, (h, c) = lstm(x[low:high, b : b + 1], (h, c))
            out[low:high, b] = part[:, 0]
            if place == len(episodes) - 1:
                h_n[forwards, b], c_n[forwards, b] = h[forwards, 0], c[forwards, 0]
            if place == 0:
                h_n[~forwards, b], c_n[~forwards, b] = h[~forwards, 0], c[~forwards, 0]
    return out, (h_n, c_n)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("network", "B"), CASES)
def test_episodes_alone(backend, dtype, random, network, B, threads):
    lstm = make(network, backend, dtype, num_threads=threads)
    if lstm.bidirectional:  # one layer: a second one would read both directions of the first one
        lstm = make(network, backend, dtype, num_threads=threads, num_layers=1)
    T = 17
    x, state = normal(random, (T, B, lstm.input_size), dtype), random_state(random, lstm, B)
    reset = marks(random, T, B)
    for lengths in (np.full(B, T), random.integers(0, T + 1, B)):
        given = None if (lengths == T).all() else lengths
        got = lstm(x, state, lengths=given, reset=reset)
        expected = in_episodes(lstm, x, state, lengths, reset)
        for g, e in zip((got[0], *got[1]), (expected[0], *expected[1]), strict=True):
            same_or_close(g, e, lstm)


def test_threads_that_share_a_layer(random, eight_cores):
    """Each thread of a team clears its own part of h, which the others read in the next step."""
    x, reset = normal(random, (60, 2, 3), "float32"), np.ones((60, 2), bool)
    alone, shared = (lk.LSTM(3, 160, num_threads=threads, seed=0) for threads in (1, 3))
    state = random_state(random, alone, 2)
    expected, _ = alone(x, state, reset=reset)
    for _ in range(100):
        np.testing.assert_array_equal(shared(x, state, reset=reset)[0], expected)


def test_two_layers_two_directions(backend, dtype, random):
    """In every layer the episodes start at the same steps."""
    lstm = lk.LSTM(3, 6, 2, bidirectional=True, dtype=dtype, backend=backend, seed=0)
    x = normal(random, (12, 1, 3), dtype)
    reset = np.zeros((12, 1), bool)
    reset[[0, 5, 9], 0] = True
    out, _ = lstm(x, reset=reset)
    for low, high in [(0, 5), (5, 9), (9, 12)]:
        alone, _ = lstm(x[low:high])
        assert_close(out[low:high], alone, dtype)


def test_in_short_calls(backend, random):
    """Long work is cut into calls: at any step, between any rows."""
    for bidirectional in (False, True):
        options = {"num_layers": 2, "bidirectional": bidirectional, "num_threads": 1, "seed": 0}
        lstm = lk.LSTM(3, 6, **options, backend=backend)
        x, state, reset = normal(random, (9, 5, 3), "float32"), random_state(random, lstm, 5), marks(random, 9, 5)
        lengths = np.array([9, 0, 4, 8, 9])
        expected = lstm(x, state, lengths=lengths, reset=reset)
        counts = []
        for gflops in (1e-6, 6e-4):  # calls of one step, and of a few
            kernels = Watched(backend, min_gflops=gflops)
            got = lk.LSTM(3, 6, **options, backend=kernels.name)(x, state, lengths=lengths, reset=reset)
            counts.append(len(kernels.of("lstm_forward")))
            for g, e in zip((got[0], *got[1]), (expected[0], *expected[1]), strict=True):
                assert_close(g, e, "float32")
        assert counts[0] > counts[1] > (2 if bidirectional else 1), counts


def test_layouts(random):
    lstm = lk.LSTM(3, 6, seed=0)
    rows_first = lk.LSTM(3, 6, batch_first=True)
    rows_first.load_state_dict(lstm.state_dict())
    x, reset = normal(random, (9, 2, 3), "float32"), marks(random, 9, 2)
    expected, _ = lstm(x, reset=reset)
    np.testing.assert_array_equal(rows_first(x.swapaxes(0, 1), reset=reset.T)[0].swapaxes(0, 1), expected)
    np.testing.assert_array_equal(lstm(x[:, 0], reset=reset[:, 0])[0], expected[:, 0])
    stack = lk.Stack([lstm, lk.Dense(6, 1, seed=0)])
    np.testing.assert_array_equal(stack(x, reset=reset)[0], stack.layers[1](expected))


@pytest.mark.parametrize(
    ("reset", "error", "message"),
    [
        (np.zeros((3, 4), bool), ValueError, r"reset: expected shape \(T, B\) = \(4, 3\), got \(3, 4\)"),
        (np.zeros((4, 3)), TypeError, "reset: expected bool, got float64"),
        (np.zeros((4, 3), int), TypeError, "reset: expected bool, got int64"),
    ],
)
def test_refused(reset, error, message):
    with pytest.raises(error, match=message):
        lk.LSTM(2, 3, seed=0)(np.zeros((4, 3, 2)), reset=reset)
