"""last: the output at each row's last step, with the bits of a call, and nothing of the size of all steps."""

import tracemalloc

import networks
import numpy as np
import pytest
from helpers import Watched, assert_same_bits, normal, random_state, same_or_close

import lstmkernel as lk
from lstmkernel.engine import last as engine

T, B = 9, 5
LENGTHS = np.array([9, 4, 0, 1, 7])


def turned(net, array):
    """(T, B, ...) in the order that the network takes, and back."""
    return array.swapaxes(0, 1) if net.batch_first else array


def picked(net, out, lengths=None, mask=None):
    """What ``last`` is to be: of a call's output, each row's last step that is not skipped; 0 where there is none."""
    steps = turned(net, out)
    lengths = np.full(B, T) if lengths is None else lengths
    if mask is not None:
        taken = mask & (np.arange(T)[:, None] < lengths)
        lengths = np.where(taken.any(axis=0), T - taken[::-1].argmax(axis=0), lengths)
    return np.where((lengths > 0)[:, None], steps[lengths - 1, np.arange(B)], 0).astype(out.dtype)


@pytest.fixture
def small_chunks(monkeypatch):
    """Chunks of two steps of two rows. By itself, a small x is one call."""
    for name, size in (("CHUNK_BYTES", 1), ("LEAST_STEPS", 2), ("LEAST_ROWS", 2)):
        monkeypatch.setattr(engine, name, size)


@pytest.mark.parametrize("name", networks.NETWORKS)
@pytest.mark.parametrize("chunks", ["one call", "small chunks"])
def test_it_is_what_a_call_gives_at_the_last_step(backend, name, chunks, random, request):
    if chunks == "small chunks":
        request.getfixturevalue("small_chunks")
    lstm = networks.make(name, backend)
    state = random_state(random, lstm, B)
    x = turned(lstm, normal(random, (T, B, lstm.input_size), "float32"))
    for net, given in ((lstm, state), (networks.with_head(lstm), [state])):
        for lengths in (None, LENGTHS):
            expected = picked(net, net(x, given, lengths=lengths)[0], lengths)
            same_or_close(net.last(x, given, lengths=lengths), expected, lstm, f"{type(net).__name__} {lengths}")
    one = normal(random, (T, lstm.input_size), "float32")
    same_or_close(lstm.last(one), lstm(one)[0][-1], lstm)


CHAINS = {
    "backwards below": lambda **of: [lk.LSTM(8, 5, bidirectional=True, **of), lk.LSTM(10, 4, num_layers=2, **of)],
    "backwards above": lambda **of: [lk.LSTM(8, 5, **of), lk.LSTM(5, 4, num_layers=2, bidirectional=True, **of)],
    "backwards between": lambda **of: [lk.LSTM(8, 5, **of), lk.LSTM(5, 4, reverse=True, **of), lk.LSTM(4, 6, **of)],
    "backwards twice": lambda **of: [lk.LSTM(8, 5, bidirectional=True, **of), lk.LSTM(10, 4, reverse=True, **of)],
    "heads between": lambda **of: [
        lk.Dense(8, 6, "relu", **of),
        lk.LSTM(6, 5, **of),
        lk.Dense(5, 4, "tanh", **of),
        lk.LSTM(4, 3, bidirectional=True, **of),
        lk.Dense(6, 7, **of),
        lk.LSTM(7, 3, **of),
        lk.Dense(3, 4, **of),
        lk.Dense(4, 2, "softmax", **of),
    ],
    "no LSTM": lambda **of: [lk.Dense(8, 6, "relu", **of), lk.Dense(6, 2, **of)],
}


@pytest.mark.parametrize("chain", CHAINS)
@pytest.mark.parametrize("skip", [0, 0.5])
def test_chains(backend, chain, skip, random, holes, small_chunks):
    net = lk.Stack(CHAINS[chain](backend=backend, seed=3), skip=skip)
    x = normal(random, (T, B, 8), "float32")
    given = [random_state(random, layer, B) for layer in net.layers if isinstance(layer, lk.LSTM)]
    for lengths in (None, LENGTHS):
        for mask in (None, holes):
            expected = picked(net, net(x, given, lengths=lengths, mask=mask)[0], lengths, mask)
            got = net.last(x, given, lengths=lengths, mask=mask)
            same_or_close(got, expected, net.layers[-1], f"{lengths} {mask}")


@pytest.fixture
def holes(random):
    """(T, B): holes, a last step that is skipped or not, and a row of which no step is taken."""
    mask = random.random((T, B)) < 0.6
    mask[-1], mask[:, 1], mask[LENGTHS[1:] - 1, range(1, B)] = [True, False, False, True, False], False, True
    mask[:, 4] = False
    return mask


@pytest.mark.parametrize("name", networks.NETWORKS)
@pytest.mark.parametrize("chunks", ["one call", "small chunks"])
def test_with_a_mask_it_is_what_a_call_with_it_gives(name, chunks, random, holes, request):
    if chunks == "small chunks":
        request.getfixturevalue("small_chunks")
    lstm = networks.make(name)
    state = random_state(random, lstm, B)
    steps = normal(random, (T, B, lstm.input_size), "float32")
    steps[~holes] = np.nan  # what is skipped is not read
    x, mask = turned(lstm, steps), turned(lstm, holes)
    for net, given in ((lstm, state), (networks.with_head(lstm), [state])):
        for lengths in (None, LENGTHS):
            expected = picked(net, net(x, given, lengths=lengths, mask=mask)[0], lengths, holes)
            assert_same_bits(net.last(x, given, lengths=lengths, mask=mask), expected, f"{net} {lengths}")
    one, own = normal(random, (T, lstm.input_size), "float32"), holes[:, 0]
    assert_same_bits(lstm.last(one, mask=own), lstm(one[own])[0][-1])


def test_padding_by_a_mask_is_padding_by_lengths(random):
    net = lk.Stack([lk.LSTM(3, 4, 2, bidirectional=True, seed=0), lk.Dense(8, 2, "softmax", seed=1)])
    x, lengths = normal(random, (T, B, 3), "float32"), np.arange(1, B + 1)
    mask = np.arange(T)[:, None] < lengths
    assert_same_bits(net.last(x, mask=mask), net.last(x, lengths=lengths))


@pytest.mark.parametrize("name", ["plain", "two directions", "batch first", "reverse"])
def test_nothing_to_run_over_gives_zeros(name, backend):
    for net in (networks.make(name, backend), networks.with_head(networks.make(name, backend))):
        width = net.input_size
        empty = turned(net, np.zeros((0, 3, width), "f"))
        assert_same_bits(net.last(empty), np.zeros((3, net.out_features), "f"))
        assert_same_bits(net.last(np.zeros((0, width), "f")), np.zeros(net.out_features, "f"))
        assert net.last(turned(net, np.zeros((4, 0, width), "f"))).shape == (0, net.out_features)
        no_steps = turned(net, np.ones((4, 2, width), "f"))
        assert_same_bits(net.last(no_steps, lengths=[0, 0]), np.zeros((2, net.out_features), "f"))
        none_taken = turned(net, np.zeros((4, 2), bool))
        expected = turned(net, net(no_steps, mask=none_taken)[0])[-1]
        assert_same_bits(net.last(no_steps, mask=none_taken), expected)


@pytest.mark.parametrize("chunks", [1, engine.CHUNK_BYTES])
def test_a_head_runs_once_a_row(random, monkeypatch, chunks):
    monkeypatch.setattr(engine, "CHUNK_BYTES", chunks)
    watched = Watched("auto")
    net = networks.with_head(lk.LSTM(3, 5, backend=watched.name, seed=0))
    net.last(normal(random, (40, B, 3), "float32"))
    assert [len(x) for x, *_ in watched.of("dense_forward")] == [B]


def test_a_backward_direction_of_the_top_layer_takes_one_step(random, monkeypatch):
    monkeypatch.setattr(engine, "CHUNK_BYTES", 1)
    watched = Watched("auto")
    lstm = lk.LSTM(3, 5, bidirectional=True, backend=watched.name, seed=0)
    lstm.last(normal(random, (40, B, 3), "float32"))
    steps = [(weights.reverse, len(batch.x)) for weights, batch, *_ in watched.of("lstm_forward")]
    assert steps == [(False, 32), (False, 8), (True, 1)]


@pytest.mark.parametrize("options", [{}, {"num_layers": 2}, {"bidirectional": True}, {"reverse": True}])
def test_memory_does_not_grow_with_time(options):
    net = networks.with_head(lk.LSTM(2, 16, seed=0, **options))
    x = np.zeros((100_000, 2, 2), "f")
    tracemalloc.start()
    try:
        net.last(x)
        assert tracemalloc.get_traced_memory()[1] < 2 * engine.CHUNK_BYTES < 2 * 100_000 * 16 * 4
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_rows_times_steps(monkeypatch):
    monkeypatch.setattr(engine, "CHUNK_BYTES", 1 << 12)
    lstm = lk.LSTM(1, 32, seed=0)
    x = np.zeros((64, 8192, 1), "f")
    tracemalloc.start()
    try:
        lstm.last(x)
        allowed = engine.LEAST_STEPS * engine.LEAST_ROWS * 32 * 4 + 8192 * 32 * 4 * 4
        assert tracemalloc.get_traced_memory()[1] < allowed < 64 * 8192 * 32 * 4
    finally:
        tracemalloc.stop()


def test_what_was_given_stays_as_it_is(random):
    lstm = networks.make("two directions")
    x, (h, c) = normal(random, (T, B, 5), "float32"), random_state(random, lstm, B)
    kept = x.copy(), h.copy(), c.copy()
    answer = lstm.last(x, (h, c), lengths=LENGTHS)
    for array, before in zip((x, h, c), kept, strict=True):
        assert_same_bits(array, before)
    assert answer.flags.owndata
    assert answer.flags.writeable


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"x": np.zeros((T, B, 4))}, ValueError, r"x: expected shape \(T, B, I\) or \(T, I\) with I = 5"),
        ({"x": np.zeros((T, B, 5), complex)}, TypeError, "x: expected real numbers"),
        ({"lengths": [1, 2]}, ValueError, r"lengths: expected shape \(B,\)"),
        ({"lengths": [10] * B}, ValueError, "expected 0..9"),
        ({"x": np.zeros((T, 5)), "lengths": [3]}, ValueError, "expected a batched x"),
        ({"state": [None, None]}, ValueError, "expected one"),
        ({"mask": np.ones((B, T), bool)}, ValueError, r"mask: expected shape \(T, B\)"),
        ({"mask": np.ones((T, B))}, TypeError, "mask: expected bool"),
    ],
)
def test_refused(arguments, error, message):
    net = networks.with_head(networks.make("plain"))
    with pytest.raises(error, match=message):
        net.last(**{"x": np.zeros((T, B, 5)), **arguments})


def test_a_network_that_expects_lengths_warns_without_them():
    lstm = networks.make("plain")
    lstm = lk.LSTM.from_config({**lstm.config(), "expects": "lengths"}, lstm.state_dict())
    x = np.zeros((T, B, 5))
    for net in (lstm, networks.with_head(lstm)):
        with pytest.warns(RuntimeWarning, match=r"give lengths=; if no step is to be skipped, give mask=numpy.ones"):
            net.last(x)
        net.last(x, lengths=LENGTHS)
        net.last(x, mask=np.ones(x.shape[:-1], bool))
