"""quantize(calibrate=): columns that make good, the moments that weigh them, layer by layer; the fewest bits."""

from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import assert_same_answer, assert_same_bits, normal
from networks import each, make, with_head

import lstmkernel as lk
from lstmkernel.certificate import Error
from lstmkernel.engine import calibration_data, column_rounding, fewest_bits, quantizing, second_moments, single_layers
from lstmkernel.engine.chain import Chain

ACTIVATIONS = ("int16", "int8")


def steady(random, T, B, I):
    """x (T, B, I) whose numbers tell much of each other, as those of real inputs do."""
    mixed = random.standard_normal((T, B, 3)) @ random.standard_normal((3, I))
    return (mixed + 0.1 * random.standard_normal((T, B, I))).astype("float32")


def rms(net, exact, x):
    return np.sqrt(np.mean((net(x)[0] - exact(x)[0]) ** 2))


def in_float64(net):
    if isinstance(net, lk.Stack):
        return lk.Stack([in_float64(layer) for layer in net], skip=net.skip)
    return type(net).from_config({**net.config(), "dtype": "float64"}, net.state_dict())


def assert_same_weights(got, expected):
    got, expected = got.stored(), expected.stored()
    assert list(got) == list(expected)
    for name, value in got.items():
        assert_same_bits(value, expected[name], name)


# ---------------------------------------------------------------- columns


def by_definition(weight, scale, moments):
    """Optimal Brain Surgeon's formula, with another inverse for each column."""
    K = len(moments)
    damped = moments / np.diag(moments).mean() + column_rounding.DAMPING * np.eye(K)
    left, values, rest = weight.copy(), np.zeros(weight.shape), list(np.argsort(-np.diag(moments), kind="stable"))
    while rest:
        inverse, j = np.linalg.inv(damped[np.ix_(rest, rest)]), rest[0]
        values[:, j] = np.clip(np.rint(left[:, j] / scale[:, j]), -127, 127)
        error = (left[:, j] - values[:, j] * scale[:, j]) / inverse[0, 0]
        left[:, rest] -= np.outer(error, inverse[0])
        rest = rest[1:]
    return values


@pytest.mark.parametrize("K", [1, 5, column_rounding.BLOCK + 3, 2 * column_rounding.BLOCK + 20])
def test_the_columns_to_come_make_good(random, K):
    weight, inputs = random.standard_normal((9, K)), steady(random, 3 * K, 1, K)[:, 0].astype("float64")
    scale = np.broadcast_to(np.abs(weight).max(axis=1, keepdims=True) / 127, weight.shape)
    moments = inputs.T @ inputs
    values = column_rounding.rounded(weight, scale, moments)
    assert values.dtype == np.int8
    assert np.array_equal(values, by_definition(weight, scale, moments))
    if K > 5:
        plain = np.rint(weight / scale)
        errors = [np.linalg.norm(inputs @ (weight - scale * rounded).T) for rounded in (values, plain)]
        assert errors[0] < 0.7 * errors[1]


def test_inputs_of_zeros_and_rows_of_zeros(random):
    weight = random.standard_normal((4, 6))
    weight[2] = 0
    scale = np.broadcast_to(np.abs(weight).max(axis=1, keepdims=True) / 127, weight.shape)
    plain = np.rint(np.divide(weight, scale, out=np.zeros_like(weight), where=scale > 0))
    assert np.array_equal(column_rounding.rounded(weight, scale, np.zeros((6, 6))), plain)
    moments = np.diag([1e-30, 0, 0, 1e-30, 0, 0])
    assert np.array_equal(column_rounding.rounded(weight, scale, moments), plain)


# ---------------------------------------------------------------- moments


def moments_by_definition(lstm, x, held_back, levels):
    """Of [x, h] and of o * tanh(c), one layer that runs forwards, step by step."""
    found = lk.trace(lstm, x)
    seen, hidden = [], []
    h = np.zeros((x.shape[1], lstm.engine.shape.output_size), "float32")
    for t, x_t in enumerate(x):
        for row in np.flatnonzero(~held_back[t]):
            a = np.abs(x_t[row]).max()
            b = 1 if not lstm.proj_size else np.abs(h[row]).max()
            x_seen = np.rint(x_t[row] * np.float32(levels / a)) * (a / levels)
            h_seen = np.rint(h[row] * np.float32(levels / b)) * (b / levels) if b else h[row]
            seen.append(np.concatenate([x_seen, h_seen]))
            hidden.append(np.rint((found.o[0, t, row] * np.tanh(found.c[0, t, row])) * levels) / levels)
        h = found.h[0, t]
    return [np.transpose(part) @ part / len(part) for part in (np.array(seen), np.array(hidden))]


@pytest.mark.parametrize("levels", [32767, 127])
@pytest.mark.parametrize("P", [0, 4])
@pytest.mark.parametrize("reverse", [False, True])
def test_the_moments_are_those_of_what_kernels_see(random, monkeypatch, levels, P, reverse):
    lstm, x = lk.LSTM(5, 9, proj_size=P, reverse=reverse, seed=1), normal(random, (33, 3, 5), "float32")
    chain = Chain.of(lstm.engine)
    data, (layer,) = calibration_data.checked(x, chain), single_layers.of_chain(chain)
    held_back, order = data.items[0].held_back(slice(0, len(x))), slice(None, None, -1 if reverse else 1)
    assert not np.array_equal(held_back, held_back[::-1])
    forwards = lk.LSTM(5, 9, proj_size=P, seed=1)
    both, hidden = moments_by_definition(forwards, x[order], held_back[order], levels)
    for chunk in (calibration_data.CHUNK, 500):
        monkeypatch.setattr(calibration_data, "CHUNK", chunk)
        ((got, of_hidden),) = second_moments.of_layer([], layer, data, levels, lambda steps: None)
        np.testing.assert_allclose(got, both, atol=2e-5 if levels > 127 else 2e-4)
        if P:
            np.testing.assert_allclose(of_hidden, hidden, atol=2e-5 if levels > 127 else 2e-4)
        else:
            assert of_hidden is None


def test_which_steps_are_held_back():
    """Every fifth tenth, which begins elsewhere in the next sequence; of short sequences every fifth."""
    x = np.zeros((20, 6, 1))
    held = calibration_data.Item(x, 0).held_back(slice(0, 20))
    assert np.flatnonzero(held[:, 0]).tolist() == [8, 9, 18, 19]
    assert np.flatnonzero(held[:, 1]).tolist() == [6, 7, 16, 17]
    assert np.array_equal(calibration_data.Item(x, 0).held_back(slice(7, 12)), held[7:12])
    assert np.array_equal(calibration_data.Item(x[:, :1], 1).held_back(slice(0, 20)), held[:, 1:2])
    short = calibration_data.Item(x[:9], 0).held_back(slice(0, 9))
    assert short.all(axis=0).tolist() == [False, False, False, False, True, False]
    assert short.any(axis=0).tolist() == short.all(axis=0).tolist()


# ---------------------------------------------------------------- whole networks


@each("plain", "two directions with a tail", "projected, two directions", "batch first", "reverse", "learned state")
@pytest.mark.parametrize("activations", ACTIVATIONS)
def test_less_error_on_other_data(random, network, activations):
    net = make(network)
    x, other = np.split(steady(random, 400, 4, net.input_size), 2)
    if net.batch_first:
        x, other = x.swapaxes(0, 1), other.swapaxes(0, 1)
    exact = in_float64(net)
    calibrated, plain = net.quantize("int8", activations, calibrate=x), net.quantize("int8", activations)
    assert (calibrated.precision, calibrated.activations) == ("int8", activations)
    assert calibrated.batch_first == net.batch_first
    less = 0.9 if activations == "int16" else 1.0  # here, 8-bit activations cause more of the error than weights
    assert rms(calibrated, exact, other) < less * rms(plain, exact, other)
    for name, value in calibrated.stored().items():
        if name.endswith("_scale") or name.startswith(("bias", "h_0", "c_0")):
            assert_same_bits(value, plain.stored()[name], name)


def only_layer(lstm, layer):
    """One layer of a float32 network, alone."""
    shape = lstm.engine.shape
    width = shape.layer_input_size(layer)
    alone = lk.LSTM(width, lstm.hidden_size, bidirectional=lstm.bidirectional, proj_size=lstm.proj_size)
    names = {name.replace("_l0", f"_l{layer}"): name for name in alone.state_dict()}
    alone.load_state_dict({name: lstm.state_dict()[own] for own, name in names.items()})
    return alone


@pytest.mark.parametrize("more", [{}, {"bidirectional": True}, {"bidirectional": True, "proj_size": 20}])
def test_a_layer_is_fitted_to_what_the_quantized_ones_below_give(random, more):
    net = lk.LSTM(5, 50, 2, seed=0, **more)
    x = steady(random, 60, 3, net.input_size)
    both = net.quantize("int8", "int8", calibrate=x)
    lower = only_layer(net, 0).quantize("int8", "int8", calibrate=x)
    upper = only_layer(net, 1).quantize("int8", "int8", calibrate=lower(x)[0])
    for layer, alone in enumerate((lower, upper)):
        for name, value in alone.stored().items():
            assert_same_bits(both.stored()[name.replace("_l0", f"_l{layer}")], value, name)
    exactly = only_layer(net, 1).quantize("int8", "int8", calibrate=only_layer(net, 0)(x)[0])
    assert any(not np.array_equal(value, exactly.stored()[name]) for name, value in upper.stored().items())


def test_dense_layers_between(random):
    layers = [lk.LSTM(4, 20, seed=0), lk.Dense(20, 7, "tanh", seed=1), lk.LSTM(7, 12, seed=2), lk.Dense(12, 3, seed=3)]
    net = lk.Stack(layers, skip=0.5)
    x = steady(random, 90, 2, 4)
    both = net.quantize("int8", calibrate=x)
    lower = net[0].quantize("int8", calibrate=x)
    upper = net[2].quantize("int8", calibrate=net[1](lower(x)[0]))
    assert_same_weights(both[0], lower)
    assert_same_weights(both[2], upper)
    assert both.skip == 0.5
    assert rms(both, in_float64(net), x) < rms(net.quantize("int8"), in_float64(net), x)
    before = both(x)[0]
    net.load_state_dict({name: value + 1 for name, value in net.state_dict().items()})
    assert_same_bits(both(x)[0], before, "after the first stack has other weights")


def test_the_same_from_an_array_a_list_and_an_iterator(random):
    lstm, x = lk.LSTM(5, 9, batch_first=True, seed=0), steady(random, 2, 40, 5)
    expected = lstm.quantize("int8", calibrate=x)
    assert_same_weights(lstm.quantize("int8", calibrate=x), expected)  # deterministic
    for given in (list(x), [x], iter(x), [x[:0], x[0], x[:, :0], x[1]], x.astype("float64"), x.tolist()):
        assert_same_weights(lstm.quantize("int8", calibrate=given), expected)
    unequal = lstm.quantize("int8", calibrate=[x[0], x[1, :17]])
    assert unequal.certificate.steps == 57
    assert unequal.certificate.rows == 2


def test_chunks_change_nothing_but_rounding(random, monkeypatch):
    lstm, x = lk.LSTM(5, 40, 2, seed=0), steady(random, 200, 2, 5)
    whole = lstm.quantize("int8", calibrate=x)
    monkeypatch.setattr(calibration_data, "CHUNK", 5000)
    chunked = lstm.quantize("int8", calibrate=x)
    for name, value in whole.stored().items():
        assert np.mean(value != chunked.stored()[name]) < 0.02, name
    assert chunked.certificate.out.rms == pytest.approx(whole.certificate.out.rms, rel=0.1)
    assert chunked.certificate.data == whole.certificate.data


def test_little_data(random):
    """One step; fewer steps than weights of a row; silence, which fits nothing."""
    lstm = lk.LSTM(30, 20, seed=0)
    for T in (1, 4):
        small = lstm.quantize("int8", calibrate=steady(random, T, 1, 30))
        assert np.isfinite(small(steady(random, 9, 1, 30))[0]).all()
    bare = lk.LSTM(30, 20, bias=False, seed=0)
    assert_same_weights(bare.quantize("int8", calibrate=np.zeros((20, 30))), bare.quantize("int8"))


def test_a_cell(random):
    cell, x = lk.LSTMCell(5, 20, seed=0), steady(random, 60, 4, 5)
    lstm = lk.from_torch(cell.state_dict())
    expected, small = lstm.quantize("int8", calibrate=x), cell.quantize("int8", calibrate=x)
    for name, value in small.stored().items():
        assert_same_bits(value, expected.stored()[name.replace("_scale", "") + "_l0" + "_scale" * ("scale" in name)])
    assert_same_bits(small(x[0])[0], expected(x[:1])[0][0])
    for rows in (x[0], [x, x[:, 0]], iter(x)):
        with pytest.raises(ValueError, match=r"^calibrate.*: expected shape \(T, B, I\), .* give x\[:, None\] for T"):
            cell.quantize("int8", calibrate=rows)


def test_float16_is_rounded_as_without_data(random):
    lstm, x = lk.LSTM(5, 9, 2, seed=0), steady(random, 20, 2, 5)
    small = lstm.quantize("float16", calibrate=x)
    assert_same_answer(small(x), lstm.quantize("float16")(x))
    assert small.certificate.fitted == 0
    assert small.certificate.measured == 40


def test_all_steps_are_reported_to_the_progress_bar(random, monkeypatch):
    shown = []

    @contextmanager
    def progress(what, total):
        done = []
        yield done.append
        shown.append((total, sum(done)))

    monkeypatch.setattr(quantizing, "progress", progress)
    net = with_head(make("two layers"))
    for precision, passes in (("int8", 3), ("float16", 1)):
        net.quantize(precision, calibrate=[steady(random, 30, 2, 5), steady(random, 3, 1, 5)])
        assert shown.pop() == (63 * passes, 63 * passes)
    data = [steady(random, 30, 2, 5), steady(random, 3, 1, 5)]
    small = net.quantize(
        weights="auto", max_error=0.9 * net.quantize("int8", calibrate=data).certificate.out.largest, calibrate=data
    )
    assert all(total == done for total, done in shown)
    last = 1 + [each.weights for network in small.engine.networks for each in network.precisions].count("int8")
    assert last == 2, "one layer of int8"
    assert shown.count((63 * last, 63 * last)) >= 1


@pytest.mark.parametrize(("activations", "least"), [("int16", 1.3e-3), ("int8", 2.6e-3)])
def test_speech(data, activations, least):
    """A trained network, fitted to the first half of a minute of speech: the error of the second half."""
    silero = lk.load(data / "silero" / "silero_vad_16k.safetensors", prefix="lstm_cell")
    x = np.load(data / "silero" / "speech_features.npy")
    half, exact = len(x) // 2, in_float64(silero)
    small, plain = silero.quantize("int8", activations, calibrate=x[:half]), silero.quantize("int8", activations)
    assert rms(small, exact, x[half:]) < least
    assert rms(plain, exact, x[half:]) > 1.6 * least
    assert small.certificate.out.rms == pytest.approx(rms(small, exact, x[half:]), rel=0.3)


# ---------------------------------------------------------------- the fewest bits


def test_the_fewest_bits(random):
    lstm, x = lk.LSTM(20, 40, seed=0), steady(random, 300, 2, 20)
    errors = {}
    for how in (("int8", "int8"), ("int8", "int16")):
        errors[how] = lstm.quantize(*how, calibrate=x).certificate.out.largest
    assert errors["int8", "int8"] > errors["int8", "int16"] > 1e-4
    for (weights, activations), bound in errors.items():
        small = lstm.quantize(weights="auto", max_error=bound, calibrate=x)
        assert (small.precision, small.activations) == (weights, activations)
        assert small.certificate.out.largest == bound
    less = lstm.quantize(weights="auto", max_error=0.99 * errors["int8", "int16"], calibrate=x)
    assert less.precision == "float16"
    nothing = lstm.quantize(weights="auto", max_error=2e-6, calibrate=x)
    assert nothing.precision == "float32"
    assert_same_answer(nothing(x), lstm(x))
    assert nothing.certificate.out.largest <= 2e-6
    with pytest.raises(
        ValueError, match=r"^max_error: expected at least \S+, by which the float32 network itself is off"
    ):
        lstm.quantize(weights="auto", max_error=1e-12, calibrate=x)


@pytest.mark.parametrize(
    "make_chain", [lambda: lk.Stack([lk.LSTM(4, 5), lk.Dense(5, 5), lk.LSTM(5, 50)]), lambda: lk.LSTM(4, 5, 2)]
)
def test_each_layer_gets_its_own(make_chain):
    """The one with the most weights is chosen for first, and the error is that of all. Both have more in the second."""
    chain = Chain.of(make_chain().engine)
    of = dict(zip(fewest_bits.LADDER, (0.4, 0.2, 0.1, 0.0), strict=True))
    tried = []

    def attempt(choice):
        assert choice not in tried
        tried.append(choice)
        error = Error(0.0, 0.01 + of[choice[0]] + of[choice[1]])
        return fewest_bits.Trial(choice, SimpleNamespace(out=error))

    few, more, half, all_bits = fewest_bits.LADDER
    for bound, expected, trials in [
        (0.9, (few, few), 1),
        (0.7, (more, few), 4),  # all alike: few, float32, more; then few above
        (0.42, (more, more), 5),
        (0.4, (half, more), 7),
        (0.15, (all_bits, half), 9),
        (0.05, (all_bits, all_bits), 10),
    ]:
        assert fewest_bits.fewest_bits(chain, bound, attempt).chain == expected, bound
        assert (tried[0], len(tried)) == ((few, few), trials), tried
        tried.clear()
    with pytest.raises(ValueError, match=r"^max_error: expected at least 0.01, .* got 0.009"):
        fewest_bits.fewest_bits(chain, 0.009, attempt)
    assert tried == [(few, few), (all_bits, all_bits)]


@pytest.mark.parametrize(
    "net",
    [lk.Stack([lk.LSTM(4, 20, seed=0), lk.LSTM(20, 12, seed=2)]), lk.LSTM(4, 20, 2, seed=0)],
    ids=["stack", "lstm"],
)
def test_a_network_within_a_bound(random, net):
    x = steady(random, 80, 2, 4)
    bound = 0.99 * net.quantize("int8", "int8", calibrate=x).certificate.out.largest
    small = net.quantize(weights="auto", max_error=bound, calibrate=x)
    assert small.certificate.out.largest <= bound
    precisions = [each for network in Chain.of(small.engine).networks for each in network.precisions]
    said = [f"{each.weights}, {each.activations} activations" for each in precisions]
    assert [layer.precision for layer in small.certificate.layers] == said
    assert len(set(said)) == 2
    assert (small.precision, small.activations) == ("int8", ", ".join(each.activations for each in precisions))


def test_fewest_bits_of_a_variant_and_of_large_weights(random):
    x = steady(random, 30, 2, 5)
    assert make("variant").quantize(weights="auto", max_error=1, calibrate=x).precision == "float16"
    lstm = lk.LSTM(5, 9, variant=lk.Variant(gate_clip=1.0), seed=0)
    lstm.load_state_dict({**lstm.state_dict(), "weight_ih_l0": np.full((36, 5), 1e5, "float32")})
    assert lstm.quantize(weights="auto", max_error=1, calibrate=x).precision == "float32"


def test_a_bound_for_a_precision(random):
    lstm, x = lk.LSTM(5, 9, seed=0), steady(random, 60, 2, 5)
    small = lstm.quantize("int8", calibrate=x, max_error=0.5)
    assert small.certificate.out.largest < 0.5
    wrong = (
        r"^max_error: expected an error of out of at most 1e-06, got \S+ \(rms \S+\) with 'int8', activations='int8'"
    )
    with pytest.raises(ValueError, match=wrong):
        lstm.quantize("int8", "int8", calibrate=x, max_error=1e-6)


# ---------------------------------------------------------------- refused


def test_data_that_is_not_finite(random):
    x = steady(random, 20, 3, 5)
    x[7, 1, 2] = np.nan
    for given, name, place in ((x, "calibrate", [7, 1, 2]), ([x[:5], x[:, 1]], r"calibrate\[1\]", [7, 2])):
        with pytest.raises(ValueError, match=rf"^{name}: expected finite numbers, got nan at \[{str(place)[1:-1]}\]"):
            lk.LSTM(5, 9).quantize("int8", calibrate=given)
    x[7, 1, 2] = -np.inf
    with pytest.raises(ValueError, match=r"^calibrate: expected finite numbers, got -inf"):
        lk.Stack([lk.LSTM(5, 9), lk.Dense(9, 1)]).quantize("float16", calibrate=x)


@pytest.mark.parametrize("given", [[], iter(()), np.zeros((0, 5)), np.zeros((3, 0, 5)), [np.zeros((0, 5))]])
def test_no_data(given):
    with pytest.raises(ValueError, match=r"^calibrate: expected at least one step, got none"):
        lk.LSTM(5, 9).quantize("int8", calibrate=given)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (np.zeros((3, 4)), ValueError, r"calibrate: expected shape \(T, B, I\) or \(T, I\) with I = 5, got \(3, 4\)"),
        ([np.zeros((3, 5)), np.zeros(5)], ValueError, r"calibrate\[1\]: expected shape .* got \(5,\)"),
        (["a"], TypeError, r"calibrate\[0\]: expected real numbers"),
        ("speech.npy", TypeError, "calibrate: expected an array, a list of arrays or an iterator, got str"),
        (np.zeros((3, 5), complex), TypeError, "calibrate: expected real numbers .* got complex128"),
    ],
)
def test_what_is_no_data(given, error, message):
    with pytest.raises(error, match=f"^{message}"):
        lk.LSTM(5, 9).quantize("int8", calibrate=given)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"precision": "int8", "max_error": 1}, ValueError, "max_error: expected calibrate= beside it"),
        ({"weights": "auto"}, ValueError, "weights: expected calibrate= and max_error= beside 'auto'"),
        ({"weights": "auto", "calibrate": np.zeros((3, 5))}, ValueError, "weights: expected calibrate= and max_error="),
        ({"weights": "int8"}, ValueError, "weights: expected 'auto' or None, got 'int8'; precision= names"),
        ({"weights": "auto", "precision": "int8"}, ValueError, "precision: expected None with weights='auto'"),
        ({"weights": "auto", "activations": "int8"}, ValueError, "activations: expected None with weights='auto'"),
        ({"calibrate": np.zeros((3, 5)), "max_error": 0}, ValueError, "max_error: expected a finite number above 0"),
        ({"calibrate": np.zeros((3, 5)), "max_error": np.nan}, ValueError, "max_error: expected a finite number"),
        ({"calibrate": np.zeros((3, 5)), "max_error": "1"}, TypeError, "max_error: expected a number, got str"),
        ({"calibrate": np.zeros((3, 5))}, TypeError, "precision: expected 'float16' or 'int8', got NoneType"),
    ],
)
def test_arguments_that_do_not_go_together(arguments, error, message):
    for net in (lk.LSTM(5, 9), lk.LSTMCell(5, 9), lk.Stack([lk.LSTM(5, 9)])):
        given = dict(arguments)
        if isinstance(net, lk.LSTMCell) and "calibrate" in given:
            given["calibrate"] = given["calibrate"][:, None]
        with pytest.raises(error, match=f"^{message}"):
            net.quantize(**given)


def test_networks_that_cannot_be_fitted():
    x = np.zeros((20, 5), "float32")
    lstm = lk.LSTM(5, 9, seed=0)
    for how in ("float16", "int8"):
        with pytest.raises(ValueError, match=f"^calibrate: expected a float32 network, .* got {how} weights"):
            lstm.quantize(how).quantize(how, calibrate=x)
    for how in ({"precision": "int8"}, {"weights": "auto", "max_error": 1}):
        with pytest.raises(
            ValueError, match=r"^dtype: expected a float32 network, to quantize it, got float64; save it"
        ):
            lk.LSTM(5, 9, dtype="float64").quantize(**how, calibrate=x)
    with pytest.raises(ValueError, match=r"^variant: expected a plain LSTM"):
        make("variant").quantize("int8", calibrate=x)
    lstm.load_state_dict({**lstm.state_dict(), "weight_hh_l0": np.full((36, 9), np.nan)})
    with pytest.raises(ValueError, match=r"^weight_hh_l0: expected finite numbers"):
        lstm.quantize("int8", calibrate=x)
    with pytest.raises(ValueError, match=r"^layers\[1\]: weight_hh_l0: expected finite numbers"):
        lk.Stack([lk.Dense(5, 5), lstm]).quantize("int8", calibrate=x)
    with pytest.raises(ValueError, match=r"^layers: expected an LSTM to quantize"):
        lk.Stack([lk.Dense(5, 5)]).quantize("int8", calibrate=x)


def test_data_on_which_a_network_is_not_finite():
    head = lk.Dense(9, 1)
    head.load_state_dict({"weight": np.full((1, 9), 3e38, "float32"), "bias": np.full(1, 3e38, "float32")})
    net = lk.Stack([lk.LSTM(5, 9, seed=0), head])
    with pytest.raises(ValueError, match=r"^calibrate: expected data on which the network stays finite"):
        net.quantize("float16", calibrate=100 * np.ones((20, 5)))
