"""What a file says of a network's use stays with the network: what its model gives, and a sample rate."""

from __future__ import annotations

import copy
import json
import pickle
import zipfile
from pathlib import Path

import amplifiers
import numpy as np
import pytest

import lstmkernel as lk
from lstmkernel.engine.notes import GIVES

onnx = pytest.importorskip("onnx")
GOLDENS = Path(__file__).parent / "goldens"
SUFFIXES = (".safetensors", ".onnx")


def noted(**notes):
    lstm = lk.LSTM(3, 4, seed=0)
    return lk.LSTM.from_config({**lstm.config(), **notes}, lstm.state_dict())


@pytest.fixture
def answer_is_last(tmp_path):
    """A model of Keras with return_sequences=False, and one of ONNX that gives its last step alone."""
    with zipfile.ZipFile(GOLDENS / "keras" / "files.zip") as archive:
        (tmp_path / "last.keras").write_bytes(archive.read("last_3.keras"))
    return {"Keras": tmp_path / "last.keras", "ONNX": GOLDENS / "tf2onnx" / "last.onnx"}


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("framework", ["Keras", "ONNX"])
def test_a_saved_network_still_says_what_its_framework_gives(answer_is_last, framework, suffix, tmp_path):
    with pytest.warns(RuntimeWarning, match=r"net\.last\(x\)"):
        net = lk.load(answer_is_last[framework])
    assert net.gives == "last step"
    saved = tmp_path / f"net{suffix}"
    lk.save(net, saved)
    assert GIVES["last step"] in lk.inspect(saved).notes
    with pytest.warns(RuntimeWarning, match=r"net\.\w+: the model gives only the last step") as told:
        again = lk.load(saved)
    assert len(told) == 1
    assert again.gives == "last step"
    lk.save(again, saved)  # and so on
    with pytest.warns(RuntimeWarning, match="gives only the last step"):
        lk.load(saved)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("gives", GIVES)
def test_every_word_of_it(gives, suffix, tmp_path):
    saved = tmp_path / f"net{suffix}"
    net = noted(gives=gives)
    for each in (net, lk.Stack([net, lk.Dense(4, 2, seed=0)])):
        lk.save(each, saved)
        with pytest.warns(RuntimeWarning) as told:
            assert lk.load(saved).gives == gives
        assert str(told[0].message).endswith(GIVES[gives])


def test_part_of_a_stack_says_what_is_its_own(tmp_path):
    lk.save(lk.Stack([lk.LSTM(4, 3, seed=0), noted(gives="last step")]), tmp_path / "net")
    assert lk.load(tmp_path / "net", prefix="0").gives is None
    with pytest.warns(RuntimeWarning, match="gives only the last step"):
        assert lk.load(tmp_path / "net", prefix="1").gives == "last step"


def test_that_it_is_for_sound_stays(tmp_path):
    """Also where the file does not say the sample rate, as GuitarML's do not."""
    whole = np.full((5, 1), 3000, "int16")
    (tmp_path / "amp.json").write_text(json.dumps(amplifiers.guitarml()[0]))
    path = tmp_path / "amp.json"
    for saved in (None, *(tmp_path / f"amp{suffix}" for suffix in SUFFIXES)):
        if saved:
            net = lk.load(path)
            if saved.suffix == ".onnx":
                net = lk.Stack(net.layers)  # ONNX has no skip
            lk.save(net, saved)
            path = saved
        amp = lk.load(path)
        assert amp.sample_rate is None
        with pytest.warns(RuntimeWarning, match="expected a sound between -1 and 1, got int16 up to 3000"):
            amp(whole)
        assert "made for sound; the sample rate is not said" in lk.inspect(path).notes


def test_a_sample_rate_stays(tmp_path):
    (tmp_path / "amp.nam").write_text(json.dumps(amplifiers.nam(layers=1, sample_rate=44100)[0]))
    amp = lk.load(tmp_path / "amp.nam")
    assert amp.sample_rate == 44100
    for suffix in SUFFIXES[:1]:
        lk.save(amp, tmp_path / f"amp{suffix}")
        assert lk.load(tmp_path / f"amp{suffix}").sample_rate == 44100
        contents = lk.inspect(tmp_path / f"amp{suffix}")
        assert contents.sample_rate == 44100
        assert "made for a sample rate of 44100 Hz" in contents.notes
    lk.save(noted(sample_rate=8000.0), tmp_path / "net.onnx")
    assert lk.load(tmp_path / "net.onnx").sample_rate == lk.inspect(tmp_path / "net.onnx").sample_rate == 8000
    part = amplifiers.nam(layers=1)[0]
    container = {
        "version": "0.6", "architecture": "SlimmableContainer", "weights": [], "sample_rate": 48000,
        "config": {"submodels": [{"max_value": 1, "model": part}]},
    }  # fmt: skip
    (tmp_path / "all.nam").write_text(json.dumps(container))
    assert lk.load(tmp_path / "all.nam", prefix="submodels.0").sample_rate == 48000


def test_it_stays_with_the_object():
    net = noted(gives="a part", sample_rate=16000)
    compiled = net.compile(1, 3)
    for each in (copy.copy(net), copy.deepcopy(net), pickle.loads(pickle.dumps(net)), compiled):
        assert (each.gives, each.sample_rate) == ("a part", 16000)
    stack = lk.Stack([lk.LSTM(4, 3, seed=0), net])
    assert (stack.gives, copy.deepcopy(stack).sample_rate) == ("a part", 16000)
    plain = lk.LSTM(3, 4)
    assert (plain.gives, plain.sample_rate) == (None, None)
    assert not {"gives", "sample_rate"} & set(plain.config())


@pytest.mark.parametrize(
    ("notes", "message"),
    [
        ({"gives": "all"}, "gives: expected 'last step', .* or None, got 'all'"),
        ({"gives": ["last step"]}, r"gives: expected .*got \['last step'\]"),
        ({"sample_rate": -1}, "sample_rate: expected a number of Hz or None, got -1"),
        ({"sample_rate": float("inf")}, "sample_rate: expected"),
        ({"sample_rate": "48k"}, "sample_rate: expected"),
        ({"sample_rate": True}, "sample_rate: expected"),
        ({"sample_rate": 10**400}, "sample_rate: expected"),
    ],
)
def test_what_they_cannot_be(notes, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        noted(**notes)
    if notes == {"sample_rate": float("inf")}:
        return  # no JSON
    net = noted(gives="last step", sample_rate=48000)
    for suffix in SUFFIXES:
        saved = tmp_path / f"net{suffix}"
        lk.save(net, saved)
        if suffix == ".onnx":
            model = onnx.load(saved)
            onnx.helper.set_model_props(model, {"lstmkernel": json.dumps(notes)})
            onnx.save(model, saved)
        else:
            from safetensors.numpy import save_file

            meta = json.dumps({"type": "LSTM", **net.config(), **notes})
            save_file(net.state_dict(), saved, {"lstmkernel": meta})
        with pytest.raises(lk.FormatError, match=message):
            lk.load(saved)
        with pytest.raises(lk.FormatError, match=message):
            lk.inspect(saved)


def test_metadata_of_others_is_left_alone(tmp_path):
    lk.save(noted(), tmp_path / "net.onnx")
    model = onnx.load(tmp_path / "net.onnx")
    onnx.helper.set_model_props(model, {"author": "x"})
    onnx.save(model, tmp_path / "net.onnx")
    assert lk.load(tmp_path / "net.onnx").gives is None
    assert np.array_equal(lk.load(tmp_path / "net.onnx")([[1.0, 2, 3]])[0], noted()([[1.0, 2, 3]])[0])
