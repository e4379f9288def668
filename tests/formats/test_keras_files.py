"""Keras's files: models that Keras 2 and 3 saved, with their answers; goldens/make_keras.py made both."""

from __future__ import annotations

import io
import re
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from helpers import assert_close, assert_same_bits, run_python

import lstmkernel as lk
from lstmkernel import cli

h5py = pytest.importorskip("h5py")

pytestmark = pytest.mark.filterwarnings("ignore:.*weights alone:RuntimeWarning")

GOLDENS = Path(__file__).parent / "goldens" / "keras"


@pytest.fixture(scope="session")
def saved(tmp_path_factory) -> Path:
    """The folder of all that Keras saved."""
    folder = tmp_path_factory.mktemp("keras")
    with zipfile.ZipFile(GOLDENS / "files.zip") as files:
        files.extractall(folder)
    return folder


@pytest.fixture(scope="session")
def answers() -> dict[str, np.ndarray]:
    return dict(np.load(GOLDENS / "answers.npz"))


# ---------------------------------------------------------------- what Keras computes

WHOLE = ("whole_3.keras", "whole_3.h5", "whole_2.keras", "whole_2.h5")
SEQUENCES = (*WHOLE, "activations_3.keras", "activations_2.h5", "bfloat16_3.keras", "cudnn.h5", "cudnn_weights.h5")
SEQUENCES += ("activation_layers_3.keras", "activation_layers_2.h5")
LAST = ("last_3.keras", "last_3.weights.h5", "last_2.h5", "last_2_weights.h5", "classifier_3.keras", "classifier_2.h5")


def model_of(file):
    return re.sub(r"(_weights|\.weights)?\.(keras|h5)$", "", file)


@pytest.mark.parametrize("file", SEQUENCES)
def test_every_step(saved, answers, backend, dtype, file):
    net = lk.load(saved / file, backend=backend, dtype=dtype)
    assert net.batch_first
    x, y = (answers[f"{model_of(file)}.{part}"] for part in "xy")
    assert_close(net(x)[0].astype("float32"), y, "float32")


@pytest.mark.parametrize("file", LAST)
def test_the_last_step_is_what_a_layer_without_return_sequences_gives(saved, answers, backend, file):
    """And what ``last`` gives: loading says so."""
    with pytest.warns(RuntimeWarning, match=r"net\.last\(x\)"):
        net = lk.load(saved / file, backend=backend)
    x, y = (answers[f"{model_of(file)}.{part}"] for part in "xy")
    assert_close(net(x)[0][:, -1], y, "float32")
    assert_close(net.last(x), y, "float32")
    with pytest.warns(RuntimeWarning, match=r"net\.last\(x\)"):
        steps_first = lk.load(saved / file, backend=backend, batch_first=False)
    assert_close(steps_first.last(x.swapaxes(0, 1)), y, "float32")
    assert any("net.last(x)" in note for note in lk.inspect(saved / file).notes)


def test_the_last_states_of_both_directions(saved, answers, backend):
    with pytest.warns(RuntimeWarning, match="Keras's answer is not in the output, but in the states: np.concatenate"):
        net = lk.load(saved / "last_of_both_3.keras", backend=backend)
    _, (h_n, _) = net(answers["last_of_both_3.x"])
    assert_close(np.concatenate(list(h_n), axis=-1), answers["last_of_both_3.y"], "float32")


def test_go_backwards(saved, answers, backend):
    """Three of its five layers turn the sequence around, so Keras's first output is for the last step."""
    with pytest.warns(RuntimeWarning, match=r"in the order of x; Keras's answer is y\[:, ::-1\]"):
        net = lk.load(saved / "backwards_3.keras", backend=backend)
    assert [layer.reverse for layer in net.layers] == [False, True, True, False, True]
    assert_close(net(answers["backwards_3.x"])[0][:, ::-1], answers["backwards_3.y"], "float32")


@pytest.mark.filterwarnings(
    "ignore:.*return_sequences=False. Keras's answer is net.last.x., with lengths=:RuntimeWarning"
)
def test_masks_become_lengths(saved, answers, backend):
    """Keras's last output is that of a row's last step which no mask hides."""
    with pytest.warns(RuntimeWarning, match="the LSTM expects a mask: layer 'masking' .Masking. skips .* x is 0.0, so"):
        net = lk.load(saved / "masked_3.keras", backend=backend)
    out, _ = net(answers["masked_3.x"], lengths=[6, 4])
    assert_close(out[[0, 1], [5, 3]], answers["masked_3.y"], "float32")
    assert_close(net.last(answers["masked_3.x"], lengths=[6, 4]), answers["masked_3.y"], "float32")


def test_layers_of_a_model(saved):
    net = lk.load(saved / "whole_3.keras")
    assert [type(layer).__name__ for layer in net.layers] == ["LSTM", "LSTM", "Dense", "LSTM", "Dense"]
    first, both, every_step, without_bias, head = net.layers
    assert (first.input_size, first.hidden_size, first.bias, first.variant) == (3, 4, True, None)
    assert both.bidirectional
    assert (every_step.activation, head.activation, head.bias) == ("tanh", "sigmoid", False)
    assert not without_bias.bias


@pytest.mark.parametrize(
    ("file", "prefix"), [("last_3.weights.h5", None), ("last_3.weights.h5", "lstm_2"), ("last_2_weights.h5", None)]
)
def test_weights_alone_may_have_had_any_options(saved, file, prefix):
    with pytest.warns(RuntimeWarning, match=rf"{file}: weights alone: .* defaults, so that a Dense is linear"):
        lk.load(saved / file, prefix=prefix)


@pytest.mark.parametrize("file", ["activation_layers_3.keras", "activation_layers_2.h5"])
def test_activation_layers_are_part_of_the_dense_below(saved, file):
    """Of the whole model only: a Dense that is picked by its name is what Keras has under that name."""
    net = lk.load(saved / file)
    assert [layer.activation for layer in net.layers[1:]] == ["relu", "tanh", "softmax"]
    whole, *parts = lk.inspect(saved / file).networks
    dense = ["Dense 4 -> 4, relu", "Dense 4 -> 3, tanh", "Dense 3 -> 5, softmax, no bias"]
    assert whole.description.split(", then ") == ["LSTM 3 -> 4", *dense]
    assert len(parts) == 4
    assert parts[1].description == "Dense 4 -> 4"
    assert lk.load(saved / file, prefix=parts[1].prefix).activation == "linear"


@pytest.mark.parametrize("file", [*WHOLE, "whole_3.weights.h5"])
def test_one_layer_by_its_name(saved, answers, file):
    """One after the other they give what the model gives, and what they are is the same in every file."""
    places = ("first", "both", "every_step", "lstm_1" if file == "whole_2.h5" else None, "dense_1")
    names = [network.prefix for network in lk.inspect(saved / file).networks if network.prefix]
    whole = lk.load(saved / file.replace(".weights.h5", ".keras"))
    found = {name: lk.load(saved / file, prefix=name) for name in names}
    assert len(found) == len(whole.layers) == len(places)
    for layer in whole.layers:
        same = [net for net in found.values() if has_same_weights(net, layer)]
        assert len(same) == 1
        assert isinstance(same[0], type(layer))


def has_same_weights(net, other):
    a, b = net.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def test_the_moments_of_the_optimizer_are_not_weights(saved):
    """Both hold arrays of the same shapes, and in .weights.h5 under the same names."""
    with zipfile.ZipFile(saved / "whole_3.keras") as file, h5py.File(io.BytesIO(file.read("model.weights.h5"))) as h5:
        assert len(h5["optimizer/vars"]) > 20
        kernel = h5["layers/lstm/cell/vars/0"][()]
    assert np.array_equal(lk.load(saved / "whole_3.keras").state_dict()["0.weight_ih_l0"], kernel.T)
    for file in WHOLE:
        assert not any("optimizer" in tensor.name for tensor in lk.inspect(saved / file).tensors)
        assert len(lk.inspect(saved / file).tensors) == 3 + 6 + 2 + 2 + 1


def test_inspect(saved):
    contents = lk.inspect(saved / "whole_2.h5")
    assert contents.format == "Keras 2, .h5"
    whole, *parts = contents.networks
    assert whole.description.split(", then ") == [
        "LSTM 3 -> 4",
        "LSTM 4 -> 3, both directions",
        "Dense 6 -> 4, tanh",
        "LSTM 4 -> 2, no bias",
        "Dense 2 -> 1, sigmoid, no bias",
    ]
    assert parts[0] == ("first", "LSTM 3 -> 4")
    assert ("model_weights/first/first/lstm_cell/kernel:0", (3, 16), "float32") in contents.tensors
    assert lk.inspect(saved / "bfloat16_3.keras").tensors[0].dtype == "bfloat16"
    assert "weights alone: taken for a chain: layer" in " ".join(lk.inspect(saved / "cudnn_weights.h5").notes)
    assert "GRU" in " ".join(lk.inspect(saved / "refused_3.keras").notes)


@pytest.mark.filterwarnings("ignore:.*return_sequences=False:RuntimeWarning")
def test_the_format_is_told_by_content(saved, tmp_path):
    for file in ("last_3.keras", "last_2.h5"):
        shutil.copy(saved / file, tmp_path / "model.bin")
        assert lk.load(tmp_path / "model.bin").layers[0].input_size == 3


@pytest.mark.filterwarnings("ignore:.*(go_backwards=True|gives the steps in reverse):RuntimeWarning")
@pytest.mark.parametrize("file", ["whole_3.keras", "activations_2.h5", "backwards_3.keras"])
def test_converted(saved, answers, tmp_path, capsys, file):
    assert cli.main(["convert", str(saved / file), str(tmp_path / "net.safetensors")]) == 0
    net, x = lk.load(saved / file), answers[f"{model_of(file)}.x"]
    assert_same_bits(lk.load(tmp_path / "net.safetensors")(x)[0], net(x)[0])
    assert cli.main(["info", str(saved / file)]) == 0
    assert "Keras" in capsys.readouterr().out


@pytest.mark.parametrize("file", ["last_2.h5", "last_3.keras"])
def test_no_package_is_needed(saved, file):
    code = """
import sys
sys.modules["h5py"] = sys.modules["keras"] = None
import lstmkernel as lk
print(lk.inspect(sys.argv[1]).networks[0].description, lk.load(sys.argv[1]).input_size)
"""
    assert run_python(code, str(saved / file)).stdout.startswith("LSTM 3 -> 4, then LSTM 4 -> 3, then Dense 3 -> 2 3")
