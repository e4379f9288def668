"""lk.trace: h and c are the model's own, and the gates are those that made them."""

import numpy as np
import pytest
from helpers import assert_close, normal, random_state, same_or_close, torch_twin
from networks import each, make

import lstmkernel as lk

T, B = 7, 4


def call(random, lstm, batched=True):
    """x and state."""
    steps = ((B, T) if lstm.batch_first else (T, B)) if batched else (T,)
    x = normal(random, (*steps, lstm.input_size), lstm.dtype)
    return x, random_state(random, lstm, B if batched else None)


def test_h_and_c_are_those_of_the_model(lstm, random):
    x, state = call(random, lstm)
    out, (h_n, c_n) = lstm(x, state)
    trace = lk.trace(lstm, x, state)
    D = lstm.shape.directions
    last = [0 if k % D else T - 1 for k in range(lstm.num_layers * D)]
    ends = [np.stack([part[k, t] for k, t in enumerate(last)]) for part in (trace.h, trace.c)]
    answer = zip((np.concatenate(trace.h[-D:], axis=-1), *ends), (out, h_n, c_n), strict=True)
    for got, expected in answer:
        same_or_close(got, expected, lstm)


def test_gates_of_every_layer_are_those_of_the_formulas(lstm, random):
    """The definition, written out once more: every layer and direction from the layer below, step by step."""
    x, state = call(random, lstm)
    trace = lk.trace(lstm, x, state)
    assert all(part.dtype == lstm.dtype for part in trace)
    named = {name: value.astype(float) for name, value in lstm.state_dict().items()}
    H, D = lstm.hidden_size, lstm.shape.directions
    below = x.astype(float)
    for layer in range(lstm.num_layers):
        above = []
        for direction in range(D):
            k, end = D * layer + direction, lstm.shape.suffix(layer, direction)
            h, c = (part[k].astype(float) for part in state)
            found = {name: np.empty((T, B, len(h.T) if name == "h" else H)) for name in trace._fields}
            for t in reversed(range(T)) if direction else range(T):
                z = below[t] @ named[f"weight_ih{end}"].T + named[f"bias_ih{end}"]
                z += h @ named[f"weight_hh{end}"].T + named[f"bias_hh{end}"]
                i, f, o = (1 / (1 + np.exp(-z[:, gate * H : (gate + 1) * H])) for gate in (0, 1, 3))
                g = np.tanh(z[:, 2 * H : 3 * H])
                c = f * c + i * g
                h = o * np.tanh(c) @ named.get(f"weight_hr{end}", np.eye(H)).T
                for name, value in zip(trace._fields, (i, f, g, o, c, h), strict=True):
                    found[name][t] = value
            for name, got in zip(trace._fields, trace, strict=True):
                assert_close(got[k], found[name], lstm.dtype.name, f"{name}[{k}]")
            above.append(found["h"])
        below = np.concatenate(above, axis=-1)


@each("two layers", "two directions", "projected", "without bias", "two blocks and a tail")
def test_states_are_those_of_pytorch_run_a_prefix_at_a_time(network, random):
    lstm = make(network, dtype="float64")
    torch = pytest.importorskip("torch")
    twin, x = torch_twin(lstm), random.standard_normal((T, B, lstm.input_size))
    trace = lk.trace(lstm, x)
    D = lstm.shape.directions
    for t in range(T):
        _, states = twin(torch.tensor(x[: t + 1]))
        for got, expected in zip((trace.h, trace.c), states, strict=True):
            assert_close(got[0, t], expected[0].numpy(), "float64")  # layer 0 forward needs no future
            if D == 1:
                assert_close(got[1, t], expected[1].numpy(), "float64")
    out, _ = twin(torch.tensor(x))
    assert_close(np.concatenate(trace.h[-D:], axis=-1), out.numpy(), "float64")


@each("two layers", "two directions")
def test_time_and_rows_are_where_x_has_them(network, random):
    lstm = make(network)
    rows_first = lk.LSTM.from_config({**lstm.config(), "batch_first": True}, lstm.state_dict())
    x, state = call(random, lstm)
    expected = lk.trace(lstm, x, state)
    batch_first = lk.trace(rows_first, x.swapaxes(0, 1), state)
    alone = lk.trace(lstm, x[:, 1], tuple(part[:, 1] for part in state))
    for whole, swapped, row in zip(expected, batch_first, alone, strict=True):
        assert whole.shape == (2 * lstm.shape.directions, T, B, 9)
        np.testing.assert_array_equal(swapped, whole.swapaxes(1, 2))
        np.testing.assert_allclose(row, whole[:, :, 1], rtol=1e-6)


@pytest.mark.parametrize(("steps", "rows"), [(0, 3), (3, 0)])
def test_nothing_has_an_empty_trace(steps, rows):
    trace = lk.trace(lk.LSTM(3, 5, 2, bidirectional=True, seed=0), np.zeros((steps, rows, 3)))
    assert all(part.shape == (4, steps, rows, 5) for part in trace)


def test_errors_are_those_of_the_model(default_lstm):
    with pytest.raises(TypeError, match="lstm: expected an LSTM, got Dense"):
        lk.trace(lk.Dense(3, 4), np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"x: expected shape \(T, B, I\) or \(T, I\) with I = 5, got \(2, 3\)"):
        lk.trace(default_lstm, np.zeros((2, 3)))
    with pytest.raises(ValueError, match="h_0: expected shape"):
        lk.trace(default_lstm, np.zeros((2, 5)), (np.zeros((1, 9)), np.zeros((2, 9))))


def test_a_variant_is_refused():
    peepholes = lk.LSTM(3, 4, variant=lk.Variant(peephole=True), seed=0)
    with pytest.raises(ValueError, match=r"variant: expected a plain LSTM that runs forwards, to trace, got"):
        lk.trace(peepholes, np.zeros((2, 3)))
    with pytest.raises(ValueError, match="reverse: expected a plain LSTM"):
        lk.gradient_flow(lk.LSTM(3, 4, reverse=True, seed=0), np.zeros((2, 3)))


def test_a_learned_state_is_where_it_begins(random):
    lstm = lk.LSTM(3, 4, num_layers=2, initial_state=True, dtype="float64", seed=0)
    x = random.standard_normal((5, 3))
    assert_close(lk.trace(lstm, x).h[-1], lstm(x)[0], "float64")
