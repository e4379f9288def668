"""reset=: an episode that begins in the midst of a sequence has the bits that it has alone."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from helpers import assert_close, normal, random_state

import lstmkernel as lk
from lstmkernel.engine import call_length

#: One row and several, few units and many, lanes that are units and lanes that are rows, projections.
NETWORKS = [
    ({"hidden_size": 5}, 1),
    ({"hidden_size": 33, "num_layers": 2}, 3),
    ({"hidden_size": 12}, 70),
    ({"hidden_size": 20, "num_layers": 2, "bidirectional": True}, 40),
    ({"hidden_size": 9, "proj_size": 4, "bidirectional": True}, 4),
]


def marks(random, T, B):
    """Episodes of some steps, some of one step, some that begin at step 0."""
    reset = random.random((T, B)) < 0.2
    reset[3:5, B // 2] = True
    return reset


def in_episodes(lstm, x, state, lengths, reset):
    """Every episode of every row alone: (out, (h_n, c_n)) in float64 or in the model's own kernels."""
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
@pytest.mark.parametrize(("network", "B"), NETWORKS, ids=str)
def test_episodes_alone(backend, dtype, random, network, B, threads):
    if network.get("bidirectional") and network.get("num_layers", 1) > 1:
        network = {**network, "num_layers": 1}  # a row's second layer reads both sides of the first one
    lstm = lk.LSTM(3, **network, dtype=dtype, backend=backend, num_threads=threads, seed=0)
    T = 17
    x, state, reset = normal(random, (T, B, 3), dtype), random_state(random, lstm, B), marks(random, T, B)
    for lengths in (np.full(B, T), random.integers(0, T + 1, B)):
        given = None if (lengths == T).all() else lengths
        got = lstm(x, state, lengths=given, reset=reset)
        expected = in_episodes(lstm, x, state, lengths, reset)
        for g, e in zip((got[0], *got[1]), (expected[0], *expected[1]), strict=True):
            if backend in ("numpy", "c:generic"):
                assert_close(g, e, dtype)
            else:
                np.testing.assert_array_equal(g, e)


def test_threads_that_share_a_layer(random, monkeypatch):
    """Each clears its own part of h, which the others read in the next step."""
    monkeypatch.setattr("lstmkernel.host.cores.available", lambda: 3)
    x, reset = normal(random, (60, 2, 3), "float32"), np.ones((60, 2), bool)
    alone, shared = (lk.LSTM(3, 160, num_threads=threads, seed=0) for threads in (1, 3))
    state = random_state(random, alone, 2)
    expected, _ = alone(x, state, reset=reset)
    for _ in range(100):
        np.testing.assert_array_equal(shared(x, state, reset=reset)[0], expected)


def test_two_layers_two_directions(backend, dtype, random):
    """Layer by layer: each layer's episodes are cut alike."""
    lstm = lk.LSTM(3, 6, 2, bidirectional=True, dtype=dtype, backend=backend, seed=0)
    x = normal(random, (12, 1, 3), dtype)
    reset = np.zeros((12, 1), bool)
    reset[[0, 5, 9], 0] = True
    out, _ = lstm(x, reset=reset)
    for low, high in [(0, 5), (5, 9), (9, 12)]:
        alone, _ = lstm(x[low:high])
        assert_close(out[low:high], alone, dtype)


def test_in_short_calls(backend, random, monkeypatch):
    """Long work is cut into calls: at any step, between any rows."""
    for bidirectional in (False, True):
        lstm = lk.LSTM(3, 6, 2, bidirectional=bidirectional, backend=backend, num_threads=1, seed=0)
        x, state, reset = normal(random, (9, 5, 3), "float32"), random_state(random, lstm, 5), marks(random, 9, 5)
        lengths = np.array([9, 0, 4, 8, 9])
        expected = lstm(x, state, lengths=lengths, reset=reset)
        for work in (1, call_length.lstm_step_flops(lstm.shape) * 7):
            with monkeypatch.context() as patched:
                patched.setattr(call_length, "call_flops", lambda *_, work=work: work)
                got = lstm(x, state, lengths=lengths, reset=reset)
            for g, e in zip((got[0], *got[1]), (expected[0], *expected[1]), strict=True):
                assert_close(g, e, "float32")


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
