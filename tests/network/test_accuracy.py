"""The promise of accuracy: of one step from the same state, by a bound; of a sequence, beside PyTorch's own error.

A network may magnify rounding from step to step, so no bound holds for every sequence. Large weights make such ones.
"""

import numpy as np
import pytest
from helpers import TOLERANCE, definition, normal

import lstmkernel as lk

#: A gate's sum whose terms are this large in all still keeps a step within the tolerance; beyond, it grows with them.
LARGE = 30
#: Over a sequence, the root-mean-square error is at most this many times PyTorch's.
MULTIPLE = 10


def scaled(lstm, scale):
    """With all weights times ``scale``."""
    return lk.LSTM.from_config(lstm.config(), {name: scale * value for name, value in lstm.state_dict().items()})


# ---------------------------------------------------------------- one step


def exact_step(named, x, h, c):
    """One step of one layer in the wide type of its arguments: h, c, and the largest sum of |terms| of each row."""
    bias = named["bias_ih_l0"] + named["bias_hh_l0"]
    z = x @ named["weight_ih_l0"].T + h @ named["weight_hh_l0"].T + bias
    terms = abs(x) @ abs(named["weight_ih_l0"]).T + abs(h) @ abs(named["weight_hh_l0"]).T
    terms += abs(named["bias_ih_l0"]) + abs(named["bias_hh_l0"])
    i, f, g, o = np.split(z, 4, axis=-1)
    with np.errstate(over="ignore"):
        i, f, o = (1 / (1 + np.exp(-gate)) for gate in (i, f, o))
    c = f * c + i * np.tanh(g)
    return o * np.tanh(c), c, terms.max(axis=-1, keepdims=True)


def assert_one_step(lstm, x, h, c, what):
    """Both promises, for rows x (B, I), h (B, H), c (B, H)."""
    wide = np.float64 if lstm.dtype == np.float32 else np.longdouble
    named = {name: value.astype(wide) for name, value in lstm.state_dict().items()}
    right_h, right_c, terms = exact_step(named, *(array.astype(wide) for array in (x, h, c)))
    _, (got_h, got_c) = lstm(x[None], (h[None], c[None]))
    unit = np.finfo(lstm.dtype).eps / 2
    bound = 2 * (1 + abs(c)) * ((lstm.input_size + lstm.hidden_size + 2) * terms + 10) * unit
    for name, got, right in (("h", got_h[0], right_h), ("c", got_c[0], right_c)):
        error = abs(got - right)
        assert (error <= bound).all(), f"{what}: {name} is {(error / bound).max():.3g} times the bound off"
        allowed = TOLERANCE[lstm.dtype.name] * (1 + abs(right)) * np.maximum(1, terms / LARGE)
        assert (error <= allowed).all(), f"{what}: {name} is {(error / allowed).max():.3g} times what is allowed off"


@pytest.fixture
def _wider(dtype):
    if dtype == "float64" and np.finfo(np.longdouble).nmant <= 52:
        pytest.skip("no format wider than float64 here")


@pytest.mark.usefixtures("_wider")
def test_one_step_from_the_same_state(backend, dtype, random):
    """Weights from small ones to those of chaos; sums without and with cancellation; small and large states."""
    for _ in range(60):
        I, H, scale = int(random.integers(1, 40)), int(random.integers(1, 70)), float(random.choice([0.5, 2, 6, 20]))
        lstm = scaled(lk.LSTM(I, H, dtype=dtype, backend=backend, seed=int(random.integers(99))), scale)
        x, h, c = (normal(random, (8, width), dtype) for width in (I, H, H))
        x, c = (part * part.dtype.type(random.choice(sizes)) for part, sizes in ((x, [1e-4, 1, 9]), (c, [0, 1, 30])))
        assert_one_step(lstm, x, np.tanh(h), c, f"{I}, {H}, {scale}")


@pytest.mark.usefixtures("_wider")
def test_one_step_of_sums_that_cancel(backend, dtype, random):
    """Half of each sum is as large as may be, the other half takes it back: tanh and sigmoid are steepest near 0."""
    for n in (4, 33, 130):
        lstm = lk.LSTM(2 * n, 5, dtype=dtype, backend=backend, seed=1)
        w = abs(normal(random, (20, n), dtype)) * np.array(LARGE / n / 2, dtype)
        named = lstm.state_dict()
        lstm.load_state_dict({**named, "weight_ih_l0": np.concatenate([w, w[:, ::-1]], axis=1)})
        x = np.concatenate([np.ones((8, n)), -np.ones((8, n)) + 1e-3 * random.standard_normal((8, n))], axis=1)
        assert_one_step(lstm, x.astype(dtype), np.zeros((8, 5), dtype), normal(random, (8, 5), dtype), f"{n}")


# ---------------------------------------------------------------- a sequence


def pytorchs(lstm, x):
    """PyTorch's own float32 answer."""
    torch = pytest.importorskip("torch")
    s = lstm.shape
    twin = torch.nn.LSTM(
        s.input_size, s.hidden_size, s.num_layers, bidirectional=s.bidirectional, proj_size=s.proj_size
    )
    twin.load_state_dict({name: torch.tensor(value) for name, value in lstm.state_dict().items()})
    with torch.no_grad():
        return twin(torch.tensor(x))[0].numpy()


def relative_errors(got, right):
    return abs(got - right) / (1 + abs(right))


def assert_beside_pytorch(lstm, x, what):
    """Within the tolerance at every element, or not much further away than PyTorch. Says whether it had to be that."""
    right = definition(lstm)(x)[0]
    ours = relative_errors(lstm(x)[0], right)
    if ours.max() <= TOLERANCE["float32"]:
        return False
    theirs = relative_errors(pytorchs(lstm, x), right)
    ours, theirs = (float(np.sqrt((errors**2).mean())) for errors in (ours, theirs))
    assert ours <= MULTIPLE * theirs, f"{what}: the error is {ours / theirs:.3g} times PyTorch's"
    return True


#: Random networks whose weights are so many times as large as usual: from some size on, they magnify rounding.
SCALED = {
    "plain": ({"input_size": 1, "hidden_size": 40}, 6),
    "usual": ({"input_size": 1, "hidden_size": 40}, 1),
    "two layers": ({"input_size": 3, "hidden_size": 24, "num_layers": 2}, 9),
    "two directions": ({"input_size": 1, "hidden_size": 40, "bidirectional": True}, 6),
    "projected": ({"input_size": 3, "hidden_size": 48, "proj_size": 24}, 8),
}


def sounds(random, T, B, I):
    """Silence is not among them: rows of it are all the same, and one row is off by chance."""
    noise = normal(random, (T, B, I), "float32")
    return {"noise": noise, "quiet": noise * np.float32(1e-4)}


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("network", SCALED)
def test_a_sequence_is_as_close_as_pytorch(backend, random, network):
    options, scale = SCALED[network]
    magnified = False
    for seed in (3, 4):
        lstm = scaled(lk.LSTM(**options, backend=backend, seed=seed), scale)
        for name, x in sounds(random, 120, 24, lstm.input_size).items():
            magnified |= assert_beside_pytorch(lstm, x, f"seed {seed}, {name}")
    assert magnified == (network != "usual"), "the test needs networks that magnify rounding"


def real_networks(data, backend):
    """Trained ones, and the input that they were made for."""
    silero = lk.load(data / "silero" / "silero_vad_16k.safetensors", prefix="lstm_cell", backend=backend)
    yield (
        "silero",
        lk.from_torch(silero.state_dict(), backend=backend),
        np.load(data / "silero" / "speech_features.npy"),
    )
    guitar = data / "rtneural"
    x = np.loadtxt(guitar / "lstm_torch_x_python.csv", delimiter=",", ndmin=2, dtype="float32").reshape(-1, 1)
    yield "rtneural", lk.load(guitar / "lstm_torch.json", prefix="lstm", backend=backend), x


def test_trained_networks(data, backend, random):
    for name, lstm, x in real_networks(data, backend):
        own = x[:600, None].astype("float32")
        for kind, given in {"its own": own, "silence": 0 * own, **sounds(random, 200, 8, lstm.input_size)}.items():
            assert_beside_pytorch(lstm, given, f"{name} on {kind}")
            rows = given.reshape(-1, given.shape[-1])[:400]
            h = np.tanh(normal(random, (len(rows), lstm.hidden_size), "float32"))
            assert_one_step(lstm, rows, h, normal(random, h.shape, "float32"), f"{name} on {kind}")
