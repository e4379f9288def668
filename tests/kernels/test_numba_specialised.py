"""Numba's kernels of constant sizes for one row, against its general ones: the same bits."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import assert_same_answer, normal, on_backend, random_state

pytest.importorskip("numba")

import lstmkernel as lk
from lstmkernel.backends import BackendError
from lstmkernel.backends.numba import specialised
from lstmkernel.backends.numba.target import VECTOR_BYTES
from lstmkernel.engine import call_length

#: Sizes on both sides of what a kernel's code depends on: lanes, runs of 4 inputs, few units.
NETWORKS = [
    {"input_size": 1, "hidden_size": 1},
    {"input_size": 1, "hidden_size": 3, "num_layers": 3},
    {"input_size": 5, "hidden_size": 8, "num_layers": 2},
    {"input_size": 4, "hidden_size": 15},
    {"input_size": 3, "hidden_size": 16},
    {"input_size": 2, "hidden_size": 17},
    {"input_size": 6, "hidden_size": 23, "bias": False, "batch_first": True},
]


def special(lstm):
    return on_backend(lstm, specialised.backend(lstm.shape.layer_sizes(), lstm.shape.backwards, lstm.dtype))


@pytest.mark.slow
@pytest.mark.skipif(VECTOR_BYTES < 32, reason="fewer units fit, and other tests have them all")
@pytest.mark.parametrize("network", NETWORKS, ids=str)
def test_the_same_bits(network, dtype, random):
    lstm = lk.LSTM(**network, dtype=dtype, backend="numba", num_threads=1, seed=0)
    if lstm.hidden_size * lstm.dtype.itemsize > 4 * VECTOR_BYTES:
        with pytest.raises(BackendError):
            special(lstm)
        return
    fast = special(lstm)
    assert fast.backend == "numba special"
    for T, B in [(1, 1), (64, 1), (3, 2), (0, 1), (3, 0)]:
        shape = (B, T) if lstm.batch_first else (T, B)
        x, state = normal(random, (*shape, lstm.input_size), dtype), random_state(random, lstm, B)
        for _ in range(2):  # the long way, and the short one
            assert_same_answer(fast(x, state), lstm(x, state), f"T={T}, B={B}")
        lengths = random.integers(0, T + 1, B)
        assert_same_answer(fast(x, state, lengths=lengths), lstm(x, state, lengths=lengths), f"lengths {lengths}")


@pytest.mark.slow
def test_of_a_large_batch_rows_come_one_by_one(random, monkeypatch):
    """h and c of the row lie between others' then."""
    lstm = lk.LSTM(2, 9, 2, backend="numba", num_threads=1, seed=0)
    x, state = normal(random, (5, 3, 2), "float32"), random_state(random, lstm, 3)
    expected = lstm(x, state)
    monkeypatch.setattr(call_length, "call_flops", lambda *_: 1)
    assert_same_answer(special(lstm)(x, state), expected)


@pytest.mark.slow
def test_nothing_beyond_its_arrays(random):
    lstm = lk.LSTM(2, 9, backend="numba", num_threads=1, seed=0)
    room = np.full(8 * 9, np.nan, "float32")
    out = room[9:-9].reshape(6, 1, 9)
    x = normal(random, (6, 1, 2), "float32")
    assert_same_answer(special(lstm)(x, out=out), lstm(x))
    assert np.isnan(room[:9]).all()
    assert np.isnan(room[-9:]).all()


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ({"hidden_size": 4, "bidirectional": True}, "are for one direction"),
        ({"hidden_size": 90}, "narrower layers than 3 -> 90"),
        ({"hidden_size": 8, "proj_size": 2}, "3 -> 8, projected to 2"),
    ],
)
def test_what_there_is_none_for(network, message):
    with pytest.raises(BackendError, match=message):
        special(lk.LSTM(3, **network, backend="numba", seed=0))
