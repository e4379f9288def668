"""Against PyTorch, over thousands of seeded random configurations.

PyTorch runs in float64 on the same parameters and inputs, which float32 can hold: the reference for both dtypes.
"""

import warnings

import numpy as np
import pytest
from helpers import assert_close, assert_close_answer, normal, random_state, sampled, torch_twin

import lstmkernel as lk
from lstmkernel import backends
from lstmkernel.backends.contract import DENSE_ACTIVATIONS

torch = pytest.importorskip("torch")

#: Configurations in one test.
IN_ONE = 100
#: How many such tests: on the default backend, and on each backend.
DEFAULT_PARTS, PARTS = 15, 2


def width(random, most):
    """1..most, small ones more often."""
    return int(random.integers(1, random.choice([9, 34, 70, most], p=[0.5, 0.36, 0.11, 0.03]) + 1))


def random_network(random):
    """The arguments of an LSTM."""
    H = width(random, 260)
    L = int(random.choice([1, 2, 3, 5, 8], p=[0.5, 0.25, 0.15, 0.06, 0.04])) if H < 70 else 1
    return {
        "input_size": width(random, 130),
        "hidden_size": H,
        "num_layers": L,
        "bias": random.random() < 0.8,
        "batch_first": random.random() < 0.3,
        "bidirectional": random.random() < 0.4,
        "proj_size": int(random.integers(1, H)) if H > 1 and random.random() < 0.3 else 0,
        "seed": int(random.integers(2**32)),
    }


def random_call(random, lstm):
    """x, state and lengths for a call."""
    T, B = int(random.integers(1, 13)), int(random.integers(1, 10))
    I, dtype = lstm.input_size, lstm.dtype.name
    batched = random.random() < 0.85
    x = normal(random, ((B, T) if lstm.batch_first else (T, B)) + (I,) if batched else (T, I), dtype)
    state = random_state(random, lstm, B if batched else None) if random.random() < 0.5 else None
    lengths = random.integers(1, T + 1, B) if batched and random.random() < 0.4 else None
    return x, state, lengths


def by_torch(twin, x, state, lengths):
    """PyTorch's answer: a packed sequence where rows have lengths."""

    def double(array):
        return torch.tensor(array, dtype=torch.float64)

    state = None if state is None else tuple(map(double, state))
    if lengths is None:
        out, (h, c) = twin(double(x), state)
        return out.numpy(), (h.numpy(), c.numpy())
    packed = torch.nn.utils.rnn.pack_padded_sequence(
        double(x), torch.tensor(lengths), batch_first=twin.batch_first, enforce_sorted=False
    )
    out, (h, c) = twin(packed, state)
    T = x.shape[1 if twin.batch_first else 0]
    out, _ = torch.nn.utils.rnn.pad_packed_sequence(out, batch_first=twin.batch_first, total_length=T)
    return out.numpy(), (h.numpy(), c.numpy())


def compare_many(seed, dtype, backend):
    random = np.random.default_rng(seed)
    for _ in range(IN_ONE):
        options = random_network(random)
        lstm = lk.LSTM(**options, dtype=dtype, backend=backend)
        x, state, lengths = random_call(random, lstm)
        expected = by_torch(torch_twin(lstm), x, state, lengths)
        what = f"LSTM({options}) on x {x.shape}, state {state is not None}, lengths {lengths}:"
        assert_close_answer(lstm(x, state, lengths=lengths), expected, dtype, what)


@pytest.mark.parametrize("part", sampled(range(DEFAULT_PARTS), 0, 1))
def test_lstm_on_the_default_backend(part, dtype):
    compare_many(1000 + part, dtype, "auto")


@pytest.mark.parametrize("part", sampled(range(PARTS), 0))
def test_lstm_on_each_backend(part, dtype, backend):
    compare_many([2000 + part, backends.NAMES.index(backend)], dtype, backend)


@pytest.mark.parametrize("H", sampled(range(1, 261), *range(1, 41)))
def test_every_vector_tail(H):
    random = np.random.default_rng(H)
    for dtype in ("float32", "float64"):
        lstm = lk.LSTM(
            H % 11 + 1, H, bidirectional=H % 2 == 0, proj_size=H // 3 if H % 3 == 0 else 0, dtype=dtype, seed=H
        )
        x = normal(random, (3, H % 4 + 1, lstm.input_size), dtype)
        assert_close_answer(lstm(x), by_torch(torch_twin(lstm), x, None, None), dtype)


def test_the_configurations_cover_what_there_is():
    """Random configurations prove something only if they meet every case."""
    random = np.random.default_rng(1000)
    drawn = [random_network(random) for _ in range(2000)]
    assert {options["hidden_size"] % 16 for options in drawn} == set(range(16))
    assert {options["num_layers"] for options in drawn} == {1, 2, 3, 5, 8}
    for option in ("bias", "batch_first", "bidirectional"):
        assert {options[option] for options in drawn} == {True, False}
    assert any(options["proj_size"] for options in drawn)
    assert max(options["hidden_size"] for options in drawn) > 200
    assert sum(options["input_size"] != options["hidden_size"] for options in drawn) > 1000


# ---------------------------------------------------------------- the other layers


@pytest.mark.parametrize("bias", [True, False])
def test_cell(backend, dtype, random, bias):
    for _ in range(40):
        I, H, B = width(random, 130), width(random, 130), int(random.integers(1, 10))
        cell = lk.LSTMCell(I, H, bias=bias, dtype=dtype, backend=backend, seed=int(random.integers(100)))
        twin = torch.nn.LSTMCell(I, H, bias=bias, dtype=torch.float64).requires_grad_(False)
        twin.load_state_dict({name: torch.tensor(value) for name, value in cell.state_dict().items()})
        rows = (B,) if random.random() < 0.7 else ()
        x = normal(random, (*rows, I), dtype)
        state = (normal(random, (*rows, H), dtype), normal(random, (*rows, H), dtype))
        if random.random() < 0.3:
            state = None
        twin_state = None if state is None else [torch.tensor(part, dtype=torch.float64) for part in state]
        h, c = twin(torch.tensor(x, dtype=torch.float64), twin_state)
        got_h, got_c = cell(x, state)
        assert_close(got_h, h.numpy(), dtype, "h")
        assert_close(got_c, c.numpy(), dtype, "c")


TORCH_ACTIVATIONS = {
    "linear": torch.nn.Identity(),
    "tanh": torch.nn.Tanh(),
    "sigmoid": torch.nn.Sigmoid(),
    "relu": torch.nn.ReLU(),
    "softmax": torch.nn.Softmax(dim=-1),
}


def dense_twin(dense):
    twin = torch.nn.Linear(dense.in_features, dense.out_features, dense.bias, dtype=torch.float64)
    twin.load_state_dict({name: torch.tensor(value) for name, value in dense.state_dict().items()})
    return torch.nn.Sequential(twin, TORCH_ACTIVATIONS[dense.activation]).requires_grad_(False)


@pytest.mark.parametrize("activation", DENSE_ACTIVATIONS)
@pytest.mark.parametrize("bias", [True, False])
def test_dense(backend, dtype, random, activation, bias):
    for shape in [(), (1,), (13,), (3, 4), (2, 3, 5), (0,), (3, 0)]:
        K, O = width(random, 260), width(random, 260)
        dense = lk.Dense(K, O, activation, bias=bias, dtype=dtype, backend=backend, seed=int(random.integers(100)))
        x = normal(random, (*shape, K), dtype)
        expected = dense_twin(dense)(torch.tensor(x, dtype=torch.float64)).numpy()
        assert_close(dense(x), expected, dtype, f"y of {shape}")


def test_softmax_at_the_edges(backend, dtype):
    """Rows for which exp(x) / sum(exp(x)) overflows, and NaN where PyTorch has NaN; without warnings."""
    inf, nan = np.inf, np.nan
    largest = np.finfo(dtype).max
    rows = [
        [1e4, 1e4 - 1, -1e4],
        [-1e4, -1e4 - 1, -1e4 - 2],
        [largest, -largest, 0],
        [0, -inf, 1],
        [inf, 0, 1],
        [-inf, -inf, -inf],
        [nan, 0, 1],
        [0, -89, -95],  # the last one is subnormal in float32
    ]
    dense = lk.Dense(1, 3, "softmax", dtype=dtype, backend=backend)
    x = np.zeros((1, 1))
    for row in rows:
        dense.load_state_dict({"weight": np.zeros((3, 1)), "bias": np.array(row, dtype)})
        expected = torch.softmax(torch.tensor(row, dtype=torch.float64), 0).numpy()
        with warnings.catch_warnings(), np.errstate(all="raise"):
            warnings.simplefilter("error")
            got = dense(x)[0]
        assert np.array_equal(np.isnan(got), np.isnan(expected)), row
        assert_close(np.nan_to_num(got), np.nan_to_num(expected), dtype, f"softmax of {row}")


@pytest.mark.parametrize("batch_first", [False, True])
def test_stack(backend, dtype, random, batch_first):
    """LSTMs of different sizes and directions, a Dense between them and a head on top."""
    options = {"dtype": dtype, "backend": backend, "seed": 3}
    layers = [
        lk.LSTM(4, 9, 2, bidirectional=True, batch_first=batch_first, **options),
        lk.Dense(18, 7, "relu", **options),
        lk.LSTM(7, 12, proj_size=5, batch_first=batch_first, **options),
        lk.LSTM(5, 3, bias=False, batch_first=batch_first, **options),
        lk.Dense(3, 5, "softmax", **options),
    ]
    x = normal(random, (6, 3, 4), dtype)
    given = [random_state(random, layers[i], 6 if batch_first else 3) for i in (0, 2, 3)]
    for states in (None, given, [None, *given[1:]]):
        out, last = lk.Stack(layers)(x, states)
        expected, expected_last = compose(layers, x, states or [None] * 3)
        assert_close(out, expected, dtype, "out")
        for got, wanted in zip(last, expected_last, strict=True):
            assert_close(got[0], wanted[0], dtype, "h_n")
            assert_close(got[1], wanted[1], dtype, "c_n")


def compose(layers, x, states):
    """The same stack by hand, in PyTorch."""
    out, given, last = x, iter(states), []
    for layer in layers:
        if isinstance(layer, lk.LSTM):
            out, state = by_torch(torch_twin(layer), out, next(given), None)
            last.append(state)
        else:
            out = dense_twin(layer)(torch.tensor(out, dtype=torch.float64)).numpy()
    return out, last
