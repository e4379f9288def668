"""LSTM.forward and backward: against PyTorch's autograd and differences; and what must give the same bits."""

import numpy as np
import pytest
from helpers import (
    assert_close_answer,
    assert_ctrl_c_is_heard,
    assert_same_answer,
    normal,
    random_state,
    sampled,
    usable,
)
from networks import make

import lstmkernel as lk

#: How far a gradient may be off, relative to the largest gradient of the network.
TOLERANCE = {"float32": 1e-4, "float64": 1e-10}

TRAINED = ("plain", "two layers", "two directions", "projected", "projected, two directions", "without bias")


@pytest.fixture(params=TRAINED)
def network(request):
    """The name of a network."""
    return request.param


@pytest.fixture
def lstm(network, backend, dtype):
    """Each of them, all of 5 inputs and 9 units, on every backend."""
    return make(network, backend, dtype, input_size=5, hidden_size=9)


def loss_gradients(random, results, dtype):
    """Random d_out and d_state for what forward returned."""
    out, (h_n, c_n) = results[:2]
    return normal(random, out.shape, dtype), tuple(normal(random, part.shape, dtype) for part in (h_n, c_n))


def assert_gradients(got, expected, dtype, what=""):
    assert list(got) == list(expected)
    largest = max(np.abs(array).max(initial=0) for array in expected.values())
    for name, array in expected.items():
        assert got[name].dtype == np.dtype(dtype)
        assert got[name].shape == array.shape, f"{what}: {name}"
        error = np.abs(got[name] - array).max(initial=0)
        assert error <= TOLERANCE[dtype] * largest, f"{what}: {name} is {error / largest:.2g} of the largest off"


def assert_same(got, expected, what=""):
    assert list(got) == list(expected)
    for name, array in expected.items():
        assert np.array_equal(got[name], array, equal_nan=True), f"{what}: {name}"


# ---------------------------------------------------------------- correct


def torch_gradients(lstm, x, state, lengths, d_out, d_state):
    """PyTorch's gradients in float64, under our names."""
    torch = pytest.importorskip("torch")
    s = lstm.shape
    twin = torch.nn.LSTM(
        *(s.input_size, s.hidden_size, s.num_layers, s.bias, lstm.batch_first, 0.0, s.bidirectional, s.proj_size),
        dtype=torch.float64,
    )
    twin.load_state_dict({name: torch.tensor(value, dtype=torch.float64) for name, value in lstm.state_dict().items()})
    of, h_0, c_0 = (torch.tensor(array, dtype=torch.float64, requires_grad=True) for array in (x, *state))
    if lengths is None:
        out, (h_n, c_n) = twin(of, (h_0, c_0))
    else:
        rnn, first = torch.nn.utils.rnn, lstm.batch_first
        packed = rnn.pack_padded_sequence(of, torch.tensor(lengths), first, enforce_sorted=False)
        out, (h_n, c_n) = twin(packed, (h_0, c_0))
        out, _ = rnn.pad_packed_sequence(out, first, total_length=x.shape[int(first)])
    seeds = [torch.tensor(array, dtype=torch.float64) for array in (d_out, *d_state)]
    torch.autograd.backward([out, h_n, c_n], seeds)
    found = {name: value.grad for name, value in twin.named_parameters()} | {
        "x": of.grad,
        "h_0": h_0.grad,
        "c_0": c_0.grad,
    }
    return {name: value.numpy() for name, value in found.items()}


def random_case(random, backend):
    """An LSTM of any kind, x, states, lengths or None, and checkpoint_every."""
    I, H, L, T, B = (int(random.integers(1, most)) for most in (12, 40, 4, 12, 20))
    lstm = lk.LSTM(
        *(I, H, L),
        bias=bool(random.integers(4)),
        batch_first=bool(random.integers(2)),
        bidirectional=bool(random.integers(2)),
        proj_size=int(random.integers(0, H)) if H > 1 and random.random() < 0.3 else 0,
        dtype=("float32", "float64")[random.integers(2)],
        backend=backend,
        num_threads=int(random.integers(1, 3)),
        seed=int(random.integers(1000)),
    )
    x = normal(random, (B, T, I) if lstm.batch_first else (T, B, I), lstm.dtype)
    lengths = random.integers(1, T + 1, B) if random.integers(2) else None
    every = int(random.integers(1, T + 3)) if random.random() < 0.4 else None
    return lstm, x, random_state(random, lstm, B), lengths, every


@pytest.mark.parametrize("part", sampled(range(10), 0))
def test_as_autograd_has_it(backend, part):
    random = np.random.default_rng(part)
    for trial in range(50):
        lstm, x, state, lengths, every = random_case(random, backend)
        *results, tape = lstm.forward(x, state, lengths=lengths, checkpoint_every=every)
        d_out, d_state = loss_gradients(random, results, lstm.dtype)
        expected = torch_gradients(lstm, x, state, lengths, d_out, d_state)
        what = f"trial {trial}: {lstm!r}, x {x.shape}, lengths {lengths}, every {every}"
        assert_gradients(lstm.backward(tape, d_out, d_state), expected, lstm.dtype.name, what)


@pytest.mark.slow
@pytest.mark.parametrize("every", [None, 45])
def test_over_two_thousand_steps(backend, dtype, random, every):
    lstm = make("two layers", backend, dtype)
    x, state = normal(random, (2000, 2, 5), dtype), random_state(random, lstm, 2)
    *results, tape = lstm.forward(x, state, checkpoint_every=every)
    d_out, d_state = loss_gradients(random, results, dtype)
    expected = torch_gradients(lstm, x, state, None, d_out, d_state)
    assert_gradients(lstm.backward(tape, d_out, d_state), expected, dtype)


def test_as_central_differences_have_it(backend, network, random):
    """The loss is sum(out * d_out) + sum(h_n * d_h_n) + sum(c_n * d_c_n). Some numbers of each array are tried."""
    lstm = make(network, backend, "float64", input_size=5, hidden_size=9)
    x, state, lengths = normal(random, (6, 3, 5), "float64"), random_state(random, lstm, 3), np.array([6, 0, 4])
    *results, tape = lstm.forward(x, state, lengths=lengths)
    d_out, d_state = loss_gradients(random, results, "float64")
    found = lstm.backward(tape, d_out, d_state)

    def loss(changed):
        named = {name: changed[name] for name in lstm.state_dict()}
        other = lk.LSTM.from_config(lstm.config(), named)
        out, states = other(changed["x"], (changed["h_0"], changed["c_0"]), lengths=lengths)
        return (out * d_out).sum() + sum((a * b).sum() for a, b in zip(states, d_state, strict=True))

    given = {**lstm.state_dict(), "x": x, "h_0": state[0], "c_0": state[1]}
    for name, array in given.items():
        for at in random.integers(0, array.size, 4):
            ends = []
            for step in (1e-5, -1e-5):
                changed = {key: value.copy() for key, value in given.items()}
                changed[name].flat[at] += step
                ends.append(loss(changed))
            assert found[name].flat[at] == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-6, abs=1e-8), name


# ---------------------------------------------------------------- bit-identical


@pytest.mark.parametrize("ragged", [False, True], ids=["full", "lengths"])
def test_forward_is_a_call(lstm, backend, dtype, random, ragged):
    x, state = normal(random, (7, 6, 5), dtype), random_state(random, lstm, 6)
    lengths = [3, 7, 0, 1, 7, 5] if ragged else None
    expected = lstm(x, state, lengths=lengths)
    for every in (None, 1, 3, 100):
        *results, _tape = lstm.forward(x, state, lengths=lengths, checkpoint_every=every)
        if backend == "numpy":  # BLAS sums a chunk's rows in another order than a step's
            assert_close_answer(results, expected, dtype)
        else:
            assert_same_answer(results, expected, f"every {every}")


@pytest.mark.parametrize("ragged", [False, True], ids=["full", "lengths"])
def test_checkpoints_change_no_bit_and_hold_less(lstm, backend, dtype, random, ragged):
    x, state = normal(random, (50, 6, 5), dtype), random_state(random, lstm, 6)
    lengths = [31, 50, 0, 1, 50, 5] if ragged else None
    *results, whole = lstm.forward(x, state, lengths=lengths)
    given = loss_gradients(random, results, dtype)
    expected = lstm.backward(whole, *given)
    for every in (1, 7, 50, 51):
        tape = lstm.forward(x, state, lengths=lengths, checkpoint_every=every)[2]
        found = lstm.backward(tape, *given)
        if backend == "numpy":
            assert_gradients(found, expected, dtype)
        else:
            assert_same(found, expected, f"every {every}")
        assert every < 7 or tape.nbytes < whole.nbytes * 0.8
    assert_same(lstm.backward(whole, *given), expected, "once more")


@pytest.mark.parametrize("backend", [name for name in usable() if name != "numpy"])
@pytest.mark.parametrize(("T", "B", "I", "H"), [(40, 1, 30, 200), (30, 9, 20, 50), (6, 500, 5, 30), (5, 3, 300, 300)])
def test_any_number_of_threads(backend, dtype, random, threads_as_asked, T, B, I, H):
    x, lengths = normal(random, (T, B, I), dtype), random.integers(0, T + 1, B)
    expected = None
    for proj_size in (0, H // 3):
        for threads in (1, 2, 3, 8):
            lstm = lk.LSTM(I, H, proj_size=proj_size, dtype=dtype, backend=backend, num_threads=threads, seed=0)
            out, _, tape = lstm.forward(x, lengths=lengths)
            found = {"out": out, **lstm.backward(tape, np.cos(out), (np.cos(out[0][None]), None))}
            if threads == 1:
                expected = found
            assert_same(found, expected, f"{threads} threads")


def test_one_answer(dtype, network, random):
    """The same bits on every instruction set with fused multiply-add, in C and in Numba."""
    names = [name for name in usable() if name not in ("numpy", "c:generic")]
    x = normal(random, (6, 11, 5), dtype)
    for H in (3, 8, 24, 40):
        answers = []
        for name in names:
            projection = {"proj_size": 2} if "projected" in network else {}
            lstm = make(network, name, dtype, input_size=5, hidden_size=H, **projection)
            out, _, tape = lstm.forward(x)
            d_out = np.cos(np.arange(out.size)).reshape(out.shape).astype(dtype)
            answers.append(lstm.backward(tape, d_out))
        for name, answer in zip(names, answers, strict=True):
            assert_same(answer, answers[0], f"{name}, H={H}")


# ---------------------------------------------------------------- edges


@pytest.mark.parametrize("where", ["d_out", "x"])
def test_nan_stays_in_its_row(lstm, backend, dtype, random, where):
    x = normal(random, (7, 5, 5), dtype)
    clean = lstm.forward(x)
    d_out = normal(random, clean[0].shape, dtype)
    expected = lstm.backward(clean[2], d_out)
    {"d_out": d_out, "x": x}[where][3, 2] = np.nan
    found = lstm.backward(lstm.forward(x)[2], d_out)
    others = [0, 1, 3, 4]
    assert np.isnan(found["x"][:, 2]).any()
    for name in ("x", "h_0", "c_0"):
        if backend == "numpy":
            assert np.allclose(found[name][:, others], expected[name][:, others], atol=1e-6)
        else:
            assert np.array_equal(found[name][:, others], expected[name][:, others]), name


def test_none_is_zeros(lstm, backend, dtype, random):
    *results, tape = lstm.forward(normal(random, (4, 3, 5), dtype))
    d_out, (d_h, d_c) = loss_gradients(random, results, dtype)
    zeros = [np.zeros_like(array) for array in (d_out, d_h, d_c)]
    assert_same(lstm.backward(tape, None, (d_h, d_c)), lstm.backward(tape, zeros[0], (d_h, d_c)))
    assert_same(lstm.backward(tape, d_out), lstm.backward(tape, d_out, (zeros[1], zeros[2])))
    assert_same(lstm.backward(tape, d_out, (None, d_c)), lstm.backward(tape, d_out, (zeros[1], d_c)))
    assert_same(lstm.backward(tape, d_out, (d_h, None)), lstm.backward(tape, d_out, (d_h, zeros[2])))
    assert not any(array.any() for array in lstm.backward(tape, None).values())


@pytest.mark.parametrize(("T", "B"), [(0, 3), (4, 0), (0, 0)])
@pytest.mark.parametrize("every", [None, 2])
def test_nothing_to_do(lstm, backend, dtype, T, B, every):
    """The first states are the last ones, so their gradients are the same."""
    out, (h_n, c_n), tape = lstm.forward(np.zeros((T, B, 5), dtype), checkpoint_every=every)
    found = lstm.backward(tape, out, (h_n + 1, c_n + 2))
    assert (found.pop("h_0") == 1).all()
    assert (found.pop("c_0") == 2).all()
    assert not any(array.any() for array in found.values())


def test_rows_without_steps(lstm, backend, dtype, random):
    out, (h_n, _), tape = lstm.forward(normal(random, (4, 3, 5), dtype), lengths=[0, 4, 0])
    d_out, d_state = normal(random, out.shape, dtype), (np.ones_like(h_n), None)
    found = lstm.backward(tape, d_out, d_state)
    assert not found["x"][:, [0, 2]].any()
    assert (found["h_0"][:, [0, 2]] == 1).all()
    d_out[:, [0, 2]] = np.nan  # past their ends, where it does not count
    assert_same(lstm.backward(tape, d_out, d_state), found)


def test_unbatched(lstm, backend, dtype, random):
    x = normal(random, (6, 5), dtype)
    *results, tape = lstm.forward(x)
    *_, batched = lstm.forward(x[:, None])
    d_out, d_state = loss_gradients(random, results, dtype)
    found = lstm.backward(tape, d_out, d_state)
    expected = lstm.backward(batched, d_out[:, None], tuple(part[:, None] for part in d_state))
    for name in ("x", "h_0", "c_0"):
        expected[name] = expected[name][:, 0]
    assert_same(found, expected)


def test_the_tape_keeps_what_was_then(backend, dtype, random):
    """Between forward and backward, the caller's arrays and the model's weights may change."""
    lstm = make("two layers", backend, dtype)
    x, (h, c) = normal(random, (5, 3, 5), dtype), random_state(random, lstm, 3)
    out, _, tape = lstm.forward(x, (h, c))
    kept = out.copy()
    expected = lstm.backward(tape, kept)
    h[...], c[...], out[...] = 8, 9, 10
    lstm.load_state_dict({name: value + 1 for name, value in lstm.state_dict().items()})
    assert_same(lstm.backward(tape, kept), expected)


@pytest.mark.parametrize("T", [1, 300])
def test_x_is_not_copied_and_must_not_change(backend, dtype, random, T):
    lstm = make("plain", backend, dtype)
    x = normal(random, (T, 3, 5), dtype)
    out, _, tape = lstm.forward(x)
    lstm.backward(tape, out)
    for place in ((0, 0, 0), (T - 1, 2, 4), (T // 2, 1, 3)):
        kept = x[place]
        x[place] = np.nextafter(kept, kept.dtype.type(9))
        with pytest.raises(ValueError, match="x: expected the numbers that forward had"):
            lstm.backward(tape, out)
        x[place] = kept
    kept = x.copy()
    for changed in (kept[:, ::-1], kept[::-1], kept[:, :, ::-1], kept * np.nan):
        x[...] = changed
        if not np.array_equal(x, kept):
            with pytest.raises(ValueError, match="x: expected the numbers that forward had"):
                lstm.backward(tape, out)
    x[...] = kept
    lstm.backward(tape, out)


@pytest.mark.parametrize("shape", [(4, 1, 251), (502, 1, 3), (512, 1, 251), (4, 3, 241), (6, 7, 40)])
def test_what_changes_all_of_x_is_seen(dtype, random, shape):
    """Also where each sum of a fingerprint is one of whole rows, or of an even number of elements."""
    lstm = make("plain", "numpy", dtype, input_size=shape[-1])
    x = normal(random, shape, dtype)
    tape = lstm.forward(x)[2]
    kept = x.copy()
    for changed in (-kept, 2 * kept, kept / 2, np.roll(kept, 1, axis=0), kept[::-1]):
        x[...] = changed
        with pytest.raises(ValueError, match="x: expected the numbers that forward had"):
            lstm.backward(tape, None)


def test_a_step_down_the_gradient_lowers_the_loss(backend, random):
    """Training is for that."""
    lstm = make("two layers", backend, "float64")
    x, wanted = normal(random, (9, 4, 5), "float64"), normal(random, (9, 4, 9), "float64")

    def loss():
        return ((lstm(x)[0] - wanted) ** 2).mean()

    before = loss()
    for _ in range(5):
        out, _, tape = lstm.forward(x)
        found = lstm.backward(tape, 2 * (out - wanted) / out.size)
        lstm.load_state_dict({name: value - found[name] for name, value in lstm.state_dict().items()})
    assert loss() < before


def test_what_a_tape_holds(backend, dtype):
    """5 H + R numbers of each layer for each step of a row; and h and c before the first step."""
    T, B, I, H = 30, 4, 5, 37
    tape = make("two layers", backend, dtype, input_size=I, hidden_size=H).forward(np.zeros((T, B, I), dtype))[2]
    numbers = T * B * 2 * 6 * H + 2 * B * 2 * H
    assert tape.nbytes == numbers * np.dtype(dtype).itemsize


# ---------------------------------------------------------------- refused


def test_refused(random):
    lstm = make("plain", "numpy")
    out, (h_n, c_n), tape = lstm.forward(np.zeros((4, 3, 5), "float32"))
    with pytest.raises(ValueError, match=r"d_out: expected shape of out = \(4, 3, 9\), got \(4, 3, 8\)"):
        lstm.backward(tape, out[..., :8])
    with pytest.raises(ValueError, match=r"d_h_n: expected shape \(L\*D, B, R\) = \(1, 3, 9\), got \(1, 2, 9\)"):
        lstm.backward(tape, out, (h_n[:, :2], c_n))
    with pytest.raises(TypeError, match=r"d_state: expected a pair \(d_h_n, d_c_n\), got 1 of them"):
        lstm.backward(tape, out, (h_n,))
    with pytest.raises(TypeError, match="tape: expected what forward returned, got str"):
        lstm.backward("tape", out)
    with pytest.raises(ValueError, match="tape: expected one of LSTM"):
        make("plain", "numpy", hidden_size=8).backward(tape, out)
    with pytest.raises((TypeError, ValueError), match="checkpoint_every: expected"):
        lstm.forward(np.zeros((4, 3, 5), "float32"), checkpoint_every=0)


INTERRUPTED = """
import sys
import numpy as np
import lstmkernel as lk

lstm = lk.LSTM(512, 1024, backend=sys.argv[1], seed=0)
out, _, tape = lstm.forward(np.ones((8, 4, 512), "float32"))
before = lstm.backward(tape, out)
T = {"c:generic": 100, "numpy": 300}.get(sys.argv[1], 600)  # so that one backward takes longer than the test waits
long = lstm.forward(np.ones((T, 64, 512), "float32"), checkpoint_every=T // 7)[2]
print("ready", flush=True)
try:
    while True:
        lstm.backward(long, np.ones((T, 64, 1024), "float32"))
except KeyboardInterrupt:
    pass
after = lstm.backward(tape, out)
assert all(np.array_equal(before[name], after[name]) for name in before)
print("as before", flush=True)
"""


@pytest.mark.slow
def test_ctrl_c_is_heard(backend):
    assert_ctrl_c_is_heard(INTERRUPTED, backend)
