"""lstmkernel.torch under torch.autocast: 16 bits come in from neighbours, float32 is computed, 16 bits go out."""

import pytest

torch = pytest.importorskip("torch")

import lstmkernel.torch  # noqa: E402

rnn = torch.nn.utils.rnn

LOWER = [torch.bfloat16, torch.float16]
KINDS = ["plain", "batch first", "unbatched", "projected", "layers", "state", "float32 state", "packed", "cell"]

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")


class Between(torch.nn.Module):
    """A Linear, which autocast runs in 16 bits, an LSTM, and a Linear. Gives the LSTM's results and its own."""

    def __init__(self, kind):
        super().__init__()
        torch.manual_seed(0)
        options = {"batch first": {"batch_first": True}, "projected": {"proj_size": 2}}.get(kind, {})
        options |= {"num_layers": 3, "dropout": 0.5, "bidirectional": True} if kind == "layers" else {}
        self.kind = kind
        self.front = torch.nn.Linear(5, 5)
        self.lstm = torch.nn.LSTMCell(5, 4) if kind == "cell" else torch.nn.LSTM(5, 4, **options)
        self.head = torch.nn.Linear({"projected": 2, "layers": 8}.get(kind, 4), 2)

    def forward(self, x):
        x = self.front(x)
        torch.manual_seed(0)  # dropout
        if self.kind == "cell":
            out, state = None, self.lstm(x[0])
        elif self.kind == "unbatched":
            out, state = self.lstm(x[0])
        elif self.kind == "packed":
            packed, state = self.lstm(rnn.pack_padded_sequence(x, torch.tensor([6, 2, 4]), enforce_sorted=False))
            out = packed.data
        elif "state" in self.kind:
            dtype = torch.float32 if "float32" in self.kind else x.dtype
            out, state = self.lstm(x, (torch.ones(1, 3, 4, dtype=dtype), torch.ones(1, 3, 4, dtype=dtype)))
        else:
            out, state = self.lstm(x)
        out = state[0] if out is None else out
        return self.head(out), out, *state


def run(net, dtype):
    """Results, and the gradients of a loss of all of them."""
    x = torch.randn(6, 3, 5, generator=torch.Generator().manual_seed(1)).requires_grad_()
    with torch.autocast("cpu", dtype, enabled=dtype is not None):
        results = net(x)
    sum(result.float().sin().sum() for result in results).backward()
    return [*results], [x.grad, *(parameter.grad for parameter in net.parameters())]


@pytest.mark.parametrize("dtype", LOWER)
@pytest.mark.parametrize("kind", KINDS)
def test_as_torch_nn(kind, dtype):
    """PyTorch's dtypes; its float32 numbers within the rounding of what comes in and goes out."""
    if (kind, dtype) == ("float32 state", torch.bfloat16) and torch.ops.mkldnn._is_mkldnn_bf16_supported():
        pytest.skip("on this CPU PyTorch takes oneDNN's LSTM, which rounds float32 states to bfloat16")
    exact, theirs, ours = Between(kind), Between(kind), Between(kind)
    lstmkernel.torch.accelerate(ours)
    results, gradients = run(ours, dtype)
    assert [tensor.dtype for tensor in results] == [tensor.dtype for tensor in run(theirs, dtype)[0]]
    expected, expected_gradients = run(exact, None)
    rounding = torch.finfo(dtype).eps
    for got, wanted in zip(results, expected, strict=True):
        assert (got.float() - wanted).abs().max() < 4 * rounding
    for got, wanted in zip(gradients, expected_gradients, strict=True):
        assert got.dtype is torch.float32
        assert (got - wanted).abs().max() < 12 * rounding * (1 + wanted.abs().max())


@pytest.mark.parametrize("of", [lstmkernel.torch.LSTM, lstmkernel.torch.LSTMCell])
def test_float32_and_float64_are_left_alone(of):
    """Bit by bit what they are without autocast."""
    for dtype in (torch.float32, torch.float64):
        module, x = of(5, 4, dtype=dtype), torch.randn(3, 5, dtype=dtype)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(module(x)[0], module(x)[0])
            got = module(x)[0]
        assert torch.equal(got, module(x)[0])
        assert got.dtype is dtype


def test_second_derivatives_are_not_computed_in_16_bits():
    module, found = lstmkernel.torch.LSTM(5, 4), []
    for on in (False, True):
        x = torch.linspace(-1, 1, 30).reshape(6, 5).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=on):
            (of_x,) = torch.autograd.grad(module(x)[0].sum(), x, create_graph=True)
        found.append(torch.autograd.grad(of_x.square().sum(), x)[0])
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-6)


def test_only_autocast_widens():
    """As PyTorch, which takes no other dtype than the weights' without autocast."""
    with pytest.raises(TypeError, match=r"input: expected torch.float32, .*bfloat16; call to\(torch.float32\) on it"):
        lstmkernel.torch.LSTM(5, 4)(torch.zeros(3, 5, dtype=torch.bfloat16))
