"""Files of networks with weights of fewer bits: what is written, who can read it, what is refused."""

import json

import numpy as np
import pytest
from helpers import assert_same_answer, assert_same_bits, normal
from networks import NETWORKS, each, make, with_head
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import lstmkernel as lk

MATRICES = ("weight_ih", "weight_hh", "weight_hr")


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


def test_a_cell_comes_back(path):
    cell = lk.LSTMCell(5, 6, seed=0).quantize("float16")
    lk.save(cell, path)
    assert repr(lk.load(path)) == repr(cell)
    assert load_file(path)["weight_hh"].dtype == np.float16


def test_a_stack_and_its_layers_come_back(path, random):
    net = with_head(make("two layers")).quantize("float16")
    lk.save(net, path)
    loaded, x = lk.load(path), normal(random, (4, 3, 5), "float32")
    assert repr(loaded) == repr(net)
    assert_same_bits(loaded(x)[0], net(x)[0])
    assert lk.load(path, prefix="0").precision == "float16"
    assert load_file(path)["1.weight"].dtype == np.float32
    assert "LSTM 5 -> 9, 2 layers, float16 weights, then Dense" in str(lk.inspect(path))


def test_half_the_bytes(tmp_path):
    lstm = lk.LSTM(100, 100, 2, seed=0)
    for name, net in (("wide", lstm), ("narrow", lstm.quantize("float16"))):
        lk.save(net, tmp_path / name)
    assert (tmp_path / "narrow").stat().st_size < 0.52 * (tmp_path / "wide").stat().st_size


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


def test_float64_is_refused(path):
    lk.save(make("plain").quantize("float16"), path)
    with pytest.raises(lk.FormatError, match=r"dtype: expected a float32 network.*leave the dtype out"):
        lk.load(path, dtype="float64")
    assert lk.load(path, dtype="float32").precision == "float16"


@pytest.mark.parametrize("precision", ["int4", "float32", 7, ["float16"]])
def test_an_unknown_precision_is_refused(path, precision):
    lk.save(make("plain").quantize("float16"), path)
    rewritten(path, lambda metadata: metadata.update(precision=precision))
    with pytest.raises(lk.FormatError, match="precision: expected 'float16' or 'int8', got"):
        lk.load(path)


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
