"""Certificates: their numbers against a float64 network's, how they print, where they are kept, and when they lapse."""

import copy
import json
import pickle

import numpy as np
import pytest
from helpers import normal
from networks import each, make, with_head

import lstmkernel as lk
from lstmkernel.certificate import Certificate
from lstmkernel.engine import calibration_data

HOWS = [("float16",), ("int8", "int16"), ("int8", "int8")]


def in_float64(net):
    if isinstance(net, lk.Stack):
        return lk.Stack([in_float64(layer) for layer in net], skip=net.skip)
    return type(net).from_config({**net.config(), "dtype": "float64"}, net.state_dict())


def assert_error(got, *differences):
    numbers = np.concatenate([np.ravel(difference) for difference in differences])
    assert got.rms == pytest.approx(np.sqrt(np.mean(numbers**2)), rel=1e-6)
    assert got.largest == pytest.approx(np.abs(numbers).max(), rel=1e-6)


def states_of(answer):
    """(h_n, c_n) of each LSTM."""
    _, states = answer
    return [states] if isinstance(states[0], np.ndarray) else list(states)


# ---------------------------------------------------------------- its numbers


@each("two layers", "projected, two directions", "batch first, two directions", "reverse", "learned state")
@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("chunk", [calibration_data.CHUNK, 700])
def test_the_numbers_are_those_of_calls(random, monkeypatch, network, how, chunk):
    monkeypatch.setattr(calibration_data, "CHUNK", chunk)
    net = make(network)
    data = [normal(random, (T, B, net.input_size), "float32") for T, B in ((40, 2), (13, 1), (6, 3))]
    given = [x.swapaxes(0, 1) for x in data] if net.batch_first else data
    small = net.quantize(*how, calibrate=given)
    found = small.certificate
    assert (found.rows, found.steps) == (6, 80 + 13 + 18)
    answers = [(small(x), in_float64(net)(x)) for x in given]
    for i, error in enumerate((found.h_n, found.c_n)):
        assert_error(error, *(got[1][i] - exact[1][i] for got, exact in answers))
    outs = [got[0] - exact[0] for got, exact in answers]
    outs = [out.swapaxes(0, 1) for out in outs] if net.batch_first else outs
    for tenth, error in enumerate(found.over_time):
        assert_error(error, *(out[np.arange(len(out)) * 10 // len(out) == tenth] for out in outs))
    rows = [0, 2, 3]
    held = [calibration_data.Item(x, row).held_back(slice(0, len(x))) for x, row in zip(data, rows, strict=True)]
    if how[0] == "float16":
        held = [np.ones_like(each) for each in held]
    assert_error(found.out, *(out[each] for out, each in zip(outs, held, strict=True)))
    assert found.measured == sum(map(np.sum, held))
    assert found.fitted == (0 if how[0] == "float16" else found.steps - found.measured)
    assert found.is_held_back
    assert found.layers[-1].error == found.out
    assert [layer.name for layer in found.layers] == [f"layer {i}" for i in range(net.num_layers)]


def test_a_stacks_layers(random):
    net = lk.Stack([lk.LSTM(4, 9, 2, seed=0), lk.Dense(9, 7, "tanh", seed=1), lk.LSTM(7, 5, seed=2)])
    net = lk.Stack([*net, lk.Dense(5, 3, seed=3)], skip=0.5)
    x = normal(random, (60, 2, 4), "float32")
    small, exact = net.quantize("float16", calibrate=x), in_float64(net)
    found = small.certificate
    assert [layer.name for layer in found.layers] == ["layers[0], layer 0", "layers[0], layer 1", "layers[2], layer 0"]
    got, right = small(x), exact(x)
    assert_error(found.out, got[0] - right[0])
    states = list(zip(states_of(got), states_of(right), strict=True))
    assert_error(found.c_n, *(a[1] - b[1] for a, b in states))
    lower, exact_lower = small[0](x)[0], exact[0](x)[0]
    assert_error(found.layers[1].error, lower - exact_lower)
    assert_error(found.layers[2].error, small[2](small[1](lower))[0] - exact[2](exact[1](exact_lower))[0])


def test_all_data_is_measured_where_nothing_can_be_held_back(random):
    x = normal(random, (5, 2, 4), "float32")
    lstm = lk.LSTM(4, 9, seed=0)
    found = lstm.quantize("int8", calibrate=x).certificate
    assert (found.fitted, found.measured, found.is_held_back) == (10, 10, False)
    assert "measured on the same: expect more on other data" in str(found)
    assert [error is None for error in found.over_time] == [False, True] * 5
    assert found.drift is None


def test_digests_and_sizes(random):
    lstm, x = lk.LSTM(30, 60, seed=0), normal(random, (20, 2, 30), "float32")
    found = lstm.quantize("float16", calibrate=x).certificate
    assert lstm.quantize("float16", calibrate=x.astype("float64")).certificate == found
    assert lstm.quantize("float16", calibrate=x[::-1]).certificate.data != found.data
    assert lstm.quantize("float16", calibrate=x.reshape(10, 4, 30)).certificate.data != found.data
    assert found.bytes_before == 4 * (240 * 90 + 2 * 240)
    assert found.bytes_after == 2 * 240 * 90 + 4 * 2 * 240
    eight_bits = lstm.quantize("int8", calibrate=x).certificate
    assert eight_bits.bytes_after == 240 * 90 + 4 * 2 * 240 + 4 * 2 * 240
    assert eight_bits.weights != found.weights


def test_drift(random):
    found = make("plain").quantize("float16", calibrate=normal(random, (50, 2, 5), "float32")).certificate
    assert found.drift == found.over_time[9].rms / found.over_time[0].rms
    assert f"rms of the last tenth / the first: {found.drift:.2f}" in str(found)


# ---------------------------------------------------------------- as text, as plain values


def test_as_text(random):
    net = with_head(make("two layers"))
    found = net.quantize("int8", calibrate=normal(random, (100, 2, 5), "float32")).certificate
    text = str(found).splitlines()
    assert "2 sequences, 200 steps, digest " + found.data in " ".join(text)
    assert "8-bit weights fitted to 160 steps, measured on 40 others" in " ".join(text)
    for name, error in (
        ("out", found.out),
        ("c_n", found.c_n),
        ("layers[0], layer 1 (int8, int16 activations)", found.layers[1].error),
        ("out, 90 to 100 % of time", found.over_time[9]),
    ):
        (line,) = [line for line in text if line.startswith(f"{name}  ") or line.startswith(f"{name} {error.rms:.2e}")]
        assert line.split()[-2:] == [f"{error.rms:.2e}", f"{error.largest:.2e}"]
    assert repr(found).startswith(f"Certificate(out rms {found.out.rms:.2g}, largest {found.out.largest:.2g}, on 40 ")
    assert len(repr(found)) < 500


def test_as_plain_values(random):
    found = make("two layers").quantize("int8", calibrate=normal(random, (7, 2, 5), "float32")).certificate
    values = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert Certificate.from_dict(values) == found
    assert values["out"] == {"rms": found.out.rms, "largest": found.out.largest}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"out": None}, "out: expected rms and largest, got None"),
        ({"out": {"rms": -1, "largest": 1}}, "out: rms: expected a finite number of at least 0, got -1"),
        ({"c_n": {"rms": 1, "largest": float("inf")}}, "c_n: largest: expected a finite number of at least 0, got inf"),
        ({"rows": True}, "rows: expected a whole number of at least 0, got True"),
        ({"steps": 1 << 70}, "steps: expected a whole number"),
        ({"data": 3}, "data: expected a string, got 3"),
        ({"layers": 3}, "layers: expected a list, got 3"),
        ({"layers": [{"name": "x"}]}, "layers: expected name, precision and error of each"),
        ({"layers": [{"name": "x", "precision": 1, "error": None}]}, "layers: precision: expected a string, got 1"),
        ({"over_time": []}, r"over_time: expected 10 errors, got \[\]"),
        ({"more": 1}, "expected the entries network, weights"),
    ],
)
def test_what_is_no_certificate(changes, message):
    values = make("plain").quantize("float16", calibrate=np.ones((20, 5))).certificate.to_dict()
    for wrong in ({**values, **changes}, {k: v for k, v in values.items() if k != "rows"}, "text", [1]):
        expected = message if isinstance(wrong, dict) and "rows" in wrong else "expected the entries network, weights"
        with pytest.raises(ValueError, match=f"^certificate: {expected}"):
            Certificate.from_dict(wrong)
        config = {**make("plain").config(), "certificate": wrong}
        with pytest.raises(ValueError, match=f"^certificate: {expected}"):
            lk.LSTM.from_config(config, make("plain").state_dict())


# ---------------------------------------------------------------- kept, and lapsed


def networks():
    yield make("two layers")
    yield make("variant")
    yield make("learned state")
    yield with_head(make("two layers"))
    yield lk.Stack([lk.Dense(5, 5, seed=0), make("two layers"), lk.Dense(9, 3, seed=0)], skip=0.5)
    yield lk.LSTMCell(5, 9, seed=0)


def test_none_without_data():
    for net in networks():
        assert net.certificate is None
        assert net.quantize("float16").certificate is None


def test_copies_and_pickles_keep_it(random):
    for net in networks():
        for how in HOWS if not getattr(net, "variant", None) else HOWS[:1]:
            small = net.quantize(*how, calibrate=normal(random, (12, 2, net.input_size), "float32"))
            assert small.certificate is not None
            assert net.certificate is None
            others = [copy.copy(small), copy.deepcopy(small), pickle.loads(pickle.dumps(small))]
            if not isinstance(small, lk.Stack):
                others.append(type(small).from_config(small.config(), small.stored()))
            for other in others:
                assert other.certificate == small.certificate


def test_files_keep_it(random, tmp_path):
    for net in networks():
        small = net.quantize("float16", calibrate=normal(random, (12, 2, net.input_size), "float32"))
        lk.save(small, tmp_path / "net.safetensors")
        assert lk.load(tmp_path / "net.safetensors").certificate == small.certificate
        told = " ".join(lk.inspect(tmp_path / "net.safetensors").notes)
        assert f"certificate: error of out against float64: rms {small.certificate.out.rms:.2g}, largest" in told


def test_it_lapses_with_other_weights(random):
    net = with_head(make("two layers"))
    x = normal(random, (12, 2, 5), "float32")
    small = net.quantize("int8", calibrate=x)
    assert small[0].certificate is None, "it is the stack's, not its layer's"
    assert lk.Stack([small[0]]).certificate is None
    again = lk.Stack(small.layers)
    assert again.certificate == small.certificate
    assert lk.Stack(small.layers, skip=1).certificate is None
    small[1].load_state_dict({name: 2 * value for name, value in small[1].state_dict().items()})
    assert small.certificate is None
    wide = make("two layers").quantize(weights="auto", max_error=1e-6, calibrate=x)
    assert wide.precision == "float32"
    assert wide.certificate is not None
    wide.load_state_dict(make("two layers", seed=9).state_dict())
    assert wide.certificate is None
    assert wide.quantize("float16").certificate is None
