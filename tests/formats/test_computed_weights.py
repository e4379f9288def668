"""Weights that PyTorch computes at each call: dropped out, pruned, normed. What loads is what evaluation uses."""

from __future__ import annotations

import json

import numpy as np
import pytest
from helpers import assert_close, normal

import lstmkernel as lk

torch = pytest.importorskip("torch")
utils = torch.nn.utils
prune = pytest.importorskip("torch.nn.utils.prune")

pytestmark = pytest.mark.filterwarnings("ignore:.*deprecated", "ignore:.*is deprecated:FutureWarning")

W = "weight_hh_l0"


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(5)


def lstm():
    return torch.nn.LSTM(3, 4)


def trained(module):
    """As it is after some calls in training, in which spectral norm renews its vectors; then in evaluation."""
    for _ in range(3):
        module.train()(torch.randn(2, 1, 3))
    return module.eval()


class WeightDrop(torch.nn.Module):
    """As the AWD-LSTM of Salesforce has it, and PyTorch-NLP: the true weight beside the others."""

    def __init__(self, module, names=(W,), variational=False):
        super().__init__()
        self.module, self.names, self.variational = module, names, variational
        for name in names:
            module.register_parameter(f"{name}_raw", torch.nn.Parameter(getattr(module, name).data))
            del module._parameters[name]
        module.flatten_parameters = lambda *_: None

    def forward(self, x):
        for name in self.names:
            raw = getattr(self.module, f"{name}_raw")
            dropped = torch.nn.functional.dropout(raw, 0.5, self.training)
            dropped = torch.nn.Parameter(dropped.detach()) if self.variational else dropped
            self.module._parameters[name] = dropped
        return self.module(x)


class Outside(torch.nn.Module):
    """As fastai has it: the true weight above the module."""

    def __init__(self, module, inside="module"):
        super().__init__()
        self.inside = inside
        self.add_module(inside, module)
        self.register_parameter(f"{W}_raw", torch.nn.Parameter(getattr(module, W).data))

    def forward(self, x):
        module = getattr(self, self.inside)
        module._parameters[W] = torch.nn.functional.dropout(getattr(self, f"{W}_raw"), 0.5, self.training)
        return module(x)


def pruned(module):
    prune.l1_unstructured(module, W, 0.5)
    prune.random_unstructured(module, "bias_ih_l0", 0.5)
    module.flatten_parameters()
    return module


def old_norm(**options):
    return lambda module: utils.weight_norm(module, W, **options)


def new_norm(*names, **options):
    def norm(module):
        for name in names or (W,):
            utils.parametrizations.weight_norm(module, name, **options)
        return module

    return norm


WRAPPED = {
    "dropped inside": (WeightDrop, "module"),
    "dropped inside, all of them": (lambda module: WeightDrop(module, (W, "weight_ih_l0", "bias_ih_l0")), "module"),
    "dropped inside, beside a copy": (lambda module: WeightDrop(module, variational=True), "module"),
    "dropped outside": (Outside, "module"),
    "dropped outside, by another name": (lambda module: Outside(module, "rnn"), "rnn"),
    "pruned": (pruned, ""),
    "weight norm": (old_norm(), ""),
    "weight norm of columns": (old_norm(dim=1), ""),
    "weight norm of all": (old_norm(dim=None), ""),
    "spectral norm": (lambda module: utils.spectral_norm(module, W), ""),
    "new weight norm": (new_norm(), ""),
    "new weight norm of columns": (new_norm(dim=1), ""),
    "new weight norm of two": (new_norm(W, "weight_ih_l0"), ""),
    "new spectral norm": (lambda module: utils.parametrizations.spectral_norm(module, W), ""),
}


def files(state, folder):
    from safetensors.torch import save_file

    torch.save(state, folder / "net.pt")
    torch.save(state, folder / "old.pt", _use_new_zipfile_serialization=False)
    save_file({name: value.contiguous() for name, value in state.items()}, folder / "net.safetensors")
    (folder / "net.json").write_text(json.dumps({name: value.tolist() for name, value in state.items()}))
    return [folder / name for name in ("net.pt", "old.pt", "net.safetensors", "net.json")]


@pytest.mark.filterwarnings("ignore:.*its parametrization is taken for")
@pytest.mark.parametrize("what", WRAPPED)
def test_the_numbers_of_evaluation(what, tmp_path):
    wrap, inside = WRAPPED[what]
    module = torch.nn.ModuleDict({"rnn": trained(wrap(lstm()))})
    module.train()["rnn"](torch.ones(2, 1, 3))  # drops out anew, and leaves that in the state_dict
    state = {name: value.detach().clone() for name, value in module.state_dict().items()}
    x = normal(np.random.default_rng(1), (6, 2, 3), "float32")
    with torch.no_grad():
        expected = module.eval()["rnn"](torch.tensor(x))[0].numpy()
    prefixes = [None, "rnn", f"rnn.{inside}".removesuffix(".")]
    for path in files(state, tmp_path):
        for prefix in prefixes:
            assert_close(lk.load(path, prefix=prefix)(x)[0], expected, "float32")
        for network in lk.inspect(path).networks:
            assert network.description.startswith("LSTM 3 -> 4")
            assert_close(lk.load(path, prefix=network.prefix)(x)[0], expected, "float32")
    for prefix in prefixes:
        assert_close(lk.from_torch(state, prefix=prefix)(x)[0], expected, "float32")
    assert_close(lk.from_torch(module)(x)[0], expected, "float32")


def test_a_parametrization_is_taken_for_weight_norm_with_a_word(tmp_path):
    torch.save(new_norm()(lstm()).state_dict(), tmp_path / "net.pt")
    with pytest.warns(RuntimeWarning, match=r"weight_hh_l0: its param.* is taken for.*weight_norm"):
        lk.load(tmp_path / "net.pt")
    assert "taken for" in "".join(lk.inspect(tmp_path / "net.pt").notes)


@pytest.mark.filterwarnings("error")
def test_the_head_is_normed_too(tmp_path):
    head = utils.weight_norm(torch.nn.Linear(4, 2))
    state = {f"rnn.{name}": value for name, value in lstm().state_dict().items()}
    torch.save({**state, **{f"head.{name}": value for name, value in head.state_dict().items()}}, tmp_path / "net.pt")
    dense = lk.load(tmp_path / "net.pt", prefix=["rnn", "head"]).layers[1]
    assert_close(dense.state_dict()["weight"], head.weight.detach().numpy(), "float32")


class Halved(torch.nn.Module):
    def forward(self, weight):
        return weight / 2


def own(module):
    utils.parametrize.register_parametrization(module, W, Halved())
    return module


def without(module, *parts):
    """A module's state_dict without some entries."""
    return {name: value for name, value in module.state_dict().items() if not name.endswith(parts)}


REFUSED = {
    "orthogonal": (lambda: utils.parametrizations.orthogonal(lstm(), W).state_dict(), "remove_parametrizations"),
    "one of one's own": (lambda: own(lstm()).state_dict(), "remove_parametrizations"),
    "two, one above the other": (
        lambda: utils.parametrizations.spectral_norm(new_norm()(lstm()), W).state_dict(),
        "remove_parametrizations",
    ),
    "pruned, no mask": (lambda: without(pruned(lstm()), "hh_l0_mask"), "remove_spectral_norm|prune.remove"),
    "pruned, no weight": (lambda: without(pruned(lstm()), "hh_l0_orig"), "prune.remove"),
    "weight norm, no norm": (lambda: without(utils.weight_norm(lstm(), W), "_g"), "remove_weight_norm"),
    "spectral norm of old": (lambda: without(utils.spectral_norm(lstm(), W), "_v"), "remove_spectral_norm"),
    "weight norm of another shape": (
        lambda: {**utils.weight_norm(lstm(), W).state_dict(), f"{W}_g": torch.ones(16, 4)},
        "expected shapes that fit.*remove_weight_norm",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_the_file_does_not_tell_is_refused_with_the_function_that_helps(what, tmp_path):
    make, advice = REFUSED[what]
    state = {f"rnn.{name}": value for name, value in make().items()}
    helpers = {"remove_parametrizations", "prune.remove", "remove_weight_norm", "remove_spectral_norm"}
    for path in files(state, tmp_path):
        for prefix in (None, "rnn"):
            with pytest.raises(lk.FormatError, match=rf"rnn\.{W}: .*({advice})") as error:
                lk.load(path, prefix=prefix)
            assert sum(helper in str(error.value) for helper in helpers) == 1
        assert not lk.inspect(path).networks
        assert any("no LSTM that can be loaded" in note for note in lk.inspect(path).notes)
        assert len(lk.inspect(path).tensors) == len(state)
    with pytest.raises(ValueError, match=advice):
        lk.from_torch(state)


@pytest.mark.filterwarnings("error")
def test_a_live_module_tells_its_parametrizations():
    lk.from_torch(new_norm()(lstm()))
    with pytest.raises(ValueError, match=r"got _WeightNorm, Halved.*remove_parametrizations"):
        lk.from_torch(own(new_norm()(lstm())))


def test_a_true_weight_of_one_of_several_modules_is_unclear(tmp_path):
    state = {f"a.{name}.{key}": value for name in ("x", "y") for key, value in lstm().state_dict().items()}
    state[f"a.{W}_raw"] = state[f"a.x.{W}"] * 2
    torch.save(state, tmp_path / "net.pt")
    for prefix in ("a.x", "a.y"):
        with pytest.raises(lk.FormatError, match=r"one module below 'a\.', to which.*got several"):
            lk.load(tmp_path / "net.pt", prefix=prefix)


def test_a_module_whose_wrapper_is_elsewhere_loads_with_a_word():
    wrapper = Outside(lstm())
    wrapper(torch.ones(2, 1, 3))
    with pytest.warns(RuntimeWarning, match=r"from_torch: weight_hh_l0 is no Parameter.*the wrapper"):
        lk.from_torch(wrapper.module)
