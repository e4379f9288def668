"""Weights of fewer bits. A float16 network has the bits of a float32 network with the rounded weights: by equality."""

import copy
import pickle

import numpy as np
import pytest
from helpers import assert_same_answer, assert_same_bits, normal, random_state, usable
from networks import NETWORKS, each, make, with_head, without

import lstmkernel as lk
from lstmkernel.backends import ONE_ANSWER

MATRICES = ("weight_ih", "weight_hh", "weight_hr")


@pytest.fixture(autouse=True)
def narrow_everywhere(monkeypatch):
    """Narrow kernels run layers of few weights, too."""
    if any(name.startswith("c:") for name in usable()):
        monkeypatch.setattr("lstmkernel.backends.c.calls.FEW_NARROW_BYTES", 0)


def rounded(lstm):
    """The definition: the same network in float32, its matrices rounded by NumPy."""
    values = {
        name: value.astype(np.float16).astype(np.float32) if name.startswith(MATRICES) else value
        for name, value in lstm.state_dict().items()
    }
    return type(lstm).from_config(lstm.config(), values)


def pair(network, backend="auto", **more):
    """A network with float16 weights, and what it must answer as."""
    lstm = make(network, backend, **more)
    return lstm.quantize("float16"), rounded(lstm)


def steps(random, lstm, T, B):
    x = normal(random, (T, B, lstm.input_size), "float32")
    return x.swapaxes(0, 1) if lstm.batch_first else x


# ---------------------------------------------------------------- the same bits


@each(*NETWORKS)
@pytest.mark.parametrize("B", [1, 3, 45])
def test_the_bits_of_a_network_with_rounded_weights(backend, random, network, B):
    quantized, expected = pair(network, backend)
    x = steps(random, quantized, 7, B)
    assert_same_answer(quantized(x), expected(x))
    state, lengths = random_state(random, quantized, B), random.integers(0, 8, B)
    assert_same_answer(quantized(x, state, lengths=lengths), expected(x, state, lengths=lengths), "lengths")
    mask = random.random(x.shape[:2]) < 0.6
    assert_same_answer(quantized(x, state, mask=mask), expected(x, state, mask=mask), "mask")
    if not (quantized.bidirectional and quantized.initial_state):
        assert_same_answer(quantized(x, reset=mask), expected(x, reset=mask), "reset")


@pytest.mark.parametrize("H", [1, 16, 20, 47, 65])
def test_every_tail_and_many_rows(backend, random, H):
    """Of one step and of many rows, where lanes of float32 kernels are rows."""
    for I, B, P in [(H % 7 + 1, 130, 0), (40, 1, H // 2), (3, 97, 0)]:
        lstm = lk.LSTM(I, H, proj_size=P, backend=backend, seed=H)
        x = normal(random, (2, B, I), "float32")
        assert_same_answer(lstm.quantize("float16")(x), rounded(lstm)(x), f"{lstm!r}, B={B}")


@pytest.mark.parametrize("name", ["one_way", "two_ways", "projected"])
@pytest.mark.parametrize("B", [1, 5, 40])
def test_on_threads(compiled_backend, random, threads_as_asked, name, B):
    more = {"one_way": {}, "two_ways": {"bidirectional": True}, "projected": {"proj_size": 30}}[name]
    lstm = lk.LSTM(70, 150, 2, backend=compiled_backend, num_threads=1, seed=3, **more)
    x = normal(random, (12, B, 70), "float32")
    expected = rounded(lstm)(x)
    for threads in (1, 2, 5):
        config = {**lstm.config(), "num_threads": threads}
        quantized = lk.LSTM.from_config(config, lstm.state_dict()).quantize("float16")
        assert_same_answer(quantized(x), expected, f"{threads} threads")


def test_every_float16(compiled_backend, random):
    """All finite ones are weights here, denormal ones too, and none is flushed."""
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    finite = every[np.isfinite(every)].astype(np.float32)
    lstm = lk.LSTM(124, 128, backend=compiled_backend, seed=0)
    lstm.load_state_dict({**lstm.state_dict(), "weight_ih_l0": random.permutation(finite).reshape(512, 124)})
    quantized = lstm.quantize("float16")
    assert_same_bits(quantized.state_dict()["weight_ih_l0"], lstm.state_dict()["weight_ih_l0"])
    for x in (1e-4 * np.eye(124, dtype=np.float32)[:, None], normal(random, (3, 9, 124), "float32")):
        assert_same_answer(quantized(x), rounded(lstm)(x))


def test_every_backend_that_promises_bits(random):
    names = usable(ONE_ANSWER)
    for network in ("two directions with a tail", "whole blocks, projected", "variant"):
        quantized = [make(network, name).quantize("float16") for name in names]
        x = steps(random, quantized[0], 9, 4)
        for other in quantized[1:]:
            assert_same_answer(other(x), quantized[0](x), other.backend)


def test_what_is_packed(compiled_backend, monkeypatch):
    """Half the bytes where the kernels widen; float32 elsewhere, and in layers of few weights."""
    (layer,) = lk.LSTM(40, 64, proj_size=3, backend=compiled_backend).quantize("float16").engine.weights.layers[0]
    narrow = compiled_backend not in ("c:generic", "numba")
    expected = np.dtype("float16" if narrow else "float32")
    assert {array.dtype for array in (layer.w_x, layer.w_h, layer.w_r)} == {expected}
    assert layer.bias.dtype == np.float32
    monkeypatch.undo()
    (layer,) = lk.LSTM(40, 64, backend=compiled_backend).quantize("float16").engine.weights.layers[0]
    (few,) = lk.LSTM(4, 64, proj_size=1, backend=compiled_backend).quantize("float16").engine.weights.layers[0]
    assert (layer.w_h.dtype == np.float16) == narrow
    assert few.w_h.dtype == few.w_r.dtype == np.float32


# ---------------------------------------------------------------- every way to run


@each("two blocks and a tail", "projected to a few", "wide", "learned state", "variant")
def test_streams_pools_and_windows(compiled_backend, random, network):
    quantized, expected = pair(network, compiled_backend)
    x = steps(random, quantized, 9, 2)
    answers = []
    for lstm in (quantized, expected):
        stream, pool, window = lstm.stream(2), lstm.pool(4), lstm.window(3, 2)
        ids = pool.open(2)
        found = [stream(x[:4]), stream.step(x[4]), *stream.state]
        found += [y for x_t in x for y in (pool.step(ids, x_t), window.step(x_t))]
        answers.append([*found, lstm.windows(x, 4, 2), lstm.last(x, lengths=[9, 5])])
    for got, right in zip(*answers, strict=True):
        assert_same_bits(got, right)


@each("two directions", "reverse", "batch first")
def test_ragged_and_layouts(compiled_backend, random, network):
    quantized, expected = pair(network, compiled_backend)
    flat = normal(random, (20, quantized.input_size), "float32")
    assert_same_answer(quantized.ragged(flat, [0, 3, 3, 14, 20]), expected.ragged(flat, [0, 3, 3, 14, 20]))
    assert_same_answer(quantized(flat), expected(flat), "unbatched")
    x = steps(random, quantized, 5, 3)
    out = np.empty((*x.shape[:2], quantized.out_features), "float32")
    assert quantized(x, out=out)[0] is out
    assert_same_bits(out, expected(x)[0], "out")


def test_compiled(random, monkeypatch):
    monkeypatch.setattr("lstmkernel.plan.SECONDS", 0.02)
    quantized, expected = pair("plain")
    fast = quantized.compile(2, 5)
    x = steps(random, quantized, 5, 2)
    assert_same_answer(fast(x), expected(x))
    assert fast.precision == "float16"
    assert all(each.same_bits for each in fast.plan.contenders if each.seconds is not None), str(fast.plan)
    again = fast.quantize("float16")
    assert again.plan is None
    assert_same_answer(again(x), expected(x))


def test_a_cell(compiled_backend, random):
    cell = lk.LSTMCell(30, 60, backend=compiled_backend, seed=1)
    quantized, x = cell.quantize("float16"), normal(random, (3, 30), "float32")
    for got, right in zip(quantized(x), rounded(cell)(x), strict=True):
        assert_same_bits(got, right)
    assert (cell.precision, quantized.precision) == ("float32", "float16")
    for other in (copy.copy(quantized), copy.deepcopy(quantized)):
        assert repr(other) == repr(quantized)
        assert_same_bits(other(x)[0], quantized(x)[0])


def test_a_stack(compiled_backend, random):
    net = with_head(make("two layers", compiled_backend))
    quantized, x = net.quantize("float16"), normal(random, (4, 3, 5), "float32")
    expected = lk.Stack([rounded(net[0]), copy.copy(net[1])])
    assert_same_bits(quantized(x)[0], expected(x)[0])
    assert (net.precision, quantized.precision) == ("float32", "float16")
    net.load_state_dict({name: value + 1 for name, value in net.state_dict().items()})
    assert_same_bits(quantized(x)[0], expected(x)[0], "after the first stack has other weights")
    with pytest.raises(ValueError, match="never change"):
        quantized.load_state_dict(net.state_dict())
    for other in (copy.copy(quantized), pickle.loads(pickle.dumps(quantized))):
        assert other.precision == "float16"
        assert_same_bits(other(x)[0], expected(x)[0])


def test_a_stack_of_both_precisions():
    both = lk.Stack([lk.LSTM(2, 3).quantize("float16"), lk.LSTM(3, 4)])
    assert both.precision == "float16, float32"
    assert lk.Stack([lk.Dense(2, 3)]).precision == "float32"
    assert lk.LSTM(2, 3, dtype="float64").precision == "float64"
    with pytest.raises(ValueError, match="layers: expected an LSTM to quantize, got Stack"):
        lk.Stack([lk.Dense(2, 3)]).quantize("float16")
    with pytest.raises(ValueError, match="never change"):
        both.load_state_dict(both.state_dict())


# ---------------------------------------------------------------- what it is


def test_what_it_says():
    lstm = lk.LSTM(3, 4, backend="numpy", seed=0)
    quantized = lstm.quantize("float16")
    assert repr(quantized) == f"{lstm!r}.quantize('float16')"
    assert (lstm.precision, quantized.precision) == ("float32", "float16")
    assert (quantized.dtype, quantized.plan) == (np.float32, None)
    assert "precision" not in lstm.config()
    assert quantized.config() == {**lstm.config(), "precision": "float16"}
    assert isinstance(quantized, lk.LSTM)
    assert repr(quantized.quantize("float16")) == repr(quantized)


def test_the_rounded_weights():
    """To the nearest, ties to even; what is too small is 0. All else stays."""
    lstm = lk.LSTM(4, 5, proj_size=2, variant=lk.Variant(peephole=True), initial_state=True, seed=0)
    odd = np.array([1 + 2**-11, 1 + 3 * 2**-11, 65519, -(2**-25), 2**-25 * 1.01, 3 * 2**-25, 0.1, -0.0], "float32")
    right = np.array([1, 1 + 2**-9, 65504, -0.0, 2**-24, 2**-23, np.float16(0.1), -0.0], "float32")
    weight = lstm.state_dict()["weight_ih_l0"].copy()
    weight[:8, 0] = odd
    lstm.load_state_dict({**lstm.state_dict(), "weight_ih_l0": weight})
    quantized = lstm.quantize("float16").state_dict()
    assert_same_bits(quantized["weight_ih_l0"][:8, 0], right)
    for name, value in lstm.state_dict().items():
        expected = value.astype(np.float16).astype(np.float32) if name.startswith(MATRICES) else value
        assert_same_bits(quantized[name], expected, name)
        assert not quantized[name].flags.writeable


@each(*NETWORKS)
def test_copies_and_pickles(random, network):
    quantized = make(network).quantize("float16")
    x = steps(random, quantized, 3, 2)
    for other in (copy.copy(quantized), copy.deepcopy(quantized), pickle.loads(pickle.dumps(quantized))):
        assert repr(other) == repr(quantized)
        assert_same_answer(other(x), quantized(x))
    own = make("wide")
    assert len(pickle.dumps(own.quantize("float16"))) < 0.55 * len(pickle.dumps(own))


# ---------------------------------------------------------------- refused, with the way out


def test_it_never_changes():
    lstm, cell = lk.LSTM(2, 3, seed=0), lk.LSTMCell(2, 3, seed=0)
    for net in (lstm, cell):
        quantized = net.quantize("float16")
        before = quantized.state_dict()
        with pytest.raises(ValueError, match="load them into the network that was quantized, then quantize it again"):
            quantized.load_state_dict(net.state_dict())
        for name, value in quantized.state_dict().items():
            assert_same_bits(value, before[name], name)


def test_no_training():
    lstm = lk.LSTM(2, 3, seed=0)
    net, x = lk.Stack([lstm, lk.Dense(3, 1)]), np.zeros((4, 1, 2), "float32")
    for quantized in (lstm.quantize("float16"), net.quantize("float16")):
        with pytest.raises(ValueError, match="got float16; train the network that was quantized"):
            quantized.forward(x)
    _, _, tape = lstm.forward(x)
    with pytest.raises(ValueError, match="tape: expected one of"):
        lstm.quantize("float16").backward(tape, None)


def test_what_looks_inside_sees_the_rounded_weights(random):
    quantized, expected = pair("two layers")
    x = steps(random, quantized, 4, 2)
    for look in (lk.trace, lk.gradient_flow):
        for got, right in zip(look(quantized, x), look(expected, x), strict=True):
            assert_same_bits(got, right)


@pytest.mark.parametrize("precision", ["int4", "float32", "half", ""])
def test_an_unknown_precision(precision):
    with pytest.raises(ValueError, match=f"precision: expected 'float16' or 'int8', got {precision!r}"):
        lk.LSTM(2, 3).quantize(precision)


def test_a_precision_is_a_string():
    with pytest.raises(TypeError, match="precision: expected 'float16' or 'int8', got type"):
        lk.LSTM(2, 3).quantize(np.float16)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 65520, -1e30])
def test_a_weight_that_float16_does_not_have(value):
    lstm = lk.LSTM(2, 3, 2, seed=0)
    named = {name: array.copy() for name, array in lstm.state_dict().items()}
    named["weight_hh_l1"][3, 1] = value
    lstm.load_state_dict(named)
    wrong = r"weight_hh_l1: expected numbers of at most 65504, float16's largest, got \S+ at \[3, 1\]"
    with pytest.raises(ValueError, match=f"^{wrong}"):
        lstm.quantize("float16")
    with pytest.raises(ValueError, match=rf"^layers\[1\]: {wrong}"):
        lk.Stack([lk.LSTM(1, 2), lstm]).quantize("float16")
    cell = lk.LSTMCell(2, 3)
    cell.load_state_dict({**cell.state_dict(), "weight_hh": np.full((12, 3), value, "float32")})
    with pytest.raises(ValueError, match=r"^weight_hh: expected"):
        cell.quantize("float16")


def test_a_bias_may_be_what_it_is(random):
    """It is not rounded."""
    lstm = lk.LSTM(2, 3, seed=0)
    lstm.load_state_dict({**lstm.state_dict(), "bias_ih_l0": np.full(12, 1e6, "float32")})
    x = normal(random, (3, 1, 2), "float32")
    assert_same_answer(lstm.quantize("float16")(x), rounded(lstm)(x))


def test_float64_and_the_way_out(tmp_path):
    for net in (lk.LSTM(2, 3, dtype="float64"), lk.LSTMCell(2, 3, dtype="float64")):
        with pytest.raises(ValueError, match="dtype: expected a float32 network, to quantize it, got float64; save it"):
            net.quantize("float16")
        lk.save(net, tmp_path / "net.safetensors")
        assert lk.load(tmp_path / "net.safetensors", dtype="float32").quantize("float16").precision == "float16"


def test_a_config_whose_weights_are_not_rounded():
    lstm = lk.LSTM(2, 3, seed=0)
    config = lstm.quantize("float16").config()
    with pytest.raises(ValueError, match="weight_ih_l0: expected numbers that float16 has, for precision='float16'"):
        lk.LSTM.from_config(config, lstm.state_dict())
    with pytest.raises(ValueError, match="expected a float32 network, as precision='float16' says, got float64; leave"):
        lk.LSTM.from_config({**config, "dtype": "float64"}, lstm.quantize("float16").state_dict())


@each(*without("bidirectional", {"plain": NETWORKS["plain"], "variant": NETWORKS["variant"]}))
def test_nan_stays_in_its_row(compiled_backend, random, network):
    quantized, _ = pair(network, compiled_backend)
    x = steps(random, quantized, 5, 4)
    clean = quantized(x)
    x[2, 1] = np.nan
    x[3, 2] = np.inf
    out, _ = quantized(x)
    assert_same_bits(out[:, [0, 3]], clean[0][:, [0, 3]])
