"""lk.gradient_flow: against LSTM.backward, PyTorch's autograd and differences; the straight road by its product."""

from functools import partial
from itertools import product

import numpy as np
import pytest
from helpers import random_state, sampled, torch_twin
from networks import each, make

import lstmkernel as lk

T, B, I, H, L = 6, 3, 4, 5, 3
#: Small ones: a Jacobian takes a call for each unit, step and row.
SMALL = {"input_size": I, "hidden_size": H, "num_layers": L, "dtype": "float64"}


@pytest.fixture(params=["two layers", "two directions", "projected", "without bias"])
def net(request):
    """With weights so large that the other paths count."""
    lstm = make(request.param, **SMALL)
    lstm.load_state_dict({name: 3 * value for name, value in lstm.state_dict().items()})
    return lstm


@pytest.fixture
def call(net, random):
    """x and state."""
    return random.standard_normal((T, B, I)), random_state(random, net, B)


def gain(jacobian):
    """The root-mean-square gain, by its definition: the mean over unit vectors of all directions."""
    return np.sqrt((np.linalg.svd(jacobian, compute_uv=False) ** 2).mean(-1))


def own_order(net, k, steps):
    """The steps in the order in which that direction takes them."""
    return steps[::-1] if net.bidirectional and k % 2 else steps


def one_layer(net, trace, x, k):
    """Layer and direction k as a forward model of its own, and its input in its own order."""
    D = net.shape.directions
    layer, direction = divmod(k, D)
    end = net.shape.suffix(layer, direction)
    named = {name.replace(end, "_l0"): value for name, value in net.state_dict().items() if name.endswith(end)}
    below = np.concatenate(trace.h[k - direction - D : k - direction], axis=-1) if layer else x
    return lk.from_torch(named), own_order(net, k, below)


def by_autograd(run, state):
    """The Jacobian of ``run`` at ``state``."""
    torch = pytest.importorskip("torch")
    return torch.autograd.functional.jacobian(run, state).numpy()


def last_c(c_t, twin, x, o_t, w_hr):
    """c after the steps x by PyTorch's ``twin``, from a changed c_t, with h_t = o_t tanh(c_t) as the cell has it."""
    h_t = (o_t * c_t.tanh()) @ w_hr.T
    return twin(x, (h_t[None], c_t[None]))[1][1][0]


@pytest.mark.parametrize("at", sampled([-1, 3, 1 - T], 3))
def test_total_and_rest_are_those_of_autograd(net, call, at):
    torch = pytest.importorskip("torch")
    x, state = call
    flow, trace = lk.gradient_flow(net, x, at, state=state), lk.trace(net, x, state)
    end = at % T + 1
    for k in range(len(trace.c)):
        alone, below = one_layer(net, trace, x, k)
        twin = torch_twin(alone)
        below = torch.tensor(below.copy())
        c, o = (torch.tensor(own_order(net, k, part[k]).copy()) for part in (trace.c, trace.o))
        f = own_order(net, k, trace.f[k])
        w_hr = twin.weight_hr_l0 if net.proj_size else torch.eye(H, dtype=torch.float64)
        for t, row in product(range(end - 1), range(B)):
            run = partial(last_c, twin=twin, x=below[t + 1 : end, row], o_t=o[t, row], w_hr=w_hr)
            jacobian = by_autograd(run, c[t, row])
            straight = np.diag(np.prod(f[t + 1 : end, row], axis=0))
            got = [own_order(net, k, part[k])[t, row] for part in flow[:3]]
            expected = [gain(part) for part in (straight, jacobian - straight, jacobian)]
            np.testing.assert_allclose(got, expected, rtol=1e-10)


def test_total_is_that_of_backward(net, call):
    """From the states after step t on, with dL/dc_n of one unit in each row: a row of the Jacobian each."""
    x, state = call
    flow, trace = lk.gradient_flow(net, x, state=state), lk.trace(net, x, state)
    for k in range(len(trace.c)):
        alone, below = one_layer(net, trace, x, k)
        h, c, o, total = (own_order(net, k, part[k]) for part in (trace.h, trace.c, trace.o, flow.total))
        w_hr = alone.state_dict().get("weight_hr_l0", np.eye(H))
        for t, row in product(range(T - 1), range(B)):
            after, at = below[t + 1 :, [row]], (slice(t, t + 1), [row])
            rest, h_t, c_t = (np.repeat(part, H, axis=1) for part in (after, h[at], c[at]))
            _, _, tape = alone.forward(rest, (h_t, c_t))
            gradients = alone.backward(tape, None, (None, np.eye(H)[None]))
            through_h = gradients["h_0"][0] @ w_hr * o[t, row] * (1 - np.tanh(c[t, row]) ** 2)
            np.testing.assert_allclose(total[t, row], gain(gradients["c_0"][0] + through_h), rtol=1e-10)


def test_total_is_that_of_central_differences_through_the_whole_network(random):
    """One unit of one layer's c_t is moved, and all layers go on: no path goes through another layer."""
    net = lk.LSTM(I, H, L, dtype="float64", seed=1)
    x = random.standard_normal((T, I))
    flow, trace = lk.gradient_flow(net, x), lk.trace(net, x)
    step = 1e-5
    for layer in range(L):
        for t in range(T - 1):
            columns = []
            for unit in range(H):
                ends = []
                for change in (step, -step):
                    h, c = trace.h[:, t].copy(), trace.c[:, t].copy()
                    c[layer, unit] += change
                    h[layer] = trace.o[layer, t] * np.tanh(c[layer])
                    ends.append(net(x[t + 1 :], (h, c))[1][1][layer])
                columns.append((ends[0] - ends[1]) / (2 * step))
            np.testing.assert_allclose(flow.total[layer, t], gain(np.stack(columns, axis=-1)), rtol=1e-8)


def test_the_straight_road_is_the_product_of_forget_gates(net, call):
    x, state = call
    flow, trace = lk.gradient_flow(net, x, 4, state=state), lk.trace(net, x, state)
    for k in range(len(trace.f)):
        f, got = (own_order(net, k, part[k]) for part in (trace.f, flow.straight))
        for t in range(T):
            expected = np.sqrt((np.prod(f[t + 1 : 5], axis=0) ** 2).mean(-1)) if t <= 4 else np.zeros(B)
            np.testing.assert_allclose(got[t], expected, rtol=1e-12)


def test_without_recurrent_weights_there_is_only_the_straight_road(random):
    net = lk.LSTM(I, H, L, dtype="float64", seed=0)
    net.load_state_dict({name: value * ("hh" not in name) for name, value in net.state_dict().items()})
    flow = lk.gradient_flow(net, random.standard_normal((T, I)))
    np.testing.assert_array_equal(flow.other, 0)
    np.testing.assert_allclose(flow.total, flow.straight, rtol=1e-15)
    np.testing.assert_array_equal(flow.rnn[:, :-1], 0)


def last_h(h_t, rnn, x):
    return rnn(x, h_t[None])[1][0]


@each("two layers", "two directions", "without bias")
def test_the_plain_rnn_is_pytorchs_with_the_weights_of_gate_g(network, random):
    torch = pytest.importorskip("torch")
    net = make(network, **SMALL)
    x, state = random.standard_normal((T, B, I)), random_state(random, net, B)
    flow, trace = lk.gradient_flow(net, x, state=state), lk.trace(net, x, state)
    for k in range(len(trace.c)):
        alone, below = one_layer(net, trace, x, k)
        rnn = torch.nn.RNN(alone.input_size, H, bias=alone.bias, dtype=torch.float64)
        rnn.load_state_dict({name: torch.tensor(value[2 * H : 3 * H]) for name, value in alone.state_dict().items()})
        rnn.requires_grad_(False)
        below = torch.tensor(below.copy())
        states, _ = rnn(below, torch.tensor(state[0][k : k + 1]))
        for t, row in product(range(T - 1), range(B)):
            run = partial(last_h, rnn=rnn, x=below[t + 1 :, row])
            expected = gain(by_autograd(run, states[t, row]))
            np.testing.assert_allclose(own_order(net, k, flow.rnn[k])[t, row], expected, rtol=1e-10)


def test_the_plain_rnn_with_a_projection(random):
    """By central differences of its formula: no peer has it."""
    net = lk.LSTM(I, H, proj_size=3, dtype="float64", seed=1)
    x, state = random.standard_normal((T, I)), random_state(random, net, None)
    named = net.state_dict()
    w_ih, w_hh = (named[f"weight_{name}_l0"][2 * H : 3 * H] for name in ("ih", "hh"))
    bias = (named["bias_ih_l0"] + named["bias_hh_l0"])[2 * H : 3 * H]

    def run(h, steps):
        u = np.zeros(H)
        for x_t in steps:
            u = np.tanh(w_ih @ x_t + bias + w_hh @ h)
            h = named["weight_hr_l0"] @ u
        return u

    flow = lk.gradient_flow(net, x, state=state)
    for t in range(T - 1):
        u_t, columns = run(state[0][0], x[: t + 1]), []
        for change in 1e-5 * np.eye(H):
            ends = [run(named["weight_hr_l0"] @ (u_t + side * change), x[t + 1 :]) for side in (1, -1)]
            columns.append((ends[0] - ends[1]) / 2e-5)
        np.testing.assert_allclose(flow.rnn[0, t], gain(np.stack(columns, axis=-1)), rtol=1e-7)


def test_flow_starts_at_1_and_is_0_after_it(net, call):
    x, state = call
    D = net.shape.directions
    flow = lk.gradient_flow(net, x, 2, state=state)
    for name, part in zip(flow._fields, flow, strict=True):
        for k in range(L * D):
            steps = own_order(net, k, part[k])
            np.testing.assert_allclose(steps[2], name != "other", rtol=1e-15)
            assert (steps[3:] == 0).all()
            assert (steps[:2] > 0).all()


def test_float32_models_flow_in_float64_and_time_and_rows_are_where_x_has_them(random):
    lstm = lk.LSTM(I, H, 2, bidirectional=True, seed=0)
    rows_first = lk.LSTM.from_config({**lstm.config(), "batch_first": True}, lstm.state_dict())
    double = lk.LSTM.from_config({**lstm.config(), "dtype": "float64"}, lstm.state_dict())
    x = random.standard_normal((T, B, I)).astype("float32")
    expected = lk.gradient_flow(double, x)
    batch_first = lk.gradient_flow(rows_first, x.swapaxes(0, 1))
    alone = lk.gradient_flow(lstm, x[:, 1])
    for whole, swapped, row in zip(expected, batch_first, alone, strict=True):
        assert (whole.shape, whole.dtype, swapped.dtype, row.dtype) == ((4, T, B), *["float64"] * 3)
        np.testing.assert_allclose(swapped, whole.swapaxes(1, 2), rtol=1e-12)
        np.testing.assert_allclose(row, whole[:, :, 1], rtol=1e-12)


def test_why_an_lstm_remembers(random):
    """Forget gates near 1 carry the gradient over 100 steps. The plain RNN's gradient vanishes, or explodes."""
    lstm = lk.LSTM(I, 16, seed=0)
    named = {name: value.copy() for name, value in lstm.state_dict().items()}
    named["bias_ih_l0"][16:32] = 6
    lstm.load_state_dict(named)
    x = random.standard_normal((100, I))
    flow = lk.gradient_flow(lstm, x)
    assert flow.total[0, 0] > 0.1
    assert flow.rnn[0, 0] < 1e-20
    named["weight_hh_l0"] *= 10
    lstm.load_state_dict(named)
    assert lk.gradient_flow(lstm, 0 * x).rnn[0, 0] > 1e6


def test_errors(default_lstm):
    x = np.zeros((4, 5))
    with pytest.raises(ValueError, match=r"at: expected -4\.\.3, a step of x, got 4"):
        lk.gradient_flow(default_lstm, x, 4)
    with pytest.raises(ValueError, match="got -5"):
        lk.gradient_flow(default_lstm, x, -5)
    with pytest.raises(TypeError, match="at: expected an integer, got float"):
        lk.gradient_flow(default_lstm, x, 0.5)
    with pytest.raises(ValueError, match="at: x has no steps"):
        lk.gradient_flow(default_lstm, x[:0])
    with pytest.raises(TypeError, match="lstm: expected an LSTM, got Stack"):
        lk.gradient_flow(lk.Stack([default_lstm]), x)
    with pytest.raises(ValueError, match="x: expected shape"):
        lk.gradient_flow(default_lstm, np.zeros((4, 6)))
    with pytest.raises(TypeError, match="state: expected a pair"):
        lk.gradient_flow(default_lstm, x, state=x)
