"""ONNX models with functions of their own: each call is replaced by the function's body; against ONNX Runtime."""

from __future__ import annotations

import io
import warnings
from itertools import pairwise

import numpy as np
import pytest

import lstmkernel as lk
from lstmkernel.formats.onnx import parse_budget

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
from onnx import TensorProto, helper  # noqa: E402
from onnx_models import as_outputs, close, lstm_node, model_of, numbers, parameters, run, saved, torch_net  # noqa: E402

OPSETS = [helper.make_opsetid("", 14), helper.make_opsetid("own", 1)]
WRB = {k: parameters()[k] for k in "WRB"}
node = helper.make_node


def function(name, inputs, outputs, nodes, attributes=(), defaults=(), opsets=OPSETS):
    return helper.make_function("own", name, inputs, outputs, nodes, opsets, list(attributes), list(defaults))


def with_functions(model, *functions):
    model.functions.extend(functions)
    model.opset_import.append(OPSETS[1])
    model.ir_version = 10
    return model


def call(function, inputs, outputs, name="call", **attributes):
    return node(function, inputs, outputs, name=name, domain="own", **attributes)


def attribute(name, refers, kind):
    made = onnx.AttributeProto(name=name, ref_attr_name=refers, type=kind)
    return made


def inner_lstm(x="x", Y="Y", **attributes):
    return lstm_node(x, "inner", (Y,), ("w", "r", "b"), **attributes)


LAYER = function("Layer", ["x", "w", "r", "b"], ["Y"], [inner_lstm(hidden_size=4)])
CALL = call("Layer", ["x", "W", "R", "B"], ["Y"])


def layer_of_attributes(**given):
    """The direction is the function's attribute, by default "reverse"."""
    made = inner_lstm(hidden_size=4)
    made.attribute.append(attribute("direction", "way", onnx.AttributeProto.STRING))
    default = [helper.make_attribute("way", "reverse")]
    return with_functions(
        model_of([call("Layer", ["x", "W", "R", "B"], ["Y"], **given)], WRB),
        function("Layer", ["x", "w", "r", "b"], ["Y"], [made], defaults=default),
    )


def nested():
    """A function that calls another twice, with values of the same names inside."""
    squeeze = node("Squeeze", ["Y"], ["y"])
    squeeze.input.append("axis")
    inner = function("Inner", ["x", "w", "r", "b", "axis"], ["y"], [inner_lstm(hidden_size=4), squeeze])
    outer = function(
        "Outer",
        ["x", "w", "u", "r", "b", "axis"],
        ["y"],
        [
            call("Inner", ["x", "w", "r", "b", "axis"], ["h"], "lower"),
            call("Inner", ["h", "u", "r", "b", "axis"], ["y"]),
        ],
    )
    made = node("Outer", ["x", "W", "U", "R", "B", "axis"], ["Y"], domain="own")
    return with_functions(model_of([made], {**WRB, "U": numbers(1, 16, 4), "axis": np.array([1])}), inner, outer)


def with_constants():
    """A bias that is a Constant of the function, and an optional input that the call leaves out."""
    bias = node("Constant", [], ["b"], value=onnx.numpy_helper.from_array(WRB["B"]))
    made = lstm_node("x", "inner", ("Y",), ("w", "r", "b", "", "h", "h"), hidden_size=4)
    layer = function("Layer", ["x", "w", "r", "h"], ["Y"], [bias, made])
    return with_functions(model_of([call("Layer", ["x", "W", "R"], ["Y"])], WRB), layer)


MODELS = {
    "the LSTM": lambda: with_functions(model_of([CALL], WRB), LAYER),
    "an attribute's default": layer_of_attributes,
    "an attribute of the call": lambda: layer_of_attributes(way="forward"),
    "functions in functions": nested,
    "constants inside": with_constants,
}


@pytest.mark.parametrize("what", MODELS)
def test_a_function_is_its_body(tmp_path, what):
    model, x = MODELS[what](), numbers(5, 2, 3)
    expected = run(model, x)[0]
    net = lk.load(saved(model, tmp_path))
    close(net(x)[0].reshape(expected.shape), expected)


def test_an_output_may_be_an_input(tmp_path):
    """ONNX Runtime does not run such a function."""
    same = function("Same", ["a"], ["a"], [node("Identity", ["a"], ["unused"])])
    model = with_functions(model_of([call("Same", ["x"], ["x1"]), lstm_node("x1", hidden_size=4)], WRB), same)
    x = numbers(5, 2, 3)
    close(as_outputs(lk.load(saved(model, tmp_path)), x)[0], run(model_of([lstm_node(hidden_size=4)], WRB), x)[0])


def test_the_lstm_of_a_function_has_the_calls_name_before_its_own(tmp_path):
    path, x = saved(MODELS["the LSTM"](), tmp_path), numbers(5, 2, 3)
    assert [network.prefix for network in lk.inspect(path).networks] == ["", "call/inner"]
    for prefix in ("call", "call/inner"):
        close(as_outputs(lk.load(path, prefix=prefix), x)[0], run(path.read_bytes(), x)[0])


def in_branches():
    """A function's If: its branches use the function's values, and are found by name."""
    made = [helper.make_tensor_value_info("z", TensorProto.FLOAT, None)]
    other = helper.make_graph([node("Identity", ["x"], ["z"])], "other", [], made)
    then = helper.make_graph([inner_lstm(Y="z", hidden_size=4)], "then", [], made)
    fork = node("If", ["yes"], ["Y"], then_branch=then, else_branch=other)
    layer = function("Layer", ["x", "w", "r", "b", "yes"], ["Y"], [fork])
    model = model_of([call("Layer", ["x", "W", "R", "B", "yes"], ["Y"])], {**WRB, "yes": np.array(True)})
    return with_functions(model, layer)


def test_bodies_in_functions(tmp_path):
    path, x = saved(in_branches(), tmp_path), numbers(5, 2, 3)
    close(as_outputs(lk.load(path, prefix="call/inner"), x)[0], run(path.read_bytes(), x)[0])


def ring():
    calls = {"A": "B", "B": "A"}
    made = [function(a, ["x"], ["y"], [node(b, ["x"], ["y"], domain="own")]) for a, b in calls.items()]
    return with_functions(model_of([call("A", ["x"], ["z"]), lstm_node(hidden_size=4)], WRB), *made)


def tower(depth):
    names = [f"F{k}" for k in range(depth + 1)]
    made = [function(a, ["x"], ["y"], [node(b, ["x"], ["y"], domain="own")]) for a, b in pairwise(names)]
    made.append(function(names[-1], ["x"], ["y"], [node("Identity", ["x"], ["y"])]))
    return with_functions(model_of([call("F0", ["x"], ["z"]), lstm_node("z", hidden_size=4)], WRB), *made)


def outside_of_a_function():
    made = lstm_node()
    made.attribute.append(attribute("hidden_size", "H", onnx.AttributeProto.INT))
    return model_of([made], WRB)


WRONG = {
    "a ring": (ring, "own.A node '.*': expected functions that do not call themselves"),
    "too deep": (lambda: tower(50), "expected at most 32 calls of functions in one another"),
    "the same function twice": (lambda: with_functions(MODELS["the LSTM"](), LAYER), "function 'Layer': expected one"),
    "more inputs than it has": (
        lambda: with_functions(model_of([call("Layer", ["x", "W", "R", "B", "x"], ["Y"])], WRB), LAYER),
        "own.Layer node 'call': expected at most 4 inputs and 1 outputs",
    ),
    "an attribute that it has not": (lambda: layer_of_attributes(speed=3), "the attributes of its function, got speed"),
    "an attribute of another type": (lambda: layer_of_attributes(way=3), "direction: expected a text, got an integer"),
    "a value of the graph around it": (
        lambda: with_functions(
            model_of([call("Layer", ["x"], ["Y"])], WRB),
            function("Layer", ["x"], ["Y"], [lstm_node(inputs=("W", "R"), outputs=("Y",), hidden_size=4)]),
        ),
        "made later or never",
    ),
    "an old opset": (
        lambda: with_functions(
            MODELS["the LSTM"](), function("Old", ["x"], ["x"], [], opsets=[helper.make_opsetid("", 3)])
        ),
        "function 'Old': opset_import: expected one ONNX opset in 7",
    ),
    "an attribute of no function": (outside_of_a_function, "hidden_size.*: expected a value, got an attribute of a"),
    "an operator that is not known": (
        lambda: model_of([node("Head", ["x"], ["z"], name="head", domain="own"), lstm_node("z", hidden_size=4)], WRB),
        "own.Head node 'head'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_function_is_refused_by_name(tmp_path, what):
    make, message = WRONG[what]
    path = saved(make(), tmp_path)
    with pytest.raises(lk.FormatError, match=message):
        lk.load(path)


def test_calls_in_one_another(tmp_path):
    assert lk.load(saved(tower(20), tmp_path)).hidden_size == 4


@pytest.mark.slow
def test_pytorchs_modules_as_functions(tmp_path):
    torch = pytest.importorskip("torch")
    net = torch_net(lambda torch, net, x: net.head(net.lstm(x)[0]), layers=2, bidirectional=True)
    file, x = io.BytesIO(), numbers(4, 2, 5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(net, (torch.from_numpy(x),), file, dynamo=False, export_modules_as_functions=True)
    assert onnx.load_from_string(file.getvalue()).functions
    loaded = lk.load(saved(file.getvalue(), tmp_path))
    close(loaded(x)[0], run(file.getvalue(), x)[0])


def test_training_and_everything_else_of_the_format_is_parsed(tmp_path):
    """The parse budget knows every message of onnx.proto, so that none is taken for another."""
    model = MODELS["the LSTM"]()
    training = model.training_info.add()
    training.algorithm.node.add(op_type="Identity", input=["x"], output=["y"])
    training.initialization.initializer.add(name="a" * 100, dims=[1], data_type=1, float_data=[1])
    model.metadata_props.add(key="k", value="v" * 100)
    model.functions[0].metadata_props.add(key="\x0a\xff", value="v" * 100)
    model.functions[0].value_info.add(name="x" * 40)
    assert lk.load(saved(model, tmp_path)).hidden_size == 4


def test_a_model_of_plain_numbers_is_not_counted_as_more(tmp_path):
    """float_data takes as much memory as in the file."""
    model = model_of([lstm_node(hidden_size=4)], WRB)
    extra = model.graph.initializer.add(name="large", dims=[6 << 20], data_type=1)
    extra.float_data.extend(np.zeros(6 << 20, "f4"))
    parse_budget.check(model.SerializeToString(), onnx.ModelProto.DESCRIPTOR)
