"""C kernels with a layer's sizes as constants: the same bits as the general ones."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import assert_same_answer, compiler_is_missing, normal, on_backend, random_state, usable

import lstmkernel as lk
from lstmkernel import backends
from lstmkernel.backends.c import specialised
from lstmkernel.backends.c.specialised import SPECIALISED

ISAS = [name.removeprefix("c:") for name in usable(backends.ONE_ANSWER) if name.startswith("c:")]

pytestmark = [
    pytest.mark.skipif(bool(compiler_is_missing()), reason=compiler_is_missing() or "-"),
    pytest.mark.skipif(not ISAS, reason="no instruction set with one answer"),
]

#: Networks, by what is special about their kernels.
NETWORKS = {
    "one block": {"input_size": 1, "hidden_size": 16},
    "odd few units": {"input_size": 2, "hidden_size": 9, "num_layers": 2},
    "three blocks, the last half full": {"input_size": 1, "hidden_size": 40},
    "two blocks, the last a quarter full": {"input_size": 3, "hidden_size": 20},
    "half a block": {"input_size": 2, "hidden_size": 7},
    "a quarter of a block": {"input_size": 1, "hidden_size": 2, "bidirectional": True},
    "too much for one tile": {"input_size": 8, "hidden_size": 53},
    "many inputs of few units": {"input_size": 150, "hidden_size": 7},
    "many inputs of three units": {"input_size": 300, "hidden_size": 3},
    "inputs by themselves": {"input_size": 60, "hidden_size": 40},
    "many inputs": {"input_size": 33, "hidden_size": 24, "bidirectional": True},
    "many blocks": {"input_size": 3, "hidden_size": 90},
    "projected": {"input_size": 5, "hidden_size": 17, "proj_size": 6, "num_layers": 2},
}


def on_specialised(lstm, isa):
    return on_backend(lstm, specialised.backend(isa, lstm.dtype, lstm.shape.layer_sizes())[0])


#: Compiling takes seconds. float64 has half the lanes, so its blocks end where some of float32's do.
KINDS = [*((network, "float32") for network in NETWORKS), *((network, "float64") for network in [*NETWORKS][::3])]


@pytest.mark.slow
@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("network", "dtype"), KINDS)
def test_specialised_kernels_give_the_same_bits(kept, dtype, random, network, isa, monkeypatch):
    """And compile without warnings."""
    strict = ("-Wall", "-Wextra", "-Werror", "-Wno-unused-function")
    monkeypatch.setattr(specialised, "FLAGS", (*(flag for flag in specialised.FLAGS if flag != "-w"), *strict))
    lstm = lk.LSTM(**NETWORKS[network], dtype=dtype, backend=f"c:{isa}", num_threads=1, seed=0)
    fast = on_specialised(lstm, isa)
    assert fast.backend == f"c:{isa}{SPECIALISED}"
    for T, B in [(1, 1), (64, 1), (300, 1), (7, 2), (5, 40), (0, 1), (3, 0)]:
        x, state = normal(random, (T, B, lstm.input_size), dtype), random_state(random, lstm, B)
        assert_same_answer(fast(x, state), lstm(x, state), f"T={T}, B={B}")
        lengths = random.integers(0, T + 1, B)
        assert_same_answer(fast(x, state, lengths=lengths), lstm(x, state, lengths=lengths), f"lengths {lengths}")


@pytest.mark.slow
@pytest.mark.parametrize("isa", ISAS)
def test_specialised_kernels_on_threads(kept, random, isa, monkeypatch):
    monkeypatch.setattr("lstmkernel.host.cores.available", lambda: 4)
    lstm = lk.LSTM(40, 130, 2, backend=f"c:{isa}", num_threads=3, seed=0)
    x = normal(random, (30, 1, 40), "float32")
    expected = lk.LSTM.from_config({**lstm.config(), "num_threads": 1}, lstm.state_dict())(x)
    fast = on_specialised(lstm, isa)
    for _ in range(20):
        assert_same_answer(fast(x), expected)


@pytest.mark.slow
def test_specialised_kernels_keep_to_their_arrays(kept, random):
    """h and c of one row of 9 units lie between others' in a larger batch's arrays."""
    lstm = lk.LSTM(2, 9, num_threads=1, seed=0)
    fast = on_specialised(lstm, ISAS[0])
    out = np.full((6, 1, 9), np.nan, "float32")
    x = normal(random, (6, 1, 2), "float32")
    fast(x, out=out)
    assert_same_answer((out, lstm(x)[1]), lstm(x))
