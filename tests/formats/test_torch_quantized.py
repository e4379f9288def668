"""LSTMs that PyTorch's quantize_dynamic made: their integers and scales as they are, their outputs nearby."""

import warnings
import zipfile

import numpy as np
import pytest
from fuzz_targets import rezipped
from helpers import assert_same_answer, assert_same_bits, normal
from safetensors.numpy import load_file, save_file

import lstmkernel as lk

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.filterwarnings("ignore:torch.ao|.*is deprecated:DeprecationWarning")

KINDS = {
    "plain": {},
    "two layers": {"num_layers": 2},
    "two directions": {"bidirectional": True},
    "two of each": {"num_layers": 2, "bidirectional": True},
}

each_kind = pytest.mark.parametrize("kind", KINDS)
TOLD = "PyTorch's quantize_dynamic rounds the activations"


def module(kind="plain", bits=torch.qint8, cls=torch.nn.LSTM, **more):
    """The network as it was, and quantized."""
    torch.manual_seed(4)
    net = torch.nn.Sequential(cls(5, 9, **KINDS[kind], **more))
    how = {cls: torch.ao.quantization.per_channel_dynamic_qconfig} if bits == "per channel" else {cls}
    dtype = torch.qint8 if bits == "per channel" else bits
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return net, torch.ao.quantization.quantize_dynamic(net, how, dtype=dtype)


def quietly(read, *given, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return read(*given, **options)


def and_told(read, *given, **options):
    """What is read, and the warnings."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", RuntimeWarning)
        return read(*given, **options), [str(each.message) for each in told]


def integers_of(quantized):
    """What PyTorch itself says of its integers and scales, by lstmkernel's names."""
    lstm, found = quantized[0], {}
    directions = 2 if lstm.bidirectional else 1
    for number, each in enumerate(lstm._all_weight_values):
        end = f"_l{number // directions}" + ("_reverse" if number % directions else "")
        found |= dict(_pairs(each, end))
    return found


def _pairs(each, end, least=-127):
    (_, biases, _, _, packed), _ = each.param.__getstate__()
    for own, bias, linear in zip(("ih", "hh"), biases, packed, strict=True):
        weight = linear.__getstate__()[0][0]
        scales = (
            np.full(len(weight), weight.q_scale())
            if weight.qscheme() == torch.per_tensor_affine
            else weight.q_per_channel_scales().numpy()
        )
        yield f"weight_{own}{end}", np.maximum(weight.int_repr().numpy(), np.int8(least))
        yield f"weight_{own}{end}_scale", scales.astype(np.float32)
        yield f"bias_{own}{end}", bias.detach().numpy()


@pytest.mark.parametrize("bits", [torch.qint8, "per channel"])
@each_kind
def test_integers_and_scales_as_they_are(tmp_path, kind, bits):
    _, quantized = module(kind, bits)
    torch.save(quantized.state_dict(), tmp_path / "net.pt")
    loaded, told = and_told(lk.load, tmp_path / "net.pt")
    assert any(TOLD in each for each in told)
    assert (loaded.precision, loaded.activations) == ("int8", "int16")
    expected = integers_of(quantized)
    assert loaded.stored().keys() == expected.keys()
    for name, value in loaded.stored().items():
        assert_same_bits(value, expected[name], name)


@pytest.mark.parametrize("bits", [torch.qint8, "per channel"])
@each_kind
def test_as_near_to_pytorch_as_it_is_to_its_own_weights(tmp_path, random, kind, bits):
    """With these weights in float32, 16 bits of activations change the output by 1e-4 at most, PyTorch's 8 by more."""
    _, quantized = module(kind, bits)
    net = quietly(lk.from_torch, quantized)
    x = normal(random, (12, 3, 5), "float32")
    with torch.no_grad():
        theirs = quantized(torch.from_numpy(x))[0].numpy()
    exact = lk.LSTM.from_config({**net.config(), "precision": None, "activations": None}, net.state_dict())
    ours, right = net(x)[0], exact(x)[0]
    their_error = np.abs(theirs - right).max()
    assert np.abs(ours - right).max() < 1e-4
    assert 1e-4 < their_error < 0.02
    assert np.abs(ours - theirs).max() < their_error + 1e-4


@each_kind
def test_float16_is_pytorchs_own(tmp_path, random, kind):
    """PyTorch multiplies float32 activations, too."""
    _, quantized = module(kind, torch.float16)
    torch.save(quantized.state_dict(), tmp_path / "net.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nets = [lk.load(tmp_path / "net.pt"), lk.from_torch(quantized)]
    x = normal(random, (12, 3, 5), "float32")
    with torch.no_grad():
        theirs = quantized(torch.from_numpy(x))[0].numpy()
    for net in nets:
        assert net.precision == "float16"
        np.testing.assert_allclose(net(x)[0], theirs, atol=1e-6)


def test_every_way_gives_the_same_network(tmp_path, random):
    _, quantized = module("two of each", batch_first=True)
    torch.save(quantized.state_dict(), tmp_path / "net.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(quantized).save(tmp_path / "script.pt")
    state_dict = quantized.state_dict()
    x = normal(random, (3, 4, 5), "float32")
    nets = [quietly(lk.from_torch, given) for given in (quantized, quantized[0], [quantized[0]])]
    nets += [quietly(lk.from_torch, state_dict, batch_first=True, prefix=prefix) for prefix in (None, "0")]
    nets += [quietly(lk.load, tmp_path / name, batch_first=True) for name in ("net.pt", "script.pt")]
    for net in nets[1:]:
        assert repr(net) == repr(nets[0])
        assert_same_answer(net(x), nets[0](x))
    assert nets[0].batch_first


class Tagger(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(5)
        self.rnn, self.fc = torch.nn.LSTM(5, 9), torch.nn.Linear(9, 2)

    def forward(self, x):
        return self.fc(self.rnn(x)[0])


def test_layers_stay_in_their_order(tmp_path):
    """A Linear that is not quantized stands behind the LSTM, as in the file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantized = torch.ao.quantization.quantize_dynamic(Tagger(), {torch.nn.LSTM})
    torch.save(quantized.state_dict(), tmp_path / "net.pt")
    net = quietly(lk.load, tmp_path / "net.pt")
    assert [type(layer).__name__ for layer in net.layers] == ["LSTM", "Dense"]
    assert net.precision == "int8"


@pytest.mark.parametrize("bits", [torch.qint8, torch.float16])
def test_the_linears_of_a_model_become_float32(tmp_path, random, bits):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantized = torch.ao.quantization.quantize_dynamic(Tagger(), {torch.nn.LSTM, torch.nn.Linear}, dtype=bits)
    torch.save(quantized.state_dict(), tmp_path / "net.pt")
    x = normal(random, (7, 3, 5), "float32")
    with torch.no_grad():
        theirs = quantized(torch.from_numpy(x)).numpy()
    parts = ["rnn", "fc"]
    nets = [quietly(lk.load, tmp_path / "net.pt", prefix=prefix) for prefix in (None, parts)]
    nets += [quietly(lk.from_torch, given, prefix=parts) for given in (quantized, quantized.state_dict())]
    nets += [quietly(lk.from_torch, [quantized.rnn, quantized.fc])]
    for net in nets:
        assert repr(net) == repr(nets[0])
        assert_same_bits(net(x)[0], nets[0](x)[0])
        assert np.abs(net(x)[0] - theirs).max() < (0.02 if bits == torch.qint8 else 1e-5)
    weight = quantized.fc.weight().dequantize().numpy() if bits == torch.qint8 else quantized.fc.weight().numpy()
    assert_same_bits(nets[0][1].state_dict()["weight"], weight)
    assert quietly(lk.from_torch, quantized, prefix="rnn").precision in ("int8", "float16")
    assert "Linear 9 -> 2" in str(lk.inspect(tmp_path / "net.pt"))


def test_what_inspect_says(tmp_path):
    for bits, words in ((torch.qint8, "int8 weights"), (torch.float16, "float16 weights")):
        torch.save(module("two layers", bits)[1].state_dict(), tmp_path / "net.pt")
        found = lk.inspect(tmp_path / "net.pt")
        assert found.networks[0].description == f"LSTM 5 -> 9, 2 layers, {words}"
        assert any(TOLD in note for note in found.notes) == (bits == torch.qint8)


def test_minus_128_becomes_127_with_a_word():
    """quantize_dynamic's scale is the largest number / 127.5, so the smallest may become -128."""
    net, quantized = module("two of each")
    theirs = dict(_pairs(quantized[0]._all_weight_values[1], "", least=-128))["weight_hh"]
    assert (theirs == -128).sum() == 1
    loaded, told = and_told(lk.from_torch, quantized)
    assert any("the integer -128: they become -127" in each for each in told)
    assert_same_bits(loaded.stored()["weight_hh_l0_reverse"], np.where(theirs == -128, np.int8(-127), theirs))
    error = np.abs(loaded.state_dict()["weight_hh_l0_reverse"] - net[0].weight_hh_l0_reverse.detach().numpy()).max()
    assert error < 0.51 * loaded.stored()["weight_hh_l0_reverse_scale"][0]  # no more than rounding


# ---------------------------------------------------------------- refused, with the way out


def test_two_networks_that_fit(tmp_path):
    """As wide below as above: only the module knows whether a second one is a layer or a direction."""
    torch.manual_seed(0)
    for options, words in (({"num_layers": 2}, "num_layers=2"), ({"bidirectional": True}, "bidirectional=True")):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            net = torch.nn.Sequential(torch.nn.LSTM(9, 9, **options))
            quantized = torch.ao.quantization.quantize_dynamic(net, {torch.nn.LSTM})
        torch.save(quantized.state_dict(), tmp_path / "net.pt")
        with pytest.raises(lk.FormatError, match=r"two networks fit.*give from_torch the module"):
            lk.load(tmp_path / "net.pt")
        assert words in repr(quietly(lk.from_torch, quantized))


def test_a_gru(tmp_path):
    torch.save(module(cls=torch.nn.GRU)[1].state_dict(), tmp_path / "net.pt")
    with pytest.raises(lk.FormatError, match="three gates, a GRU"):
        lk.load(tmp_path / "net.pt")
    with pytest.raises(ValueError, match=r"expected nn\.LSTM.*got GRU"):
        lk.from_torch([module(cls=torch.nn.GRU)[1][0]])


def changed(path, old, new):
    """The file with other bytes in its pickle."""
    archive = path.read_bytes()
    with zipfile.ZipFile(path) as file:
        name = next(each for each in file.namelist() if each.endswith("data.pkl"))
        data = file.read(name)
    assert old in data
    path.write_bytes(rezipped(archive, {name: data.replace(old, new)}))


@pytest.mark.parametrize(("change", "words"), [("zero", "zero point of 0"), ("kind", "no LSTM")])
def test_what_cannot_be_said_is_refused(tmp_path, change, words):
    path = tmp_path / "net.pt"
    torch.save(module()[1].state_dict(), path)
    if change == "kind":
        changed(path, b"X\x11\x00\x00\x00quantized_dynamic", b"X\x11\x00\x00\x00quantized_strange")
    else:
        scale = np.array(module()[1][0].get_weight()["weight_ih_l0"].q_scale(), ">f8").tobytes()
        changed(path, b"G" + scale + b"K\x00", b"G" + scale + b"K\x05")
    with pytest.raises(lk.FormatError, match=words):
        quietly(lk.load, path)


# ---------------------------------------------------------------- integers in other files


def test_integers_under_pytorchs_names(tmp_path, random):
    """As ``save`` writes them, without its metadata: a scale stands beside its matrix."""
    lstm = lk.LSTM(5, 9, 2, bidirectional=True, seed=1).quantize("int8")
    save_file(dict(lstm.stored()), tmp_path / "bare.safetensors")
    with pytest.warns(RuntimeWarning, match="does not say what its 8-bit weights are multiplied by"):
        loaded = lk.load(tmp_path / "bare.safetensors")
    assert repr(loaded) == repr(lstm)
    x = normal(random, (4, 3, 5), "float32")
    assert_same_answer(loaded(x), lstm(x))
    assert "int8 weights" in str(lk.inspect(tmp_path / "bare.safetensors"))
    cell = lk.LSTMCell(5, 6, seed=0).quantize("int8")
    save_file(cell.stored(), tmp_path / "cell.safetensors")
    assert quietly(lk.load, tmp_path / "cell.safetensors").precision == "int8"
    tensors = load_file(tmp_path / "bare.safetensors")
    del tensors["weight_hh_l1_scale"]
    save_file(tensors, tmp_path / "bare.safetensors")
    with pytest.raises(lk.FormatError, match="weight_hh_l1: expected floating-point numbers, got int8"):
        lk.load(tmp_path / "bare.safetensors")
