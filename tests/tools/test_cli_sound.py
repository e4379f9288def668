"""``lstmkernel run`` over sound files: what the network plays, in the kind of file that came, whole or not at all."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import assert_close, assert_same_bits

import lstmkernel as lk
from lstmkernel import backends
from lstmkernel.cli import main, sound

sf = pytest.importorskip("soundfile")

RATE = 8000


@pytest.fixture
def amp(tmp_path: Path) -> Path:
    """An amplifier model with a skip connection and a learned state."""
    net = lk.Stack([lk.LSTM(1, 8, initial_state=True, seed=3), lk.Dense(8, 1, seed=4)], skip=0.5)
    lk.save(net, tmp_path / "amp.safetensors")
    return tmp_path / "amp.safetensors"


def wave(frames: int, channels: int) -> np.ndarray:
    """A sine, and noise beside it."""
    t = np.arange(frames) / RATE
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (frames, channels))
    noise[:, 0] = 0.5 * np.sin(2 * np.pi * 110 * t)
    return noise.astype("float32")


def run(amp: Path, source: Path, target: Path, *more: str) -> int:
    return main(["run", "--weights", str(amp), str(source), "-o", str(target), *more])


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("frames", [0, 1, 1000, 2 * 300 + 1])
def test_plays_every_channel_by_itself(amp, tmp_path, backend, monkeypatch, frames, channels, capsys):
    monkeypatch.setattr(sound, "BLOCK", 300)
    x = wave(frames, channels)
    sf.write(tmp_path / "in.wav", x, RATE, "FLOAT")
    assert run(amp, tmp_path / "in.wav", tmp_path / "out.wav", "--backend", backend) == 0
    out, rate = sf.read(tmp_path / "out.wav", dtype="float32", always_2d=True)
    assert rate == RATE
    assert out.shape == x.shape
    net = lk.load(amp, backend=backend)
    for channel in range(channels):
        expected = net(x[:, channel, None])[0][:, 0]
        if backend in backends.ONE_ANSWER:
            assert_same_bits(out[:, channel], expected)
        else:
            assert_close(out[:, channel], expected, "float32")
    printed = capsys.readouterr().out
    assert f"{RATE} Hz" in printed
    assert ("times real time" in printed) == (frames > 0)
    assert "clipped" not in printed


@pytest.mark.parametrize(
    ("suffix", "subtype", "kept"),
    [
        ("wav", "PCM_16", "PCM_16"),
        ("wav", "PCM_24", "PCM_24"),
        ("wav", "DOUBLE", "DOUBLE"),
        ("wav", "ULAW", "PCM_16"),
        ("flac", "PCM_24", "PCM_24"),
        ("flac", "FLOAT", "PCM_16"),
        ("AIFF", "PCM_16", "PCM_16"),
        ("aif", "FLOAT", "FLOAT"),
    ],
)
def test_numbers_are_kept_as_they_came(amp, tmp_path, suffix, subtype, kept):
    sf.write(tmp_path / "in.wav", wave(500, 1) / 2, RATE, subtype)
    assert run(amp, tmp_path / "in.wav", tmp_path / f"out.{suffix}") == 0
    info = sf.info(tmp_path / f"out.{suffix}")
    assert (info.subtype, info.samplerate, info.frames) == (kept, RATE, 500)
    x = sf.read(tmp_path / "in.wav", dtype="float32")[0]
    steps = {"PCM_16": 2**15, "PCM_24": 2**23}.get(kept, 2**22)
    np.testing.assert_allclose(sf.read(info.name)[0], lk.load(amp)(x[:, None])[0][:, 0], rtol=0, atol=1.5 / steps)


def test_clipping_is_told(amp, tmp_path, capsys):
    loud = lk.Stack(lk.load(amp).layers, skip=8)
    lk.save(loud, amp)
    x = wave(500, 1)
    expected = loud(x)[0]
    over = np.abs(expected) > 1
    for subtype in ("PCM_16", "FLOAT"):
        sf.write(tmp_path / "in.wav", x, RATE, subtype)
        assert run(amp, tmp_path / "in.wav", tmp_path / "out.wav") == 0
        printed, out = capsys.readouterr().out, sf.read(tmp_path / "out.wav")[0]
        if subtype == "FLOAT":
            assert "clipped" not in printed
            assert np.abs(out).max() > 2
        else:
            assert abs(int(printed.split("clipped: ")[1].split()[0]) - over.sum()) <= 2  # x was rounded
            assert np.all(np.sign(out[over[:, 0]]) == np.sign(expected[over[:, 0], 0]))  # nothing wraps around
            assert f"by up to {20 * np.log10(np.abs(expected).max()):.1f} dB" in printed


@pytest.mark.filterwarnings("always:.*made for")
@pytest.mark.parametrize("rate", [RATE, 48000, None])
def test_another_sample_rate_is_a_warning(tmp_path, rate, capsys):
    weights = np.random.default_rng(1).uniform(-1, 1, 16).tolist()
    config = {"num_layers": 1, "input_size": 1, "hidden_size": 1}
    model = {"version": "0.5.4", "architecture": "LSTM", "config": config, "weights": weights, "sample_rate": rate}
    (tmp_path / "amp.nam").write_text(json.dumps(model))
    sf.write(tmp_path / "in.wav", wave(100, 1), RATE)
    assert run(tmp_path / "amp.nam", tmp_path / "in.wav", tmp_path / "out.wav") == 0
    said = capsys.readouterr().err
    assert ("made for 48000 Hz, but" in said) == (rate == 48000)
    assert sf.info(tmp_path / "out.wav").samplerate == RATE


def test_last_states(amp, tmp_path):
    x = wave(700, 2)
    sf.write(tmp_path / "in.wav", x, RATE, "FLOAT")
    assert run(amp, tmp_path / "in.wav", tmp_path / "out.wav", "--state-out", str(tmp_path / "last.npz")) == 0
    _, ((h, c),) = lk.load(amp)(x[:, :, None])
    last = np.load(tmp_path / "last.npz")
    assert_close(last["h_n"], h, "float32")
    assert_close(last["c_n"], c, "float32")


# ---------------------------------------------------------------- refused


def test_without_the_extra(amp, tmp_path, monkeypatch, capsys):
    sf.write(tmp_path / "in.wav", wave(10, 1), RATE)
    monkeypatch.setitem(sys.modules, "soundfile", None)
    assert run(amp, tmp_path / "in.wav", tmp_path / "out.wav") == 2
    assert "needs soundfile; pip install 'lstmkernel[audio]'" in capsys.readouterr().err


def no_sound(folder: Path) -> None:
    (folder / "in.wav").write_bytes(b"RIFF and no more")


def knobs(folder: Path) -> None:
    lk.save(lk.Stack([lk.LSTM(2, 4), lk.Dense(4, 1)]), folder / "amp.safetensors")


def backwards(folder: Path) -> None:
    lk.save(lk.Stack([lk.LSTM(1, 4, bidirectional=True), lk.Dense(8, 1)]), folder / "amp.safetensors")


def unstable(folder: Path) -> None:
    lk.save(lk.Stack([lk.LSTM(1, 4), lk.Dense(4, 1)], skip=1e30), folder / "amp.safetensors")
    sf.write(folder / "in.wav", 1e30 * wave(900, 1), RATE, "FLOAT")


@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.parametrize(
    ("change", "output", "message"),
    [
        (no_sound, "out.wav", "in.wav: "),
        (knobs, "out.wav", "expected a network of 1 input and 1 output for a sound file, got 2 and 1"),
        (backwards, "out.wav", "needs the whole sequence first"),
        (unstable, "out.wav", "out.wav: not written, because the network's output is not finite"),
        (None, "out.npy", r"expected a sound file's name, such as .wav"),
        (None, "out", r"expected a sound file's name, such as .wav"),
        (None, "none/out.wav", "No such file or directory"),
    ],
)
def test_refused_and_nothing_written(amp, tmp_path, capsys, change, output, message):
    sf.write(tmp_path / "in.wav", wave(900, 1), RATE)
    (tmp_path / "out.wav").write_bytes(b"old")
    if change:
        change(tmp_path)
    before = sorted(tmp_path.iterdir())
    assert run(amp, tmp_path / "in.wav", tmp_path / output) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.startswith("lstmkernel: error: ")
    assert said.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / "out.wav").read_bytes() == b"old"


def test_a_sound_that_is_too_long_for_its_format(amp, tmp_path, monkeypatch, capsys):
    """Its length would not fit into 32 bits; the way out that is named works."""
    monkeypatch.setattr(sound, "MOST_BYTES", 1000)
    sf.write(tmp_path / "in.wav", wave(900, 1), RATE, "PCM_16")
    assert run(amp, tmp_path / "in.wav", tmp_path / "out.wav") == 2
    assert "give it a name that ends in .w64 or .rf64" in capsys.readouterr().err
    for suffix in ("w64", "rf64"):
        assert run(amp, tmp_path / "in.wav", tmp_path / f"out.{suffix}") == 0
        assert sf.info(tmp_path / f"out.{suffix}").frames == 900


def test_a_full_disk_leaves_the_old_output(amp, tmp_path, monkeypatch, capsys):
    sf.write(tmp_path / "in.wav", wave(900, 1), RATE)
    (tmp_path / "out.wav").write_bytes(b"old")

    def fails(self: Any, data: Any) -> None:
        raise sf.LibsndfileError(2, "write: ")

    monkeypatch.setattr(sf.SoundFile, "write", fails)
    assert run(amp, tmp_path / "in.wav", tmp_path / "out.wav") == 2
    assert "out.wav: " in capsys.readouterr().err
    assert (tmp_path / "out.wav").read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ("nan.wav", "out.wav", "nan.wav: expected samples that are numbers, got NaN or infinity"),
        (
            "headless.raw",
            "out.wav",
            "headless.raw: expected a file that says what it contains; for numbers without a header, say --raw",
        ),
        ("many.wav", "out.ogg", "out.ogg: expected at most 255 channels, got 256"),
        ("text.wav", "out.wav", "text.wav: "),
    ],
)
def test_odd_sounds(amp, tmp_path, capsys, source, target, message):
    """Ogg's library ends the process with more channels."""
    path = tmp_path / source
    if source == "many.wav":
        sf.write(path, np.zeros((10, 256)), RATE)
    elif source == "nan.wav":
        sf.write(path, np.full((10, 1), np.nan, "float32"), RATE, "FLOAT")
    else:
        path.write_bytes(b"hello" * 20)
    assert run(amp, path, tmp_path / target) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / target).exists()


@pytest.mark.parametrize(
    "content",
    [
        b"PK\3\4" + bytes(100),
        b"\x93NUMPY\1\0" + (5001).to_bytes(2, "little") + b"(" * 5000 + b"\n",
        b"",
        b"\x93NUMPY\1",
    ],
    ids=["zip", "deep", "empty", "cut"],
)
def test_arrays_that_are_none(amp, tmp_path, capsys, content):
    (tmp_path / "in.npy").write_bytes(content)
    assert run(amp, tmp_path / "in.npy", tmp_path / "out.npy") == 2
    assert "in.npy: expected an array of numbers, as numpy.save writes it" in capsys.readouterr().err


@pytest.mark.parametrize("dtype", ["complex64", "U9", "datetime64[s]"])
def test_arrays_of_other_things(amp, tmp_path, capsys, dtype):
    np.save(tmp_path / "in.npy", np.zeros((3, 1), dtype))
    assert run(amp, tmp_path / "in.npy", tmp_path / "out.npy") == 2
    assert "in.npy: expected an array of real numbers, got " in capsys.readouterr().err
