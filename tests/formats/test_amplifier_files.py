"""RTNeural, AIDA-X, GuitarML and Neural Amp Modeler: what the projects' own networks play, and all that is refused."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import assert_close, assert_same_bits, normal
from hostile import Target, assert_refused_wherever_cut, assert_survives_changed_bytes, refused_in_little_memory

import lstmkernel as lk
from lstmkernel import backends

amplifiers = pytest.importorskip("amplifiers")

MADE = {
    "NAM": amplifiers.nam(),
    "NAM, one layer": amplifiers.nam(layers=1, hidden=7),
    "NAM, knobs": amplifiers.nam(inputs=3),
    "NAM, two outputs": amplifiers.nam(inputs=2, outputs=2),
    "GuitarML": amplifiers.guitarml(hidden=40),
    "GuitarML, no skip": amplifiers.guitarml(skip=0),
    "GuitarML, knobs": amplifiers.guitarml(inputs=3, layers=2),
    "GuitarML, no bias": amplifiers.guitarml(bias=False),
    "RTNeural": amplifiers.rtneural(),
    "RTNeural, knobs": amplifiers.rtneural(inputs=2),
    "RTNeural, tanh": amplifiers.rtneural(activation="tanh"),
    "AIDA-X, skip": amplifiers.rtneural(in_skip=1),
    "AIDA-X, gains": amplifiers.rtneural(in_gain=-3.5, out_gain=2),
    "AIDA-X, all": amplifiers.rtneural(inputs=2, in_skip=1, in_gain=6, out_gain=-9.25),
    "AIDA-X, tanh": amplifiers.rtneural(activation="tanh", in_skip=1, out_gain=4.0),
    "AIDA-X, nulls": amplifiers.rtneural(in_skip=None, in_gain=None, out_gain=None),
}
every_model = pytest.mark.parametrize("made", MADE.values(), ids=MADE)


@pytest.fixture
def write(tmp_path: Path) -> Callable[[Any], Path]:
    """``write(object)``: a file that its name says nothing about."""

    def write(model: Any) -> Path:
        path = tmp_path / "model"
        path.write_text(model if isinstance(model, str) else json.dumps(model))
        return path

    return write


# ---------------------------------------------------------------- what they play


@every_model
def test_plays_what_the_project_plays(made, write, backend, dtype, random):
    model, play = made
    net = lk.load(write(model), backend=backend, dtype=dtype)
    assert isinstance(net, lk.Stack)
    assert net.dtype == dtype
    x = normal(random, (200, net.input_size), dtype)
    expected = play(np.float64(x))
    # The gains and biases are sums and products of float64 here, and were rounded to float32 there.
    assert_close(net(x)[0].astype("float32"), expected, "float32")
    stream = net.stream()
    got = np.concatenate([stream(x[:64]), stream(x[64:128]), stream.step(x[128])[None], stream(x[129:])])
    if backend in backends.ONE_ANSWER:
        assert_same_bits(got, net(x)[0])
    else:
        assert_close(got, net(x)[0], dtype)


def test_the_default_is_float32(write):
    for model, _ in MADE.values():
        assert lk.load(write(model)).dtype == "float32"
        assert lk.load(write(model), batch_first=True).batch_first


def test_nam_streams_begin_with_the_state_of_the_file(write, random):
    net = lk.load(write(MADE["NAM"][0]))
    x = normal(random, (50, 1), "float32")
    stream = net.stream()
    first = stream(x)
    assert_close(first, MADE["NAM"][1](np.float64(x)), "float32")
    stream.reset()
    assert_same_bits(stream(x), first)


def test_lstm_1d_of_rtneural(data, backend):
    folder = data / "rtneural"
    net = lk.load(folder / "lstm_1d.json", backend=backend)
    x, y = (np.loadtxt(folder / f"lstm_1d_{side}_python.csv", dtype="f4")[:, None] for side in "xy")
    assert len(x) > 50
    assert np.abs(net(x)[0] - y).max() < 1e-6  # upstream's own tolerance
    blocks = net.stream()
    np.testing.assert_allclose(np.concatenate([blocks(part) for part in np.array_split(x, 7)]), net(x)[0], atol=1e-6)


def test_an_activation_of_its_own_is_that_of_the_layer_before(write, random):
    model, play = amplifiers.rtneural(activation="tanh")
    layers = model["layers"]
    layers[1]["activation"] = ""
    layers.append({"type": "activation", "activation": "tanh", "shape": [None, None, 1], "weights": []})
    x = normal(random, (20, 1), "float32")
    assert_close(lk.load(write(model))(x)[0], play(np.float64(x)), "float32")


def test_a_gain_of_silence(write):
    net = lk.load(write(amplifiers.rtneural(in_skip=1, out_gain=-90.0)[0]))
    assert not net(np.ones((5, 1), "f4"))[0].any()


@every_model
def test_saved_again(made, write, tmp_path, random):
    net = lk.load(write(made[0]))
    lk.save(net, tmp_path / "net.safetensors")
    x = normal(random, (9, net.input_size), "float32")
    assert_same_bits(lk.load(tmp_path / "net.safetensors")(x)[0], net(x)[0])


# ---------------------------------------------------------------- several sizes in one file


def container(*models, most=None, **more):
    """Neural Amp Modeler's container of models, from small to large."""
    most = [(i + 1) / len(models) for i in range(len(models))] if most is None else most
    submodels = [{"max_value": value, "model": model} for value, model in zip(most, models, strict=True)]
    config = {"submodels": submodels}
    return {"version": "0.7.0", "architecture": "SlimmableContainer", "config": config, "weights": [], **more}


def test_a_container_plays_its_largest_model(write, random):
    (small, of_small), (large, of_large) = amplifiers.nam(hidden=3), amplifiers.nam(hidden=5, layers=1)
    path = write(container(small, large, sample_rate=48000))
    x = normal(random, (30, 1), "float32")
    assert_close(lk.load(path)(x)[0], of_large(np.float64(x)), "float32")
    assert_close(lk.load(path, prefix="submodels.0")(x)[0], of_small(np.float64(x)), "float32")
    contents = lk.inspect(path)
    assert [network.prefix for network in contents.networks] == ["", "submodels.0", "submodels.1"]
    assert contents.networks[0].description == contents.networks[2].description
    assert contents.sample_rate == 48000
    assert [tensor.name for tensor in contents.tensors] == ["submodels.0.weights", "submodels.1.weights"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda config: config.update(submodels=[]),
            "config.submodels: expected a last one with max_value 1, got none",
        ),
        (lambda config: config.update(submodels=3), "config.submodels: expected a list, got 3"),
        (lambda config: config["submodels"].reverse(), "max_value: expected a number above 1.0, got 0.5"),
        (lambda config: config["submodels"][0].update(max_value="1"), "max_value: expected a number above -inf"),
        (lambda config: config["submodels"].pop(), "expected a last one with max_value 1, got 0.5"),
        (lambda config: config["submodels"][1].update(model=3), "config.submodels[1].model: expected an object"),
        (
            lambda config: config["submodels"][1]["model"].update(architecture="WaveNet"),
            "submodels.1: architecture: expected 'LSTM', got 'WaveNet'",
        ),
    ],
)
def test_containers_that_cannot_be_played(write, change, message):
    model = container(amplifiers.nam(hidden=3)[0], amplifiers.nam()[0])
    change(model["config"])
    with pytest.raises(lk.FormatError, match=re.escape(message)):
        lk.load(write(model))


def test_a_prefix_of_no_part(write):
    with pytest.raises(lk.FormatError, match=r"prefix: expected one of submodels\.0, got 'lstm'"):
        lk.load(write(container(amplifiers.nam()[0])), prefix="lstm")


# ---------------------------------------------------------------- what is inside


def test_inspect(write):
    rate = {"metadata": {"samplerate": "48000"}}
    found = lk.inspect(write(amplifiers.rtneural(in_skip=1, **rate)[0]))
    assert (found.format, found.sample_rate) == ("AIDA-X", 48000)
    assert found.notes == ["made for a sample rate of 48000 Hz"]
    shapes = [("layers[0].weights[0]", (1, 16)), ("layers[0].weights[1]", (4, 16)), ("layers[0].weights[2]", (16,))]
    assert [tensor[:2] for tensor in found.tensors][:3] == shapes
    assert found.networks == [("", "LSTM 1 -> 4, then Dense 4 -> 1; skip 1.0")]
    found = lk.inspect(write(amplifiers.nam(sample_rate=44100.0)[0]))
    assert (found.format, found.sample_rate) == ("Neural Amp Modeler", 44100)
    assert found.networks == [("", "LSTM 1 -> 4, 2 layers, initial state, then Dense 4 -> 1")]
    found = lk.inspect(write(MADE["GuitarML"][0]))
    assert (found.format, found.sample_rate) == ("GuitarML", None)
    assert ("rec.weight_ih_l0", (160, 1)) in [tensor[:2] for tensor in found.tensors]


@pytest.mark.parametrize("rate", ["fast", -1, 0, [], None, 10**400, "nan", "inf"])
def test_a_sample_rate_that_is_none(write, rate):
    assert lk.inspect(write(amplifiers.nam(layers=1, sample_rate=rate)[0])).sample_rate is None


def test_what_is_no_lstm_can_be_inspected(write):
    model = {"version": "0.5.4", "architecture": "WaveNet", "config": {"layers": []}, "weights": [1.0, 2.0]}
    found = lk.inspect(write(model))
    assert not found.networks
    assert found.notes == ["cannot be loaded: architecture: expected 'LSTM', got 'WaveNet'; lstmkernel runs LSTMs"]


# ---------------------------------------------------------------- refused


def changed(name: str, change: Callable[[Any], Any]) -> dict[str, Any]:
    model = copy.deepcopy(MADE[name][0])
    change(model)
    return model


def put(value: Any, *keys: Any) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        for key in keys[:-1]:
            model = model[key]
        model[keys[-1]] = value

    return change


def drop(*keys: Any) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        for key in keys[:-1]:
            model = model[key]
        del model[keys[-1]]

    return change


HUGE = 10**9
REFUSED = [
    ("NAM", put("WaveNet", "architecture"), "architecture: expected 'LSTM', got 'WaveNet'"),
    ("NAM", put("ConvNet", "architecture"), "architecture: expected 'LSTM', got 'ConvNet'"),
    ("NAM", put(7, "architecture"), "architecture: expected a string, got 7"),
    ("NAM", put([], "config"), "config: expected an object, got lists of shape"),
    ("NAM", put(2, "config", "directions"), "config: expected only num_layers, .* got 'directions'"),
    ("NAM", put(HUGE, "config", "hidden_size"), r"weights: expected 12\d{18} numbers for .* got 261$"),
    ("NAM", put(HUGE, "config", "num_layers"), "weights: expected .* numbers for num_layers 1000000000"),
    ("NAM", put(10**30, "config", "input_size"), "weights: expected .* got 261$"),
    ("NAM", put(0, "config", "num_layers"), "config.num_layers: expected at least 1, got 0"),
    ("NAM", put(-4, "config", "hidden_size"), "config.hidden_size: expected at least 1, got -4"),
    ("NAM", put(4.0, "config", "hidden_size"), "config.hidden_size: expected an integer, got 4.0"),
    ("NAM", put(True, "config", "input_size"), "config.input_size: expected an integer, got True"),
    ("NAM", drop("config", "input_size"), "config.input_size: missing, among"),
    ("NAM", put(2, "config", "in_channels"), "config.in_channels: expected input_size = 1, got 2"),
    ("NAM", put(2, "config", "out_channels"), "weights: expected 266 numbers .* got 261$"),
    ("NAM", lambda model: model["weights"].pop(), "weights: expected 261 numbers .* got 260$"),
    ("NAM", lambda model: model["weights"].append(0.5), "weights: expected 261 numbers .* got 262$"),
    ("NAM", put("0.5", "weights", 9), "weights: expected numbers in lists, got str"),
    ("NAM", put(None, "weights", 9), "weights: expected numbers in lists, got NoneType"),
    ("NAM", put(True, "weights", 9), "weights: expected numbers in lists, got bool"),
    ("NAM", put([0.5], "weights", 9), "weights: expected numbers in lists of equal lengths"),
    ("NAM", put(10**400, "weights", 9), "weights: expected numbers that fit float64"),
    ("NAM", put({}, "weights"), "weights: expected a list, got an object of 0 keys"),
    ("GuitarML", put("GRU", "model_data", "unit_type"), "model_data.unit_type: expected 'LSTM', got 'GRU'"),
    ("GuitarML", put("GatedConvNet", "model_data", "model"), "model_data.model: expected 'SimpleRNN'"),
    (
        "GuitarML",
        put(HUGE, "model_data", "hidden_size"),
        r"rec.weight_ih_l0: .* \(4000000000, 1\)",
    ),
    ("GuitarML", put(HUGE, "model_data", "num_layers"), "model_data.num_layers: 1000000000 layers, but only 6 tensors"),
    ("GuitarML", put(2, "model_data", "skip"), "model_data.skip: expected 0 or output_size = 1, got 2"),
    ("GuitarML", put(-1, "model_data", "skip"), "model_data.skip: expected at least 0"),
    ("GuitarML", put(None, "model_data", "skip"), "model_data.skip: expected an integer, got None"),
    ("GuitarML", put(1, "model_data", "bias_fl"), "model_data.bias_fl: expected true or false, got 1"),
    ("GuitarML", drop("state_dict", "lin.bias"), "state_dict: expected exactly .* but 'lin.bias' differs"),
    ("GuitarML", put([], "state_dict", "extra"), "state_dict: expected exactly .* but 'extra' differs"),
    (
        "GuitarML",
        put([[1.0]], "state_dict", "rec.weight_ih_l0"),
        r"rec.weight_ih_l0: .* \(160, 1\), got \(1, 1\)",
    ),
    ("GuitarML", put([], "state_dict"), "state_dict: expected an object"),
    ("RTNeural", put("gru", "layers", 0, "type"), r"layers\[0\].type: expected one of 'lstm', .* got 'gru'"),
    ("RTNeural", put("conv1d", "layers", 0, "type"), r"layers\[0\].type: .* got 'conv1d'"),
    ("RTNeural", put("batchnorm", "layers", 1, "type"), r"layers\[1\].type: .* got 'batchnorm'"),
    ("RTNeural", put("activation", "layers", 0, "type"), r"layers\[0\].type: expected an activation only after"),
    ("RTNeural", put("relu", "layers", 0, "activation"), r"layers\[0\].activation: expected 'tanh', got 'relu'"),
    ("RTNeural", put("elu", "layers", 1, "activation"), r"layers\[1\].activation: expected one of .* got 'elu'"),
    ("RTNeural", put([None, None, HUGE], "layers", 0, "shape"), r"layers\[0\].weights\[0\]: .* \(1, 4000000000\)"),
    (
        "RTNeural",
        put([None, None, 3], "layers", 0, "shape"),
        r"weights\[0\]: .* \(1, 12\), got \(1, 16\)",
    ),
    ("RTNeural", put([], "layers", 0, "shape"), r"layers\[0\].shape: expected \[batch, time, width\], got 0"),
    ("RTNeural", put([None, 2, 2, 1], "in_shape"), r"in_shape: expected \[batch, time, width\], got 4"),
    ("RTNeural", put([None, None, None], "in_shape"), "in_shape: width: expected an integer, got None"),
    ("RTNeural", put([None, None, 2], "in_shape"), r"layers\[0\].weights\[0\]: expected numbers of shape \(2, 16\)"),
    ("RTNeural", lambda model: model["layers"][0]["weights"].pop(), "expected kernel, recurrent kernel, bias, got 2"),
    (
        "RTNeural",
        lambda model: model["layers"][0]["weights"][1][2].pop(),
        r"weights\[1\]: expected numbers in lists of equal",
    ),
    ("RTNeural", put([], "layers"), "layers: expected at least one, got none"),
    ("RTNeural", put([7], "layers"), r"layers\[0\]: expected an object, got 7"),
    ("RTNeural", put({}, "layers"), "layers: expected a list, got an object"),
    ("AIDA-X, skip", put(2, "in_skip"), "in_skip: expected 0 or 1, got 2"),
    ("AIDA-X, skip", put(True, "in_skip"), "in_skip: expected an integer, got True"),
    ("AIDA-X, gains", put("loud", "out_gain"), "out_gain: expected dB within 200 of 0, got 'loud'"),
    ("AIDA-X, gains", put(float("nan"), "in_gain"), "in_gain: expected dB within 200 of 0, got nan"),
    ("AIDA-X, gains", put(1e9, "in_gain"), "in_gain: expected dB within 200 of 0, got 1000000000.0"),
]


@pytest.mark.parametrize(("name", "change", "message"), REFUSED, ids=[message[:60] for _, _, message in REFUSED])
def test_refused(write, name, change, message):
    path = write(changed(name, change))
    with pytest.raises(lk.FormatError, match=message) as caught:
        lk.load(path)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize(
    "model", [MADE[name][0] for name in ("NAM", "GuitarML", "RTNeural")], ids=lambda model: min(model)
)
def test_refused_text(model, write):
    text = json.dumps(model)
    for broken, message in (
        (text.replace(", ", " ", 1), "not JSON: Expecting ',' delimiter"),
        (text.replace("{", '{"layers": 1, "config": 1, "state_dict": 1, ', 1), "JSON: key '.*' is there twice"),
        (text[:-1] + ', "x": ' + "[" * 100_000 + "]" * 100_000 + "}", "JSON: nests too deeply"),
    ):
        with pytest.raises(lk.FormatError, match=message):
            lk.load(write(broken))


def test_a_prefix_is_refused(write):
    for name in ("NAM", "GuitarML", "RTNeural"):
        with pytest.raises(lk.FormatError, match="prefix: expected none, for the file is one network, got 'rec'"):
            lk.load(write(MADE[name][0]), prefix="rec")


def test_a_wavenet_by_its_suffix(tmp_path):
    path = tmp_path / "empty.nam"
    path.write_text("[1]")
    with pytest.raises(lk.FormatError, match="JSON: expected an object, got lists of shape"):
        lk.load(path)


@pytest.mark.parametrize("name", ["NAM, one layer", "GuitarML", "RTNeural"])
def test_nan_loads_with_a_warning(write, name):
    text = json.dumps(MADE[name][0])
    spoiled = text[: text.rindex(".") - 1].rstrip("-") + "NaN" + text[text.rindex(".") :].lstrip(".0123456789e-")
    with pytest.warns(RuntimeWarning, match=r"NaN or infinite weights in 1.bias"):
        lk.load(write(spoiled))


# ---------------------------------------------------------------- hostile

SMALL = {
    "nam": amplifiers.nam(hidden=1, layers=1)[0],
    "guitarml": amplifiers.guitarml(hidden=1)[0],
    "rtneural": amplifiers.rtneural(hidden=1, in_skip=1, in_gain=1.5)[0],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_cut_anywhere_and_changed_anywhere(name, tmp_path):
    target = Target(name, ".json", json.dumps(SMALL[name]).encode())
    assert_refused_wherever_cut(target, tmp_path)
    assert_survives_changed_bytes(target, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("nam", lambda: json.dumps(SMALL["nam"]).replace("]", ", 0" * 5_000_000 + "]")),
        ("nam", lambda: json.dumps(SMALL["nam"]).replace('"LSTM"', '"' + "L" * 20_000_000 + '"')),
        ("guitarml", lambda: json.dumps({**SMALL["guitarml"], "more": [[]] * 3_000_000})),
        ("rtneural", lambda: json.dumps(SMALL["rtneural"]).replace('"layers": [', '"layers": [' + "{}, " * 3_000_000)),
    ],
    ids=["many numbers", "a long name", "many lists", "many layers"],
)
def test_memory_stays_small(name, text, tmp_path):
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    good.write_text(json.dumps(SMALL[name]))
    bad.write_text(text())
    refused_in_little_memory(bad, good)
