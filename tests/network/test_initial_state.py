"""A learned initial state, and a Stack that adds its input to its output: in calls, streams, pools and files."""

from __future__ import annotations

import copy
import pickle
from itertools import pairwise

import numpy as np
import pytest
from helpers import assert_close, assert_close_answer, assert_same_answer, assert_same_bits, normal, same_or_close
from networks import each, make, with_head

import lstmkernel as lk

every_network = each("few units", "learned state", "projected")


def learned(network="few units", backend="auto", dtype="float32", **more):
    return make(network, backend, dtype, initial_state=True, **more)


def without_initial_state(lstm):
    """The same layers, which begin with zeros; and a function of B: the states with which B rows of lstm begin."""
    weights = dict(lstm.state_dict())
    h, c = weights.pop("h_0"), weights.pop("c_0")
    twin = lk.LSTM.from_config({**lstm.config(), "initial_state": False}, weights)
    return twin, lambda B: (np.repeat(h[:, None], B, 1), np.repeat(c[:, None], B, 1))


def amplifier(network="few units", backend="auto", dtype="float32"):
    """A Stack that adds half of its input to its output."""
    return lk.Stack(with_head(learned(network, backend, dtype)).layers, skip=0.5)


# ---------------------------------------------------------------- calls


@every_network
@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_call_without_a_state_begins_there(backend, dtype, random, network, bidirectional):
    lstm = learned(network, backend, dtype, bidirectional=bidirectional)
    x = normal(random, (6, 4, lstm.input_size), dtype)
    twin, first = without_initial_state(lstm)
    for _ in range(2):  # the second call knows the shape
        assert_same_answer(lstm(x), twin(x, first(4)))
        out, (h, c) = lstm(x[:, 1])
        expected, (h_n, c_n) = twin(x[:, 1:2], first(1))
        assert_close_answer((out, (h, c)), (expected[:, 0], (h_n[:, 0], c_n[:, 0])), dtype)
    own = first(4)[0] + 1, first(4)[1]
    assert_same_answer(lstm(x, own), twin(x, own))
    lengths = [6, 0, 3, 1]
    assert_same_answer(lstm(x, lengths=lengths), twin(x, first(4), lengths=lengths))


def test_the_beginning_matters(random):
    lstm, x = learned(), normal(random, (3, 1, 3), "float32")
    assert not np.array_equal(lstm(x)[0], without_initial_state(lstm)[0](x)[0])


@every_network
@pytest.mark.parametrize("lengths", [None, [9, 4, 0]])
def test_episodes_begin_there(backend, dtype, random, network, lengths):
    lstm = learned(network, backend, dtype)
    x = normal(random, (9, 3, lstm.input_size), dtype)
    reset = random.random((9, 3)) < 0.3
    reset[4] = True
    out, (h, c) = lstm(x, lengths=lengths, reset=reset)
    for row, steps in enumerate(lengths or [9] * 3):
        starts = sorted({0, *np.flatnonzero(reset[:steps, row]), steps})
        for start, stop in pairwise(starts):
            episode, (h_n, c_n) = lstm(x[start:stop, row])
            assert_close(out[start:stop, row], episode, dtype)
        assert not out[steps:, row].any()
        if steps:
            assert_close(h[:, row], h_n, dtype)
            assert_close(c[:, row], c_n, dtype)


def test_two_directions_take_no_reset():
    with pytest.raises(ValueError, match="reset: expected None for a model with two directions and an initial_state"):
        learned(bidirectional=True)(np.zeros((2, 1, 3), "f4"), reset=np.zeros((2, 1), bool))


# ---------------------------------------------------------------- gradients


@every_network
def test_gradients_of_the_beginning_sum_over_the_rows(dtype, random, network):
    lstm = learned(network, dtype=dtype)
    x = normal(random, (6, 4, lstm.input_size), dtype)
    twin, first = without_initial_state(lstm)
    lengths, d_out = [6, 0, 3, 1], normal(random, (6, 4, lstm.out_features), dtype)
    out, state, tape = lstm.forward(x, lengths=lengths)
    assert_same_answer((out, state), lstm(x, lengths=lengths))
    found = lstm.backward(tape, d_out)
    expected = twin.backward(twin.forward(x, first(4), lengths=lengths)[2], d_out)
    assert {name: value.shape for name, value in found.items() if name != "x"} == lstm.parameter_shapes()
    for name, value in expected.items():
        assert_close(found[name], value.sum(axis=1) if name in ("h_0", "c_0") else value, dtype, name)
    own = lstm.backward(lstm.forward(x, first(4), lengths=lengths)[2], d_out)
    assert own["h_0"].shape == expected["h_0"].shape
    out, _, tape = lstm.forward(x[:, 0])
    found = lstm.backward(tape, np.ones_like(out))
    assert found["h_0"].shape == lstm.parameter_shapes()["h_0"]


# ---------------------------------------------------------------- streams and pools


@every_network
@pytest.mark.parametrize("kind", ["LSTM", "Stack"])
def test_streams_and_pools_begin_there(backend, dtype, random, network, kind):
    net = amplifier(network, backend, dtype)
    lstm, net = net.layers[0], net if kind == "Stack" else net.layers[0]
    x = normal(random, (8, 3, lstm.input_size), dtype)
    whole, _ = net(x)

    def same(got, expected):
        same_or_close(got, expected, lstm)

    stream, pool = net.stream(3), net.pool(4)
    same(np.concatenate([stream(x[:3]), stream.step(x[3])[None], stream(x[4:7]), stream(x[7:])]), whole)
    stream.reset([True, False, True])
    got = stream.step(x[0])
    same(got[::2], whole[0, ::2])
    assert not np.array_equal(got[1], whole[0, 1])
    stream.state = None
    same(stream(x), whole)
    ids = pool.open(3)
    same(np.array([pool.step(ids, x_t) for x_t in x]), whole)
    pool.reset(ids[:2])
    same(pool.step(ids[:2], x[0, :2].copy()), whole[0, :2])
    pool.close(ids[2:])
    same(pool.step(pool.open(1), x[0, 2:]), whole[0, 2:])


# ---------------------------------------------------------------- the object itself


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))], ids=["copy", "pickle"])
def test_a_copy_gives_the_same(random, copied):
    net, x = amplifier(), normal(random, (4, 2, 3), "float32")
    assert_same_bits(copied(net)(x)[0], net(x)[0])
    assert repr(copied(net)) == repr(net)
    assert "initial_state=True" in repr(net)
    assert "skip=0.5" in repr(net)


def test_files(random, tmp_path):
    net, x = amplifier(), normal(random, (4, 2, 3), "float32")
    for saved in (net, net.layers[0]):
        lk.save(saved, tmp_path / "net.safetensors")
        loaded = lk.load(tmp_path / "net.safetensors")
        assert repr(loaded) == repr(saved)
        assert "initial state" in lk.inspect(tmp_path / "net.safetensors").networks[0].description
        assert_same_bits(loaded(x)[0], saved(x)[0])
    lk.save(net, tmp_path / "net.safetensors")
    assert lk.inspect(tmp_path / "net.safetensors").networks[0].description.endswith("; skip 0.5")


@pytest.mark.slow
def test_a_compiled_model_begins_there(random, monkeypatch, tmp_path):
    monkeypatch.setenv("LSTMKERNEL_CACHE_DIR", str(tmp_path))
    lstm, x = learned(), normal(random, (4, 1, 3), "float32")
    assert_same_answer(lstm.compile()(x), lstm(x))


def test_parameters():
    lstm = learned(num_layers=2)
    assert lstm.initial_state
    assert not lk.LSTM(3, 5).initial_state
    weights = dict(lstm.state_dict())
    assert {name: weights[name].shape for name in ("h_0", "c_0")} == {"h_0": (2, 5), "c_0": (2, 5)}
    with pytest.raises(ValueError, match=r"state_dict: missing c_0"):
        lstm.load_state_dict({name: value for name, value in weights.items() if name != "c_0"})
    with pytest.raises(ValueError, match=r"h_0: expected shape \(2, 5\), got \(1, 5\)"):
        lstm.load_state_dict({**weights, "h_0": weights["h_0"][:1]})
    stream, x = lstm.stream(), np.ones((2, 1, 3), "f4")
    before = lstm(x)[0]
    lstm.load_state_dict({**weights, "h_0": weights["h_0"] + 1})
    assert not np.array_equal(lstm(x)[0], before)
    stream.reset()
    assert_same_bits(stream(x), before)  # the weights are those of the start


# ---------------------------------------------------------------- skip


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("lengths", [None, [6, 2]])
@pytest.mark.parametrize("heads", [1, 0])
def test_skip(backend, dtype, random, batch_first, lengths, heads):
    kind = {"backend": backend, "dtype": dtype, "seed": 1}
    layers = [lk.LSTM(3, 2, batch_first=batch_first, **kind), lk.Dense(2, 2, "tanh", **kind)][: 1 + heads]
    x = normal(random, (2, 6, 3) if batch_first else (6, 2, 3), dtype)
    out, _ = lk.Stack(layers, skip=-1.5)(x, lengths=lengths)
    expected = np.float64(lk.Stack(layers)(x)[0]) - 1.5 * x[..., :2]
    if lengths:
        (expected[1] if batch_first else expected[:, 1])[2:] = 0
    assert_close(out, expected, dtype)
    assert_close(lk.Stack(layers, skip=1)(x.tolist())[0], lk.Stack(layers)(x)[0] + x[..., :2], dtype)


@pytest.mark.parametrize("skip", [np.nan, np.inf])
def test_skip_that_is_no_number(skip):
    with pytest.raises(ValueError, match="skip: expected a finite number"):
        lk.Stack([lk.LSTM(2, 2)], skip=skip)


def test_skip_of_too_few_inputs():
    with pytest.raises(ValueError, match="skip: expected an input at least as wide as out, 4, got 3"):
        lk.Stack([lk.LSTM(3, 4)], skip=1)


def test_a_step_with_out():
    net = amplifier()
    stream, x, out = net.stream(), np.ones((1, 3), "f4"), np.empty((1, 2), "f4")
    assert stream.step(x, out) is out
    first = out.copy()
    stream.reset()
    assert_same_bits(stream.step(x, out), first)
