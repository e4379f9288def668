"""What ``inspect`` says: the same words for a network in every format, and a result that prints as a list."""

from __future__ import annotations

import numpy as np
import pytest

import lstmkernel as lk
from lstmkernel.formats import Contents, describe

pytest.importorskip("onnx")

VARIANT = lk.Variant(peephole=True, gate_clip=3, coupled="forget", activations=(("elu", 0.5), "relu", "tanh"))
NETWORKS = {
    "LSTM 3 -> 4": lk.LSTM(3, 4),
    "LSTM 3 -> 4, 2 layers, both directions, no bias": lk.LSTM(3, 4, 2, bidirectional=True, bias=False),
    "LSTM 3 -> 4, reverse, initial state": lk.LSTM(3, 4, reverse=True, initial_state=True),
    "LSTM 3 -> 4, peephole, gate_clip 3, coupled forget, activations elu(0.5) relu tanh": lk.LSTM(
        3, 4, variant=VARIANT
    ),
    "LSTM 3 -> 4, then Dense 4 -> 3, softmax, no bias": lk.Stack(
        [lk.LSTM(3, 4), lk.Dense(4, 3, "softmax", bias=False)]
    ),
}


@pytest.mark.parametrize("words", NETWORKS)
def test_the_same_words_in_every_format(words, tmp_path):
    assert describe.network(NETWORKS[words]) == words
    for suffix in (".safetensors", ".onnx"):
        path = tmp_path / f"net{suffix}"
        lk.save(NETWORKS[words], path)
        assert lk.inspect(path).networks[0] == ("", words)
        assert describe.network(lk.load(path)) == words


def test_a_cell_a_projection_and_a_skip_in_words():
    assert describe.network(lk.LSTMCell(3, 4)) == "LSTMCell 3 -> 4"
    assert describe.network(lk.LSTM(3, 4, proj_size=2)) == "LSTM 3 -> 4, projected to 2"
    assert describe.network(lk.Stack([lk.LSTM(1, 4), lk.Dense(4, 1)], skip=1)).endswith("Dense 4 -> 1; skip 1.0")


def test_what_a_file_claims_is_described_whatever_it_is():
    assert describe.layer("LSTM", {"variant": 3, "bias": True}) == "LSTM None -> None, variant 3"
    assert describe.layer("LSTM", {"variant": {"activations": [[], 1, ["elu", 2]]}}).endswith(
        "activations [] 1 elu(2), no bias"
    )


def test_the_result_prints_as_a_list(tmp_path):
    path = tmp_path / "net.safetensors"
    lk.save(lk.Stack([lk.LSTM(3, 4), lk.Dense(4, 2, bias=False)]), path)
    contents = lk.inspect(path)
    assert isinstance(contents, Contents)
    lines = str(contents).splitlines()
    assert lines[:3] == [
        "safetensors, 5 tensors",
        "network (whole file): LSTM 3 -> 4, then Dense 4 -> 2, no bias",
        "network prefix='0': LSTM 3 -> 4",
    ]
    assert "note: written by lstmkernel.save" in lines
    assert "tensor 1.weight: float32 (2, 4)" in lines
    assert repr(contents) == str(contents)


def test_a_name_in_the_file_cannot_command_the_terminal(tmp_path):
    from safetensors.numpy import save_file

    path = tmp_path / "net.safetensors"
    save_file({"a\x1b[2J\nb": np.zeros(1, np.float32)}, path)
    *_, line = repr(lk.inspect(path)).splitlines()
    assert line == "tensor a\\x1b[2J\\nb: float32 (1,)"
