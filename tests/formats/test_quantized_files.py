"""Files of networks with weights of fewer bits: what is written, who can read it, what is refused."""

import copy
import json
import pickle

import numpy as np
import pytest
from helpers import assert_same_answer, assert_same_bits, normal
from networks import NETWORKS, each, make, mixed, with_head, without
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import lstmkernel as lk
from lstmkernel import cli

MATRICES = ("weight_ih", "weight_hh", "weight_hr")

PRECISION = pytest.mark.parametrize("precision", ["float16", "int8"])


@pytest.fixture
def path(tmp_path):
    return tmp_path / "net.safetensors"


@each(*NETWORKS)
def test_the_same_network_comes_back(path, random, network):
    quantized = make(network).quantize("float16")
    lk.save(quantized, path)
    loaded = lk.load(path)
    assert repr(loaded) == repr(quantized)
    x = normal(random, (4, 3, quantized.input_size), "float32")
    assert_same_answer(loaded(x), quantized(x))
    for name, value in load_file(path).items():
        assert value.dtype == (np.float16 if name.startswith(MATRICES) else np.float32), name
        assert_same_bits(value.astype(np.float32), quantized.state_dict()[name], name)


@pytest.mark.parametrize("activations", ["int16", "int8"])
@each(*without("variant", NETWORKS))
def test_the_same_integers_come_back(path, random, network, activations):
    """And the scale of each row, under the matrix's name."""
    quantized = make(network).quantize("int8", activations)
    lk.save(quantized, path)
    tensors = load_file(path)
    for name, value in quantized.stored().items():
        assert_same_bits(tensors.pop(name), value, name)
        assert value.dtype == (np.int8 if name.startswith(MATRICES) and not name.endswith("_scale") else np.float32)
    assert not tensors
    x = normal(random, (4, 3, quantized.input_size), "float32")
    again = lk.LSTM.from_config(quantized.config(), quantized.stored())
    for other in (lk.load(path), again, pickle.loads(pickle.dumps(quantized)), copy.deepcopy(quantized)):
        assert repr(other) == repr(quantized)
        assert (other.precision, other.activations) == ("int8", activations)
        assert_same_answer(other(x), quantized(x))
        for name, value in quantized.stored().items():
            assert_same_bits(other.stored()[name], value, name)


FOUR = {"input_size": 5, "hidden_size": 9, "num_layers": 4, "seed": 2}


@pytest.mark.parametrize("more", [{}, {"bidirectional": True, "proj_size": 3}, {"initial_state": True}])
def test_a_precision_for_each_layer_comes_back(path, random, more):
    lstm = mixed(lk.LSTM(**FOUR, **more), "float16", "int8", "float32", "int16")
    x = normal(random, (4, 3, 5), "float32")
    for net in (lstm, with_head(lstm)):
        lk.save(net, path)
        loaded = lk.load(path)
        assert repr(loaded) == repr(net)
        assert_same_bits(loaded(x)[0], net(x)[0])
        tensors = load_file(path)
        assert tensors.keys() == net.stored().keys() if net is lstm else True
        for name, value in tensors.items():
            assert_same_bits(loaded.stored()[name], value, name)
    assert repr(lk.load(path, prefix="0")) == repr(lstm)


def test_a_precision_for_each_layer_is_told(path, capsys):
    lk.save(mixed(lk.LSTM(**FOUR), "float16", "int8", "float32", "int16"), path)
    assert cli.main(["info", str(path)]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "LSTM 5 -> 9, 4 layers, weights float16 int8 float32 int8 by layer" in told
    assert "activations - int8 - int16 by layer" in told


def test_integers_of_some_layers_without_metadata(tmp_path, path, random):
    """They stay integers; float16 numbers become float32, with the same answer."""
    net = mixed(lk.LSTM(**FOUR), "float16", "int16", "float32", "int16")
    lk.save(net, path)
    save_file(load_file(path), tmp_path / "bare.safetensors")
    assert "weights float32 int8 float32 int8 by layer" in str(lk.inspect(tmp_path / "bare.safetensors"))
    with pytest.warns(RuntimeWarning, match="what its 8-bit weights are multiplied by"):
        bare = lk.load(tmp_path / "bare.safetensors")
    assert bare.config()["precision"] == ["float32", "int8", "float32", "int8"]
    x = normal(random, (4, 1, 5), "float32")
    if bare.backend != "c:generic":
        assert_same_answer(bare(x), net(x))


@PRECISION
def test_a_cell_comes_back(path, random, precision):
    cell = lk.LSTMCell(5, 6, seed=0).quantize(precision)
    lk.save(cell, path)
    x = normal(random, (3, 5), "float32")
    for other in (
        lk.load(path),
        pickle.loads(pickle.dumps(cell)),
        lk.LSTMCell.from_config(cell.config(), cell.stored()),
    ):
        assert repr(other) == repr(cell)
        assert_same_bits(other(x)[0], cell(x)[0])
    assert load_file(path)["weight_hh"].dtype == precision


@PRECISION
def test_a_stack_and_its_layers_come_back(path, random, precision):
    net = with_head(make("two layers")).quantize(precision)
    lk.save(net, path)
    x = normal(random, (4, 3, 5), "float32")
    for other in (lk.load(path), pickle.loads(pickle.dumps(net)), lk.Stack.from_config(net.config(), net.stored())):
        assert repr(other) == repr(net)
        assert_same_bits(other(x)[0], net(x)[0])
    assert lk.load(path, prefix="0").precision == precision
    assert load_file(path)["1.weight"].dtype == np.float32
    words = {"float16": "float16 weights", "int8": "int8 weights, int16 activations"}[precision]
    assert f"LSTM 5 -> 9, 2 layers, {words}, then Dense" in str(lk.inspect(path))


@pytest.mark.parametrize(("precision", "part"), [("float16", 0.52), ("int8", 0.28)])
def test_fewer_bytes(tmp_path, precision, part):
    lstm = lk.LSTM(100, 100, 2, seed=0)
    for name, net in (("wide", lstm), ("narrow", lstm.quantize(precision))):
        lk.save(net, tmp_path / name)
    assert (tmp_path / "narrow").stat().st_size < part * (tmp_path / "wide").stat().st_size


def test_the_command_line_knows_them(path, tmp_path, capsys):
    lk.save(make("two directions").quantize("int8", "int8"), path)
    assert cli.main(["info", str(path)]) == 0
    assert "int8 weights, int8 activations" in " ".join(capsys.readouterr().out.split())
    assert cli.main(["convert", str(path), str(tmp_path / "again.safetensors")]) == 0
    assert ".quantize('int8', activations='int8')" in capsys.readouterr().out
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


def test_pytorch_reads_it(path, random):
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file as torch_load_file

    quantized = lk.LSTM(5, 9, 2, bidirectional=True, seed=0).quantize("float16")
    lk.save(quantized, path)
    judge = torch.nn.LSTM(5, 9, 2, bidirectional=True)
    judge.load_state_dict(torch_load_file(path))
    x = normal(random, (6, 2, 5), "float32")
    with torch.no_grad():
        expected = judge(torch.from_numpy(x))[0].numpy()
    np.testing.assert_allclose(quantized(x)[0], expected, atol=1e-5)


def test_without_its_metadata_it_is_a_float32_network(tmp_path, path, random):
    """As any file of float16 tensors is, and with the same answer."""
    quantized = make("plain").quantize("float16")
    lk.save(quantized, path)
    save_file(load_file(path), tmp_path / "bare.safetensors")
    bare = lk.load(tmp_path / "bare.safetensors")
    assert bare.precision == "float32"
    x = normal(random, (4, 1, 5), "float32")
    assert_same_answer(bare(x), quantized(x))


def test_onnx_has_the_float32_values(tmp_path, random):
    onnx = pytest.importorskip("onnx")
    quantized = make("two directions").quantize("float16")
    lk.save(quantized, tmp_path / "net.onnx")
    tensors = onnx.load(tmp_path / "net.onnx").graph.initializer
    assert onnx.TensorProto.FLOAT16 not in {tensor.data_type for tensor in tensors}
    loaded, x = lk.load(tmp_path / "net.onnx"), normal(random, (4, 3, 5), "float32")
    assert loaded.precision == "float32"
    assert_same_answer(loaded(x), quantized(x))


# ---------------------------------------------------------------- refused


def rewritten(path, change, tensors=None):
    """The file with other metadata, or other tensors."""
    with safe_open(path, framework="numpy") as file:
        metadata = json.loads(file.metadata()["lstmkernel"])
    change(metadata)
    save_file(tensors or load_file(path), path, {"lstmkernel": json.dumps(metadata)})


@PRECISION
def test_float64_is_refused(path, precision):
    lk.save(make("plain").quantize(precision), path)
    with pytest.raises(lk.FormatError, match=r"dtype: expected a float32 network.*leave the dtype out"):
        lk.load(path, dtype="float64")
    assert lk.load(path, dtype="float32").precision == precision


@pytest.mark.parametrize("precision", ["int4", "float32", 7, ["int4"], [["int8"]], [7]])
def test_an_unknown_precision_is_refused(path, precision):
    lk.save(make("plain").quantize("float16"), path)
    rewritten(path, lambda metadata: metadata.update(precision=precision))
    with pytest.raises(lk.FormatError, match="precision: expected 'float16' or 'int8', got"):
        lk.load(path)


@pytest.mark.parametrize("precision", [[], ["float16", "float16"], ["float16"] * 100000])
def test_precisions_of_other_layers_are_refused(path, precision):
    lk.save(make("plain").quantize("float16"), path)
    rewritten(path, lambda metadata: metadata.update(precision=precision))
    with pytest.raises(lk.FormatError, match="precision: expected one, or a list of 1, one for each layer, got"):
        lk.load(path)
    lk.inspect(path)  # describes, and checks nothing


def test_weights_that_are_not_rounded_are_refused(path):
    lstm = make("plain")
    lk.save(lstm, path)
    rewritten(path, lambda metadata: metadata.update(precision="float16"), dict(lstm.state_dict()))
    with pytest.raises(lk.FormatError, match="weight_ih_l0: expected numbers that float16 has"):
        lk.load(path)


def test_nan_and_infinity_are_refused(path):
    lk.save(make("plain").quantize("float16"), path)
    tensors = load_file(path)
    tensors["weight_hh_l0"][0, 0] = np.nan
    rewritten(path, lambda metadata: None, tensors)
    with pytest.raises(lk.FormatError, match="weight_hh_l0: expected numbers of at most 65504"):
        lk.load(path)


def spoiled(name, place, value):
    """A tensor with one other number."""

    def change(tensors):
        tensors[name] = tensors[name].copy()
        tensors[name][place] = value

    return change


#: What is done to the tensors of an int8 file, and what is said then. "weight_hr_l0" is no part of the network.
WRONG = {
    "no scale": (lambda t: t.pop("weight_ih_l0_scale"), "weight_ih_l0: expected weight_ih_l0_scale beside it"),
    "no integers": (lambda t: t.pop("weight_hh_l0"), "missing weight_hh_l0"),
    "a scale of nothing": (lambda t: t.update(weight_hr_l0_scale=np.ones(9, "f")), "superfluous weight_hr_l0_scale"),
    "a scale of a bias": (lambda t: t.update(bias_ih_l0_scale=np.ones(36, "f")), "superfluous bias_ih_l0_scale"),
    "-128": (spoiled("weight_hh_l0", (3, 4), -128), "weight_hh_l0: expected .* from -127 to 127, got -128"),
    "numbers": (lambda t: t.update(weight_hh_l0=np.ones((36, 9), "f")), "weight_hh_l0: expected .*int8.*got float32"),
    "other integers": (lambda t: t.update(weight_hh_l0=np.ones((36, 9), "i2")), "weight_hh_l0: expected .*got int16"),
    "one number": (
        lambda t: t.update(weight_hh_l0=np.array(3, "i1"), weight_hh_l0_scale=np.array(1, "f")),
        r"weight_hh_l0: .*\(\)",
    ),
    "another shape": (lambda t: t.update(weight_hh_l0=np.ones((36, 8), "i1")), r"weight_hh_l0: .*\(36, 9\)"),
    "a short scale": (lambda t: t.update(weight_hh_l0_scale=np.ones(35, "f")), r"weight_hh_l0_scale: .*\(36,\)"),
    "one scale": (lambda t: t.update(weight_hh_l0_scale=np.array(1, "f")), r"weight_hh_l0_scale: .*got float32 \(\)"),
    "a wide scale": (lambda t: t.update(weight_hh_l0_scale=np.ones(36)), "weight_hh_l0_scale: .*got float64"),
    "NaN": (spoiled("weight_hh_l0_scale", 5, np.nan), "weight_hh_l0_scale: expected numbers from 0"),
    "infinity": (spoiled("weight_hh_l0_scale", 5, np.inf), "weight_hh_l0_scale: expected numbers from 0"),
    "below zero": (spoiled("weight_ih_l0_scale", 5, -0.1), "weight_ih_l0_scale: expected numbers from 0"),
    "weights that overflow": (spoiled("weight_ih_l0_scale", 5, 3e38), "weight_ih_l0_scale: expected numbers from 0"),
    "a bias of integers": (lambda t: t.update(bias_ih_l0=np.ones(36, "i1")), "bias_ih_l0: expected floating-point"),
}


@pytest.mark.parametrize("stacked", [False, True])
@pytest.mark.parametrize(("change", "words"), WRONG.values(), ids=WRONG)
def test_wrong_integers_and_scales_are_refused_by_name(path, change, words, stacked):
    lstm = make("plain").quantize("int8")
    lk.save(lk.Stack([lstm]) if stacked else lstm, path)
    place = "0." if stacked else ""
    tensors = {name.removeprefix(place): value for name, value in load_file(path).items()}
    change(tensors)
    rewritten(path, lambda metadata: None, {place + name: value for name, value in tensors.items()})
    with pytest.raises(lk.FormatError, match=words):
        lk.load(path)


def test_what_metadata_and_tensors_say_must_fit(path):
    lstm = make("plain")
    lk.save(lstm, path)
    rewritten(path, lambda metadata: metadata.update(precision="int8", activations="int16"))
    with pytest.raises(
        lk.FormatError, match="weight_hh_l0: expected weight_hh_l0_scale beside it, for precision='int8'"
    ):
        lk.load(path)
    for other in ("float16", None):
        lk.save(lstm.quantize("int8"), path)
        rewritten(path, lambda metadata, other=other: metadata.update(precision=other, activations=None))
        with pytest.raises(lk.FormatError, match="superfluous weight_hh_l0_scale, weight_ih_l0_scale"):
            lk.load(path)


@pytest.mark.parametrize("activations", ["int4", "float32", 7, ["int4"], [["int8"]]])
def test_unknown_activations_are_refused(path, activations):
    lk.save(make("plain").quantize("int8"), path)
    rewritten(path, lambda metadata: metadata.update(activations=activations))
    with pytest.raises(lk.FormatError, match="activations: expected 'int16' or 'int8' with 'int8', got"):
        lk.load(path)


def test_a_variant_of_integers_is_refused(path):
    lk.save(make("plain").quantize("int8"), path)
    rewritten(path, lambda metadata: metadata.update(variant=lk.Variant(gate_clip=1).to_dict()))
    with pytest.raises(lk.FormatError, match="variant: expected a plain LSTM"):
        lk.load(path)


def test_the_callers_arrays_stay_as_they_are():
    lstm = make("plain").quantize("int8")
    given = {name: value.copy() for name, value in lstm.stored().items()}
    again = lk.LSTM.from_config(lstm.config(), given)
    assert all(value.flags.writeable for value in given.values())
    assert not any(value.flags.writeable for value in again.stored().values())
    assert not any(value.flags.writeable for value in again.state_dict().values())
