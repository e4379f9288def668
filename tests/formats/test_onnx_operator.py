"""Everything of ONNX's LSTM operator, and how models build its inputs, against ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest

import lstmkernel as lk
from lstmkernel.formats.onnx import operator

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from onnx_models import as_outputs, close, lstm_node, model_of, numbers, parameters, run, saved  # noqa: E402

ATTRIBUTES = [
    {},
    {"direction": "reverse"},
    {"direction": "bidirectional"},
    {"input_forget": 1},
    {"activations": ["HardSigmoid", "Softsign", "Relu"], "activation_alpha": [0.3], "activation_beta": [0.4]},
    {"activations": ["Sigmoid", "ScaledTanh", "Elu"], "activation_alpha": [0.9, 0.7], "activation_beta": [1.2]},
    {"activations": ["Affine", "LeakyRelu", "tanh"], "activation_alpha": [0.5, 0.2], "activation_beta": [0.1]},
    {"activations": ["Softplus", "ThresholdedRelu", "Tanh"], "activation_alpha": [0.3]},
    {"activations": ["HardSigmoid", "Elu", "LeakyRelu"]},
    {"activations": ["HardSigmoid", "Elu", "LeakyRelu"], "activation_beta": [0.4]},
    {"activations": ["Sigmoid", "Tanh", "Tanh", "HardSigmoid", "Relu", "Softsign"], "direction": "bidirectional"},
]


@pytest.mark.parametrize("peephole", [False, True], ids=["", "peephole"])
@pytest.mark.parametrize("attributes", ATTRIBUTES, ids=str)
def test_everything_of_the_operator(tmp_path, attributes, peephole):
    D = 2 if attributes.get("direction") == "bidirectional" else 1
    constants = parameters(D=D)
    inputs = ("W", "R", "B", "lengths", "h", "c", "P")[: 7 if peephole else 6]
    constants = {name: value for name, value in constants.items() if name in inputs}
    node = lstm_node(inputs=inputs, hidden_size=4, **attributes)
    shapes = {"x": ["T", "B", 3], "lengths": ["B"], "h": [D, "B", 4], "c": [D, "B", 4]}
    model = model_of([node], constants, shapes, ("Y", "Y_h", "Y_c"))
    x, state = numbers(6, 3, 3), (numbers(D, 3, 4) / 2, numbers(D, 3, 4, seed=1) / 2)
    lstm = lk.load(saved(model, tmp_path))
    for lengths in ([6, 6, 6], [2, 6, 1]):
        given = {"x": x, "lengths": np.array(lengths, np.int32), "h": state[0], "c": state[1]}
        expected = run(model, *given.values(), names=list(given))
        for got, part in zip(as_outputs(lstm, x, state, lengths, D), expected, strict=True):
            close(got, part)


WRONG_NODES = {
    "an attribute of later": ({"gates": 4}, {}, "expected an LSTM's attributes and inputs, got gates"),
    "a direction": ({"direction": "backward"}, {}, "direction: expected one of forward, reverse, bidirectional"),
    "hidden_size": ({"hidden_size": 5}, {}, "hidden_size: expected 4, as in R, got 5"),
    "layout": ({"layout": 2}, {}, "layout: expected 0 or 1, got 2"),
    "a clip of nothing": ({"clip": 0.0}, {}, "gate_clip: expected more than 0"),
    "too few activations": ({"activations": ["Tanh"]}, {}, "activations: expected 3 of Affine"),
    "an unknown activation": ({"activations": ["Sigmoid", "Gelu", "Tanh"]}, {}, "got 'Sigmoid', 'Gelu', 'Tanh'"),
    "one alpha for all": ({"activation_alpha": 1.0}, {}, "activation_alpha: expected a list of floats, got a float"),
    "an alpha for no activation": ({"activation_alpha": [1.0]}, {}, "got more"),
    "a clip of integers": ({"clip": 3}, {}, "clip: expected a float, got an integer"),
    "alpha left over": ({"activations": ["Sigmoid", "Tanh", "Tanh"], "activation_alpha": [1.0]}, {}, "got more"),
    "no alpha": ({"activations": ["Sigmoid", "Affine", "Tanh"]}, {}, "expected alpha .* with affine"),
    "a GRU's W": ({}, {"W": numbers(1, 12, 3)}, r"W: expected shape \(1, 16, 3\), got \(1, 12, 3\)"),
    "a GRU's W and R": ({}, {"W": numbers(1, 12, 3), "R": numbers(1, 12, 4)}, "R: .*three gates, a GRU"),
    "one direction": ({"direction": "bidirectional"}, {}, r"R: expected shape \(2, 16, 4\), got \(1, 16, 4\)"),
    "half a bias": ({}, {"B": numbers(1, 16)}, r"B: expected shape \(1, 32\), got \(1, 16\)"),
    "W of integers": ({}, {"W": np.zeros((1, 16, 3), "i8")}, "W: expected floating-point numbers, got int64"),
    "no units": ({}, {"W": numbers(1, 0, 3), "R": numbers(1, 0, 0)}, r"expected W of shape \(D, 4H, I\)"),
}


@pytest.mark.parametrize("what", WRONG_NODES)
def test_a_wrong_node_is_refused_by_name(tmp_path, what):
    attributes, changed, message = WRONG_NODES[what]
    constants = {k: parameters()[k] for k in "WRB"} | changed
    path = saved(model_of([lstm_node(**{"hidden_size": 4, **attributes})], constants), tmp_path)
    for prefix in (None, "lstm"):
        with pytest.raises(lk.FormatError, match=message) as error:
            lk.load(path, prefix=prefix)
        assert str(path) in str(error.value)
        if "gate_clip" not in message:
            assert "LSTM node 'lstm'" in str(error.value)


def test_clip(tmp_path):
    """Small enough to clip gates of every kind, where the states go far beyond it."""
    constants = {name: 4 * value for name, value in parameters(D=2).items()}
    inputs = ("W", "R", "B", "", "", "", "P")
    node = lstm_node(inputs=inputs, hidden_size=4, clip=0.5, direction="bidirectional")
    model = model_of([node], constants, outputs=("Y", "Y_h", "Y_c"))
    x = numbers(9, 3, 3)
    got = as_outputs(lk.load(saved(model, tmp_path)), x, directions=2)
    assert np.abs(got[2]).max() > 0.5
    for part, expected in zip(got, run(model, x), strict=True):
        close(part, expected)


def test_without_sequence_lens_or_bias(tmp_path):
    model = model_of([lstm_node(inputs=("W", "R"), hidden_size=4)], {k: parameters()[k] for k in "WR"}, opset=7)
    lstm = lk.load(saved(model, tmp_path))
    assert not lstm.bias
    close(as_outputs(lstm, numbers(5, 2, 3))[0], run(model, numbers(5, 2, 3))[0])


@pytest.mark.parametrize("prefix", [None, "lstm"])
def test_weights_are_copied_once_though_the_graph_is_followed_twice(tmp_path, monkeypatch, prefix):
    read = []
    monkeypatch.setattr(
        operator, "lstm_node", lambda node, *rest, of=operator.lstm_node: read.append(node) or of(node, *rest)
    )
    lk.load(saved(model_of([lstm_node(hidden_size=4)], {k: parameters()[k] for k in "WRB"}), tmp_path), prefix=prefix)
    assert len(read) == 1


def test_layout_1_is_batch_first(tmp_path):
    """ONNX Runtime has only layout 0, so the same node is run with it."""
    constants = {k: parameters(D=2)[k] for k in "WRB"}
    options = {"hidden_size": 4, "direction": "bidirectional"}
    merged = helper.make_node("Reshape", ["Y", "shape"], ["out"])
    constants["shape"] = np.array([0, 0, 8])
    model = model_of([lstm_node(layout=1, **options), merged], constants, {"x": ["B", "T", 3]}, ("out", "Y_h"))
    lstm = lk.load(saved(model, tmp_path))
    assert lstm.batch_first
    x = numbers(5, 2, 3)
    expected = run(model_of([lstm_node(**options)], {k: constants[k] for k in "WRB"}), x)[0]
    close(lstm(x.swapaxes(0, 1))[0], expected.transpose(2, 0, 1, 3).reshape(2, 5, 8))


@pytest.mark.parametrize("prefix", [None, "lstm"])
def test_constant_states_in_both_layouts_and_by_name(tmp_path, prefix):
    """ONNX Runtime has only layout 0."""
    constants = {k: parameters(D=2)[k] for k in "WRB"} | {"h": numbers(2, 1, 4), "c": numbers(2, 1, 4, seed=1)}
    options = {"inputs": ("W", "R", "B", "", "h", "c"), "hidden_size": 4, "direction": "bidirectional"}
    model = model_of([lstm_node(**options)], constants, {"x": [5, 1, 3]}, ("Y", "Y_h", "Y_c"))
    x = numbers(5, 1, 3)
    expected = run(model, x)
    for got, part in zip(
        as_outputs(lk.load(saved(model, tmp_path), prefix=prefix), x, directions=2), expected, strict=True
    ):
        close(got, part)
    turned = constants | {name: constants[name].swapaxes(0, 1) for name in "hc"}
    rows_first = model_of([lstm_node(layout=1, **options)], turned, {"x": [1, 5, 3]}, ("Y", "Y_h"))
    lstm = lk.load(saved(rows_first, tmp_path), prefix=prefix, batch_first=False)
    for got, part in zip(as_outputs(lstm, x, directions=2), expected, strict=True):
        close(got, part)


@pytest.mark.parametrize("opset", [7, 10, 12, 13, 14, 22, onnx.defs.onnx_opset_version()])
def test_parameters_that_operators_build(tmp_path, opset):
    """Gates in separate tensors, each transposed, of another dtype or with an axis too few."""
    wanted = {k: parameters()[k] for k in "WRB"}
    constants, nodes = {"axis0": np.array([0])}, []

    def node(op, inputs, output, **attributes):
        nodes.append(helper.make_node(op, inputs, [output], **attributes))
        return output

    def unsqueezed(name, output):
        return (
            node("Unsqueeze", [name, "axis0"], output) if opset >= 13 else node("Unsqueeze", [name], output, axes=[0])
        )

    gates = [node("Identity", [f"W{gate}"], f"W_{gate}") for gate in range(4)]
    constants |= {f"W{gate}": part.T for gate, part in enumerate(np.split(wanted["W"][0], 4))}
    joined = node("Concat", gates, "W_joined", axis=1)
    unsqueezed(node("Transpose", [joined], "W_turned", perm=[1, 0]), "W")
    constants["R64"] = wanted["R"].astype(np.float64).ravel()
    node("Cast", ["R64"], "R32", to=TensorProto.FLOAT)
    node("Constant", [], "R_shape", value=numpy_helper.from_array(np.array([1, -1, 4])))
    node("Reshape", ["R32", "R_shape"], "R")
    constants["B_long"] = np.concatenate([numbers(5), wanted["B"][0], numbers(2)])
    if opset >= 10:
        constants |= {"begin": np.array([5]), "end": np.array([-2])}
        node("Slice", ["B_long", "begin", "end"], "B_row")
    else:
        node("Slice", ["B_long"], "B_row", starts=[5], ends=[-2])
    unsqueezed("B_row", "B")
    model = model_of([*nodes, lstm_node(hidden_size=4)], constants, opset=opset)
    lstm = lk.load(saved(model, tmp_path))
    plain = lk.load(saved(model_of([lstm_node(hidden_size=4)], wanted), tmp_path, "plain.onnx"))
    for name, value in plain.state_dict().items():
        assert (lstm.state_dict()[name] == value).all(), name


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
@pytest.mark.parametrize("raw", [True, False], ids=["raw", "fields"])
def test_dtypes_are_widened(tmp_path, dtype, raw):
    exact = {k: np.round(parameters()[k] * 16) / 16 for k in "WRB"}
    model = model_of([lstm_node(hidden_size=4)], exact)
    kind = TensorProto.DataType.Value({"float64": "DOUBLE"}.get(dtype, dtype.upper()))
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        narrow = values.astype(np.float32).view(np.uint32) >> 16 if dtype == "bfloat16" else values.astype(dtype)
        tensor.CopyFrom(TensorProto(name=tensor.name, dims=tensor.dims, data_type=kind))
        if raw:
            tensor.raw_data = narrow.astype("<u2" if dtype == "bfloat16" else narrow.dtype).tobytes()
        elif dtype == "float64":
            tensor.double_data.extend(narrow.ravel())
        else:
            tensor.int32_data.extend(narrow.view(np.uint16 if dtype == "float16" else np.uint32).ravel().tolist())
    lstm = lk.load(saved(model, tmp_path))
    assert lstm.dtype == np.dtype("float64" if dtype == "float64" else "float32")
    expected = lk.load(saved(model_of([lstm_node(hidden_size=4)], exact), tmp_path, "plain.onnx")).state_dict()
    for name, value in lstm.state_dict().items():
        assert (value == expected[name]).all(), name
