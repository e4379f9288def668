"""Input in a layout or of a kind that people often give: the error or warning names what to give instead."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
from helpers import readonly

import lstmkernel as lk
from lstmkernel.host import numbers_text

SOUND = np.sin(np.arange(6)).astype("float32")
STEREO = np.stack([SOUND, SOUND / 2], axis=1)


@pytest.fixture
def amp(tmp_path):
    """One LSTM of 2 units and a head, made for 48000 Hz."""
    (tmp_path / "amp.nam").write_text(written := json.dumps(nam()))
    assert written.startswith("{")
    return lk.load(tmp_path / "amp.nam")


def nam() -> dict:
    weights = np.linspace(-0.5, 0.5, 8 * 3 + 8 + 4 + 3).tolist()
    config = {"num_layers": 1, "input_size": 1, "hidden_size": 2}
    model = {"version": "0.5.4", "architecture": "LSTM", "config": config, "weights": weights}
    return model | {"sample_rate": 48000}


@pytest.mark.parametrize(
    ("call", "way_out", "instead"),
    [
        (lambda amp: amp(SOUND), r"; for one sequence, give x\[:, None\]", lambda amp: amp(SOUND[:, None])[0]),
        (lambda amp: amp(SOUND[None]), r"; if that is \(I, T\), give x\.T", lambda amp: amp(SOUND[None].T)[0]),
        (
            lambda amp: amp.stream()(SOUND[None]),
            r"; if that is \(I, T\), give chunk\.T",
            lambda amp: amp.stream()(SOUND[None].T),
        ),
        (
            lambda amp: amp.stream()(STEREO),
            r"; for 2 channels, make a stream of as many rows, and give chunk\[\.\.\., None\]",
            lambda amp: amp.stream(2)(STEREO[..., None])[:, 0],
        ),
        (
            lambda amp: amp.stream(2)(STEREO),
            r"; give chunk\[\.\.\., None\]",
            lambda amp: amp.stream(2)(STEREO[..., None])[:, 0],
        ),
    ],
    ids=["mono", "channel first", "stream, channel first", "stereo", "stereo, two rows"],
)
def test_another_layout_of_sound(amp, call, way_out, instead):
    with pytest.raises(ValueError, match=f"{way_out}$"):
        call(amp)
    assert np.array_equal(instead(amp), amp(SOUND[:, None])[0])


def test_a_shape_that_tells_nothing_has_no_hint():
    with pytest.raises(ValueError, match=r"with I = 4, got \(7, 5\)$"):
        lk.LSTM(4, 3, seed=0)(np.zeros((7, 5), "float32"))


@pytest.mark.parametrize(
    ("out", "came"),
    [(STEREO.copy()[:, 0], r"not contiguous, with strides of \(8,\) bytes"), (readonly(SOUND.copy()), "read-only")],
    ids=["strided", "read-only"],
)
def test_out_says_what_came(amp, out, came):
    with pytest.raises(ValueError, match=f"out: expected a C-contiguous, .* got one that is {came}"):
        amp.stream()(SOUND, out=out)


def test_sound_in_place_says_what_to_give(amp):
    block = SOUND.copy()
    with pytest.raises(ValueError, match="out: overlaps chunk; give an array of its own"):
        amp.stream()(block, out=block)


# ---------------------------------------------------------------- sound as whole numbers


def stepped(pool, x):
    return pool.step(pool.open(1), x[:1])


PLAY = {
    "call": lambda amp, x: amp(x),
    "call with skip": lambda amp, x: lk.Stack(amp.layers, skip=1)(x),
    "call with out": lambda amp, x: amp(x, out=np.empty((len(x), 1), "f")),
    "stream": lambda amp, x: amp.stream()(x),
    "step": lambda amp, x: amp.stream().step(x[:1]),
    "last": lambda amp, x: amp.last(x),
    "windows": lambda amp, x: amp.windows(x, 2),
    "ragged": lambda amp, x: amp.ragged(x, [0, len(x)]),
    "ragged rows": lambda amp, x: amp.ragged([x]),
    "window": lambda amp, x: amp.window(2).step(x[0]),
    "pool": lambda amp, x: stepped(amp.pool(1), x),
}


@pytest.mark.parametrize("way", PLAY)
def test_a_sound_of_whole_numbers_warns(amp, way):
    play = PLAY[way]
    whole = np.maximum(SOUND * 32767, 2).astype("int16")[:, None]
    with pytest.warns(RuntimeWarning, match=r"expected a sound between -1 and 1, got int16 .* divide by 32768") as seen:
        play(amp, whole)
    assert seen[0].filename == __file__
    with pytest.warns(RuntimeWarning, match="got uint8 up to 200, .*; give floats"):
        play(amp, np.full((3, 1), 200, "uint8"))
    with pytest.warns(RuntimeWarning, match="got int64 up to 300, .*; give floats"):
        play(amp, np.full((3, 1), -300))


def test_a_masked_sound_is_refused_as_any(amp):
    with pytest.raises(TypeError, match="without a mask"):
        amp(np.ma.masked_equal(np.array([[100], [3]], "int16"), 3))


def test_what_may_be_whole_numbers_does_not_warn(amp):
    counts = np.array([[100], [-32768]], "int16")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        amp(np.array([[1], [-1]], "int16"))
        amp(counts[:0])
        amp(counts / 32768)
        lk.LSTM(1, 2, seed=0)(counts)  # not made for sound


# ---------------------------------------------------------------- other things


def test_what_a_file_holds_is_no_path():
    text = json.dumps(nam())
    for given in (text, text.encode(), "\n" + text, b"PK\3\4\0\0"):
        with pytest.raises(
            TypeError, match=r"path: expected a path, got what a file holds, .*; give the file's name"
        ) as e:
            lk.load(given)
        assert len(str(e.value)) < 120


def test_a_packed_sequence_is_refused_with_a_way_out():
    torch = pytest.importorskip("torch")
    rows = [torch.ones(3, 4), torch.ones(2, 4)]
    net = lk.LSTM(4, 2, seed=0)
    with pytest.raises(ValueError, match=r"got a PackedSequence; .*pad_packed_sequence .* lstmkernel\.torch\.LSTM"):
        net(torch.nn.utils.rnn.pack_sequence(rows))
    padded, lengths = torch.nn.utils.rnn.pad_packed_sequence(torch.nn.utils.rnn.pack_sequence(rows))
    assert net(padded, lengths=lengths)[0].shape == (3, 2, 2)


def test_no_time_has_no_nanoseconds():
    assert numbers_text.duration(0) == "0 s"
    assert numbers_text.duration(2e-9) == "2.00 ns"
