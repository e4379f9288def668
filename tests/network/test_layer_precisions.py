"""A precision for each layer of one LSTM: the bits are those of its layers, run one after the other."""

import copy
import pickle
from itertools import cycle, islice

import numpy as np
import pytest
from helpers import assert_same_answer, assert_same_bits, normal, sampled, usable
from networks import PRECISIONS, each, make, mixed

import lstmkernel as lk
from lstmkernel import backends
from lstmkernel.engine import calibration, calibration_data, measured_error, single_layers
from lstmkernel.engine import precision as bits
from lstmkernel.engine.chain import Chain

BACKENDS = [name for name in usable() if backends.get(name).pack_int8_layer]
NAMES = ("int16", "float16", "float32", "int8")

pytestmark = pytest.mark.skipif(not BACKENDS, reason="no backend has kernels for 8-bit weights")


@pytest.fixture(params=BACKENDS)
def backend(request):
    return request.param


def rotated(lstm, first=0):
    """The network in mixed precisions, from that one of NAMES on."""
    return mixed(lstm, *islice(cycle(NAMES), first, first + lstm.num_layers))


def in_turn(lstm):
    """Its layers, as networks of one layer each."""
    layers = []
    for layer in range(lstm.num_layers):
        single = single_layers.of_network(lstm.engine, layer)
        config = {**lstm.config(), **single.shape._asdict(), "precision": None, "activations": None}
        if single.is_quantized:
            config |= bits.config(single.precisions)
        layers.append(lk.LSTM.from_config(config, single.parameters))
    assert len({(layer.precision, layer.activations) for layer in layers}) > 1
    return lk.Stack(layers)


def states_of(result):
    """(L*D, B, ...) of all layers: h and c."""
    state = [result] if isinstance(result[0], np.ndarray) else result
    return tuple(np.concatenate(parts) for parts in zip(*state, strict=True))


def state_for(net, state):
    """The state of all layers, as the network takes it."""
    if isinstance(net, lk.LSTM):
        return state
    D = net.layers[0].shape.directions
    return [tuple(part[D * i : D * i + D] for part in state) for i in range(len(net))]


def given(network, B):
    """A state of B rows."""
    shape, random = network.engine.shape if isinstance(network, lk.LSTM) else None, np.random.default_rng(4)
    L, D, widths = (
        (shape.num_layers, shape.directions, (shape.output_size, shape.hidden_size))
        if shape
        else (len(network), network[0].shape.directions, (network[0].shape.output_size, network[0].hidden_size))
    )
    return state_for(network, tuple(normal(random, (L * D, B, width), "float32") for width in widths))


def marks(x, share):
    return np.random.default_rng(5).random(x.shape[:2]) < share


def lengths_of(net, x):
    T, B = x.shape[:2][::-1] if net.batch_first else x.shape[:2]
    return np.random.default_rng(6).integers(0, T + 1, B)


def rows_of(net, x):
    return x.shape[0 if net.batch_first else 1]


def with_states(result):
    return [result[0], *states_of(result[1])]


def in_chunks(net, x):
    axis = 1 if net.batch_first else 0
    parts, state = [], None
    for part in np.array_split(x, (1, 4), axis):
        out, state = net(np.ascontiguousarray(part), state)
        parts.append(out)
    return [np.concatenate(parts, axis), *states_of(state)]


#: For each way to run a network, what it gives.
WAYS = {
    "a call": lambda net, x: with_states(net(x)),
    "again": lambda net, x: [*with_states(net(x)), *with_states(net(x))],
    "a state": lambda net, x: with_states(net(x, given(net, rows_of(net, x)))),
    "lengths": lambda net, x: with_states(net(x, lengths=lengths_of(net, x))),
    "mask": lambda net, x: with_states(net(x, mask=marks(x, 0.7))),
    "last": lambda net, x: [net.last(x), net.last(x, lengths=lengths_of(net, x))],
    "ragged": lambda net, x: with_states(net.ragged(x.reshape(-1, x.shape[2]), [0, 3, 3, 8, 9])),
    "windows": lambda net, x: [net.windows(x, 3, 2)],
}
NOT_WITH_BOTH = {"reset": lambda net, x: with_states(net(x, reset=marks(x, 0.2), lengths=lengths_of(net, x)))}


def stream_steps(net, x):
    stream = net.stream(x.shape[1])
    return [np.stack([stream.step(row) for row in x]), *states_of(stream.state)]


def stream_chunks(net, x):
    stream = net.stream(x.shape[1])
    parts = [stream(part) for part in np.array_split(x, (2, 3))]
    stream.reset(np.arange(x.shape[1]) % 2 == 0)
    return [*parts, stream(x[:2]), *states_of(stream.state)]


def pool_steps(net, x):
    pool, outs = net.pool(10), []
    ids = pool.open(x.shape[1])
    for t, row in enumerate(x):
        some = np.roll(np.arange(x.shape[1]), t)[: 1 + t % x.shape[1]]
        outs.append(pool.step(ids[some], row[some]))
    return [*outs, *states_of(pool.state(ids[::-1]))]


def window_steps(net, x):
    window = net.window(4, x.shape[1])
    return [np.stack([window.step(row) for row in x])]


#: The same, for networks that run forwards.
FORWARDS = {
    "chunks": in_chunks,
    "a stream's steps": stream_steps,
    "a stream's chunks": stream_chunks,
    "a pool": pool_steps,
    "a window": window_steps,
}


def assert_like_layers_in_turn(lstm, x, ways):
    layers = in_turn(lstm)
    for name, run in ways.items():
        for got, expected in zip(run(lstm, x), run(layers, x), strict=True):
            assert_same_bits(got, expected, name)


@pytest.mark.parametrize("first", sampled(range(4), 0, 2))
@each(
    "three layers with a tail",
    "three layers, two directions",
    "projected, two directions",
    "whole blocks, projected",
    "batch first",
    "reverse",
    "learned state",
)
def test_the_bits_of_layers_in_turn(backend, random, network, first):
    lstm = rotated(make(network, backend), first)
    forwards = not any(lstm.shape.backwards)
    x = normal(random, (9, 3, lstm.input_size), "float32")
    x = x.swapaxes(0, 1).copy() if lstm.batch_first else x
    ways = WAYS | NOT_WITH_BOTH | (FORWARDS if forwards and not lstm.batch_first else {})
    assert_like_layers_in_turn(lstm, x, ways)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("B", [1, 40])
def test_on_several_threads(backend, random, bidirectional, B):
    """One row, whose threads share the units of a layer; and many, which are divided among threads."""
    options = {"bidirectional": bidirectional, "num_layers": 4, "backend": backend, "seed": 0}
    lstm, alone = (rotated(lk.LSTM(64, 96, **options, num_threads=threads)) for threads in (2, 1))
    x = normal(random, (60, B, 64), "float32")
    expected = in_turn(alone)(x)
    for _ in range(3):
        out, state = lstm(x)
        assert_same_bits(out, expected[0])
        for got, right in zip(state, states_of(expected[1]), strict=True):
            assert_same_bits(got, right)


def test_all_compiled_backends_agree(random):
    """8-bit layers have the same bits everywhere; others on every instruction set that fuses."""
    names = [name for name in BACKENDS if name in backends.ONE_ANSWER]
    lstm = make("three layers with a tail")
    x = normal(random, (5, 4, lstm.input_size), "float32")
    answers = [rotated(make("three layers with a tail", name))(x) for name in names]
    for name, answer in zip(names, answers, strict=True):
        assert_same_answer(answer, answers[0], name)


# ---------------------------------------------------------------- what it says


def test_what_it_says():
    lstm = mixed(lk.LSTM(5, 9, 4, seed=0, backend="numpy"), "int8", "int16", "float16", "float32")
    assert (lstm.precision, lstm.activations) == ("int8, float16, float32", "int8, int16, float32")
    assert lstm.config()["precision"] == ["int8", "int8", "float16", "float32"]
    assert lstm.config()["activations"] == ["int8", "int16", None, None]
    assert repr(lstm) == (
        "LSTM(5, 9, num_layers=4, dtype='float32', backend='numpy').quantize(by layer: 'int8', activations='int8'; "
        "'int8', activations='int16'; 'float16'; 'float32')"
    )
    stack = lk.Stack([lstm, lk.LSTM(9, 5, seed=0).quantize("int8")])
    assert (stack.precision, stack.activations) == (lstm.precision, lstm.activations)
    alike = mixed(lk.LSTM(5, 9, 2, seed=0), "int8", "int16").config()
    assert (alike["precision"], alike["activations"]) == ("int8", ["int8", "int16"])
    halves = mixed(lk.LSTM(5, 9, 2, seed=0), "float32", "float16").config()
    assert halves["precision"] == ["float32", "float16"]
    assert "activations" not in halves


@pytest.mark.parametrize("names", [("int8", "int16", "float16", "float32"), ("float16",) * 4, ("int8",) * 4])
def test_copies(random, names):
    lstm = mixed(lk.LSTM(5, 9, 4, bidirectional=True, seed=0), *names)
    x = normal(random, (6, 2, 5), "float32")
    config, stored = lstm.config(), lstm.stored()
    by_layer = {**config, "precision": [each.weights for each in lstm.engine.precisions]}
    again = [lk.LSTM.from_config(each, stored) for each in (config, by_layer)]
    for other in (*again, copy.copy(lstm), copy.deepcopy(lstm), pickle.loads(pickle.dumps(lstm))):
        assert repr(other) == repr(lstm)
        assert other.engine.precisions == lstm.engine.precisions
        assert_same_answer(other(x), lstm(x))
        for name, value in stored.items():
            assert_same_bits(other.stored()[name], value, name)
    narrow = {"int8": np.int8, "int16": np.int8, "float16": np.float16, "float32": np.float32}
    for layer, name in enumerate(names):
        assert stored[f"weight_ih_l{layer}_reverse"].dtype == narrow[name]
        assert (f"weight_hh_l{layer}_scale" in stored) == (narrow[name] == np.int8)


def test_float32_in_all_layers_is_no_quantized_network():
    lstm = lk.LSTM(5, 9, 2, seed=0)
    again = lk.LSTM.from_config({**lstm.config(), "precision": ["float32"] * 2}, lstm.state_dict())
    again.load_state_dict(lstm.state_dict())
    assert repr(again) == repr(lstm)


@pytest.mark.parametrize(
    ("precision", "activations", "message"),
    [
        (["int8"], "int8", "precision: expected one, or a list of 2, one for each layer, got 1"),
        (["int8"] * 3, None, "precision: expected one, or a list of 2, one for each layer, got 3"),
        (["int8", "int8"], ["int8"], "activations: expected one, or a list of 2, one for each layer, got 1"),
        (["int8", "int4"], None, "precision: expected 'float16' or 'int8', got 'int4'"),
        (["int8", None], None, "precision: expected 'float16' or 'int8', got NoneType"),
        ([["int8"], "int8"], None, "precision: expected 'float16' or 'int8', got list"),
        (["int8", "float16"], "int8", "activations: expected None with 'float16'"),
        (["int8", "int8"], ["int8", ["int8"]], "activations: expected 'int16' or 'int8' with 'int8'"),
        (["int8", "float16"], None, "weight_ih_l1: expected numbers that float16 has"),
        (["float32", "int8"], None, "weight_ih_l1: expected weight_ih_l1_scale beside it"),
        (["float16", "float32"], None, "superfluous .*weight_ih_l0_scale"),
        (["int8", "int8"], None, "weight_ih_l1: expected weight_ih_l1_scale beside it"),
        ("int8", None, "weight_ih_l1: expected weight_ih_l1_scale beside it"),
    ],
)
def test_a_config_that_does_not_fit(precision, activations, message):
    lstm = mixed(lk.LSTM(5, 9, 2, seed=0), "int8", "float32")
    config = {**lstm.config(), "precision": precision, "activations": activations}
    with pytest.raises((ValueError, TypeError), match=message):
        lk.LSTM.from_config(config, lstm.stored())


def test_what_it_refuses():
    lstm = mixed(lk.LSTM(5, 9, 3, seed=0), "float32", "float16", "int8")
    with pytest.raises(ValueError, match="got float32, float16, int8 ones, which never change"):
        lstm.load_state_dict(lstm.state_dict())
    with pytest.raises(ValueError, match="expected float32 or float64 to record for backward, got float32, float16"):
        lstm.forward(np.zeros((2, 1, 5)))
    for how in ("float16", "int8"):
        with pytest.raises(ValueError, match=f"to quantize it to {how}, got float32, float16, int8 weights"):
            lstm.quantize(how)
    with pytest.raises(ValueError, match=r"^calibrate: expected a float32 network"):
        lstm.quantize(weights="auto", max_error=1, calibrate=np.zeros((9, 5)))
    other = mixed(lk.LSTM(5, 9, 3, seed=0), "int8", "float16", "int8").engine
    with pytest.raises(ValueError, match="expected a float32 network"):
        other.quantized_by_layer(tuple(PRECISIONS[name] for name in ("int8", "float16", "float16")), other.backend)
    again = mixed(lk.LSTM(5, 9, 2, seed=0), "int8", "int16").quantize("int8", "int8")
    assert (again.precision, again.activations) == ("int8", "int8")
    variant = lk.LSTM(5, 9, 2, variant=lk.Variant(peephole=True), seed=0)
    assert mixed(variant, "float16", "float32")(np.zeros((2, 1, 5)))[0].shape == (2, 1, 9)
    with pytest.raises(ValueError, match=r"^variant: expected a plain LSTM"):
        mixed(variant, "float16", "int8")


def test_compiled(random):
    """Kernels with constants have no 8-bit weights, and the plan says so."""
    lstm, x = mixed(lk.LSTM(5, 9, 2, seed=0), "int8", "float32"), normal(random, (7, 1, 5), "float32")
    fast = lstm.compile(steps=7)
    assert fast.engine.precisions == lstm.engine.precisions
    assert fast.plan.network == repr(lstm)
    if lstm.backend in backends.ONE_ANSWER:
        assert_same_answer(fast(x), lstm(x))


# ---------------------------------------------------------------- fitted, and measured


def fitted(net, precisions, x):
    """The chain with these precisions of its layers, fitted to x, and what it is off."""
    chain = Chain.of(net.engine)
    data = calibration_data.checked(x, chain)
    narrow = calibration.quantized(chain, precisions, data, lambda steps: None)
    return narrow, measured_error.certificate("it", chain, narrow, data, True, lambda steps: None)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_each_layer_is_fitted_in_its_own_precision(random, bidirectional):
    """As LSTMs of one layer in a Stack are, with the same certificate."""
    lstm = lk.LSTM(6, 10, 4, bidirectional=bidirectional, seed=0)
    singles = [single_layers.of_network(lstm.engine, layer) for layer in range(4)]
    stack = lk.Stack(
        [lk.LSTM.from_config({**lstm.config(), **each.shape._asdict()}, each.parameters) for each in singles]
    )
    x = np.cumsum(normal(random, (80, 2, 6), "float32"), axis=0) / 5
    precisions = tuple(PRECISIONS[name] for name in NAMES)
    (mine, found), (theirs, expected) = (fitted(net, precisions, x) for net in (lstm, stack))
    assert [each.precisions for each in theirs.networks] == [(each,) for each in precisions]
    (network,) = mine.networks
    assert network.precisions == precisions
    for layer, other in enumerate(theirs.networks):
        for name, value in single_layers.of_network(network, layer).parameters.items():
            assert_same_bits(value, other.parameters[name], f"{layer} {name}")
    assert [(each.precision, each.error) for each in found.layers] == [
        (each.precision, each.error) for each in expected.layers
    ]
    assert [each.name for each in found.layers] == [f"layer {layer}" for layer in range(4)]
    words = ["int8, int16 activations", "float16", "float32", "int8, int8 activations"]
    assert [each.precision for each in found.layers] == words
    assert (found.out, found.over_time, found.fitted) == (expected.out, expected.over_time, expected.fitted)
    assert (found.bytes_before, found.bytes_after) == (expected.bytes_before, expected.bytes_after)
    assert found.bytes_after == sum(value.nbytes for value in network.parameters.values())


def test_float32_in_all_layers_is_the_same_network(random):
    lstm = lk.LSTM(5, 9, 2, seed=0)
    chain, _ = fitted(lstm, (PRECISIONS["float32"],) * 2, normal(random, (20, 1, 5), "float32"))
    assert chain.networks[0] is lstm.engine


def test_digests_of_certificates_stay():
    """A file's certificate holds a digest of its network. These are those of the version before layers could differ."""
    lstm = lk.LSTM(3, 5, 2, bidirectional=True, seed=0)
    count = {name: np.arange(value.size).reshape(value.shape) for name, value in lstm.state_dict().items()}
    lstm.load_state_dict({name: (number % 17 - 8) / 16 for name, number in count.items()})
    digests = {
        "f427e3fbd95e0dae": lstm,
        "6f34076b4f995240": lstm.quantize("float16"),
        "020b99d8b8962146": lstm.quantize("int8"),
        "765097e1bbb93ca4": lstm.quantize("int8", "int8"),
    }
    for digest, net in digests.items():
        assert measured_error.weights_digest(Chain.of(net.engine)) == digest
    others = [mixed(lstm, *names) for names in (("int8", "int16"), ("int16", "int8"), ("int8", "float32"))]
    found = {measured_error.weights_digest(Chain.of(net.engine)) for net in others}
    assert len({*found, *digests}) == 7
