"""8-bit weights. NumPy defines the sums, exactly; all backends have the bits of that definition, by equality.

The definition's own cell is NumPy's, whose sigmoid and tanh have other bits. So it gets a cell whose fma rounds once.
"""

import copy
import pickle

import numpy as np
import pytest
from helpers import assert_same_answer, assert_same_bits, normal, random_state, usable
from networks import NETWORKS, each, make, with_head, without

import lstmkernel as lk
from lstmkernel import backends
from lstmkernel.backends import ONE_ANSWER
from lstmkernel.backends.numpy import definition, int8
from lstmkernel.backends.packing import pack_gates
from lstmkernel.engine import precision

KERNELS = [name for name in usable() if name != "numpy" and backends.get(name).pack_int8_layer]
ACTIVATIONS = tuple(precision.LEVELS)
PLAIN = without("variant", NETWORKS)

pytestmark = pytest.mark.skipif(not KERNELS, reason="no compiled backend has kernels for 8-bit weights")


@pytest.fixture(params=KERNELS)
def kernels(request):
    return request.param


@pytest.fixture
def definition_of(monkeypatch):
    """NumPy's network with the numbers of another one, and with a cell that has the bits of all kernels."""
    cell = usable(ONE_ANSWER)[0]
    own = backends.get(cell)

    def cell_update(z, c, h):
        (packed,) = lk.LSTM(1, c.shape[1], backend=cell, seed=0).engine.weights.layers[0]
        h_t = np.empty(c.shape, "float32")
        c_t = np.ascontiguousarray(c)
        own.cell_update(pack_gates(z.reshape(len(c), 4, -1), packed), c_t, h_t)
        c[...], h[...] = c_t, h_t

    monkeypatch.setattr(definition, "cell_update", cell_update)

    def of(lstm):
        return lk.LSTM.from_config({**lstm.config(), "backend": "numpy"}, lstm.stored())

    return of


def steps(random, lstm, T, B, scale=1.0):
    x = scale * normal(random, (T, B, lstm.input_size), "float32")
    return x.swapaxes(0, 1) if lstm.batch_first else x


# ---------------------------------------------------------------- the same bits


@each(*PLAIN)
@pytest.mark.parametrize("activations", ACTIVATIONS)
def test_the_bits_of_the_definition(kernels, definition_of, random, network, activations):
    quantized = make(network, kernels).quantize("int8", activations)
    expected = definition_of(quantized)
    for B in (1, 3, 45):
        x = steps(random, quantized, 5, B, 3.0)
        assert_same_answer(quantized(x), expected(x), f"B={B}")
        state, lengths = random_state(random, quantized, B), random.integers(0, 6, B)
        assert_same_answer(quantized(x, state, lengths=lengths), expected(x, state, lengths=lengths), "lengths")
        mask = random.random(x.shape[:2]) < 0.6
        if not (quantized.bidirectional and quantized.initial_state):
            assert_same_answer(quantized(x, reset=mask), expected(x, reset=mask), "reset")


@pytest.mark.parametrize("activations", ACTIVATIONS)
@pytest.mark.parametrize(
    ("I", "H", "P", "B"),
    [(1, 1, 0, 1), (4, 16, 0, 2), (700, 530, 0, 8), (513, 33, 0, 1), (80, 520, 300, 3), (9, 70, 0, 97)],
)
def test_tails_and_parts_of_sums(kernels, definition_of, random, I, H, P, B, activations):
    quantized = lk.LSTM(I, H, proj_size=P, backend=kernels, seed=1).quantize("int8", activations)
    x = steps(random, quantized, 2, B, 3.0)
    assert_same_answer(quantized(x), definition_of(quantized)(x))


@pytest.mark.parametrize("activations", ACTIVATIONS)
@pytest.mark.parametrize("K", [512, 513, 4096])
def test_the_largest_sums(kernels, definition_of, K, activations):
    """Every weight and every activation as large as can be, and of one sign: no sum of 32 bits overflows."""
    lstm = lk.LSTM(K, 3, bias=False, backend=kernels, seed=0).quantize("int8", activations)
    stored = dict(lstm.stored())
    signs = np.where(np.arange(12) % 2, 1, -1).astype(np.int8)
    stored["weight_ih_l0"] = np.repeat(127 * signs[:, None], K, axis=1)
    stored["weight_ih_l0_scale"] = np.full(12, 1 / (127 * K), "float32")
    largest = lk.LSTM.from_config(lstm.config(), stored)
    for sign in (1, -1):
        x = np.full((1, 2, K), 5 * sign, "float32")
        out, _ = largest(x)
        assert_same_bits(out, definition_of(largest)(x)[0])
        assert np.allclose(out, sign * lk.LSTM.from_config(*as_float32(largest))(x)[0] * sign, atol=1e-4)


def as_float32(lstm):
    """Config and parameters of a float32 network with the numbers of a quantized one."""
    config = {name: value for name, value in lstm.config().items() if name not in ("precision", "activations")}
    return config, lstm.state_dict()


def test_the_same_bits_from_all(random):
    for network in ("two directions with a tail", "whole blocks, projected"):
        for activations in ACTIVATIONS:
            quantized = [make(network, name).quantize("int8", activations) for name in KERNELS]
            x = steps(random, quantized[0], 9, 4)
            for other in quantized[1:]:
                assert_same_answer(other(x), quantized[0](x), other.backend)


@pytest.mark.parametrize(
    "more", [{}, {"bidirectional": True}, {"proj_size": 30}], ids=["one way", "two ways", "projected"]
)
@pytest.mark.parametrize("B", [1, 5, 40])
def test_on_threads(kernels, random, threads_as_asked, more, B):
    one = lk.LSTM(70, 150, 2, backend=kernels, num_threads=1, seed=3, **more).quantize("int8")
    x = normal(random, (12, B, 70), "float32")
    for threads in (2, 5):
        several = lk.LSTM.from_config({**one.config(), "num_threads": threads}, one.stored())
        assert_same_answer(several(x), one(x), f"{threads} threads")


@pytest.mark.parametrize("activations", ACTIVATIONS)
@each("plain", "projected to a few", "wide", "learned state")
def test_rows_alone_chunks_and_streams(kernels, random, network, activations):
    lstm = make(network, kernels).quantize("int8", activations)
    x = steps(random, lstm, 9, 3)
    out, (h_n, c_n) = lstm(x)
    for b in range(3):
        assert_same_bits(lstm(x[:, b : b + 1])[0], out[:, b : b + 1], "a row alone")
    first, state = lstm(x[:4])
    second, last = lstm(x[4:], state)
    assert_same_bits(np.concatenate([first, second]), out, "chunks")
    assert_same_bits(last[0], h_n)
    stream, pool, window = lstm.stream(3), lstm.pool(4), lstm.window(9, 3)
    ids = pool.open(3)
    for t in range(9):
        assert_same_bits(stream.step(x[t]), out[t], "stream")
        assert_same_bits(pool.step(ids, x[t]), out[t], "pool")
        answer = window.step(x[t])
    assert_same_bits(answer, out[-1], "window")
    assert_same_bits(stream.state[1], c_n)
    flat = np.concatenate([x[:, 0], x[:4, 1]])
    ragged, _ = lstm.ragged(flat, [0, 9, 13])
    assert_same_bits(ragged, np.concatenate([out[:, 0], out[:4, 1]]), "ragged")


def test_compiled(random, monkeypatch):
    monkeypatch.setattr("lstmkernel.plan.SECONDS", 0.02)
    lstm = make("plain").quantize("int8")
    fast, x = lstm.compile(2, 5), steps(random, lstm, 5, 2)
    assert_same_answer(fast(x), lstm(x))
    assert fast.precision == "int8"
    assert all(each.same_bits for each in fast.plan.contenders if each.seconds is not None), str(fast.plan)


# ---------------------------------------------------------------- the definition


@pytest.mark.parametrize("levels", precision.LEVELS.values())
@pytest.mark.parametrize("bounded", [False, True])
def test_activations(random, levels, bounded):
    x = np.concatenate([normal(random, (4, 50), "float32"), np.zeros((1, 50), "float32")]) * np.float32(0.2)
    x[1] *= 1e6
    x[2] *= 1e-25
    values, amplitude = int8.quantize_rows(x, levels, bounded)
    largest = np.abs(x).max(axis=1)
    assert_same_bits(amplitude, np.where((largest < 1) & bounded, np.float32(1), largest))
    assert (np.abs(values) <= levels).all()
    assert (values == np.rint(values)).all()
    error = np.abs(values * (amplitude / levels)[:, None] - x)
    assert (error <= 0.5001 * (amplitude / levels)[:, None]).all()
    if not bounded:
        assert (np.abs(values).max(axis=1) == [levels] * 4 + [0]).all()


def test_amplitudes_of_odd_rows():
    x = np.array([[2.0**-101, 0], [1 + 2.0**-17, 1], [1.5, -2], [np.nan, 1], [np.inf, 1]], "float32")
    _, free = int8.quantize_rows(x, 127, bounded=False)
    _, bounded = int8.quantize_rows(x, 127, bounded=True)
    assert_same_bits(free, np.array([0, 1 + 2.0**-17, 2, np.nan, np.nan], "float32"))
    assert_same_bits(bounded, np.array([1, 1, 2, np.nan, np.nan], "float32"))


@pytest.mark.parametrize(("activations", "bound"), [("int16", 2e-3), ("int8", 2e-2)])
def test_near_the_float32_network_with_the_same_numbers(random, activations, bound):
    """What is left is the rounding of activations."""
    quantized = lk.LSTM(40, 60, 2, seed=0).quantize("int8", activations)
    wide = lk.LSTM.from_config(*as_float32(quantized))
    x = steps(random, quantized, 30, 5)
    assert 0 < np.abs(quantized(x)[0] - wide(x)[0]).max() < bound


def test_the_rounded_weights(random):
    lstm = lk.LSTM(4, 5, proj_size=2, initial_state=True, seed=0)
    named = {name: value.copy() for name, value in lstm.state_dict().items()}
    named["weight_ih_l0"][0] = [127, 2.5, -1.5, 0.5]  # scale 1: ties to even
    named["weight_ih_l0"][1] = 0
    named["weight_ih_l0"][2] = 1e-35  # kernels would flush its scale to 0
    named["weight_ih_l0"][3] = -0.7  # one value
    lstm.load_state_dict(named)
    stored = lstm.quantize("int8").stored()
    assert stored["weight_ih_l0"].dtype == np.int8
    assert stored["weight_ih_l0"][:4].tolist() == [[127, 2, -2, 0], [0] * 4, [0] * 4, [-127] * 4]
    assert stored["weight_ih_l0_scale"][:3].tolist() == [1, 0, 0]
    for name in ("weight_ih_l0", "weight_hh_l0", "weight_hr_l0"):
        scale = np.abs(named[name]).max(axis=1) / np.float32(127)
        wide = lstm.quantize("int8").state_dict()[name]
        assert np.abs(wide - named[name]).max() <= 0.501 * scale.max()
        assert not wide.flags.writeable
    for name in ("bias_ih_l0", "h_0", "c_0"):
        assert_same_bits(stored[name], named[name])


# ---------------------------------------------------------------- odd numbers


@each("plain", "projected", "wide")
def test_nan_and_infinity_stay_in_their_row(kernels, random, network):
    lstm = make(network, kernels).quantize("int8")
    x = steps(random, lstm, 5, 5)
    clean, _ = lstm(x)
    x[2, 1], x[3, 2, 0], x[1, 4, -1] = np.nan, np.inf, -np.inf
    out, (_, c_n) = lstm(x)
    assert_same_bits(out[:, [0, 3]], clean[:, [0, 3]])
    for row, first in ((1, 2), (2, 3), (4, 1)):
        assert_same_bits(out[:first, row], clean[:first, row])
        assert np.isnan(out[first:, row]).all()
        assert np.isnan(c_n[:, row]).all()


def test_a_state_with_one_nan_spreads_as_in_float32(kernels):
    lstm = lk.LSTM(2, 40, backend=kernels, seed=0).quantize("int8")
    for which in (0, 1):
        state = np.zeros((2, 1, 2, 40), "float32")
        state[which, 0, 0, 7] = np.nan
        out, _ = lstm(np.ones((3, 2, 2), "float32"), (state[0], state[1]))
        assert np.isnan(out[1:, 0]).all()
        assert np.isfinite(out[:, 1]).all()


def test_first_states_above_one(kernels, definition_of, random):
    lstm = lk.LSTM(3, 40, backend=kernels, seed=0).quantize("int8", "int8")
    state = tuple(5 * part for part in random_state(random, lstm, 3))
    x = steps(random, lstm, 4, 3)
    assert_same_answer(lstm(x, state), definition_of(lstm)(x, state))


@pytest.mark.parametrize("scale", [1e-38, 1e-20, 1e20, 1e37])
def test_inputs_of_any_size(kernels, definition_of, random, scale):
    lstm = lk.LSTM(6, 20, backend=kernels, seed=0).quantize("int8")
    x = steps(random, lstm, 3, 3, np.float32(scale))
    assert_same_answer(lstm(x), definition_of(lstm)(x))


# ---------------------------------------------------------------- what it is


def test_what_it_says(random):
    lstm = lk.LSTM(3, 4, backend="numpy", seed=0)
    quantized, fast = lstm.quantize("int8"), lstm.quantize("int8", activations="int8")
    assert repr(quantized) == f"{lstm!r}.quantize('int8', activations='int16')"
    assert repr(fast) == f"{lstm!r}.quantize('int8', activations='int8')"
    assert [(net.precision, net.activations) for net in (lstm, quantized, fast)] == [
        ("float32", "float32"),
        ("int8", "int16"),
        ("int8", "int8"),
    ]
    assert lstm.quantize("float16").activations == "float32"
    assert quantized.config() == {**lstm.config(), "precision": "int8", "activations": "int16"}
    assert repr(quantized.quantize("int8", "int8")) == repr(fast)
    stack = with_head(make("plain")).quantize("int8", "int8")
    assert (stack.precision, stack.activations) == ("int8", "int8")
    assert repr(lk.LSTMCell(2, 3).quantize("int8")).endswith(".quantize('int8', activations='int16')")


@each(*PLAIN)
def test_copies_and_pickles(random, network):
    quantized = make(network).quantize("int8", "int8")
    x = steps(random, quantized, 3, 2)
    for other in (copy.copy(quantized), copy.deepcopy(quantized), pickle.loads(pickle.dumps(quantized))):
        assert repr(other) == repr(quantized)
        assert_same_answer(other(x), quantized(x))
    own = make("wide")
    assert len(pickle.dumps(own.quantize("int8"))) < 0.3 * len(pickle.dumps(own))


def test_a_cell(kernels, random):
    cell = lk.LSTMCell(30, 60, backend=kernels, seed=1).quantize("int8")
    lstm = lk.LSTM(30, 60, backend=kernels, seed=1).quantize("int8")
    x = normal(random, (3, 30), "float32")
    _, (h, c) = lstm(x[None])
    for other in (cell, copy.copy(cell), pickle.loads(pickle.dumps(cell))):
        for got, right in zip(other(x), (h[0], c[0]), strict=True):
            assert_same_bits(got, right)


def test_what_looks_inside_sees_the_rounded_weights(random):
    quantized = make("two layers").quantize("int8")
    wide = lk.LSTM.from_config(*as_float32(quantized))
    x = steps(random, quantized, 4, 2)
    for look in (lk.trace, lk.gradient_flow):
        for got, right in zip(look(quantized, x), look(wide, x), strict=True):
            assert_same_bits(got, right)


# ---------------------------------------------------------------- refused, with the way out


def test_what_it_refuses():
    lstm = lk.LSTM(2, 3, seed=0)
    with pytest.raises(
        ValueError, match=r"variant: expected a plain LSTM, to quantize it to int8, .*quantize\('float16'\)"
    ):
        lk.LSTM(2, 3, variant=lk.Variant(peephole=True)).quantize("int8")
    with pytest.raises(ValueError, match="activations: expected 'int16' or 'int8' with 'int8', got 'float32'"):
        lstm.quantize("int8", "float32")
    with pytest.raises(ValueError, match="activations: expected None with 'float16'"):
        lstm.quantize("float16", "int8")
    with pytest.raises(ValueError, match="got int8 weights; quantize the network that they were made from"):
        lstm.quantize("int8").quantize("float16")
    with pytest.raises(ValueError, match="got float64; save it"):
        lk.LSTM(2, 3, dtype="float64").quantize("int8")
    with pytest.raises(ValueError, match="got int8; train the network that was quantized"):
        lstm.quantize("int8").forward(np.zeros((2, 1, 2), "float32"))
    with pytest.raises(ValueError, match="got int8 ones, which never change"):
        lstm.quantize("int8").load_state_dict(lstm.state_dict())


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_weight_that_is_not_finite(value):
    lstm = lk.LSTM(2, 3, 2, seed=0)
    named = {name: array.copy() for name, array in lstm.state_dict().items()}
    named["weight_hh_l1"][3, 1] = value
    lstm.load_state_dict(named)
    with pytest.raises(ValueError, match=r"^weight_hh_l1: expected finite numbers, got \S+ at \[3, 1\]; keep this"):
        lstm.quantize("int8")


def test_numbers_that_are_not_those_of_int8():
    lstm = lk.LSTM(2, 3, seed=0)
    quantized = lstm.quantize("int8")
    config, stored = quantized.config(), dict(quantized.stored())

    def refused(match, **changes):
        with pytest.raises(ValueError, match=match):
            lk.LSTM.from_config(config, {**stored, **changes})

    with pytest.raises(ValueError, match="weight_ih_l0: expected weight_ih_l0_scale beside it"):
        lk.LSTM.from_config(config, lstm.state_dict())
    too_low = np.full((12, 3), -128, np.int8)
    refused("weight_hh_l0: expected .* int8 numbers from -127 to 127, got -128", weight_hh_l0=too_low)
    refused("weight_hh_l0: expected .* int8 numbers .*, got int16", weight_hh_l0=np.zeros((12, 3), np.int16))
    refused(r"weight_hh_l0_scale: expected float32 \(12,\)", weight_hh_l0_scale=np.ones(3, "float32"))
    refused("weight_hh_l0_scale: expected numbers from 0 to", weight_hh_l0_scale=np.full(12, np.nan, "float32"))
    refused("weight_hh_l0_scale: expected numbers from 0 to", weight_hh_l0_scale=np.full(12, -1, "float32"))
    refused("weight_hh_l0: expected shape", weight_hh_l0=np.zeros((12, 4), np.int8))
    refused("superfluous", weight_hh_l1_scale=np.ones(12, "float32"))


def test_a_backend_without_kernels(monkeypatch):
    without_int8 = backends.get("c:generic" if "c:generic" in usable() else "numpy")._replace(
        name="foreign", pack_int8_layer=None
    )
    monkeypatch.setattr("lstmkernel.backends.registry._registered", {"foreign": without_int8})
    with pytest.raises(lk.BackendError, match="it has no kernels for 8-bit weights; backend='c', 'numba' and 'numpy'"):
        lk.LSTM(2, 3, backend="foreign").quantize("int8")


def test_the_list_of_networks_is_whole():
    assert set(PLAIN) < set(NETWORKS)
