"""An LSTM and what stands behind it, from live modules and from files: a Linear, a list of modules, a BatchNorm."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from helpers import assert_close

import lstmkernel as lk

torch = pytest.importorskip("torch")
nn = torch.nn


class Speaker(nn.Module):
    """A BatchNorm in front, as people have it."""

    def __init__(self):
        super().__init__()
        self.bn, self.lstm, self.linear = nn.BatchNorm1d(5), nn.LSTM(5, 8, 2, batch_first=True), nn.Linear(8, 3)

    def forward(self, x):
        return self.linear(self.lstm(self.bn(x.mT).mT)[0])


@pytest.fixture
def x(random):
    return random.standard_normal((4, 6, 5)).astype(np.float32)


def expected(*modules, x):
    """What PyTorch gives, in float64."""
    y = torch.from_numpy(x).double()
    with torch.no_grad():
        for module in modules:
            y = module.double().eval()(y)
            y = y[0] if isinstance(y, tuple) else y
            module.float()
    return y.numpy()


# ---------------------------------------------------------------- live modules


@pytest.mark.parametrize("bias", [True, False])
def test_a_linear_is_a_dense(x, bias, recwarn):
    linear = nn.Linear(5, 3, bias=bias)
    dense = lk.from_torch(linear)
    assert isinstance(dense, lk.Dense)
    assert dense.bias is bias
    assert_close(dense(x), expected(linear, x=x), "float32")
    assert lk.from_torch(linear.double(), dtype="float64", backend="numpy").dtype == np.float64
    assert not recwarn


def test_the_state_dict_of_a_linear_too(x, tmp_path):
    linear = nn.Linear(5, 3)
    torch.save(linear.state_dict(), tmp_path / "head.pt")
    assert [network.prefix for network in lk.inspect(tmp_path / "head.pt").networks] == [""]
    for dense in (lk.from_torch(linear.state_dict()), lk.load(tmp_path / "head.pt")):
        assert_close(dense(x), expected(linear, x=x), "float32")
    with pytest.raises(ValueError, match="no LSTM"):  # without a bias, a matrix may be anything
        lk.from_torch(nn.Embedding(5, 3).state_dict())


ROWS = {
    "a head": lambda: [nn.LSTM(5, 8, 2, batch_first=True), nn.Linear(8, 3)],
    "an activation": lambda: (nn.LSTM(5, 8, bidirectional=True), nn.Linear(16, 3), nn.Sigmoid()),
    "dropout, layers": lambda: [
        nn.LSTM(5, 8), nn.Dropout(), nn.LSTM(8, 4, bias=False), nn.Identity(), nn.Linear(4, 3, bias=False), nn.Tanh()
    ],
    "a Sequential in it": lambda: [
        nn.LSTM(5, 8), nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3), nn.Softmax(-1))
    ],
    "weight norm": lambda: [nn.LSTM(5, 8), nn.utils.parametrizations.weight_norm(nn.Linear(8, 3))],
    "one": lambda: [nn.LSTM(5, 8)],
}  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_modules_one_after_the_other(x, name):
    modules = ROWS[name]()
    net = lk.from_torch(modules)
    assert net.batch_first is modules[0].batch_first
    assert_close(net(x)[0], expected(*modules, x=x), "float32")


def test_a_sequential_and_modules_of_lstmkernel(x):
    import lstmkernel.torch

    modules = [lstmkernel.torch.LSTM(5, 8), nn.Linear(8, 3)]
    net = lk.from_torch(nn.Sequential(*modules))
    assert_close(net(x)[0], expected(*modules, x=x), "float32")
    modules[0].double()
    assert lk.from_torch(modules).dtype == np.float32  # as a list of prefixes has it
    assert lk.from_torch(modules, dtype="float64").dtype == np.float64


def norm(features, *, variance=None, weight=None, **options):
    """A BatchNorm1d that has learned something, in evaluation."""
    module = nn.BatchNorm1d(features, **options).eval()
    module.running_mean.normal_()
    module.running_var.uniform_(0.5, 2) if variance is None else module.running_var.fill_(variance)
    if module.affine:
        with torch.no_grad():
            module.weight.normal_(1) if weight is None else module.weight.fill_(weight)
            module.bias.normal_()
    return module


class OverFeatures(nn.Module):
    """A BatchNorm of the last axis, as it stands in a list for from_torch."""

    def __init__(self, norm):
        super().__init__()
        self.norm = norm

    def forward(self, x):
        return self.norm(x.mT).mT


WITH_NORMS = {
    "before an LSTM": lambda: [norm(5), nn.LSTM(5, 8, 2, batch_first=True), nn.Linear(8, 3)],
    "before two directions": lambda: [norm(5), nn.LSTM(5, 8, 2, bidirectional=True, batch_first=True)],
    "before an LSTM without biases": lambda: [norm(5), nn.LSTM(5, 8, 2, bias=False, batch_first=True)],
    "before a projected LSTM": lambda: [norm(5), nn.LSTM(5, 8, proj_size=4, batch_first=True)],
    "between LSTM and Linear": lambda: [nn.LSTM(5, 8, batch_first=True), norm(8), nn.Dropout(), nn.Linear(8, 3)],
    "behind a Linear": lambda: [nn.LSTM(5, 8, batch_first=True), nn.Linear(8, 3), nn.Dropout(), norm(3), nn.ReLU()],
    "behind a Linear without bias": lambda: [nn.Linear(5, 8, bias=False), norm(8, affine=False), nn.Tanh()],
    "behind an activation": lambda: [nn.Linear(5, 8), nn.ReLU(), norm(8), nn.Linear(8, 3, bias=False)],
    "two, at both ends": lambda: [norm(5), norm(5, eps=0.1), nn.Linear(5, 8), norm(8), norm(8), nn.Linear(8, 3)],
    "weight norm": lambda: [norm(5), nn.utils.parametrizations.weight_norm(nn.Linear(5, 3))],
    "float64": lambda: [norm(5).double(), nn.LSTM(5, 8, batch_first=True).double()],
    "16 bits": lambda: [norm(5).half(), nn.LSTM(5, 8, batch_first=True).bfloat16()],
}


@pytest.mark.parametrize("name", WITH_NORMS)
def test_a_batch_norm_goes_into_its_neighbour(x, name, recwarn):
    modules = WITH_NORMS[name]()
    net = lk.from_torch(nn.Sequential(*modules) if name == "float64" else modules)
    y = torch.from_numpy(x).double()
    with torch.no_grad():
        for module in modules:
            y = (OverFeatures(module) if isinstance(module, nn.BatchNorm1d) else module).double().eval()(y)
            y = y[0] if isinstance(y, tuple) else y
    out = net(x)
    assert net.dtype == ("float64" if name == "float64" else "float32")
    assert_close(out if isinstance(net, lk.Dense) else out[0], y.numpy(), net.dtype.name)
    assert not recwarn


class Last(nn.Module):
    def forward(self, x):
        return x[0][:, -1]


class OwnLinear(nn.Linear):
    pass


def hooked(module=None):
    module = module or nn.Linear(8, 3)
    module.register_forward_hook(lambda module, given, y: 2 * y)
    return module


def replaced():
    linear = nn.Linear(8, 3)
    linear.forward = lambda x: x
    return linear


REFUSED = {
    "a BatchNorm of pictures": ([nn.LSTM(5, 8), nn.BatchNorm2d(8)], r"modules\[1\]: expected nn.LSTM, .*BatchNorm2d; "),
    "a BatchNorm in training": ([nn.BatchNorm1d(5), nn.LSTM(5, 8)], r"\[0\]: expected a BatchNorm1d in evaluation"),
    "a BatchNorm at the end": ([nn.LSTM(5, 8), norm(8)], r"\[1\]: expected a Linear before it or a layer"),
    "an activation of a BatchNorm": ([nn.LSTM(5, 8), norm(8), nn.ReLU()], r"modules\[2\]: expected ReLU right behind"),
    "a BatchNorm without statistics": (
        [nn.BatchNorm1d(5, track_running_stats=False).eval(), nn.LSTM(5, 8)], r"got track_running_stats=False, which"
    ),
    "a BatchNorm of another width": ([norm(4), nn.LSTM(5, 8)], r"modules\[0\]: expected 5 features, .*got 4"),
    "a BatchNorm of no variance": ([norm(5, eps=0, variance=0), nn.LSTM(5, 8)], "expected statistics that are finite"),
    "a BatchNorm of hardly any": (
        [nn.Linear(5, 8), norm(8, eps=0, variance=1e-40, weight=1e30)], "weight: expected numbers that float32 can hold"
    ),
    "a hook of a BatchNorm": ([hooked(norm(5)), nn.LSTM(5, 8)], r"\[0\]: expected a BatchNorm1d as PyTorch has"),
    "a GRU": ([nn.GRU(5, 8)], r"modules\[0\]: expected .*got GRU; "),
    "a cell": ([nn.LSTMCell(5, 8)], r"modules\[0\]: expected .*got LSTMCell; "),
    "its own": ([nn.LSTM(5, 8), Last(), nn.Linear(8, 3)], r"modules\[1\]: expected .*got Last; .*leave it out"),
    "a subclass": ([nn.LSTM(5, 8), OwnLinear(8, 3)], r"modules\[1\]: expected .*got OwnLinear; "),
    "a hook": ([nn.LSTM(5, 8), hooked()], r"modules\[1\]: expected a Linear as PyTorch has it, got one with"),
    "a forward": ([nn.LSTM(5, 8), replaced()], r"modules\[1\]: expected a Linear as PyTorch has it, got one with"),
    "widths": ([nn.LSTM(5, 8), nn.Linear(5, 3)], r"layers\[1\]: expected input width 8"),
    "softmax": ([nn.LSTM(5, 8), nn.Linear(8, 3), nn.Softmax(0)], r"modules\[2\]: expected Softmax\(dim=-1\)"),
    "two activations": ([nn.Linear(5, 8), nn.ReLU(), nn.Tanh()], r"modules\[2\]: expected Tanh right behind a Linear"),
    "an activation of an LSTM": ([nn.LSTM(5, 8), nn.Tanh()], r"modules\[1\]: expected Tanh right behind a Linear"),
    "in a Sequential": ([nn.LSTM(5, 8), nn.Sequential(nn.LayerNorm(8))], r"modules\[1\]\[0\]: .*got LayerNorm"),
    "a computed weight": ([nn.utils.parametrizations.orthogonal(nn.Linear(5, 3))], r"modules\[0\]: .*remove_param"),
    "nothing": ([], r"expected modules in the order in which they run, nn.LSTM, .*; got none"),
    "dropout": ([nn.Dropout()], r"expected modules in the order .*; got none"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_not_certain_is_refused(what):
    modules, message = REFUSED[what]
    with pytest.raises((ValueError, TypeError), match=message):
        lk.from_torch(modules)


def test_no_modules():
    with pytest.raises(TypeError, match=r"modules\[1\]: expected a torch.nn.Module, got OrderedDict"):
        lk.from_torch([nn.LSTM(5, 8), nn.Linear(8, 3).state_dict()])
    with pytest.raises(TypeError, match="a list of them, or a state_dict, got int"):
        lk.from_torch(3)
    with pytest.raises(TypeError, match="a list of them, or a state_dict, got list"):
        lk.from_torch([nn.LSTM(5, 8)], prefix="0")


def test_a_model_that_is_no_list_names_its_parts(x):
    """Its forward says how they are connected, and a program is not read. The ways out work."""
    model = Speaker()
    with pytest.raises(ValueError, match="one of 'lstm', 'linear', or a list of them in the order"):
        lk.from_torch(model)
    with pytest.raises(ValueError, match="one of '0', '1', or a list"):  # nobody says that these are in a row
        lk.from_torch(nn.ModuleList([model.lstm, model.linear]))
    by_list = lk.from_torch([model.lstm, model.linear])(x)[0]
    assert np.array_equal(lk.from_torch(model, prefix=["lstm", "linear"])(x)[0], by_list)
    assert_close(by_list, expected(model.lstm, model.linear, x=x), "float32")


class Residual(nn.LSTM):
    def forward(self, x, state=None):
        out, state = super().forward(x, state)
        return out + 1, state


class Around(nn.Module):
    def __init__(self, lstm):
        super().__init__()
        self.rnn = lstm

    def forward(self, x):
        return torch.relu(self.rnn(x.flip(0))[0])


def hooked(lstm):
    lstm.register_forward_hook(lambda module, given, out: None)
    return lstm


OWN_CODE = {
    "a forward of its own": (Residual(5, 8), None, "the module is a Residual: only its weights are taken"),
    "a hook": (hooked(nn.LSTM(5, 8)), None, "the module has a forward or hooks of its own: only its weights"),
    "by a prefix": (Around(Residual(5, 8)), "rnn", "'rnn' is a Residual: only its weights"),
    "in a list": (nn.ModuleDict({"a": Residual(5, 8), "b": nn.Linear(8, 3)}), ["a", "b"], "'a' is a Residual"),
    "around the LSTM": (Around(nn.LSTM(5, 8)), None, r"'rnn' alone is taken; what the forward of Around computes"),
}


@pytest.mark.parametrize("what", OWN_CODE)
def test_code_that_a_module_has_of_its_own_is_told_of(what):
    module, prefix, message = OWN_CODE[what]
    with pytest.warns(RuntimeWarning, match=message):
        lk.from_torch(module, prefix=prefix)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of PyTorch, by torch.compile
def test_where_nothing_else_is_computed_nothing_is_told():
    lk.from_torch(Around(nn.LSTM(5, 8)), prefix="rnn")
    for module in (nn.DataParallel(nn.LSTM(5, 8)), torch.compile(nn.LSTM(5, 8)), nn.LSTMCell(5, 8), nn.Linear(5, 8)):
        lk.from_torch(module)
    lk.from_torch(Residual(5, 8).state_dict())


def test_names_that_a_hook_of_state_dict_gives():
    model = Around(nn.LSTM(5, 8))
    model._register_state_dict_hook(lambda module, named, prefix, metadata: {f"net.{n}": v for n, v in named.items()})
    with pytest.warns(RuntimeWarning, match="Around"):
        assert lk.from_torch(model).hidden_size == 8


def test_a_checkpoint_around_a_state_dict_names_the_way_out():
    checkpoint = {"state_dict": nn.LSTM(5, 8).state_dict(), "epoch": 3}
    with pytest.raises(ValueError, match=r"give from_torch\(checkpoint\['state_dict'\]\)"):
        lk.from_torch(checkpoint)
    assert lk.from_torch(checkpoint["state_dict"]).hidden_size == 8


def test_a_prefix_that_begins_another_name_is_not_that_name():
    model = nn.ModuleDict({"rnn2": nn.LSTM(5, 8), "rnn": nn.LSTM(5, 8, batch_first=True)})
    assert lk.from_torch(model, prefix="rnn").batch_first
    assert not lk.from_torch(model, prefix="rnn2").batch_first


# ---------------------------------------------------------------- files


BETWEEN = {
    "norm": nn.LayerNorm(8),
    "gru": nn.GRU(8, 8),
    "other": nn.Linear(8, 8),
}


@pytest.mark.parametrize("what", BETWEEN)
def test_what_a_list_of_prefixes_leaves_out_is_told(tmp_path, what):
    model = nn.ModuleDict({"before": nn.Embedding(3, 5), "a": nn.LSTM(5, 8), what: BETWEEN[what], "b": nn.Linear(8, 3)})
    torch.save({"model": model.state_dict(), "ema": torch.ones(3)}, tmp_path / "net.pt")
    with pytest.warns(RuntimeWarning, match=rf"left out is what the file has between them: model.{what}$"):
        lk.load(tmp_path / "net.pt", prefix=["model.a", "model.b"])
    with pytest.warns(RuntimeWarning, match=rf"from_torch: .* between them: {what}$"):
        lk.from_torch(model, prefix=["a", "b"])


def test_two_linears_in_a_row_may_have_an_activation_between_them(tmp_path):
    model = nn.ModuleDict({"a": nn.LSTM(5, 8), "b": nn.Linear(8, 8), "c": nn.Linear(8, 3)})
    torch.save(model.state_dict(), tmp_path / "net.pt")
    with pytest.warns(RuntimeWarning, match="nothing is computed between the Linears 'b' and 'c'"):
        lk.load(tmp_path / "net.pt", prefix=["a", "b", "c"])


@pytest.fixture(params=[".pt", ".safetensors"])
def path(request, tmp_path):
    model, path = Speaker(), tmp_path / f"speaker{request.param}"
    if request.param == ".pt":
        torch.save(model.state_dict(), path)
    else:
        pytest.importorskip("safetensors.torch").save_file(model.state_dict(), path)
    return path


def test_a_file_says_how_to_load_its_parts(path, x):
    notes = lk.inspect(path).notes
    (note,) = [note for note in notes if "a list of prefixes loads" in note]
    assert "prefix=['lstm', 'linear']; on the command line, --prefix lstm --prefix linear" in note
    assert any(note.startswith("bn: a BatchNorm, which is not loaded; leave it out, and give") for note in notes)
    told = contextlib.nullcontext()
    if path.suffix == ".safetensors":  # which has no order: bn may be between them
        told = pytest.warns(RuntimeWarning, match="left out is what the file has beside them: bn")
    with told:
        net = lk.load(path, prefix=["lstm", "linear"], batch_first=True)
    assert [type(layer) for layer in net] == [lk.LSTM, lk.Dense]
    with pytest.raises(lk.FormatError, match="LSTMs are under: 'lstm', Linears under: 'linear'; a list of prefixes"):
        lk.load(path)


def test_a_file_that_loads_as_a_whole_needs_no_such_note(tmp_path):
    torch.save(nn.ModuleDict({"a": nn.LSTM(5, 8), "b": nn.Linear(8, 3)}).state_dict(), tmp_path / "net.pt")
    assert not any("list of prefixes" in note for note in lk.inspect(tmp_path / "net.pt").notes)


def test_a_batch_norm_is_refused_with_a_way_out_that_works(path, x):
    with pytest.raises(lk.FormatError, match=r"a BatchNorm; leave it out, and give the layer above it x \* scale \+ "):
        lk.load(path, prefix=["bn", "lstm"])
    model = Speaker()
    model.bn.running_mean.normal_()
    model.bn.running_var.uniform_(0.5, 2)
    with torch.no_grad():
        model.bn.weight.normal_()
    weight, bias, running_mean, running_var, _ = (value.numpy() for value in model.bn.state_dict().values())
    scale = weight / np.sqrt(running_var + model.bn.eps)
    shift = bias - running_mean * scale
    net = lk.from_torch([model.lstm, model.linear])
    assert_close(net(x * scale + shift)[0], expected(model, x=x), "float32")


def test_a_whole_module_in_a_file_is_told_with_what_to_do(tmp_path):
    torch.save(Speaker(), tmp_path / "whole.pt")
    notes = lk.inspect(tmp_path / "whole.pt").notes
    assert any(note.endswith("; where the program is, torch.save(model.state_dict(), path)") for note in notes)
    assert any(note.startswith("not tensors: all of it (") for note in notes)
