"""lstmkernel.torch.accelerate: which LSTMs of a model run on the kernels afterwards, and why not the others."""

import copy

import pytest

torch = pytest.importorskip("torch")

import lstmkernel.torch  # noqa: E402
from lstmkernel.torch import accelerate, restore  # noqa: E402

nn = torch.nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.LSTM(5, 8, 2, batch_first=True, bidirectional=True)
        self.blocks = nn.ModuleList([nn.Sequential(nn.Linear(16, 6), nn.Tanh()), nn.LSTM(6, 7, proj_size=3)])
        self.cell = nn.LSTMCell(3, 4)

    def forward(self, x):
        y, _ = self.encoder(x)
        for block in self.blocks:
            y = block(y)
        return self.cell(y[0][:, -1])[0]


def assert_left(model, name, why):
    report = accelerate(model)
    assert report.replaced == []
    assert list(report.left) == [name]
    assert why in report.left[name]
    assert why in str(report)


pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")


@pytest.mark.parametrize("training", [False, True])
def test_a_model_gives_the_same(training):
    model, x = Model().train(training), torch.randn(3, 7, 5)
    keys, parts = list(model.state_dict()), dict(model.named_modules())
    expected = model(x).detach()
    report = accelerate(model)
    assert report.replaced == ["encoder", "blocks.1", "cell"]
    assert report.left == {}
    assert list(model.state_dict()) == keys
    assert dict(model.named_modules()) == parts
    assert [type(part).__module__ for name, part in parts.items() if name in report.replaced] == [
        "lstmkernel.torch.lstm", "lstmkernel.torch.lstm", "lstmkernel.torch.cell"
    ]  # fmt: skip
    with torch.inference_mode():
        torch.testing.assert_close(model(x), expected)
    torch.testing.assert_close(copy.deepcopy(model)(x), expected)
    assert model.training is training


def test_the_report_is_a_table():
    model = nn.Sequential(nn.LSTM(3, 4), nn.Linear(4, 4), nn.LSTM(4, 4, dtype=torch.float16))
    assert str(accelerate(model)).splitlines() == [
        "Module Kind Runs on",
        "-------------------------------------------------------------------------",
        "0      LSTM lstmkernel",
        "2      LSTM as before  torch.float16: lstmkernel runs float32 and float64",
    ]
    assert str(accelerate(nn.LSTM(3, 4))).splitlines()[2].startswith("(the model) LSTM lstmkernel")
    assert str(accelerate(nn.Linear(3, 4))) == "no LSTM or LSTMCell in this model"


def test_weights_are_at_rest_until_the_next_time():
    model, x = nn.Sequential(nn.LSTM(5, 8)), torch.randn(4, 2, 5)
    accelerate(model)
    with torch.no_grad():
        before = model(x)[0]
        model[0].weight_hh_l0.mul_(2)  # counted
        counted = model(x)[0]
        assert not torch.equal(counted, before)
        model[0].weight_hh_l0.data.mul_(2)  # not counted
        assert torch.equal(model(x)[0], counted)
        assert accelerate(model).modules == [("0", "LSTM", True, "already lstmkernel's")]
        assert not torch.equal(model(x)[0], counted)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("optimizer", [torch.optim.Adam, torch.optim.SGD, torch.optim.Adagrad])
@pytest.mark.parametrize("kind", [nn.LSTM, nn.LSTMCell])
def test_training_is_seen(optimizer, fused, kind):
    """PyTorch does not count the changes of fused optimizers."""
    theirs, x = kind(5, 8), torch.randn(4, 5)
    ours = copy.deepcopy(theirs)
    accelerate(ours)
    with torch.no_grad():
        ours(x)
    for module in (theirs, ours):
        steps = optimizer(module.parameters(), lr=0.1, fused=fused)
        for _ in range(3):
            loss = module(x)[0].sin().sum()
            with torch.no_grad():
                module(x)
            loss.backward()
            steps.step()
            steps.zero_grad()
    for mode in (torch.no_grad, torch.inference_mode, torch.enable_grad):
        with mode():
            torch.testing.assert_close(ours(x)[0], theirs(x)[0])


def test_hooks_stay():
    lstm, heard = nn.LSTM(5, 8), []
    lstm.register_forward_hook(lambda *_: heard.append("hook"))
    accelerate(lstm)
    lstm(torch.randn(4, 2, 5))
    assert heard == ["hook"]


def test_print_shows_what_was_replaced():
    model = nn.ModuleDict({"a": nn.LSTM(3, 4, 2, bidirectional=True), "b": nn.LSTMCell(3, 4), "c": nn.Linear(2, 2)})
    accelerate(model)
    text = str(model)
    assert "(a): lstmkernel.torch.LSTM(3, 4, num_layers=2, bidirectional=True)" in text
    assert "(b): lstmkernel.torch.LSTMCell(3, 4)" in text
    assert "(c): Linear(" in text


def test_restore_is_the_way_back():
    model, x = Model(), torch.randn(3, 7, 5)
    kinds, parts, keys = list(map(type, model.modules())), dict(model.named_modules()), list(model.state_dict())
    expected = model(x)
    known = {name: set(vars(part)) for name, part in parts.items()}
    names = accelerate(model).replaced
    model.encoder.checkpoint_every = 2
    model(x)
    assert restore(model) == names
    assert restore(model) == []
    assert list(map(type, model.modules())) == kinds
    assert dict(model.named_modules()) == parts
    assert list(model.state_dict()) == keys
    assert {name: set(vars(part)) for name, part in parts.items()} == known
    assert torch.equal(model(x), expected)
    assert restore(lstmkernel.torch.LSTM(3, 4)) == [""]
    with pytest.raises(TypeError, match=r"model: expected a torch.nn.Module, got list"):
        restore([])


def test_the_package_shows_its_public_names_and_nothing_else():
    assert dir(lstmkernel.torch) == ["Accelerated", "LSTM", "LSTMCell", "accelerate", "restore"]
    assert lstmkernel.torch.packing.Models.__module__ == "lstmkernel.torch.packing"


class Unscriptable(Model):
    def forward(self, x):
        return super().forward(x)  # TorchScript has no super()


def is_scripted(model):
    try:
        torch.jit.script(model)
    except (RuntimeError, NotImplementedError):
        return False
    return True


@pytest.mark.filterwarnings("ignore:`torch.jit.script")
@pytest.mark.parametrize("kind", [Model, Unscriptable])
def test_scripting_says_that_it_puts_pytorchs_own_back(kind):
    model = kind()
    accelerate(model)
    with pytest.warns(RuntimeWarning, match=r"torch.jit.script puts PyTorch's own LSTMs into the model"):
        assert is_scripted(model) == (kind is Model)
    assert type(model.encoder) is nn.LSTM
    assert len(accelerate(model).replaced) == 3  # the way out
    with pytest.warns(RuntimeWarning, match=r"copy.deepcopy"):
        torch.jit.script(copy.deepcopy(model).encoder)
    assert type(model.encoder) is lstmkernel.torch.LSTM


class OwnLSTM(nn.LSTM):
    pass


def test_what_is_left_and_why():
    assert_left(nn.ModuleDict({"a": OwnLSTM(3, 4)}), "a", "subclass test_torch_accelerate.OwnLSTM")
    assert_left(nn.ModuleDict({"a": nn.LSTM(3, 4).bfloat16()}), "a", "torch.bfloat16")
    assert_left(nn.ModuleDict({"a": nn.LSTM(3, 4, device="meta")}), "a", "on meta")
    assert_left(nn.Sequential(nn.LSTMCell(3, 4).half()), "0", "torch.float16")

    parametrized = nn.LSTM(3, 4)
    nn.utils.parametrizations.weight_norm(parametrized, "weight_hh_l0")
    assert_left(parametrized, "", "parametrized")

    replaced = nn.LSTM(3, 4)
    replaced.forward = lambda x: x
    assert_left(replaced, "", "its forward was replaced")


@pytest.mark.filterwarnings("ignore")  # deprecated in PyTorch, and still in use
def test_what_is_left_of_older_ways():
    normed = nn.LSTM(3, 4)
    nn.utils.weight_norm(normed, "weight_hh_l0")
    assert_left(normed, "", "remove_weight_norm")
    assert_left(torch.jit.script(nn.Sequential(nn.LSTM(3, 4))), "0", "TorchScript")
    model = nn.Sequential(nn.LSTM(3, 4))
    assert_left(torch.ao.quantization.quantize_dynamic(model, {nn.LSTM}), "0", "quantized: its weights")


def test_no_model():
    with pytest.raises(TypeError, match=r"model: expected a torch.nn.Module, got dict"):
        accelerate({})
