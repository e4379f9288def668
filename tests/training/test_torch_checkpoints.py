"""lstmkernel.torch.LSTM(checkpoint_every=): the bits of training without it, for less memory."""

import copy

import pytest
from networks import options as options_of

torch = pytest.importorskip("torch")

import lstmkernel.torch  # noqa: E402
from lstmkernel.torch import tapes  # noqa: E402

rnn = torch.nn.utils.rnn

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")

NETWORKS = {
    name: options_of(name) for name in ("plain", "batch first", "two directions", "projected", "without bias")
} | {"dropout": {"num_layers": 3, "dropout": 0.5}}


def trained(lstm, every, x, packed):
    """Results, and gradients of everything, of one step of training."""
    lstm = copy.deepcopy(lstm)
    lstm.checkpoint_every = every
    x = x.clone().requires_grad_()
    torch.manual_seed(0)  # dropout
    out, (h, c) = lstm(rnn.pack_padded_sequence(x, [11, 7, 4], lstm.batch_first) if packed else x)
    out = out.data if packed else out
    (out.sin().sum() + h.cos().sum() + c.sin().sum()).backward()
    return [out, h, c, x.grad, *(parameter.grad for parameter in lstm.parameters())]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("every", [1, 3, 50])
def test_the_bits_of_training_without_it(every, network, packed):
    lstm = lstmkernel.torch.LSTM(5, 8, **NETWORKS[network])
    x = torch.randn(3, 11, 5) if lstm.batch_first else torch.randn(11, 3, 5)
    got, expected = (trained(lstm, k, x, packed) for k in (every, None))
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_the_tape_is_smaller(dropout):
    x, sizes = torch.zeros(100, 2, 5), []
    for every in (None, 10):
        lstm = lstmkernel.torch.LSTM(5, 8, 2, dropout=dropout, checkpoint_every=every)
        out, _ = lstm(x)
        sizes.append(sum(tape.nbytes for tape in tapes._tapes.values()))
        del out
    assert sizes[1] < 0.5 * sizes[0]


def test_the_argument():
    lstm = lstmkernel.torch.LSTM(5, 8, 2, True, checkpoint_every=3)
    assert lstm.checkpoint_every == 3
    assert repr(lstm) == "lstmkernel.torch.LSTM(5, 8, num_layers=2, checkpoint_every=3)"
    assert copy.deepcopy(lstm).checkpoint_every == 3
    assert lstmkernel.torch.LSTM(5, 8).checkpoint_every is None
    with pytest.raises(ValueError, match="checkpoint_every: expected at least 1, got 0"):
        lstmkernel.torch.LSTM(5, 8, checkpoint_every=0)
    with pytest.raises(TypeError, match="checkpoint_every: expected an integer, got float"):
        lstmkernel.torch.LSTM(5, 8, checkpoint_every=1.5)


def test_after_accelerate_and_second_derivatives():
    """These are computed by PyTorch's own operations, with checkpoints too."""
    lstm, x = torch.nn.LSTM(5, 8), torch.randn(6, 2, 5)
    lstmkernel.torch.accelerate(lstm)
    found = []
    for every in (None, 2):
        lstm.checkpoint_every = every
        given = x.clone().requires_grad_()
        (of_x,) = torch.autograd.grad(lstm(given)[0].sin().sum(), given, create_graph=True)
        found.append(torch.autograd.grad(of_x.square().sum(), given)[0])
    assert torch.equal(*found)
    assert found[0].abs().max() > 0
