"""Pickles that an earlier version made (goldens/make_pickles.py) load, and the networks give the same answers.

A pickle names the module of each class, so this also shows that no public class has lost its path.
"""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from helpers import assert_close

import lstmkernel as lk

FOLDER = Path(__file__).parent / "goldens" / "pickles"
ANSWERS = np.load(FOLDER / "answers.npz")
X = ANSWERS["x"]  # (T, B, I)
#: The network that the pickled stream and pool belong to.
STREAMED = {"input_size": 3, "hidden_size": 4, "num_layers": 2, "backend": "numpy", "seed": 9}


def loaded(name):
    return pickle.loads((FOLDER / f"{name}.pkl").read_bytes())


@pytest.mark.parametrize(
    ("name", "kind", "dtype", "answer"),
    [
        ("lstm", lk.LSTM, "float32", lambda net: net(X.swapaxes(0, 1))[0]),
        ("lstm_float64", lk.LSTM, "float64", lambda net: net(X)[0]),
        ("variant", lk.LSTM, "float32", lambda net: net(X)[0]),
        ("cell", lk.LSTMCell, "float32", lambda net: net(X[0])[0]),
        ("dense", lk.Dense, "float32", lambda net: net(X)),
        ("stack", lk.Stack, "float32", lambda net: net(X)[0]),
    ],
)
def test_a_network_gives_the_same_answer(name, kind, dtype, answer):
    net = loaded(name)
    assert type(net) is kind
    assert_close(answer(net), ANSWERS[name], dtype)


def test_a_variant_is_the_same():
    assert loaded("plain_variant") == lk.Variant(coupled="input", activations=("sigmoid", ("elu", 0.5), "relu"))


def test_a_stream_goes_on_from_its_state():
    stream, later = loaded("stream"), X[::-1] + 1
    assert type(stream) is lk.Stream
    whole, _ = lk.LSTM(**STREAMED)(np.concatenate([X, later]))
    assert_close(stream(later), whole[len(X) :], "float32")


def test_a_pool_goes_on_from_its_states():
    pool = loaded("pool")
    assert type(pool) is lk.Pool
    whole, _ = lk.LSTM(**STREAMED)(X)
    assert_close(pool.step([0, 1], X[1]), whole[1], "float32")
    assert list(pool.open(1)) == [2]


def test_a_trace_holds_the_same_numbers():
    trace, net = loaded("trace"), loaded("lstm_float64")
    assert type(trace) is lk.Trace
    for got, expected in zip(trace, lk.trace(net, X.astype("float64")), strict=True):
        assert_close(got, expected, "float64")


def test_a_gradient_flow_holds_the_same_numbers():
    flow = loaded("flow")
    assert type(flow) is lk.GradientFlow
    expected = lk.gradient_flow(lk.LSTM(3, 4, backend="numpy", seed=8), X)
    for got, reference in zip(flow, expected, strict=True):
        np.testing.assert_allclose(got, reference, rtol=1e-9)


@pytest.mark.parametrize("name", ["LSTM", "LSTMCell"])
def test_a_torch_module_gives_pytorchs_answer(name):
    torch = pytest.importorskip("torch")
    import lstmkernel.torch

    module = torch.load(FOLDER / f"torch_{name.lower()}.pt", weights_only=False)
    assert type(module) is getattr(lstmkernel.torch, name)
    torch.manual_seed(0)
    reference = getattr(torch.nn, name)(3, 4)
    x = torch.from_numpy(X if name == "LSTM" else X[0])
    with torch.no_grad():
        assert_close(module(x)[0].numpy(), reference(x)[0].numpy(), "float32")
