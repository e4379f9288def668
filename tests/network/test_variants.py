"""Variants of the cell, and reverse: every backend against a loop written from the formulas of docs/lstm.md, against
ONNX Runtime's operator, and C against Numba bit by bit.
"""

import copy

import numpy as np
import pytest
from helpers import (
    Watched,
    assert_close_answer,
    assert_same_answer,
    assert_same_bits,
    normal,
    random_state,
    sampled,
    usable,
)
from networks import each, make

import lstmkernel as lk
from lstmkernel.backends import ONE_ANSWER

OTHERS = ("hard_sigmoid", ("scaled_tanh", 1.7159, 0.6667), "softsign")
VARIANTS = {
    "peephole": {"peephole": True},
    "gate_clip": {"gate_clip": 0.2},
    "cell_clip": {"cell_clip": 0.15},
    "forget": {"coupled": "forget"},
    "input": {"coupled": "input"},
    "activations": {"activations": OTHERS},
    "forget and all": {
        "peephole": True,
        "gate_clip": 0.4,
        "cell_clip": 0.25,
        "coupled": "forget",
        "activations": OTHERS,
    },
    "input and all": {"peephole": True, "gate_clip": 0.3, "cell_clip": 0.2, "coupled": "input", "activations": OTHERS},
}
#: Each with numbers of its own, and its name in ONNX.
ACTIVATIONS = {
    "sigmoid": ("sigmoid", "Sigmoid"),
    "tanh": ("tanh", "Tanh"),
    "relu": ("relu", "Relu"),
    "softsign": ("softsign", "Softsign"),
    "softplus": ("softplus", "Softplus"),
    "affine": (("affine", 0.75, -0.25), "Affine"),
    "scaled_tanh": (("scaled_tanh", 1.5, 0.5), "ScaledTanh"),
    "hard_sigmoid": (("hard_sigmoid", 0.25, 0.375), "HardSigmoid"),
    "leaky_relu": (("leaky_relu", 0.125), "LeakyRelu"),
    "thresholded_relu": (("thresholded_relu", 0.25), "ThresholdedRelu"),
    "elu": (("elu", 1.25), "Elu"),
    "linear": ("linear", None),
}
every_network = each(
    "plain",
    "two directions with a tail",
    "reverse",
    "projected to a few",
    "without bias, projected, two directions",
)
FORMULAS = {
    "linear": lambda x: x,
    "sigmoid": lambda x: 1 / (1 + np.exp(np.minimum(-x, 700))),
    "tanh": np.tanh,
    "relu": lambda x: x * (x > 0),
    "softsign": lambda x: x / (1 + abs(x)),
    "softplus": lambda x: np.where(x > 30, x + np.exp(-abs(x)), np.log1p(np.exp(np.minimum(x, 30)))),
    "affine": lambda x, alpha, beta: alpha * x + beta,
    "scaled_tanh": lambda x, alpha, beta: alpha * np.tanh(beta * x),
    "hard_sigmoid": lambda x, alpha, beta: np.maximum(0, np.minimum(1, alpha * x + beta)),
    "leaky_relu": lambda x, alpha: np.where(x >= 0, x, alpha * x),
    "thresholded_relu": lambda x, alpha: np.where(x >= alpha, x, 0),
    "elu": lambda x, alpha: np.where(x >= 0, x, alpha * np.expm1(np.minimum(x, 0))),
}


def varied(network, variant, backend="auto", dtype="float32", **options):
    return make(network, backend, dtype, variant=lk.Variant(**VARIANTS[variant]), **options)


def activated(which, x):
    name, *numbers = (which,) if isinstance(which, str) else which
    return FORMULAS[name](x, *numbers)


def cell(variant, z, p, c):
    """One step of some units; z and p are given by gate. Returns h before the projection, and c."""
    gates, candidate, output = variant.activations[:3]
    most = np.inf if variant.gate_clip is None else variant.gate_clip
    clip = lambda v, limit: np.minimum(limit, np.maximum(-limit, v))  # noqa: E731
    i = activated(gates, clip(z["i"] + p["i"] * c, most))
    f = activated(gates, clip(z["f"] + p["f"] * c, most))
    i, f = {None: (i, f), "forget": (i, 1 - i), "input": (1 - f, f)}[variant.coupled]
    c = f * c + i * activated(candidate, clip(z["g"], most))
    if variant.cell_clip is not None:
        c = clip(c, variant.cell_clip)
    o = activated(gates, clip(z["o"] + p["o"] * c, most))
    return o * activated(output, c), c


def by_formulas(lstm, x, state, lengths=None, reset=None):
    """The answer in float64, row by row and step by step."""
    T, B, _ = x.shape
    s, named = lstm.shape, {name: value.astype(np.float64) for name, value in lstm.state_dict().items()}
    h_n, c_n = (part.astype(np.float64) for part in state)
    below = x.astype(np.float64)
    for layer in range(s.num_layers):
        above = np.zeros((T, B, s.directions, s.output_size))
        for direction in range(s.directions):
            end, place = s.suffix(layer, direction), layer * s.directions + direction
            backwards = s.reverse or direction == 1
            p = dict(zip("ifo", named.get(f"weight_peephole{end}", np.zeros((3, s.hidden_size))), strict=True))
            for b in range(B):
                times = range(T if lengths is None else lengths[b])
                for t in reversed(times) if backwards else times:
                    first = t + 1 if backwards else t  # of an episode: backwards, its last step comes first
                    if reset is not None and first in times and reset[first, b]:
                        h_n[place, b], c_n[place, b] = 0, 0
                    z = named[f"weight_ih{end}"] @ below[t, b] + named[f"weight_hh{end}"] @ h_n[place, b]
                    if s.bias:
                        z = z + named[f"bias_ih{end}"] + named[f"bias_hh{end}"]
                    h, c_n[place, b] = cell(lstm.variant or lk.Variant(), _by_gate(z), p, c_n[place, b])
                    h_n[place, b] = named[f"weight_hr{end}"] @ h if s.proj_size else h
                    above[t, b, direction] = h_n[place, b]
        below = above.reshape(T, B, -1)
    return below, (h_n, c_n)


def _by_gate(z):
    return dict(zip("ifgo", z.reshape(4, -1), strict=True))


# ---------------------------------------------------------------- against the formulas


@every_network
@pytest.mark.parametrize("variant", sampled(VARIANTS, "peephole", "forget and all", "input and all"))
def test_against_the_formulas(backend, dtype, random, variant, network):
    lstm = varied(network, variant, backend, dtype)
    x, state = normal(random, (6, 5, lstm.input_size), dtype), random_state(random, lstm, 5)
    assert_close_answer(lstm(x, state), by_formulas(lstm, x, state), dtype)


@every_network
def test_lengths_and_reset_against_the_formulas(backend, dtype, random, network):
    lstm = varied(network, "forget and all", backend, dtype)
    x, state = normal(random, (7, 6, lstm.input_size), dtype), random_state(random, lstm, 6)
    lengths, reset = np.array([3, 7, 0, 1, 6, 7]), random.random((7, 6)) < 0.3
    given = {"lengths": lengths}, {"reset": reset}, {"lengths": lengths, "reset": reset}
    for options in given:
        assert_close_answer(lstm(x, state, **options), by_formulas(lstm, x, state, **options), dtype)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_an_activation_of_the_gates_and_of_the_output(backend, dtype, random, activation):
    """Each direction with its own."""
    other = ACTIVATIONS[activation][0]
    variant = lk.Variant(activations=(other, "tanh", "linear", "sigmoid", "tanh", other))
    lstm = lk.LSTM(4, 6, bidirectional=True, variant=variant, dtype=dtype, backend=backend, seed=1)
    x, state = normal(random, (5, 3, 4), dtype), random_state(random, lstm, 3)
    out, (h, c) = lstm(x, state)
    forwards, backwards = (lk.Variant(activations=variant.activations[at : at + 3]) for at in (0, 3))
    for direction, (of, options) in enumerate(((forwards, {}), (backwards, {"reverse": True}))):
        one = lk.LSTM(4, 6, variant=of, dtype=dtype, **options)
        own = {n: v for n, v in lstm.state_dict().items() if n.endswith("_reverse") == bool(direction)}
        one.load_state_dict({name.removesuffix("_reverse"): value for name, value in own.items()})
        part = slice(direction, direction + 1)
        got = out[..., 6 * direction : 6 * direction + 6], (h[part], c[part])
        assert_close_answer(got, by_formulas(one, x, [each[part] for each in state]), dtype)


def candidate_of(x, activation, dtype, backend, **options):
    """activation(x) of each number, through a cell of one unit whose gates are 1. x and the result are batches."""
    variant = lk.Variant(**options, activations=(("affine", 0, 1), activation, "linear"))
    lstm = lk.LSTM(1, 1, bias=False, variant=variant, dtype=dtype, backend=backend)
    lstm.load_state_dict({"weight_ih_l0": np.array([[0.0], [0], [1], [0]]), "weight_hh_l0": np.zeros((4, 1))})
    out, (_, c) = lstm(np.asarray(x, dtype)[None, :, None])
    assert_same_bits(out, c)
    return c[0, :, 0]


# In units in the last place, where the result is not a difference. For tanh and sigmoid see test_activation.py, too.
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_how_exact_an_activation_is(compiled_backend, random, activation):
    which = ACTIVATIONS[activation][0]
    small = np.ldexp(random.uniform(1, 2, 500), random.integers(-30, 8, 500)).astype(np.float32)
    x = np.concatenate([small, -small, np.float32([0, 87, 88, 89, -87, -88, -89, 3e38, -3e38])])
    got, exact = candidate_of(x, which, "float32", compiled_backend), activated(which, x.astype(np.float64))
    limits = np.finfo(np.float32)
    ulp = np.spacing(np.abs(exact).clip(limits.tiny, limits.max).astype(np.float32)).astype(np.float64)
    if activation in ("affine", "hard_sigmoid"):  # their sums may cancel: of the larger part, then
        ulp = np.maximum(ulp, np.spacing(np.float32(abs(which[2]))))
    error = np.abs(got - exact) - 2 * limits.tiny  # next to denormals, zero will do
    worst = int(np.argmax(error / ulp))
    assert error[worst] <= 4 * ulp[worst], (x[worst], got[worst], exact[worst])


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_not_a_number_stays_one(backend, dtype, activation):
    got = candidate_of([1, np.nan, -1, 2], ACTIVATIONS[activation][0], dtype, backend)
    assert np.isnan(got).tolist() == [False, True, False, False]


def test_what_is_clipped_where(backend, dtype):
    x, activation = [3, -5, 0.25], ("affine", 4, 0)
    assert candidate_of(x, activation, dtype, backend, gate_clip=0.5).tolist() == [2, -2, 1]
    assert candidate_of(x, activation, dtype, backend, cell_clip=1.5).tolist() == [1.5, -1.5, 1]


# ---------------------------------------------------------------- bit-identical


@pytest.mark.parametrize("batch", [1, 2, 13, 100])
@every_network
def test_the_bits_of_every_backend(dtype, random, network, batch):
    names = usable(ONE_ANSWER)
    for variant in VARIANTS:
        lstms = [varied(network, variant, name, dtype) for name in names]
        x, state = normal(random, (5, batch, lstms[0].input_size), dtype), random_state(random, lstms[0], batch)
        lengths = random.integers(0, 6, batch)
        first, *others = [(lstm(x, state), lstm(x, state, lengths=lengths)) for lstm in lstms]
        for name, other in zip(names[1:], others, strict=True):
            for got, expected in zip(other, first, strict=True):
                assert_same_answer(got, expected, f"{name}, {variant}")


def test_the_bits_of_every_activation(dtype, random):
    x = np.concatenate([20 * normal(random, (300,), dtype), np.array([0, 1e-30, -1e-30, 200, -200], dtype)])
    first, *others = names = usable(ONE_ANSWER)
    for activation, (which, _) in ACTIVATIONS.items():
        expected = candidate_of(x, which, dtype, first)
        for name in others:
            assert_same_bits(candidate_of(x, which, dtype, name), expected, f"{activation}, {name} of {names}")


@each("plain", "projected to a few")
def test_rows_alone_chunks_and_streams(compiled_backend, dtype, random, network):
    lstm = varied(network, "forget and all", compiled_backend, dtype)
    x = normal(random, (12, 7, lstm.input_size), dtype)
    out, (h, c) = whole = lstm(x)
    for b in range(7):
        alone = lstm(x[:, b : b + 1])
        assert_same_answer(alone, (out[:, b : b + 1], (h[:, b : b + 1], c[:, b : b + 1])), f"row {b}")
    stream = lstm.stream(batch_size=7)
    parts = [stream(x[:5]), stream.step(x[5])[None], stream(x[6:])]
    assert_same_answer((np.concatenate(parts), stream.state), whole, "stream")
    pool = lstm.pool(9)
    ids = pool.open(7)
    assert_same_bits(np.stack([pool.step(ids, x_t) for x_t in x]), out, "pool")


@pytest.mark.parametrize("batch", [1, 40])
def test_the_bits_of_any_number_of_threads(compiled_backend, random, batch):
    for variant, options in (("input and all", {}), ("peephole", {"num_layers": 2, "reverse": True})):
        more = {"backend": compiled_backend, "hidden_size": 150, **options}
        one, two = (varied("plain", variant, num_threads=threads, **more) for threads in (1, 2))
        x = normal(random, (20, batch, 5), "float32")
        assert_same_answer(two(x), one(x), variant)


# ---------------------------------------------------------------- reverse


@pytest.mark.parametrize("variant", ["peephole", None])
def test_reverse_is_forwards_over_the_reversed_sequence(compiled_backend, dtype, random, variant):
    of = variant and lk.Variant(**VARIANTS[variant])
    options = {"num_layers": 3, "dtype": dtype, "backend": compiled_backend, "seed": 8, "variant": of}
    forwards, backwards = lk.LSTM(5, 11, **options), lk.LSTM(5, 11, reverse=True, **options)
    x, lengths = normal(random, (9, 6, 5), dtype), np.array([9, 4, 0, 7, 1, 9])
    reversed_x = x.copy()
    for b, length in enumerate(lengths):
        reversed_x[:length, b] = x[:length, b][::-1]
    expected, state = forwards(reversed_x, lengths=lengths)
    out = expected.copy()
    for b, length in enumerate(lengths):
        out[:length, b] = expected[:length, b][::-1]
    assert_same_answer(backwards(x, lengths=lengths), (out, state))
    whole, whole_state = forwards(x[::-1])
    assert_same_answer(backwards(x), (whole[::-1], whole_state))


@pytest.mark.parametrize("T", [40, 700])
def test_reverse_in_several_calls_of_the_kernels(backend, random, T):
    lstm = make("reverse", backend)
    x, state = normal(random, (T, 3, 5), "float32"), random_state(random, lstm, 3)
    lengths, reset = np.array([T, T // 2, T - 1]), random.random((T, 3)) < 0.1
    whole = lstm(x, state, lengths=lengths, reset=reset)
    kernels = Watched(backend, min_gflops=3e-4)
    in_parts = make("reverse", kernels.name, num_threads=1)(x, state, lengths=lengths, reset=reset)
    assert len(kernels.of("lstm_forward")) > 3
    if backend == "numpy":
        assert_close_answer(in_parts, whole, "float32")
    else:
        assert_same_answer(in_parts, whole)
    if T == 40:
        assert_close_answer(whole, by_formulas(lstm, x, state, lengths, reset), "float32")


def test_reverse_over_many_chunks_on_numpy(random):
    """What a layer hands to the next one is more than NumPy holds at a time."""
    x, lengths = normal(random, (800, 100, 5), "float32"), random.integers(0, 801, 100)
    assert_close_answer(make("reverse", "numpy")(x, lengths=lengths), make("reverse")(x, lengths=lengths), "float32")


def test_streams_know_no_future():
    lstm = lk.LSTM(2, 3, reverse=True)
    for begin in (lstm.stream, lambda: lstm.pool(3)):
        with pytest.raises(ValueError, match="needs the whole sequence first"):
            begin()


# ---------------------------------------------------------------- ONNX Runtime's operator


def onnx_answer(lstm, x, lengths=None):
    """ONNX orders gates i, o, f, c, and peepholes i, o, f."""
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    H, D, v, named = lstm.hidden_size, lstm.shape.directions, lstm.variant, lstm.state_dict()
    ends = [lstm.shape.suffix(0, direction) for direction in range(D)]

    def gates(name):
        return np.stack([named[name + end].reshape(4, H, -1)[[0, 3, 1, 2]].reshape(4 * H, -1) for end in ends])

    weights = {"W": gates("weight_ih"), "R": gates("weight_hh")}
    weights["B"] = np.concatenate([gates("bias_ih"), gates("bias_hh")], axis=1)[..., 0]
    reads = ["x", "W", "R", "B", "lengths" if lengths is not None else "", "", "", "P" if v.peephole else ""]
    if v.peephole:
        weights["P"] = np.stack([named[f"weight_peephole{end}"][[0, 2, 1]].reshape(3 * H) for end in ends])
    way = "reverse" if lstm.reverse else "bidirectional" if D == 2 else "forward"
    attributes = {"hidden_size": H, "direction": way, "input_forget": int(v.coupled == "forget")}
    if v.gate_clip is not None:
        attributes["clip"] = v.gate_clip
    names = {which[0] if isinstance(which, tuple) else which: onnx_name for which, onnx_name in ACTIVATIONS.values()}
    chosen = [(which,) if isinstance(which, str) else which for which in v.activations] * (D * 3 // len(v.activations))
    attributes["activations"] = [names[name] for name, *_ in chosen]
    alpha, beta = ([numbers[at] for _, *numbers in chosen if len(numbers) > at] for at in (0, 1))
    if alpha:
        attributes["activation_alpha"] = alpha
    if beta:
        attributes["activation_beta"] = beta
    node = onnx.helper.make_node("LSTM", reads, ["Y", "Y_h", "Y_c"], **attributes)
    value = lambda name, kind: onnx.helper.make_tensor_value_info(name, kind, None)  # noqa: E731
    feeds = {"x": x} if lengths is None else {"x": x, "lengths": lengths.astype(np.int32)}
    kinds = {"x": onnx.TensorProto.FLOAT, "lengths": onnx.TensorProto.INT32}
    constants = [onnx.numpy_helper.from_array(array, name) for name, array in weights.items()]
    outputs = [value(name, onnx.TensorProto.FLOAT) for name in ("Y", "Y_h", "Y_c")]
    graph = onnx.helper.make_graph([node], "lstm", [value(name, kinds[name]) for name in feeds], outputs, constants)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    session = runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    y, h, c = session.run(None, feeds)
    return y.transpose(0, 2, 1, 3).reshape(*x.shape[:2], -1), (h, c)


#: The variants that the operator has. It cannot clip the cell state, and couples gates in one way only.
ONNX_VARIANTS = {
    "peephole": {"peephole": True},
    "clip": {"gate_clip": 0.3},
    "input_forget": {"coupled": "forget"},
    "peephole and input_forget": {"peephole": True, "coupled": "forget"},
    "peephole and clip": {"peephole": True, "gate_clip": 0.3},
    "all": {"peephole": True, "gate_clip": 0.3, "coupled": "forget", "activations": OTHERS},
}


@pytest.mark.parametrize("way", [{}, {"reverse": True}, {"bidirectional": True}], ids=["forward", "reverse", "both"])
@pytest.mark.parametrize("variant", ONNX_VARIANTS)
def test_against_onnx_runtime(random, variant, way):
    lstm = lk.LSTM(5, 9, variant=lk.Variant(**ONNX_VARIANTS[variant]), seed=2, **way)
    x, lengths = normal(random, (6, 4, 5), "float32"), np.array([6, 2, 5, 1])
    assert_close_answer(lstm(x), onnx_answer(lstm, x), "float32")
    assert_close_answer(lstm(x, lengths=lengths), onnx_answer(lstm, x, lengths), "float32")


@pytest.mark.parametrize("activation", [name for name, (_, onnx_name) in ACTIVATIONS.items() if onnx_name])
def test_activations_against_onnx_runtime(random, activation):
    which = ACTIVATIONS[activation][0]
    for activations in ((which, "tanh", "tanh"), ("sigmoid", which, "tanh"), ("sigmoid", "tanh", which)):
        lstm = lk.LSTM(5, 9, variant=lk.Variant(activations=activations), seed=2)
        if lstm.variant is not None:
            x = normal(random, (6, 4, 5), "float32")
            assert_close_answer(lstm(x), onnx_answer(lstm, x), "float32")


# ---------------------------------------------------------------- the options


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"gate_clip": 0}, ValueError, "gate_clip: expected more than 0"),
        ({"cell_clip": -1}, ValueError, "cell_clip: expected more than 0"),
        ({"cell_clip": float("nan")}, ValueError, "cell_clip: expected a finite number"),
        ({"gate_clip": "1"}, TypeError, "gate_clip: expected a number, got '1'"),
        ({"coupled": "output"}, ValueError, "coupled: expected None, 'forget' or 'input', got 'output'"),
        ({"activations": "tanh"}, ValueError, "activations: expected three"),
        ({"activations": ["tanh"] * 4}, ValueError, "activations: expected three"),
        ({"activations": ("sigmoid", "gelu", "tanh")}, ValueError, r"activations\[1\]: expected one of linear"),
        (
            {"activations": ("sigmoid", "tanh", ("tanh", 1))},
            ValueError,
            r"activations\[2\]: expected at most 0 numbers",
        ),
        ({"activations": (("elu", None), "tanh", "tanh")}, TypeError, r"activations\[0\], elu: expected a number"),
    ],
)
def test_what_a_variant_refuses(options, error, message):
    with pytest.raises(error, match=message):
        lk.Variant(**options)


def test_what_a_layer_refuses():
    six = lk.Variant(activations=("sigmoid", "tanh", "tanh", "sigmoid", "relu", "tanh"))
    with pytest.raises(ValueError, match="activations: expected three, for there is no second direction, got six"):
        lk.LSTM(2, 3, variant=six)
    with pytest.raises(ValueError, match="reverse: expected False with bidirectional=True"):
        lk.LSTM(2, 3, bidirectional=True, reverse=True)
    with pytest.raises(TypeError, match="variant: expected a Variant or None, got str"):
        lk.LSTM(2, 3, variant="peephole")
    lstm = lk.LSTM(2, 3, variant=lk.Variant(peephole=True))
    with pytest.raises(ValueError, match="state_dict: missing weight_peephole_l0"):
        lstm.load_state_dict(lk.LSTM(2, 3).state_dict())


@pytest.mark.parametrize(
    ("options", "name"), [({"variant": lk.Variant(cell_clip=3)}, "variant"), ({"reverse": True}, "reverse")]
)
def test_forward_refuses_what_has_no_backward_pass(backend, options, name):
    with pytest.raises(ValueError, match=f"{name}: expected a plain LSTM that runs forwards"):
        lk.LSTM(2, 3, backend=backend, **options).forward(np.zeros((4, 1, 2)))


def test_the_plain_lstm_is_no_variant():
    for variant in (None, lk.Variant(), lk.Variant(activations=["sigmoid", "tanh", "tanh"] * 2), {}):
        assert lk.LSTM(2, 3, variant=variant).variant is None


def test_a_copy_and_a_file_keep_the_options(tmp_path, random):
    x = normal(random, (4, 2, 5), "float32")
    for variant in VARIANTS:
        lstm = varied("reverse", variant)
        lk.save(lstm, tmp_path / "net.safetensors")
        for other in (copy.deepcopy(lstm), lk.load(tmp_path / "net.safetensors")):
            assert (other.variant, other.reverse) == (lstm.variant, True)
            assert_same_answer(other(x), lstm(x), variant)
