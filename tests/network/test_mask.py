"""mask=: a step where it is False changes no state and repeats the output before it, as in Keras."""

import copy
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
from helpers import assert_close, assert_close_answer, assert_same_answer, assert_same_bits, normal, random_state

import lstmkernel as lk
from lstmkernel.engine.expects import EXPECTS

T, B = 7, 5


def holes(random):
    """Holes, padding before and after, a row without any step, and a whole row."""
    mask = random.random((T, B)) < 0.6
    mask[:3, 1] = mask[4:, 2] = mask[:, 3] = False
    mask[:, 4] = True
    return mask


def one_direction(lstm, layer, direction):
    """One layer in one direction, as an LSTM of the definition that runs forwards."""
    ending = f"_l{layer}{'_reverse' if direction else ''}"
    weights = {name: value for name, value in lstm.state_dict().items() if name.endswith(ending)}
    wide = weights[f"weight_ih{ending}"].shape[1]
    config = {"num_layers": 1, "bidirectional": False, "reverse": False, "initial_state": False, "batch_first": False}
    config |= {"backend": "numpy", "dtype": "float64", "input_size": wide}
    named = {name.removesuffix(ending) + "_l0": value.astype("f8") for name, value in weights.items()}
    return lk.LSTM.from_config({**lstm.config(), **config}, named)


def step_by_step(lstm, x, state, mask, lengths=None, reset=None):
    """What mask means, one step of one row at a time."""
    h, c = (np.array(part, "f8") for part in state)
    above = np.where(mask[:, :, None], x, 0).astype("f8")
    for layer in range(lstm.num_layers):
        parts = []
        for direction, backward in enumerate(lstm.shape.backwards):
            of_layer, place = one_direction(lstm, layer, direction), layer * len(lstm.shape.backwards) + direction
            out = np.zeros((*mask.shape, lstm.shape.output_size))
            for row in range(mask.shape[1]):
                steps = mask.shape[0] if lengths is None else lengths[row]
                times = range(steps)
                said = np.zeros(lstm.shape.output_size)
                for t in reversed(times) if backward else times:
                    begins = t + 1 if backward else t
                    if reset is not None and begins < steps and reset[begins, row]:
                        h[place, row], c[place, row], said = 0, 0, np.zeros_like(said)
                    if mask[t, row]:
                        given = h[None, place, row], c[None, place, row]
                        _, (h_n, c_n) = of_layer(above[t : t + 1, row], given)
                        h[place, row], c[place, row], said = h_n[0], c_n[0], h_n[0]
                    out[t, row] = said
            parts.append(out)
        above = np.concatenate(parts, axis=-1)
    return above, (h, c)


@pytest.mark.parametrize("given", ["alone", "lengths", "reset", "both"])
def test_steps_are_skipped(lstm, random, given):
    x, state, mask = normal(random, (T, B, 5), lstm.dtype.name), random_state(random, lstm, B), holes(random)
    options = {}
    if given in ("lengths", "both"):
        options["lengths"] = np.array([7, 5, 0, 6, 3])
    if given in ("reset", "both"):
        options["reset"] = random.random((T, B)) < 0.4
        options["reset"][0, :2] = options["reset"][-1, 2:] = True
    expected = step_by_step(lstm, x, state, mask, **options)
    x[~mask] = np.nan  # what is skipped is not read
    assert_close_answer(lstm(x, state, mask=mask, **options), expected, lstm.dtype.name)


def test_a_mask_of_padding_is_lengths(lstm, random):
    x, state, lengths = normal(random, (T, B, 5), lstm.dtype.name), random_state(random, lstm, B), [7, 0, 3, 6, 1]
    mask = np.arange(T)[:, None] < lengths
    out, last = lstm(x, state, mask=mask)
    expected, expected_last = lstm(x, state, lengths=lengths)
    out[~mask] = 0  # lengths give zeros past the end
    assert_same_answer((out, last), (expected, expected_last))


def test_layouts_and_out(default_lstm, random):
    x, mask = normal(random, (T, B, 5), "float32"), holes(random)
    out, state = default_lstm(x, mask=mask)
    by_row = lk.LSTM.from_config({**default_lstm.config(), "batch_first": True}, default_lstm.state_dict())
    wide = np.empty((B, T, default_lstm.out_features), "f4")
    got, got_state = by_row(x.swapaxes(0, 1), mask=mask.T, out=wide)
    assert got is wide
    assert_same_answer((got.swapaxes(0, 1), got_state), (out, state))
    for row in range(B):  # unbatched; a list
        alone, (h, c) = default_lstm(x[:, row], mask=mask[:, row].tolist())
        assert_same_answer((alone, (h, c)), (out[:, row], (state[0][:, row], state[1][:, row])))


@pytest.mark.parametrize("shape", [(0, 3), (4, 0)])
def test_empty(default_lstm, shape):
    out, (h, _) = default_lstm(np.zeros((*shape, 5), "f4"), mask=np.zeros(shape, bool))
    assert out.shape == (*shape, default_lstm.out_features)
    assert h.shape[1] == shape[1]


def test_a_learned_state_and_episodes(random):
    lstm = lk.LSTM(5, 3, initial_state=True, seed=0)
    x, mask, reset = normal(random, (6, 1, 5), "float32"), np.array([1, 0, 0, 1, 1, 0], bool), np.zeros(6, bool)
    reset[[2, 5]] = True
    out, (h, _) = lstm(x, mask=mask[:, None], reset=reset[:, None])
    assert_same_bits(out[[0, 1]], np.repeat(lstm(x[:1])[0], 2, axis=0), "first episode")
    assert not out[2].any()
    assert_same_bits(out[3:5], lstm(x[3:5])[0], "second episode")
    assert not out[5].any()
    assert_same_bits(h[:, 0], lstm.state_dict()["h_0"], "an episode of no step")


def test_a_stack(random):
    net = lk.Stack([lk.LSTM(4, 6, bidirectional=True, seed=0), lk.Dense(12, 5, "tanh", seed=1), lk.LSTM(5, 3, seed=2)])
    x, mask = normal(random, (T, B, 4), "float32"), holes(random)
    out, states = net(x, mask=mask)
    first, _ = net.layers[0](x, mask=mask)
    expected, last = net.layers[2](net.layers[1](first), mask=mask)
    assert_same_answer((out, states[1]), (expected, last))
    for row in range(B):
        alone, _ = net(x[mask[:, row], row])
        assert_close(out[mask[:, row], row], alone, "float32")


@pytest.mark.parametrize("name", ["one", "both", "back"])
def test_what_keras_gives(name, backend):
    golden = np.load(Path(__file__).parent / "goldens" / "keras_masks.npz")
    weights = {
        key.removeprefix(f"{name}."): golden[key] for key in golden if key.startswith(f"{name}.") and "_l0" in key
    }
    weights |= {key.replace("_ih", "_hh"): np.zeros_like(value) for key, value in weights.items() if "bias" in key}
    lstm = lk.LSTM(3, 4, bidirectional=name == "both", reverse=name == "back", batch_first=True, backend=backend)
    lstm.load_state_dict(weights)
    out, (h, c) = lstm(golden["x"], mask=golden["mask"])
    expected = golden[f"{name}.out"][:, :: -1 if name == "back" else 1]
    if name == "both":  # Keras's Bidirectional gives 0 at a skipped step
        out[~golden["mask"]] = 0
    assert_close(out, expected, "float32")
    assert_close(np.stack([h, c], axis=1).reshape(-1, 6, 4), golden[f"{name}.states"], "float32")


@pytest.mark.parametrize(
    ("mask", "error", "words"),
    [
        (np.ones((T, B)), TypeError, "mask: expected bool, got float64"),
        (np.ones((B, T), bool), ValueError, r"mask: expected shape \(T, B\) = \(7, 5\), got \(5, 7\)"),
        (np.ma.array(np.ones((T, B), bool), mask=True), TypeError, "mask: expected an array without a mask"),
        (True, ValueError, "mask: expected shape"),
    ],
)
def test_what_is_refused(default_lstm, mask, error, words):
    out = np.full((T, B, default_lstm.out_features), 7, "f4")
    with pytest.raises(error, match=words):
        default_lstm(np.zeros((T, B, 5), "f4"), mask=mask, out=out)
    assert (out == 7).all()


def test_out_overlaps_mask(default_lstm):
    shared = np.zeros((T, 1, default_lstm.out_features), "f4")
    with pytest.raises(ValueError, match="out: overlaps mask"):
        default_lstm(np.zeros((T, 1, 5), "f4"), mask=shared.view(bool)[:, :, 0], out=shared)


# ---------------------------------------------------------------- networks that expect a mask or lengths


def expecting(what):
    lstm = lk.LSTM(2, 3, seed=0)
    return lk.LSTM.from_config({**lstm.config(), "expects": what}, lstm.state_dict())


def copies(lstm, folder):
    path = folder / "net.safetensors"
    lk.save(lstm, path)
    yield from (lstm, copy.copy(lstm), copy.deepcopy(lstm), pickle.loads(pickle.dumps(lstm)), lk.load(path))
    lk.save(lk.Stack([lstm, lk.Dense(3, 1, seed=0)]), path)
    yield lk.load(path)


@pytest.mark.parametrize("what", EXPECTS)
def test_a_call_without_it_warns_every_time(what, tmp_path):
    x = np.zeros((4, 2, 2), "f4")
    for net in copies(expecting(what), tmp_path):
        for _ in range(2):
            with pytest.warns(RuntimeWarning, match="give ") as caught:
                net(x)
            assert caught[0].filename == __file__
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            net(x, mask=np.ones(x.shape[:-1], bool))  # the way out that the warning names
            net(x[:, 0], mask=np.ones(x[:, 0].shape[:-1], bool))
            net(x, lengths=[4, 4])
            net(x, mask=np.ones((4, 2), bool))
            net.stream(2)(x)  # a stream is given the steps that it takes


def test_forward_warns_of_what_it_takes():
    lstm, x = expecting("mask"), np.zeros((4, 2, 2), "f4")
    with pytest.warns(RuntimeWarning, match=r"forward takes only lengths=, .* give lengths=\[T, ...\]"):
        lstm.forward(x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lstm.forward(x, lengths=[4, 4])


def test_new_weights_change_nothing_of_it():
    lstm = expecting("mask")
    lstm.load_state_dict(lk.LSTM(2, 3, seed=1).state_dict())
    assert lstm.expects == "mask"


def test_only_these_can_be_expected():
    with pytest.raises(ValueError, match="expects: expected 'mask' or 'lengths' or None, got 'both'"):
        expecting("both")
