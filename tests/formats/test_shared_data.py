"""Networks and answers that nobody in this project made."""

import json

import numpy as np
import pytest
from helpers import TOLERANCE, assert_close_answer, definition

import lstmkernel as lk
from lstmkernel import backends

pytestmark = pytest.mark.usefixtures("data")


def load_json(path):
    return json.loads(path.read_text())


def within(got, expected, absolute):
    assert got.shape == expected.shape
    assert np.abs(got - expected).max() <= absolute


# ---------------------------------------------------------------- silero: a trained voice-activity model, real speech


@pytest.fixture(scope="module")
def silero_answers():
    """The definition's answer, once for each dtype of weights (they are the same numbers)."""
    return {}


@pytest.fixture
def silero(data, backend, dtype, silero_answers):
    path = data / "silero"
    lstm = lk.load(path / "silero_vad_16k.safetensors", prefix="lstm_cell", backend=backend, dtype=dtype)
    x = np.load(path / "speech_features.npy")
    if not silero_answers:
        silero_answers["double"] = definition(lstm)(x)
    return lstm, x, silero_answers["double"]


def test_silero_at_every_step(silero, dtype):
    lstm, x, expected = silero
    assert (lstm.input_size, lstm.hidden_size, x.shape) == (128, 128, (1874, 128))
    assert_close_answer(lstm(x), expected, dtype)


def test_silero_hears_speech_and_silence(silero, data, dtype):
    from safetensors.numpy import load_file

    tensors = load_file(data / "silero" / "silero_vad_16k.safetensors")
    lstm, x, (expected, _) = silero
    head = lk.Dense(128, 1, "sigmoid", dtype=dtype, backend=lstm.backend)
    head.load_state_dict({"weight": tensors["final_conv.weight"][:, :, 0], "bias": tensors["final_conv.bias"]})
    out, _ = lstm(x)
    probability = head(np.maximum(out, 0))[:, 0]
    assert probability.min() < 0.2
    assert probability.max() > 0.8
    weight, bias = tensors["final_conv.weight"][0, :, 0].astype(float), float(tensors["final_conv.bias"][0])
    reference = 1 / (1 + np.exp(-(np.maximum(expected, 0) @ weight + bias)))
    # An error of h meets 128 weights on its way to the head.
    allowed = TOLERANCE[dtype] * (1 + np.abs(weight).sum())
    assert np.abs(probability - reference).max() <= allowed


def test_silero_in_chunks_is_the_same(silero, dtype):
    lstm, x, expected = silero
    state, pieces = None, []
    for start in range(0, len(x), 31):
        out, state = lstm(x[start : start + 31], state)
        pieces.append(out)
    assert_close_answer((np.concatenate(pieces), state), expected, dtype)


def test_silero_frame_by_frame(silero):
    """60 s of speech, as it comes; in a pool, beside a stream that comes later."""
    lstm, x, _ = silero
    whole, _ = lstm(x)
    stream, pool, out = lstm.stream(), lstm.pool(2), np.empty((1, 128), lstm.dtype)
    frames = x.astype(lstm.dtype)
    first, late = pool.open(), 100
    for t, frame in enumerate(frames):
        stream.step(frame[None], out)
        if t == late:
            second = pool.open()
        ids = [first[0], second[0]] if t >= late else first
        y = pool.step(ids, frames[[t, t - late][: len(ids)]])
        expected = [whole[t], whole[t - late]][: len(ids)]
        if lstm.backend in backends.ONE_ANSWER:
            np.testing.assert_array_equal(out[0], whole[t])
            np.testing.assert_array_equal(y, expected)
        else:
            np.testing.assert_allclose(out[0], whole[t], rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


# ---------------------------------------------------------------- RTNeural: stacked networks of audio effects


def rtneural_vectors(data, name):
    x, y = (np.loadtxt(data / "rtneural" / f"{name}_{kind}_python.csv") for kind in "xy")
    return x[:, None], y[:, None]


def part(weights, prefix):
    return {name.removeprefix(prefix): np.asarray(value) for name, value in weights.items() if name.startswith(prefix)}


def test_rtneural_lstm_three_lstms_and_a_head(data, backend, dtype):
    """Unbatched, 1000 steps; outputs by PyTorch."""
    weights = load_json(data / "rtneural" / "lstm_torch.json")
    options = {"backend": backend, "dtype": dtype}
    net = lk.Stack([lk.LSTM(1, 8, **options), lk.LSTM(8, 8, 3, **options), lk.Dense(8, 1, **options)])
    for layer, prefix in zip(net.layers, ("lstm.", "lstm2.", "dense."), strict=True):
        layer.load_state_dict(part(weights, prefix))
    x, y = rtneural_vectors(data, "lstm_torch")
    assert x.shape == (1000, 1)
    within(net(x)[0], y, 1e-6)


def test_rtneural_through_from_torch(data, backend):
    weights = {name: np.asarray(value) for name, value in load_json(data / "rtneural" / "lstm_torch.json").items()}
    options = {"backend": backend, "dtype": "float32"}
    head = lk.Dense(8, 1, **options)
    head.load_state_dict(part(weights, "dense."))
    lstms = [lk.from_torch(weights, prefix=prefix, **options) for prefix in ("lstm", "lstm2")]
    x, y = rtneural_vectors(data, "lstm_torch")
    within(lk.Stack([*lstms, head])(x)[0], y, 1e-6)


def test_rtneural_lstm_by_keras(data, backend, dtype):
    """Kernels transposed, gates i, f, c, o, one bias."""
    layers = load_json(data / "rtneural" / "lstm_1d.json")["layers"]
    kernel, recurrent, bias = map(np.asarray, layers[0]["weights"])
    lstm, head = lk.LSTM(1, 8, backend=backend, dtype=dtype), lk.Dense(8, 1, backend=backend, dtype=dtype)
    lstm.load_state_dict(one_bias(kernel.T, recurrent.T, bias))
    weight, head_bias = map(np.asarray, layers[1]["weights"])
    head.load_state_dict({"weight": weight.T, "bias": head_bias})
    x, y = rtneural_vectors(data, "lstm_1d")
    within(lk.Stack([lstm, head])(x)[0], y, 1e-6)


def one_bias(w_ih, w_hh, bias):
    return {"weight_ih_l0": w_ih, "weight_hh_l0": w_hh, "bias_ih_l0": bias, "bias_hh_l0": np.zeros_like(bias)}


# ---------------------------------------------------------------- CMSIS-NN: weights gate by gate, odd sizes


@pytest.mark.parametrize("name", ["small", "medium", "match_1"])
def test_cmsis_nn(data, backend, dtype, name):
    """Computed by PyTorch in float32: 6e-8 off the float64 answer."""
    case = load_json(data / "cmsis_nn" / f"lstm_{name}_f32.json")
    config, arrays = case["config"], {key: np.asarray(value) for key, value in case["arrays"].items()}
    assert config["time_major"] == 1
    T, B, I, H = (config[key] for key in ("time_steps", "batch_size", "input_size", "hidden_size"))
    gates = ("input", "forget", "cell", "output")
    lstm = lk.LSTM(I, H, backend=backend, dtype=dtype)
    lstm.load_state_dict(
        one_bias(
            np.concatenate([arrays[f"{gate}_input_weights_data"].reshape(H, I) for gate in gates]),
            np.concatenate([arrays[f"{gate}_hidden_weights_data"].reshape(H, H) for gate in gates]),
            np.concatenate([arrays[f"{gate}_bias_data"] for gate in gates]),
        )
    )
    out, _ = lstm(arrays["input_data"].reshape(T, B, I))
    within(out, arrays["output_ref_data"].reshape(T, B, H), 5e-7)


# ---------------------------------------------------------------- ONNX: gates i, o, f, c; one axis for directions

ONNX_CASES = (
    "Backward_noPeephole",
    "ForwardHiddenState",
    "ForwardCellState",
    "ForwardSimpleWeightsNoBiasTwoRows",
    "ReverseSimpleWeightsNoBiasTwoRows",
    "BidirectionalSimpleWeightsNoBiasTwoRows",
)


def from_onnx(gates):
    """i, o, f, c -> i, f, c, o along the first axis."""
    i, o, f, c = np.split(gates, 4)
    return np.concatenate([i, f, c, o])


def onnx_parameters(W, R, B):
    """PyTorch's names of an ONNX LSTM's tensors; W (D, 4H, I), R (D, 4H, H), B (D, 8H) or None."""
    named = {}
    for direction, end in enumerate(("", "_reverse")[: len(W)]):
        named[f"weight_ih_l0{end}"] = from_onnx(W[direction])
        named[f"weight_hh_l0{end}"] = from_onnx(R[direction])
        if B is not None:
            for name, bias in zip(("bias_ih", "bias_hh"), np.split(B[direction], 2), strict=True):
                named[f"{name}_l0{end}"] = from_onnx(bias)
    return named


def array(case, name, *shape):
    return None if case[name] is None else np.reshape(case[name], shape).astype(float)


def test_all_of_onnxruntimes_cases_are_used(data):
    """None is a variant: no peepholes, clipping, coupled gates or other activations, which test_onnx_cases.py has."""
    cases = load_json(data / "onnxruntime" / "cases.json")["cases"]
    assert tuple(case["name"] for case in cases) == ONNX_CASES
    for case in cases:
        assert case["P"] is None
        assert case["sequence_lens"] is None
        assert not case["input_forget"]
        assert case["clip"] == 9999
        assert case["activations"] == ["sigmoid", "tanh", "tanh"] * case["num_directions"]


@pytest.mark.parametrize("name", ONNX_CASES)
def test_onnxruntime(data, backend, dtype, name):
    (case,) = [case for case in load_json(data / "onnxruntime" / "cases.json")["cases"] if case["name"] == name]
    T, B, I, H, D = (case[f"{k}"] for k in ("seq_length", "batch_size", "input_size", "hidden_size", "num_directions"))
    x = array(case, "X", T, B, I)
    parameters = onnx_parameters(
        array(case, "W", D, 4 * H, I), array(case, "R", D, 4 * H, H), array(case, "B", D, 8 * H)
    )
    lstm = lk.LSTM(I, H, bias=case["B"] is not None, bidirectional=D == 2, backend=backend, dtype=dtype)
    lstm.load_state_dict(parameters)
    zeros = np.zeros((D, B, H))
    state = [zeros if case[key] is None else array(case, key, D, B, H) for key in ("initial_h", "initial_c")]
    # A single reverse layer is a forward one on the sequence turned round.
    back = slice(None, None, -1 if case["direction"] == "reverse" else 1)
    out, (h, c) = lstm(x[back], state)
    within(out[back].reshape(T, B, D, H).swapaxes(1, 2), array(case, "Y", T, D, B, H), 5e-7)
    within(h, array(case, "Y_h", D, B, H), 5e-7)
    within(c, array(case, "Y_c", D, B, H), 5e-7)


@pytest.mark.parametrize("name", [name for name in ONNX_CASES if name[0] in "BR"])
def test_onnxruntime_in_the_reverse_direction(data, backend, dtype, name):
    """The last direction of each case as the reverse half of a bidirectional layer."""
    (case,) = [case for case in load_json(data / "onnxruntime" / "cases.json")["cases"] if case["name"] == name]
    T, B, I, H, D = (case[f"{k}"] for k in ("seq_length", "batch_size", "input_size", "hidden_size", "num_directions"))
    last = {"W": array(case, "W", D, 4 * H, I)[-1:], "R": array(case, "R", D, 4 * H, H)[-1:]}
    bias = None if case["B"] is None else array(case, "B", D, 8 * H)[-1:]
    one = onnx_parameters(last["W"], last["R"], bias)
    lstm = lk.LSTM(I, H, bias=bias is not None, bidirectional=True, backend=backend, dtype=dtype)
    lstm.load_state_dict({**one, **{f"{key}_reverse": value for key, value in one.items()}})
    out, (h, c) = lstm(array(case, "X", T, B, I))
    within(out[..., H:], array(case, "Y", T, D, B, H)[:, -1], 5e-7)
    within(h[1], array(case, "Y_h", D, B, H)[-1], 5e-7)
    within(c[1], array(case, "Y_c", D, B, H)[-1], 5e-7)


def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        value, shift, at = value | (byte & 127) << shift, shift + 7, at + 1
        if byte < 128:
            return value, at


def read_tensor(path):
    """A float tensor of an ONNX TensorProto: fields 1 dims, 2 data_type, 9 raw_data."""
    data, at, dims, raw = path.read_bytes(), 0, [], None
    while at < len(data):
        key, at = varint(data, at)
        value, at = varint(data, at)
        if key & 7 == 2:
            value, at = data[at : at + value], at + value
        if key >> 3 == 1:
            dims.append(value)
        elif key >> 3 == 2:
            assert value == 1, "not float32"
        elif key >> 3 == 9:
            raw = value
    return np.frombuffer(raw, "<f4").reshape(dims)


@pytest.mark.parametrize("name", ["seq_length", "with_initial_bias", "defaults"])
def test_onnx_node(data, backend, dtype, name):
    """Inputs X, W, R and B where there is one; the last h. Only seq_length has different numbers in a weight."""
    (folder,) = (data / "onnx_node").glob(f"branch_*/node/test_lstm_{name}/test_data_set_0")
    x, W, R, *rest = (read_tensor(path) for path in sorted(folder.glob("input_*.pb")))
    (h_expected,) = (read_tensor(path) for path in folder.glob("output_*.pb"))
    lstm = lk.LSTM(x.shape[2], R.shape[2], bias=bool(rest), backend=backend, dtype=dtype)
    lstm.load_state_dict(onnx_parameters(W, R, rest[0] if rest else None))
    _, (h, _) = lstm(x)
    within(h, h_expected, 5e-7)


# ---------------------------------------------------------------- goldens of other frameworks' own tests


def test_pytorchs_own_golden(data, backend, dtype):
    """Four printed digits."""
    golden = {
        k: np.array(v) for k, v in load_json(data / "goldens" / "check_output_values.json").items() if k != "note"
    }
    lstm = lk.LSTM(2, 2, backend=backend, dtype=dtype)
    lstm.load_state_dict({name: golden[name] for name in lstm.state_dict()})
    out, (h, c) = lstm(golden["x"])
    for got, name in ((out, "out"), (h, "h_n"), (c, "c_n")):
        within(got, golden[name], 0.5e-4 + 1e-6)


def keras(input_size, units, *, bias=0.03, forget_bias=1.0, **options):
    """Keras's LSTM of these tests: every weight the same."""
    lstm = lk.LSTM(input_size, units, bias=bias is not None, **options)
    parameters = {
        "weight_ih_l0": np.full((4 * units, input_size), 0.01),
        "weight_hh_l0": np.full((4 * units, units), 0.02),
    }
    if bias is not None:
        parameters["bias_ih_l0"] = np.full(4 * units, bias)
        parameters["bias_ih_l0"][units : 2 * units] = forget_bias
        parameters["bias_hh_l0"] = np.zeros(4 * units)
    lstm.load_state_dict(parameters)
    return lstm


def keras_last(lstm, x, state=None):
    """The last output of a batch-first x, and the states."""
    out, state = lstm(x.swapaxes(0, 1), state)
    return out[-1], state


def run_keras_case(name, options):
    long, square = np.arange(72.0).reshape(3, 6, 4), np.arange(24.0).reshape(2, 4, 3)
    if name == "default":
        return keras_last(keras(4, 3, **options), long)[0]
    if name == "go_backwards":
        return keras_last(keras(4, 3, **options), long[:, ::-1])[0]
    if name == "unit_forget_bias_False":
        return keras_last(keras(4, 3, forget_bias=0.03, **options), long)[0]
    if name == "use_bias_False":
        return keras_last(keras(4, 3, bias=None, **options), long)[0]
    if name == "stateful_second_call":
        lstm, x = keras(4, 4, **options), np.arange(24.0).reshape(2, 3, 4)
        return keras_last(lstm, x, keras_last(lstm, x)[1])[0]
    state = np.arange(4.0).reshape(1, 2, 2)
    if name == "initial_state":
        return keras_last(keras(3, 2, **options), square, (state, state))[0]
    if name == "initial_state_go_backwards":
        return keras_last(keras(3, 2, **options), square[:, ::-1], (state, state))[0]
    raise AssertionError(f"unknown case {name}")


KERAS_CASES = (
    *("default", "go_backwards", "unit_forget_bias_False", "use_bias_False"),
    *("stateful_second_call", "initial_state", "initial_state_go_backwards"),
)


@pytest.mark.parametrize("name", KERAS_CASES)
def test_keras(data, backend, dtype, name):
    cases = {case["name"]: case["expected"] for case in load_json(data / "goldens" / "keras_cases.json")["cases"]}
    within(run_keras_case(name, {"backend": backend, "dtype": dtype}), np.array(cases[name]), 5e-7)


def test_keras_masks_at_the_end_are_lengths(data, backend, dtype):
    """Three and two valid steps of four; Keras repeats the last output where out is 0 here."""
    cases = load_json(data / "goldens" / "keras_cases.json")["cases"]
    last, row_0 = (np.array(case["expected"]) for case in cases if case["name"].startswith("masking"))
    x = np.arange(24.0).reshape(2, 4, 3).swapaxes(0, 1)
    out, (h, _) = keras(3, 2, backend=backend, dtype=dtype)(x, lengths=[3, 2])
    within(h[0], last, 5e-7)
    within(out[:3, 0], row_0[:3], 5e-7)
    assert np.array_equal(row_0[3], row_0[2])
    assert not out[3].any()


def test_all_of_keras_cases_are_used(data):
    names = [case["name"] for case in load_json(data / "goldens" / "keras_cases.json")["cases"]]
    assert {name for name in names if not name.startswith("masking")} == set(KERAS_CASES)


def test_tflite(data, backend, dtype):
    golden = load_json(data / "goldens" / "tflite_plain.json")
    assert golden["cases"]
    for case in golden["cases"]:
        I, H, T, B = (case[key] for key in ("n_input", "n_cell", "seq", "batch"))
        lstm = lk.LSTM(I, H, backend=backend, dtype=dtype)
        lstm.load_state_dict(
            one_bias(
                np.concatenate([np.reshape(case["input_to"][gate], (H, I)) for gate in "ifgo"]),
                np.concatenate([np.reshape(case["recurrent_to"][gate], (H, H)) for gate in "ifgo"]),
                np.concatenate([case["bias"][gate] for gate in "ifgo"]),
            )
        )
        out, _ = lstm(np.reshape(case["x"], (T, B, I)))
        within(out, np.reshape(case["expected"], (T, B, H)), 1e-6)
