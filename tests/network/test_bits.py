"""Bit-identical results: tested by equality, not tolerance. A sequence gives the same bits alone or in a batch, whole
or in chunks, on any instruction set with fused multiply-add, from C or from Numba, on any thread.

NumPy does not promise that, because its BLAS sums in an order of its own. c:generic promises it among its own calls
only.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from helpers import Watched, assert_same_answer, assert_same_bits, normal, random_state, usable
from networks import SIZES, each, make, without

import lstmkernel as lk
from lstmkernel.backends import ONE_ANSWER, large, packing
from lstmkernel.backends.contract import DENSE_ACTIVATIONS
from lstmkernel.engine import parameters

every_size = each(*SIZES)


def fused_backends():
    """All that promise the same bits."""
    names = usable(ONE_ANSWER)
    if len(names) < 2:
        pytest.skip(f"needs two fused backends, got {', '.join(names) or 'none'}")
    return names


def row(result, b):
    """Row b of a batched answer, as an answer for a batch of one."""
    out, (h, c) = result
    return out[:, b : b + 1], (h[:, b : b + 1], c[:, b : b + 1])


@every_size
def test_a_row_alone_and_in_a_batch(compiled_backend, dtype, random, network):
    lstm = make(network, compiled_backend, dtype)
    x = normal(random, (7, 13, lstm.input_size), dtype)
    state = random_state(random, lstm, 13)
    alone = [lstm(x[:, b : b + 1], [part[:, b : b + 1] for part in state]) for b in range(13)]
    for B in range(1, 14):
        together = lstm(x[:, :B], [part[:, :B] for part in state])
        for b in range(B):
            assert_same_answer(row(together, b), alone[b], f"row {b} of {B}")


@every_size
def test_a_row_among_hundreds(compiled_backend, dtype, random, network):
    lstm = make(network, compiled_backend, dtype)
    x = normal(random, (3, 150, lstm.input_size), dtype)
    together = lstm(x)
    for b in (0, 1, 63, 64, 65, 149):
        assert_same_answer(row(together, b), lstm(x[:, b : b + 1]), f"row {b}")


@every_size
def test_unbatched_and_batched(compiled_backend, dtype, random, network):
    lstm = make(network, compiled_backend, dtype)
    x = normal(random, (11, lstm.input_size), dtype)
    out, (h, c) = lstm(x)
    assert_same_answer((out[:, None], (h[:, None], c[:, None])), lstm(x[:, None]))


@pytest.mark.parametrize("batch", [1, 4])
@each(*without("bidirectional", SIZES))
def test_whole_and_in_chunks(compiled_backend, dtype, random, network, batch):
    """The state that one call returns is the state of the next one."""
    lstm = make(network, compiled_backend, dtype)
    x = normal(random, (40, batch, lstm.input_size), dtype)
    whole = lstm(x)
    for size in (1, 3, 16, 39):
        state, pieces = None, []
        for start in range(0, len(x), size):
            out, state = lstm(x[start : start + size], state)
            pieces.append(out)
        assert_same_answer((np.concatenate(pieces), state), whole, f"chunks of {size}")


@every_size
def test_padded_and_each_row_at_its_own_length(compiled_backend, dtype, random, network):
    lstm = make(network, compiled_backend, dtype)
    lengths = np.array([9, 0, 4, 12, 1, 9, 12, 5])
    x = normal(random, (12, len(lengths), lstm.input_size), dtype)
    state = random_state(random, lstm, len(lengths))
    padded = lstm(x, state, lengths=lengths)
    for b, length in enumerate(lengths):
        out, last = row(padded, b)
        alone = lstm(x[:length, b : b + 1], [part[:, b : b + 1] for part in state])
        assert_same_answer((out[:length], last), alone, f"row {b}")
        assert not out[length:].any()


@every_size
@pytest.mark.parametrize("ragged", [False, True], ids=["full", "lengths"])
def test_in_one_kernel_call_and_in_many(compiled_backend, dtype, random, network, ragged):
    """Long work is cut into calls, over rows and over time, so that Ctrl-C is heard: no bit may depend on where."""
    lstm = make(network, compiled_backend, dtype)
    x = normal(random, (30, 18, lstm.input_size), dtype)
    lengths = random.integers(0, 31, 18) if ragged else None
    whole, counts = lstm(x, lengths=lengths), []
    gflops, least = 1e-6, lstm.num_layers if lstm.bidirectional else 1  # two directions: each layer has its own calls
    while not counts or counts[-1] > least:
        backend = Watched(compiled_backend, min_gflops=gflops)
        in_parts = make(network, backend.name, dtype, num_threads=1)
        assert_same_answer(in_parts(x, lengths=lengths), whole, f"{gflops:.0g} GFLOP/s")
        counts.append(len(backend.of("lstm_forward")))
        gflops *= 8
    assert counts[0] == 3 * 30 * lstm.num_layers, "calls of one layer, one step and 8 rows"
    assert len(set(counts)) > 2, counts


@pytest.mark.parametrize("network", ["two layers", "two directions", "projected"])
@pytest.mark.parametrize("ragged", [False, True], ids=["full", "lengths"])
def test_training_in_one_kernel_call_and_in_many(compiled_backend, random, network, ragged):
    """Cut over time, and a step over rows: the sums over rows keep their order."""
    lstm = make(network, compiled_backend, "float32")
    x = normal(random, (7, 19, lstm.input_size), "float32")
    lengths = random.integers(0, 8, 19) if ragged else None
    d_out, counts = normal(random, (7, 19, lstm.out_features), "float32"), []
    out, _, tape = lstm.forward(x, lengths=lengths)
    expected = lstm.backward(tape, d_out)
    for gflops, every in [(1e-6, None), (1e-6, 3), (1e-3, None), (4e-3, None)]:
        backend = Watched(compiled_backend, min_gflops=gflops)
        in_parts = make(network, backend.name, "float32", num_threads=1)
        got, _, tape = in_parts.forward(x, lengths=lengths, checkpoint_every=every)
        assert_same_bits(got, out)
        for name, gradient in in_parts.backward(tape, d_out).items():
            assert_same_bits(gradient, expected[name], f"{name} at {gflops:.0g} GFLOP/s")
        counts.append(len(backend.of("tape backward")))
    assert counts[0] > counts[-1]


@every_size
def test_weights_in_one_part_and_in_many(compiled_backend, dtype, random, network, monkeypatch):
    """Large weights are made, packed, and in training loaded and stored, part by part."""

    def answers():
        lstm = make(network, compiled_backend, dtype)
        state_dict = {name: value[...] for name, value in lstm.state_dict().items()}
        lstm.load_state_dict({name: value + 1 for name, value in state_dict.items()})
        lstm.load_state_dict(state_dict)
        out, state, tape = lstm.forward(x)
        return [*state_dict.values(), out, *state, *lstm.backward(tape, out, state).values()]

    x = normal(random, (4, 3, make(network, compiled_backend, dtype).input_size), dtype)
    whole = answers()
    monkeypatch.setattr(large, "MOST_COPIED", 7)
    monkeypatch.setattr(parameters, "MOST_COPIED", 7)
    monkeypatch.setattr(packing, "BLOCKS_SIZE", 1)
    if compiled_backend.startswith("c"):
        monkeypatch.setattr("lstmkernel.backends.c.calls.MOST_PACKED", 500)
    for got, expected in zip(answers(), whole, strict=True):
        assert_same_bits(got, expected)


@every_size
def test_every_fused_backend(dtype, random, network):
    names = fused_backends()
    for B, T in [(1, 30), (2, 9), (5, 9), (13, 9)]:
        first = make(network, names[0], dtype)
        x = normal(random, (T, B, first.input_size), dtype)
        state, lengths = random_state(random, first, B), random.integers(0, T + 1, B)
        expected = first(x, state, lengths=lengths)
        for name in names[1:]:
            assert_same_answer(make(network, name, dtype)(x, state, lengths=lengths), expected, f"{name}, B={B}")


def test_every_fused_backend_over_many_rows_and_steps(dtype, random):
    """What a layer hands to the next one is more than one chunk holds: it is cut over rows and over time."""
    names = fused_backends()
    nets = [lk.LSTM(3, 100, 2, dtype=dtype, backend=name, num_threads=1, seed=0) for name in names]
    x = normal(random, (30, 100, 3), dtype)
    for lengths in (None, random.integers(0, 31, 100)):
        expected = nets[0](x, lengths=lengths)
        for net in nets[1:]:
            assert_same_answer(net(x, lengths=lengths), expected, net.backend)


@pytest.mark.parametrize("H", [1, 3, 15, 20])
def test_every_fused_backend_on_many_rows_of_few_units(dtype, random, H):
    """Then the lanes of a vector are rows."""
    names = fused_backends()
    for B, I in [(16, 2), (50, 5), (97, 1), (200, 9)]:
        nets = [lk.LSTM(I, H, dtype=dtype, backend=name, seed=0) for name in names]
        x, state = normal(random, (7, B, I), dtype), random_state(random, nets[0], B)
        for lengths in (None, random.integers(0, 8, B)):
            expected = nets[0](x, state, lengths=lengths)
            for net in nets[1:]:
                assert_same_answer(net(x, state, lengths=lengths), expected, f"{net.backend}, B={B}, I={I}")


@pytest.mark.parametrize("H", range(1, 70))
def test_every_fused_backend_at_every_tail(H):
    names = fused_backends()
    random = np.random.default_rng(H)
    for dtype in ("float32", "float64"):
        for I, B, P in [(H % 7 + 1, H % 5 + 1, 0), (3, 1, H // 2)]:
            x = normal(random, (4, B, I), dtype)
            nets = [lk.LSTM(I, H, proj_size=P, dtype=dtype, backend=name, seed=H) for name in names]
            expected = nets[0](x)
            for net in nets[1:]:
                assert_same_answer(net(x), expected, f"{net!r}")


@pytest.mark.parametrize("activation", DENSE_ACTIVATIONS)
def test_dense_on_every_fused_backend_and_row_by_row(compiled_backend, dtype, random, activation):
    x = 3 * normal(random, (13, 21), dtype)
    dense = lk.Dense(21, 35, activation, dtype=dtype, backend=compiled_backend, seed=1)
    y = dense(x)
    for b in range(13):
        assert_same_bits(dense(x[b]), y[b], f"row {b}")
    for name in usable(ONE_ANSWER) if compiled_backend in ONE_ANSWER else []:
        assert_same_bits(lk.Dense(21, 35, activation, dtype=dtype, backend=name, seed=1)(x), y, name)


@every_size
def test_again_and_on_other_threads(compiled_backend, dtype, random, network):
    lstm = make(network, compiled_backend, dtype)
    x = normal(random, (20, 3, lstm.input_size), dtype)
    first = lstm(x)
    assert_same_answer(lstm(x), first, "second call")
    with ThreadPoolExecutor(2) as threads:
        for answer in threads.map(lambda _: lstm(x), range(6)):
            assert_same_answer(answer, first, "another thread")


@every_size
def test_layouts_of_one_input(compiled_backend, dtype, random, network):
    """batch_first, strided, reversed twice, cast: the same numbers give the same bits."""
    lstm, x = make(network, compiled_backend, dtype), None
    x = normal(random, (8, 3, lstm.input_size), dtype)
    expected = lstm(x)
    out, state = make(network, compiled_backend, dtype, batch_first=True)(x.swapaxes(0, 1))
    assert_same_answer((out.swapaxes(0, 1), state), expected, "batch_first")
    wide = np.zeros((16, 6, 2 * lstm.input_size), dtype)
    wide[::2, ::2, ::2] = x
    for name, view in {
        "strided": wide[::2, ::2, ::2],
        "Fortran": np.asfortranarray(x),
        "backwards": x[::-1].copy()[::-1],
        "swapped bytes": x.astype(x.dtype.newbyteorder()),
    }.items():
        assert_same_answer(lstm(view), expected, name)


@every_size
def test_into_out(compiled_backend, dtype, random, network):
    lstm = make(network, compiled_backend, dtype)
    x = normal(random, (8, 3, lstm.input_size), dtype)
    out = np.full((8, 3, lstm.out_features), np.nan, dtype)
    result = lstm(x, out=out)
    assert result[0] is out
    assert_same_answer(result, lstm(x))
