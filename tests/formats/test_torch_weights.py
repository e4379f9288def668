"""Weights of lstmkernel.torch's modules: changed in every way, copied, saved, and packed no more often than that."""

import copy
import io
import pickle

import pytest

torch = pytest.importorskip("torch")

import lstmkernel  # noqa: E402
import lstmkernel.torch  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")


def changed_by_optimizer(lstm):
    optimizer = torch.optim.SGD(lstm.parameters(), lr=1.0)
    lstm(torch.ones(2, 2, 5))[0].sum().backward()
    optimizer.step()


def changed_in_place(lstm):
    with torch.no_grad():
        lstm.weight_hh_l0.mul_(2)


def changed_by_state_dict(lstm):
    lstm.load_state_dict({name: value + 1 for name, value in lstm.state_dict().items()})


def changed_for_another(lstm):
    lstm.bias_ih_l0 = torch.nn.Parameter(lstm.bias_ih_l0.detach() + 1)


def changed_in_memory_shared_with_another(lstm):
    """Whose count of changes is the same by chance."""
    old = lstm.weight_ih_l0
    lstm.weight_ih_l0 = torch.nn.Parameter(old.data)
    with torch.no_grad():
        while lstm.weight_ih_l0._version < old._version:
            lstm.weight_ih_l0.add_(1)


def changed_memory(lstm):
    lstm.weight_ih_l0.data = lstm.weight_ih_l0.data * 3


def changed_through_data(lstm):
    lstm.weight_ih_l0.data.add_(1)


def changed_through_numpy(lstm):
    lstm.weight_ih_l0.detach().numpy()[...] += 1


COUNTED = [
    *(changed_by_optimizer, changed_in_place, changed_by_state_dict, changed_for_another, changed_memory),
    changed_in_memory_shared_with_another,
]
UNCOUNTED = [changed_through_data, changed_through_numpy]


def assert_sees(change, lstm):
    x = torch.randn(7, 3, 5)
    with torch.no_grad():
        before = lstm(x)[0]
    change(lstm)
    twin = torch.nn.LSTM(5, 8, lstm.num_layers, dropout=lstm.dropout).train(lstm.training)
    twin.load_state_dict(lstm.state_dict())
    for mode in (torch.no_grad, torch.enable_grad):
        with mode():
            torch.manual_seed(0)
            out = lstm(x)[0]
            torch.manual_seed(0)
            torch.testing.assert_close(out, twin(x)[0])
    assert not torch.equal(out, before)


@pytest.mark.parametrize("change", [*COUNTED, *UNCOUNTED])
@pytest.mark.parametrize("more", [{}, {"num_layers": 2, "dropout": 0.5}], ids=["plain", "layer by layer"])
def test_changed_weights_are_seen(change, more):
    assert_sees(change, lstmkernel.torch.LSTM(5, 8, **more))


@pytest.mark.parametrize("change", COUNTED)
def test_counted_changes_are_seen_without_comparing(change):
    lstm = lstmkernel.torch.LSTM(5, 8)
    lstm.compares_weights = False
    assert_sees(change, lstm)


def test_changes_of_inference_tensors_are_seen():
    """Nobody counts them."""
    with torch.inference_mode():
        lstm, x = lstmkernel.torch.LSTM(5, 8), torch.randn(7, 3, 5)
        lstm.compares_weights = False
        before = lstm(x)[0]
        lstm.weight_hh_l0.mul_(2)
        assert not torch.equal(lstm(x)[0], before)


@pytest.mark.parametrize("compares", [True, False])
def test_weights_at_rest_are_packed_once(monkeypatch, compares):
    packed = []
    make = lstmkernel.LSTM.from_config.__func__
    monkeypatch.setattr(
        lstmkernel.LSTM, "from_config", classmethod(lambda cls, *a: packed.append(cls) or make(cls, *a))
    )
    lstm = lstmkernel.torch.LSTM(5, 8)
    lstm.compares_weights = compares
    lstm.weight_ih_l0.data[0, 0] = float("nan")  # equals itself here
    for _ in range(3):
        lstm(torch.randn(7, 3, 5))
    assert len(packed) == 1


def test_parametrized_weights_learn():
    ours, theirs = lstmkernel.torch.LSTM(5, 8), torch.nn.LSTM(5, 8)
    ours.load_state_dict(theirs.state_dict())
    for lstm in (ours, theirs):
        torch.nn.utils.parametrizations.weight_norm(lstm, "weight_hh_l0")
        lstm(torch.ones(7, 3, 5))[0].sum().backward()
    got, expected = ({name: p.grad for name, p in lstm.named_parameters()} for lstm in (ours, theirs))
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True, "bias": False}, {"proj_size": 3}])
def test_state_dicts_go_both_ways(options):
    ours, theirs = lstmkernel.torch.LSTM(5, 8, **options), torch.nn.LSTM(5, 8, **options)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(7, 3, 5)
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))
    for moved in (ours.double(), theirs.double()):
        assert moved(x.double())[0].dtype is torch.float64


def pickled(module):
    return pickle.loads(pickle.dumps(module))


def saved(module):
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize("copied", [copy.deepcopy, copy.copy, pickled, saved])
@pytest.mark.parametrize("kind", [lstmkernel.torch.LSTM, lstmkernel.torch.LSTMCell])
def test_copies(copied, kind):
    module, x = kind(5, 8), torch.randn(7, 5)
    expected = module(x)
    other = copied(module)
    assert type(other) is kind
    assert copied is copy.copy or not other.__dict__.get("_models"), "packed weights went along"
    torch.testing.assert_close(other(x), expected, rtol=0, atol=0)
    with torch.no_grad():
        other.weight_hh_l0.add_(1) if kind is lstmkernel.torch.LSTM else other.weight_hh.add_(1)
    assert copied is copy.copy or torch.equal(module(x)[0], expected[0])
