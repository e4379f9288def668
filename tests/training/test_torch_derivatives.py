"""lstmkernel.torch beyond first gradients: second derivatives, forward mode, torch.func, recorders of operations.

PyTorch's own LSTM in float64 is the judge. Every way must give its numbers.
"""

import copy
from functools import partial

import pytest
from helpers import sampled
from networks import options as options_of

torch = pytest.importorskip("torch")

from torch.fx.experimental.proxy_tensor import make_fx  # noqa: E402
from torch.utils.checkpoint import checkpoint  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

import lstmkernel.torch  # noqa: E402

rnn, functional, func = torch.nn.utils.rnn, torch.autograd.functional, torch.func

I, H, T, B = 2, 5, 3, 2
NAMES = ("plain", "batch first", "two directions", "projected", "without bias, projected, two directions")
NETWORKS = {name: options_of(name) for name in NAMES} | {"dropout": {"num_layers": 3, "dropout": 0.5}}


class Net(torch.nn.Module):
    """One function of (x, h_0, c_0) for every kind: each result counts, none alone and none linearly."""

    def __init__(self, kind, ours, dtype=torch.float64, **options):
        super().__init__()
        torch.manual_seed(0)
        self.kind, self.first = kind, options.get("batch_first", False)
        of_cell = kind == "cell"
        module = (torch.nn.LSTMCell if of_cell else torch.nn.LSTM)(I, H, dtype=dtype, **options)
        if ours == "accelerated":
            lstmkernel.torch.accelerate(module)
        elif ours:
            theirs = module
            module = (lstmkernel.torch.LSTMCell if of_cell else lstmkernel.torch.LSTM)(I, H, dtype=dtype, **options)
            module.load_state_dict(theirs.state_dict())
        self.lstm = module

    def forward(self, x, h, c):
        torch.manual_seed(5)  # dropout
        if self.kind == "cell":
            out, state = x, (h[0], c[0])
            for step in x:
                state = self.lstm(step, state)
            return (*state, state[0] * state[1])
        if self.kind == "unbatched":
            out, last = self.lstm(x[0] if self.first else x[:, 0], (h[:, 0], c[:, 0]))
        elif self.kind == "no state":
            out, last = self.lstm(x)
        elif self.kind == "packed":
            given = rnn.pack_padded_sequence(x, torch.tensor([2, 3]), self.first, enforce_sorted=False)
            packed, last = self.lstm(given, (h, c))
            out = rnn.pad_packed_sequence(packed, self.first)[0]
        else:
            out, last = self.lstm(x, (h, c))
        return (out, *last)


def loss_of(net):
    return lambda *given: sum((result.sin() * (1 + result)).sum() for result in net(*given))


def inputs_of(net):
    lstm = net.lstm
    states = getattr(lstm, "num_layers", 1) * (1 + getattr(lstm, "bidirectional", False))
    generator = torch.Generator().manual_seed(1)
    dtype = next(lstm.parameters()).dtype
    draw = lambda *shape: torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)  # noqa: E731
    width = getattr(lstm, "proj_size", 0) or H
    return draw(B, T, I) if net.first else draw(T, B, I), draw(states, B, width), draw(states, B, H)


def assert_same(got, expected, tolerance=1e-9):
    assert len(got) == len(expected)
    assert any(tensor is not None and tensor.abs().max() > 1e-3 for tensor in expected), "nothing to compare"
    for a, b in zip(got, expected, strict=True):
        a, b = (torch.zeros_like(y) if x is None and y is not None else x for x, y in ((a, b), (b, a)))
        if b is not None:
            torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def leaves_of(net):
    return [tensor.requires_grad_() for tensor in inputs_of(net)]


def penalty(net):
    """The gradient of every input and weight, of the loss and the squares of all first gradients."""
    leaves, weights = leaves_of(net), list(net.parameters())
    loss = loss_of(net)(*leaves)
    first = torch.autograd.grad(loss, [*leaves, *weights], create_graph=True, allow_unused=True)
    whole = loss + sum(part.pow(2).sum() for part in first if part is not None)
    return torch.autograd.grad(whole, [*leaves, *weights], allow_unused=True)


def penalty_of_x(net):
    """By ``backward``, with x alone differentiated first: what a gradient penalty does."""
    leaves = leaves_of(net)
    (of_x,) = torch.autograd.grad(net(*leaves)[0].sum(), leaves[0], create_graph=True)
    (of_x.norm(dim=-1) - 1).pow(2).sum().backward()
    return [leaf.grad for leaf in (*leaves, *net.parameters())]


def backward_with_inputs(net):
    leaves, weights = leaves_of(net), list(net.parameters())
    (of_x,) = torch.autograd.grad(loss_of(net)(*leaves), leaves[:1], create_graph=True)
    of_x.pow(2).sum().backward(inputs=[leaves[0], weights[0]])
    return [leaves[0].grad, weights[0].grad]


def frozen(net):
    net.requires_grad_(False)
    x, h, c = leaves_of(net)
    (of_x,) = torch.autograd.grad(loss_of(net)(x, h, c), x, create_graph=True)
    return torch.autograd.grad(of_x.pow(2).sum(), [x, h, c], allow_unused=True)


def third(net):
    x, h, c = leaves_of(net)
    (one,) = torch.autograd.grad(loss_of(net)(x, h, c), x, create_graph=True)
    (two,) = torch.autograd.grad(one.pow(2).sum(), x, create_graph=True)
    return torch.autograd.grad(two.pow(2).sum(), [x, *net.parameters()], allow_unused=True)


def tied(net):
    """h_0 is a function of x: the gradient of x's own place is not that of all its places."""
    x, h, c = leaves_of(net)
    tied = h * x.sum()
    (one,) = torch.autograd.grad(loss_of(net)(x, tied, tied.sum() + c), x, create_graph=True)
    return torch.autograd.grad(one.pow(2).sum(), [x, h, c, *net.parameters()], allow_unused=True)


def maml(net):
    """Two inner steps with create_graph, then the outer gradient."""
    given, weights = inputs_of(net), dict(net.named_parameters())
    for _ in range(2):
        loss = sum(part.square().sum() for part in func.functional_call(net, weights, given))
        first = torch.autograd.grad(loss, list(weights.values()), create_graph=True)
        weights = {name: value - 0.1 * of for (name, value), of in zip(weights.items(), first, strict=True)}
    loss = sum(part.sin().sum() for part in func.functional_call(net, weights, given))
    return torch.autograd.grad(loss, list(net.parameters()))


def batched_gradients(net):
    leaves = leaves_of(net)
    out = net(*leaves)[0]
    seeds = torch.stack([torch.ones_like(out), torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view(out.shape)])
    return torch.autograd.grad(
        out, [*leaves, *net.parameters()], seeds, is_grads_batched=True, allow_unused=True, retain_graph=True
    )


def ensemble(net):
    nets = [net, copy.deepcopy(net)]
    with torch.no_grad():
        for value in nets[1].parameters():
            value.mul_(0.5)
    return [one.requires_grad_(False) for one in nets]


def vmap_of_weights(net):
    weights, _ = func.stack_module_state(ensemble(net))
    given = inputs_of(net)
    return func.vmap(lambda weights: func.functional_call(net, weights, given), randomness="same")(weights)


def each_of_ensemble(net):
    given = inputs_of(net)
    return [torch.stack(results) for results in zip(*(one(*given) for one in ensemble(net)), strict=True)]


def two_of_each(net):
    return [torch.stack([tensor, tensor.cos()]) for tensor in inputs_of(net)]


def vmap(net):
    return func.vmap(net, randomness="same")(*two_of_each(net))


def one_after_the_other(net):
    return [torch.stack(results) for results in zip(*map(net, *two_of_each(net)), strict=True)]


def by_weights(net):
    given = inputs_of(net)
    return lambda weights: loss_of(lambda *given: func.functional_call(net, weights, given))(*given)


def dual_numbers(net):
    given = inputs_of(net)
    with torch.autograd.forward_ad.dual_level():
        duals = [torch.autograd.forward_ad.make_dual(tensor, tensor.cos()) for tensor in given]
        return [torch.autograd.forward_ad.unpack_dual(result).tangent for result in net(*duals)]


def dual_numbers_without_gradients(net):
    with torch.no_grad():
        return dual_numbers(net.requires_grad_(False))


def ones(tensors):
    return tuple(map(torch.ones_like, tensors))


def flat(nested):
    return [tensor for part in nested for tensor in (flat(part) if isinstance(part, tuple) else [part])]


def hessian_of_x_by(way):
    def hessian_of_x(net):
        x, h, c = inputs_of(net)
        return [way(lambda x: loss_of(net)(x, h, c), x)]

    return hessian_of_x


def first(net):
    return torch.autograd.grad(loss_of(net)(*(leaves := leaves_of(net))), leaves, allow_unused=True)


def first_of_weights(net):
    return torch.autograd.grad(loss_of(net)(*inputs_of(net)), list(net.parameters()))


def along(direction):
    """The reference of forward mode: ``functional.jvp`` runs backward twice."""

    def jvp(net):
        given = inputs_of(net)
        return flat(functional.jvp(net, given, tuple(map(direction, given)))[1])

    return jvp


def jacobian(net):
    return flat(functional.jacobian(net, inputs_of(net)))


#: By name: what is done with ours; and what PyTorch's own is judged by, where it cannot do the same itself.
WAYS = {
    "penalty": (penalty,),
    "penalty of x": (penalty_of_x,),
    "backward(inputs=)": (backward_with_inputs,),
    "frozen": (frozen,),
    "third": (third,),
    "tied": (tied,),
    "maml": (maml,),
    "functional.hessian": (lambda net: flat(functional.hessian(loss_of(net), inputs_of(net))),),
    "functional.hvp": (lambda net: flat(functional.hvp(loss_of(net), inputs_of(net), ones(inputs_of(net)))[1]),),
    "functional.vhp": (lambda net: flat(functional.vhp(loss_of(net), inputs_of(net), ones(inputs_of(net)))[1]),),
    "functional.jvp": (along(torch.ones_like),),
    "functional.jacobian": (jacobian,),
    "functional.jacobian, vectorized": (
        lambda net: flat(functional.jacobian(net, inputs_of(net), vectorize=True)),
        jacobian,
    ),
    "is_grads_batched": (batched_gradients,),
    "forward_ad": (dual_numbers, along(torch.cos)),
    "forward_ad without gradients": (dual_numbers_without_gradients, along(torch.cos)),
    "func.grad": (lambda net: func.grad(loss_of(net), (0, 1, 2))(*inputs_of(net)), first),
    "func.grad of weights": (
        lambda net: [*func.grad(by_weights(net))(dict(net.named_parameters())).values()],
        first_of_weights,
    ),
    "func.jvp": (lambda net: func.jvp(net, inputs_of(net), ones(inputs_of(net)))[1], along(torch.ones_like)),
    "func.vjp": (lambda net: func.vjp(loss_of(net), *inputs_of(net))[1](torch.ones((), dtype=torch.float64)), first),
    "func.jacrev": (lambda net: flat(func.jacrev(net, (0, 1, 2))(*inputs_of(net))), jacobian),
    "func.jacfwd": (lambda net: flat(func.jacfwd(net, (0, 1, 2), randomness="same")(*inputs_of(net))), jacobian),
    "func.hessian": (
        hessian_of_x_by(lambda loss, x: func.jacfwd(func.jacrev(loss), randomness="same")(x)),
        hessian_of_x_by(functional.hessian),
    ),
    "func.vmap": (vmap, one_after_the_other),
    "func.vmap of weights": (vmap_of_weights, each_of_ensemble),
}

#: PyTorch cannot pack there, or not unpack, in torch.nn.LSTM neither.
NOT_FOR_PACKED = [way for way in WAYS if way.startswith(("func.", "forward_ad")) and way != "func.vmap of weights"]

#: PyTorch's own, of its machinery.
pytestmark = [
    pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated"),
    pytest.mark.filterwarnings("ignore:There is a performance drop"),
]


def assert_as_theirs(way, kind, options, ours=True):
    of_ours, *reference = WAYS[way]
    theirs = (reference or [of_ours])[0](Net(kind, False, **options))
    assert_same(of_ours(Net(kind, ours, **options)), theirs)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("network", sampled(NETWORKS, "plain"))
def test_networks(way, network):
    assert_as_theirs(way, "sequence", NETWORKS[network])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", sampled(["cell", "unbatched", "no state"], "cell"))
def test_kinds_of_calls(way, kind):
    assert_as_theirs(way, kind, {})


@pytest.mark.parametrize("way", [way for way in WAYS if way not in NOT_FOR_PACKED])
def test_packed_sequences(way):
    assert_as_theirs(way, "packed", {})


@pytest.mark.parametrize("way", NOT_FOR_PACKED)
def test_packed_sequences_are_refused_where_pytorch_cannot_unpack_them(way):
    """By us, or before by PyTorch's own pack_padded_sequence."""
    with pytest.raises((RuntimeError, NotImplementedError), match=r"cannot unpack this|_pack_padded_sequence|vmap"):
        WAYS[way][0](Net("packed", True))


@pytest.mark.parametrize("way", ["penalty of x", "maml", "functional.hessian", "func.grad", "forward_ad"])
@pytest.mark.parametrize("kind", ["sequence", "cell"])
def test_accelerated(way, kind):
    assert_as_theirs(way, kind, {}, "accelerated")


@pytest.mark.parametrize("way", ["penalty", "penalty of x"])
def test_float32(way):
    found = []
    for ours, dtype in ((True, torch.float32), (False, torch.float64)):
        net = Net("sequence", ours, dtype, num_layers=2)
        net.load_state_dict(Net("sequence", False, num_layers=2).state_dict())
        found.append([tensor.double() for tensor in WAYS[way][0](net)])
    assert_same(*found, tolerance=1e-4)


@pytest.mark.parametrize("shape", [(0, 2, I), (4, 0, I)])
def test_empty(shape):
    lstm, x = lstmkernel.torch.LSTM(I, H), torch.zeros(shape, requires_grad=True)
    out, (h, c) = lstm(x)
    of = [x, *lstm.parameters()]
    gradients = torch.autograd.grad(out.sum() + (h * c).sum(), of, create_graph=True, allow_unused=True)
    assert all(gradient is None or not gradient.any() for gradient in gradients)


def test_recorders_of_operations_see_pytorchs():
    """What counts floating-point operations, or records a graph, must not find an empty place."""
    x, counted, recorded = torch.randn(T, B, I, dtype=torch.float64), [], []
    for net in (torch.nn.LSTM(I, H).double(), lstmkernel.torch.LSTM(I, H).double()):
        net.load_state_dict({name: torch.full_like(value, 0.3) for name, value in net.state_dict().items()})
        with FlopCounterMode(display=False) as counter:
            net(x)
        counted.append(counter.get_total_flops())
        recorded.append(make_fx(partial(torch.func.functional_call, net, {}))((x,))((2 * x,))[0])
    assert counted[0] == counted[1] > 0
    torch.testing.assert_close(*recorded)


@pytest.mark.slow
def test_after_checkpoints_and_graphs():
    """torch.utils.checkpoint computes again what was saved; torch.compile calls the module between two graphs."""
    found = []
    for ours in (False, True):
        net = Net("sequence", ours)
        x, *states = inputs_of(net)
        x.requires_grad_()
        for call in (
            lambda x, net=net, states=states: checkpoint(net, x, *states, use_reentrant=False),
            torch.compile(lambda x, net=net, states=states: net(x, *states), backend="eager"),
        ):
            (of_x,) = torch.autograd.grad(call(x)[0].sum(), x, create_graph=True)
            found.append(torch.autograd.grad(of_x.square().sum(), x)[0])
    torch.testing.assert_close(found[:2], found[2:])
