"""Gradients of Dense and Stack: against PyTorch's autograd, and what must not go without a word."""

import numpy as np
import pytest
from helpers import assert_same_bits, normal
from networks import make

import lstmkernel as lk

torch = pytest.importorskip("torch")

T, B = 6, 4
LENGTHS = np.array([6, 2, 0, 5])
#: How far a gradient may be off, relative to the largest of its array.
TOLERANCE = {"float32": 2e-5, "float64": 1e-12}
ACTIVATIONS = {
    "linear": lambda z: z,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "relu": torch.relu,
    "softmax": lambda z: torch.softmax(z, -1),
}


def assert_gradient(got, expected, dtype, what):
    expected = expected.detach().numpy()
    assert got.dtype == np.dtype(dtype), what
    assert got.shape == expected.shape, what
    assert np.abs(got - expected).max(initial=0) <= TOLERANCE[dtype] * max(1, np.abs(expected).max(initial=0)), what


def leaves(named):
    return {name: torch.tensor(np.array(value, "f8"), requires_grad=True) for name, value in named.items()}


def dense_in_torch(layer, named, x):
    return ACTIVATIONS[layer.activation](torch.nn.functional.linear(x, named["weight"], named.get("bias")))


def lstm_in_torch(lstm, named, x, state, lengths):
    """The rows one after the other, each to its own end: (T, B, ...), and the last states."""
    s = lstm.shape
    twin = torch.nn.LSTM(s.input_size, s.hidden_size, s.num_layers, s.bias, bidirectional=s.bidirectional)
    out = torch.zeros(T, B, lstm.out_features, dtype=torch.float64)
    last = [part.clone() for part in state]
    weights = {name: value for name, value in named.items() if name not in ("h_0", "c_0")}
    for row, steps in enumerate(lengths):
        if steps:
            own = tuple(part[:, row : row + 1].contiguous() for part in state)
            y, ends = torch.func.functional_call(twin.double(), weights, (x[:steps, row : row + 1], own))
            out = torch.index_put(out, (torch.arange(steps), torch.tensor(row)), y[:, 0])
            for part, end in zip(last, ends, strict=True):
                part[:, row] = end[:, 0]
    return out, last


# ---------------------------------------------------------------- Dense


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rows", [(), (7,), (T, B), (0, 3)])
def test_dense(activation, bias, rows, dtype, random):
    layer = lk.Dense(5, 3, activation, bias=bias, dtype=dtype, seed=0)
    x, d_y = normal(random, (*rows, 5), dtype), normal(random, (*rows, 3), dtype)
    y, tape = layer.forward(x)
    assert_same_bits(y, layer(x))
    got = layer.backward(tape, d_y)
    named = leaves({**layer.state_dict(), "x": x})
    dense_in_torch(layer, named, named["x"]).backward(torch.tensor(d_y, dtype=torch.float64))
    assert list(got) == list(named)
    for name, value in named.items():
        assert_gradient(got[name], value.grad, dtype, name)


def test_the_rows_of_a_large_dense_are_taken_in_parts(random, monkeypatch):
    layer, x, d_y = lk.Dense(5, 3, seed=0), normal(random, (50, 5), "float32"), normal(random, (50, 3), "float32")
    _, tape = layer.forward(x)
    whole = layer.backward(tape, d_y)
    monkeypatch.setattr("lstmkernel.engine.head_tape.MOST_COPIED", 8 * 7)
    for name, value in layer.backward(tape, d_y).items():
        np.testing.assert_allclose(value, whole[name], rtol=1e-4, atol=1e-5)


def test_what_a_tape_of_dense_keeps(random):
    layer, x = lk.Dense(5, 3, "tanh", backend="numpy", seed=0), normal(random, (T, 5), "float32")
    y, tape = layer.forward(x)
    expected = layer.backward(tape, np.ones_like(y))
    y[...] = 0
    for name, value in layer.backward(tape, np.ones_like(y)).items():
        assert_same_bits(value, expected[name], "y belongs to the caller")
    assert tape.nbytes == y.nbytes
    assert repr(tape) == f"HeadTape(of Dense(5, 3), x (6, 5), {y.nbytes} bytes)"
    with pytest.raises(ValueError, match=r"d_y: expected shape of y = \(6, 3\), got \(6, 2\)"):
        layer.backward(tape, np.ones((T, 2)))
    with pytest.raises(ValueError, match="tape: expected one of Dense"):
        lk.Dense(5, 3, "relu", seed=0).backward(tape, y)
    with pytest.raises(TypeError, match="tape: expected what forward returned, got dict"):
        layer.backward({}, y)
    x[0] = 1
    with pytest.raises(ValueError, match="x: expected the numbers that forward had"):
        layer.backward(tape, y)


# ---------------------------------------------------------------- Stack

STACKS = {
    "a head": lambda **of: [lk.LSTM(5, 4, seed=1, **of), lk.Dense(4, 3, "softmax", seed=2, **of)],
    "heads everywhere": lambda **of: [
        lk.Dense(5, 4, "tanh", seed=1, **of),
        lk.LSTM(4, 3, num_layers=2, bidirectional=True, seed=2, **of),
        lk.Dense(6, 5, "sigmoid", seed=3, **of),
        lk.LSTM(5, 4, seed=4, **of),
        lk.Dense(4, 4, "relu", seed=5, **of),
        lk.Dense(4, 3, bias=False, seed=6, **of),
    ],
    "an LSTM on top": lambda **of: [lk.Dense(5, 4, seed=1, **of), lk.LSTM(4, 3, initial_state=True, seed=2, **of)],
    "heads alone": lambda **of: [lk.Dense(5, 4, "relu", seed=1, **of), lk.Dense(4, 2, seed=2, **of)],
}


def stack_in_torch(net, named, x, lengths):
    """out (T, B, n), and the last states, of leaves by the names of the stack's gradients."""
    past, out, last = np.arange(T)[:, None] >= lengths, x, []
    for place, layer in enumerate(net):
        own = {name.partition(".")[2]: value for name, value in named.items() if name.startswith(f"{place}.")}
        if isinstance(layer, lk.Dense):
            out = dense_in_torch(layer, own, out)
            continue
        h, c = (own[name] for name in ("h_0", "c_0"))
        state = tuple(part[:, None].repeat(1, B, 1) if part.ndim == 2 else part for part in (h, c))
        out, ends = lstm_in_torch(layer, own, out, state, lengths)
        last.append(ends)
    out = out + net.skip * x[..., : out.shape[-1]]
    return out * torch.tensor(~past)[..., None], last


@pytest.mark.parametrize("kind", STACKS)
@pytest.mark.parametrize("skip", [0, 0.5])
@pytest.mark.parametrize("lengths", [None, LENGTHS])
@pytest.mark.parametrize("every", [None, 2])
def test_stack(kind, skip, lengths, every, dtype, random):
    net = lk.Stack(STACKS[kind](dtype=dtype), skip=skip)
    x = normal(random, (T, B, 5), dtype)
    lstms = {place: layer for place, layer in enumerate(net) if isinstance(layer, lk.LSTM)}
    out, states, tape = net.forward(x, lengths=lengths, checkpoint_every=every)
    expected = net(x, lengths=lengths)
    assert_same_bits(out, expected[0])
    for (h, c), (h_n, c_n) in zip(states, expected[1], strict=True):
        assert_same_bits(h, h_n)
        assert_same_bits(c, c_n)
    d_out = normal(random, out.shape, dtype)
    d_states = [tuple(normal(random, part.shape, dtype) for part in state) for state in states]
    d_out[:, 2] = np.inf if lengths is not None else 0  # past a row's end, nothing is read
    got = net.backward(tape, d_out, d_states)

    first = {
        f"{i}.{name}": np.zeros_like(state[k])
        for (i, layer), state in zip(lstms.items(), states, strict=True)
        for k, name in enumerate(("h_0", "c_0"))
        if not layer.initial_state
    }
    named = leaves({**net.state_dict(), **first, "x": x})
    y, last = stack_in_torch(net, named, named["x"], np.full(B, T) if lengths is None else lengths)
    finite = np.where(np.isfinite(d_out), d_out, 0)
    loss = (y * torch.tensor(finite)).sum()
    loss = loss + sum(
        (p * torch.tensor(d)).sum() for s, ds in zip(last, d_states, strict=True) for p, d in zip(s, ds, strict=True)
    )
    loss.backward()
    assert set(got) == set(named)
    for name, value in named.items():
        assert_gradient(got[name], value.grad, dtype, name)


def test_batch_first_and_unbatched(random):
    steps_first = lk.Stack([lk.LSTM(5, 4, seed=1), lk.Dense(4, 3, "tanh", seed=2)], skip=1)
    rows_first = lk.Stack([lk.LSTM(5, 4, batch_first=True, seed=1), steps_first[1]], skip=1)
    x, d_out = normal(random, (T, B, 5), "float32"), normal(random, (T, B, 3), "float32")
    out, _, tape = steps_first.forward(x, lengths=LENGTHS)
    expected = steps_first.backward(tape, d_out)
    turned_out, _, tape = rows_first.forward(x.swapaxes(0, 1), lengths=LENGTHS)
    assert_same_bits(turned_out, out.swapaxes(0, 1))
    got = rows_first.backward(tape, d_out.swapaxes(0, 1))
    np.testing.assert_allclose(got.pop("x"), expected.pop("x").swapaxes(0, 1), rtol=1e-5, atol=1e-6)
    for name, value in got.items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-4, atol=1e-6)
    _, _, one = steps_first.forward(x[:, 0])
    assert steps_first.backward(one, d_out[:, 0])["x"].shape == (T, 5)


def test_a_step_of_descent_lowers_the_loss(random):
    net = lk.Stack([lk.LSTM(5, 8, seed=1), lk.Dense(8, 1, seed=2)])
    x, target = normal(random, (T, B, 5), "float32"), normal(random, (T, B, 1), "float32")
    losses = []
    for _ in range(5):
        out, _, tape = net.forward(x)
        losses.append(float(((out - target) ** 2).mean()))
        found = net.backward(tape, 2 * (out - target) / out.size)
        net.load_state_dict({name: value - 0.3 * found[name] for name, value in net.state_dict().items()})
    assert sorted(losses, reverse=True) == losses


def test_what_a_tape_of_a_stack_says_and_refuses(random):
    net = lk.Stack([lk.LSTM(5, 4, seed=1), lk.Dense(4, 3, seed=2)], skip=1)
    x = normal(random, (T, B, 5), "float32")
    out, _, tape = net.forward(x)
    expected = net.backward(tape, np.ones_like(out))
    out[...] = 0
    for name, value in net.backward(tape, np.ones_like(out)).items():
        assert_same_bits(value, expected[name], "out belongs to the caller")
    assert repr(tape) == f"ChainTape(of 2 layers, out (6, 4, 3), {tape.nbytes} bytes)"
    assert tape.nbytes > out.nbytes
    none = net.backward(tape, None)
    assert not any(value.any() for value in none.values())
    with pytest.raises(ValueError, match=r"d_out: expected shape of out = \(6, 4, 3\), got \(6, 4, 2\)"):
        net.backward(tape, np.zeros((T, B, 2)))
    with pytest.raises(ValueError, match="d_state: expected one"):
        net.backward(tape, None, [None, None])
    with pytest.raises(ValueError, match="tape: expected one of Stack"):
        lk.Stack(net.layers).backward(tape, out)
    with pytest.raises(TypeError, match="tape: expected what forward returned, got Tape"):
        net.backward(net[0].forward(x)[2], out)
    x[0] = 1
    with pytest.raises(ValueError, match="x: expected the numbers that forward had"):
        net.backward(tape, out)


def test_what_cannot_be_trained_is_refused_at_once():
    net = lk.Stack([lk.LSTM(5, 4, seed=1), make("reverse", input_size=4)])
    with pytest.raises(ValueError, match="reverse: expected a plain LSTM that runs forwards"):
        net.forward(np.zeros((T, B, 5)))
    lstm = make("plain")
    lstm = lk.LSTM.from_config({**lstm.config(), "expects": "lengths"}, lstm.state_dict())
    with pytest.warns(RuntimeWarning, match="forward takes only lengths="):
        lk.Stack([lstm]).forward(np.zeros((T, B, 5)))
