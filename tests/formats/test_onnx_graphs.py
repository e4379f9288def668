"""Graphs around ONNX's LSTM operator: chains, heads, outputs, bodies, nodes taken by name; against ONNX Runtime."""

from __future__ import annotations

import contextlib
import re
import warnings

import numpy as np
import pytest

import lstmkernel as lk
from lstmkernel.formats.onnx.follow import OPEN

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from onnx_models import as_outputs, close, lstm_node, model_of, numbers, parameters, run, saved  # noqa: E402


def test_separate_nodes_become_a_stack(tmp_path):
    first, second = parameters(3, 4), parameters(4, 6, seed=1)
    constants = {f"{name}{k}": part[name] for k, part in enumerate((first, second)) for name in "WRB"}
    constants |= {"axis": np.array([1]), "M": numbers(6, 2), "b": numbers(2), "last": numbers(2, 1)}
    nodes = [
        lstm_node("x", "lower", ("Y0",), ("W0", "R0", "B0"), hidden_size=4),
        helper.make_node("Squeeze", ["Y0", "axis"], ["y0"]),
        lstm_node("y0", "upper", ("Y1",), ("W1", "R1", "B1"), hidden_size=6),
        helper.make_node("Squeeze", ["Y1", "axis"], ["y1"]),
        helper.make_node("MatMul", ["y1", "M"], ["m"]),
        helper.make_node("Add", ["m", "b"], ["a"]),
        helper.make_node("Relu", ["a"], ["r"]),
        helper.make_node("MatMul", ["r", "last"], ["out"]),
    ]
    model = model_of(nodes, constants, outputs=("out",))
    stack = lk.load(saved(model, tmp_path))
    assert [type(layer).__name__ for layer in stack.layers] == ["LSTM", "LSTM", "Dense", "Dense"]
    assert [layer.activation for layer in stack.layers[2:]] == ["relu", "linear"]
    close(stack(numbers(5, 2, 3))[0], run(model, numbers(5, 2, 3))[0])


def softmax_model(opset, flat=False, **attributes):
    """An LSTM, a product over steps and rows (or over all rows of a matrix), and a softmax."""
    constants = {**{k: parameters()[k] for k in "WRB"}, "M": numbers(4, 5), "flat": np.array([-1, 4])}
    nodes = [
        lstm_node(hidden_size=4),
        helper.make_node("Squeeze", ["Y"], ["y"], axes=[1]),
        helper.make_node("Reshape", ["y", "flat"], ["rows"]),
        helper.make_node("MatMul", ["rows" if flat else "y", "M"], ["m"]),
        helper.make_node("Softmax", ["m"], ["out"], name="last", **attributes),
    ]
    if opset >= 13:  # Squeeze has its axes as an input since then
        constants["one"] = np.array([1])
        nodes[1] = helper.make_node("Squeeze", ["Y", "one"], ["y"])
    return model_of(nodes, constants, outputs=("out",), opset=opset)


@pytest.mark.parametrize("opset", [12, 13])
@pytest.mark.parametrize(
    "options",
    [{"axis": -1}, {"axis": 2}, {"axis": 1, "flat": True}, {"axis": -1, "flat": True}, {"flat": True}],
    ids=str,
)
def test_softmax_over_the_last_axis(tmp_path, opset, options):
    model, x = softmax_model(opset, **options), numbers(6, 3, 3)
    stack = lk.load(saved(model, tmp_path))
    assert stack.layers[1].activation == "softmax"
    (expected,) = run(model, x)
    close(stack(x)[0].reshape(expected.shape), expected)


@pytest.mark.parametrize("opset", [12, 13])
@pytest.mark.parametrize("options", [{}, {"axis": 1}, {"axis": 0}, {"axis": -2}, {"axis": 0, "flat": True}], ids=str)
def test_softmax_over_another_axis_or_more_than_one_is_refused(tmp_path, opset, options):
    """Opset 12 makes one row of steps and numbers where the axis is 1 or left out."""
    with pytest.raises(lk.FormatError, match="Softmax node 'last': axis: expected -1 or"):
        lk.load(saved(softmax_model(opset, **options), tmp_path))


def chain(*before, x="x", behind=(), outputs=("Y",), states=("h", "c"), h_rows=1, **constants):
    """Nodes, an LSTM whose X is ``x``, and nodes behind it."""
    shapes = {"x": ["T", "B", 3], "h": [h_rows, "B", 4], "c": [1, "B", 4]}
    parts = {k: parameters()[k] for k in "WRB"} | {name: np.array(value) for name, value in constants.items()}
    node = lstm_node(x, inputs=("W", "R", "B", "lengths" if "lengths" in parts else "", *states), hidden_size=4)
    return model_of([*before, node, *behind], parts, shapes, outputs)


def node(op, inputs, output, **attributes):
    return helper.make_node(op, inputs, [output], **attributes)


def two_lstms(lower, upper, *before, **constants):
    """One LSTM above the other, with their sequence_lens."""
    parts = {k: parameters()[k] for k in "WRB"} | {"W1": numbers(1, 16, 4), "axis": np.array([1]), **constants}
    nodes = [
        *before,
        lstm_node("x", "lower", ("Y0",), ("W", "R", "B", lower), hidden_size=4),
        node("Squeeze", ["Y0", "axis"], "y0"),
        lstm_node("y0", "upper", ("Y",), ("W1", "R", "B", upper), hidden_size=4),
    ]
    return model_of(nodes, parts, {"x": ["T", "B", 3], "lengths": ["B"], "others": ["B"]})


NO_CHAIN = {
    "a part of x": (
        lambda: chain(node("Slice", ["x", "b", "e", "a"], "part"), x="part", b=[0], e=[50], a=[0]),
        r"Slice node 'part': expected to take all .* got bounds \[0, 50\]",
    ),
    "the last 30 steps of x": (
        lambda: chain(node("Slice", ["x", "b", "e", "a"], "part"), x="part", b=[-30], e=[2**40], a=[0]),
        r"Slice node 'part': expected to take all .* got bounds \[-30, ",
    ),
    "the first 30 steps of a wide x": (
        lambda: model_of(
            [node("Slice", ["x", "b", "e", "a"], "part"), lstm_node("part", hidden_size=4)],
            {k: parameters(40)[k] for k in "WRB"} | {"b": np.array([0]), "e": np.array([30]), "a": np.array([0])},
            {"x": ["T", "B", 40]},
        ),
        r"Slice node 'part': expected to take all .* got bounds \[0, 30\]",
    ),
    "every other step": (
        lambda: chain(node("Slice", ["x", "b", "e", "a", "s"], "s2"), x="s2", b=[0], e=[2**40], a=[0], s=[2]),
        "X: expected all of the output",
    ),
    "x backwards": (
        lambda: chain(node("Slice", ["x", "b", "e", "a", "s"], "r"), x="r", b=[-1], e=[-(2**40)], a=[0], s=[-1]),
        "X: expected all of the output",
    ),
    "x rounded": (lambda: chain(node("Cast", ["x"], "i", to=TensorProto.INT32), x="i"), "Cast node 'i'"),
    "lengths that are constant": (
        lambda: chain(lengths=np.array([1, 2], "i4")),
        r"sequence_lens: expected an input .* got constants \[1, 2\]; make that input of the node empty",
    ),
    "lengths in another order": (
        lambda: two_lstms(
            *("turned", "turned", node("Slice", ["lengths", "b", "e", "a", "b"], "turned")),
            **{name: np.array([value]) for name, value in {"b": -1, "e": -(2**40), "a": 0}.items()},
        ),
        "sequence_lens: expected an input",
    ),
    "lengths of the lower LSTM alone": (lambda: two_lstms("lengths", ""), "'upper': sequence_lens: expected the same"),
    "lengths of the upper LSTM alone": (lambda: two_lstms("", "lengths"), "'upper': sequence_lens: expected the same"),
    "lengths of each its own": (lambda: two_lstms("lengths", "others"), "'upper': sequence_lens: expected the same"),
    "outputs backwards": (
        lambda: chain(
            behind=[node("Slice", ["Y", "b", "e", "a", "s"], "r")], outputs=("r",), b=[-1], e=[-(2**40)], a=[0], s=[-1]
        ),
        "graph output 'r': expected numbers in the order of the layers",
    ),
    "outputs rolled": (
        lambda: chain(behind=[node("Gather", ["Y", "places"], "r", axis=3)], outputs=("r",), places=[1, 2, 3, 0]),
        "graph output 'r': expected numbers in the order of the layers",
    ),
    "outputs twice": (
        lambda: chain(behind=[node("Concat", ["Y", "Y"], "r", axis=3)], outputs=("r",)),
        "graph output 'r': expected numbers in the order of the layers",
    ),
    "a head on steps backwards": (
        lambda: chain(
            behind=[node("Slice", ["Y", "b", "e", "a", "s"], "r"), node("MatMul", ["r", "M"], "m")],
            outputs=("m",),
            **{"b": [-1], "e": [-(2**40)], "a": [0], "s": [-1], "M": numbers(4, 2)},
        ),
        "graph output 'm': expected numbers in the order of the layers",
    ),
    "a product times 2": (
        lambda: chain(
            behind=[
                node("Squeeze", ["Y", "one"], "y"),
                node("Reshape", ["y", "flat"], "rows"),
                node("Gemm", ["rows", "M"], "out", alpha=2.0),
            ],
            outputs=("out",),
            one=[1],
            flat=[-1, 4],
            M=numbers(4, 2),
        ),
        "Gemm node 'out': expected alpha = beta = 1",
    ),
    "a size that is right by chance": (
        lambda: chain(node("Reshape", ["x", "shape"], "same"), x="same", shape=[*OPEN, 3]),
        "X: expected all of the output",
    ),
    "states in another order": (
        lambda: chain(
            node("Slice", ["h", "one", "two", "zero"], "h0"),
            node("Slice", ["h", "zero", "one", "zero"], "h1"),
            behind=[
                node("Squeeze", ["Y", "one"], "y"),
                lstm_node("y", "upper", ("Y1",), ("W1", "R", "B", "", "h1"), hidden_size=4),
            ],
            outputs=("Y1",),
            states=("h0", ""),
            h_rows=2,
            zero=[0],
            one=[1],
            two=[2],
            W1=numbers(1, 16, 4),
        ),
        "'upper': initial_h: expected the layer's own part",
    ),
    "a constant h and the caller's c": (
        lambda: chain(node("Expand", ["v", "s"], "h0"), states=("h0", "c"), v=numbers(1), s=[1, OPEN[1], 4]),
        "LSTM node 'lstm': initial states: expected all from constants or all from the caller",
    ),
    "x as the state": (lambda: chain(states=("x", "c")), "initial_h: expected a state for"),
    "one zero as the state": (
        lambda: chain(states=("none", "none"), none=np.float32(0)),
        "initial_h: expected floating-point numbers of shape",
    ),
}


@pytest.mark.parametrize("what", NO_CHAIN)
def test_what_is_no_chain_is_refused_by_name(tmp_path, what):
    make, message = NO_CHAIN[what]
    with pytest.raises(lk.FormatError, match=message):
        lk.load(saved(make(), tmp_path))


@pytest.mark.parametrize("what", NO_CHAIN)
def test_a_prefix_is_advised_where_it_loads_and_inspect_lists_the_same(tmp_path, what):
    path = saved(NO_CHAIN[what][0](), tmp_path)
    with pytest.raises(lk.FormatError) as error:
        lk.load(path)
    advised = re.findall(r"prefix='([^']+)'", str(error.value))
    contents = lk.inspect(path)
    assert [network.prefix for network in contents.networks] == advised
    assert str(error.value).removeprefix(f"{path}: ") in contents.notes[0]
    for prefix in advised:
        assert isinstance(lk.load(path, prefix=prefix), lk.LSTM)


def test_sizes_that_are_fixed_and_too_large_to_follow_need_not_matter(tmp_path):
    constants = {k: parameters(3, 120)[k] for k in "WRB"}
    path = saved(model_of([lstm_node(hidden_size=120)], constants, {"x": [5000, 62, 3]}), tmp_path)
    assert path.stat().st_size < 1 << 20
    assert lk.load(path).hidden_size == 120


LAYOUTS = {
    "rows first": [node("Transpose", ["Y"], "out", perm=[2, 0, 1, 3])],
    "steps last": [node("Transpose", ["Y"], "out", perm=[2, 1, 3, 0])],
    "steps and rows on one axis": [node("Reshape", ["Y", "flat"], "out")],
    "rows and steps on one axis": [
        node("Transpose", ["Y"], "turned", perm=[2, 0, 1, 3]),
        node("Reshape", ["turned", "flat"], "out"),
    ],
    "a direction": [node("Gather", ["Y", "one"], "out", axis=1)],
    "the last states of a row side by side": [
        node("Concat", ["Y_h", "Y_c"], "states", axis=0),
        node("Transpose", ["states"], "out", perm=[1, 0, 2]),
    ],
}


@pytest.mark.filterwarnings("ignore:.*the model gives only:RuntimeWarning")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_outputs_may_lie_in_any_order_of_their_axes(tmp_path, layout):
    constants = {k: parameters(D=2)[k] for k in "WRB"} | {"flat": np.array([-1, 8]), "one": np.array([1])}
    nodes = [lstm_node(hidden_size=4, direction="bidirectional"), *LAYOUTS[layout]]
    assert lk.load(saved(model_of(nodes, constants, outputs=("out",)), tmp_path)).bidirectional


LAST = "the model gives only the last step: net.last(x) gives that, net(x) gives every step"
STATES = "the model gives only the last states: h_n in what net(x) returns has them; out has every step"
PART = "the model gives only a part of the output: net(x) gives all of it, at every step"


@pytest.mark.parametrize(
    ("direction", "nodes", "outputs", "warning"),
    [
        ("forward", [], ("Y",), None),
        ("forward", [], ("Y", "Y_h"), None),
        ("forward", [], ("Y_h",), LAST),
        ("forward", [], ("Y_h", "Y_c"), LAST),
        ("forward", [], ("Y_c",), STATES),
        ("forward", [node("Gather", ["Y", "last"], "out", axis=0)], ("out",), LAST),
        ("forward", [node("Gather", ["Y", "first"], "out", axis=0)], ("out",), PART),
        ("forward", [node("Squeeze", ["Y_h", "first"], "h"), node("MatMul", ["h", "M"], "out")], ("out",), LAST),
        ("reverse", [], ("Y_h",), STATES),
        ("bidirectional", [], ("Y_h",), STATES),
        ("bidirectional", [], ("Y_h", "Y"), None),
        ("bidirectional", [node("Gather", ["Y", "last"], "out", axis=0)], ("out",), LAST),
    ],
)
def test_a_graph_that_gives_a_part_of_the_output_says_so(tmp_path, direction, nodes, outputs, warning):
    constants = {k: parameters(D=2 if direction == "bidirectional" else 1)[k] for k in "WRB"}
    constants |= {"last": np.array([-1]), "first": np.array([0]), "M": np.ones((4, 2), "f")}
    nodes = [lstm_node(hidden_size=4, direction=direction), *nodes]
    path = saved(model_of(nodes, constants, outputs=outputs), tmp_path)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        lk.load(path)
    assert [str(each.message).partition(": ")[2] for each in caught] == ([warning] if warning else [])
    assert [note for note in lk.inspect(path).notes if "gives only" in note] == ([warning] if warning else [])
    lk.load(path, prefix="lstm")  # an LSTM node by itself gives what it gives


BESIDE = {
    "a flag": [node("Identity", ["flag"], "f"), node("Where", ["f", "x", "x"], "e")],
    "a cast to bool": [node("Cast", ["k"], "f", to=TensorProto.BOOL), node("Where", ["f", "x", "x"], "e")],
    "sums of constants": [node("Add", ["k", "k"], "two"), node("Mul", ["x", "two"], "e")],
    "zeros beside constants": [
        node("Exp", ["x"], "e"),
        node("Shape", ["e"], "s"),
        node("ConstantOfShape", ["s"], "zeros"),
        node("Concat", ["zeros", "k"], "padded", axis=0),
    ],
    "a residual and a part of the output": [
        node("Exp", ["x"], "e"),
        node("Add", ["Y", "k"], "sum"),
        node("Concat", ["Y", "k"], "padded", axis=0),
        node("Slice", ["Y", "b", "e30"], "part"),
    ],
}


@pytest.mark.parametrize("what", BESIDE)
def test_beside_an_lstm_taken_by_name_there_may_be_anything(tmp_path, what):
    wanted = {k: parameters()[k] for k in "WRB"}
    constants = {"flag": np.array(True), "k": numbers(1, 1, 1), "b": np.array([0]), "e30": np.array([30])}
    nodes = [*BESIDE[what], lstm_node("e", hidden_size=4)]
    nodes.sort(key=lambda node: "Y" in node.input)
    lstm = lk.load(saved(model_of(nodes, wanted | constants), tmp_path), prefix="lstm")
    plain = lk.load(saved(model_of([lstm_node(hidden_size=4)], wanted), tmp_path, "plain.onnx"))
    for name, value in plain.state_dict().items():
        assert (lstm.state_dict()[name] == value).all(), name


BY_NAME = {
    "a state that is a sum of constants": (
        [node("Add", ["k", "k"], "h"), lstm_node("x", "rnn/0", inputs=("W", "R", "B", "", "h"), hidden_size=4)],
        "'rnn/0': initial_h: expected zeros, or constants",
    ),
    "a state that is a function of constants": (
        [node("Exp", ["k"], "h"), lstm_node("x", "rnn/0", inputs=("W", "R", "B", "", "h"), hidden_size=4)],
        "'rnn/0': initial_h: expected zeros, or constants",
    ),
    "a state of the LSTM below": (
        [
            lstm_node("x", "rnn/0", ("Y0", "h"), hidden_size=4),
            node("Squeeze", ["Y0", "one"], "y"),
            lstm_node("y", "rnn/1", inputs=("W1", "R", "B", "", "h"), hidden_size=4),
        ],
        "'rnn/1': initial_h: expected the layer's own part",
    ),
    "as many steps as are tried": (
        [
            lstm_node("x", "rnn/0", ("Y0",), hidden_size=4),
            node("Squeeze", ["Y0", "one"], "y"),
            node("Slice", ["y", "zero", "seventeen"], "part"),
            lstm_node("part", "rnn/1", inputs=("W1", "R", "B"), hidden_size=4),
        ],
        "'rnn/1': X: expected all of the output",
    ),
}


@pytest.mark.parametrize("what", BY_NAME)
def test_by_name_what_cannot_be_followed_is_not_taken_for_the_callers(tmp_path, what):
    nodes, message = BY_NAME[what]
    constants = {k: parameters()[k] for k in "WRB"} | {"k": numbers(1, 1, 4), "W1": numbers(1, 16, 4)}
    constants |= {"zero": np.array([0]), "one": np.array([1]), "seventeen": np.array([OPEN[0]])}
    with pytest.raises(lk.FormatError, match=message):
        lk.load(saved(model_of(nodes, constants), tmp_path), prefix="rnn")


@pytest.mark.parametrize("kind", ["If", "Loop"])
def test_lstms_in_bodies_by_name(tmp_path, kind):
    constants = {k: parameters()[k] for k in "WRB"}
    inner = [lstm_node(outputs=("inner",), hidden_size=4)]
    outputs = [helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)]
    if kind == "If":
        body = helper.make_graph(inner, "body", [], outputs)
        other = helper.make_graph(
            [helper.make_node("Identity", ["x"], ["same"])],
            "other",
            [],
            [helper.make_tensor_value_info("same", TensorProto.FLOAT, None)],
        )
        node = helper.make_node("If", ["chosen"], ["Y"], name="if", then_branch=body, else_branch=other)
        extra = {"chosen": np.array(True)}
    else:
        loop = [("i", TensorProto.INT64), ("going", TensorProto.BOOL)]
        ins = [helper.make_tensor_value_info(name, kind, []) for name, kind in loop]
        inner.append(helper.make_node("Identity", ["going"], ["on"]))
        outputs.insert(0, helper.make_tensor_value_info("on", TensorProto.BOOL, []))
        body = helper.make_graph(inner, "body", ins, outputs)
        node = helper.make_node("Loop", ["count", ""], ["Y"], name="loop", body=body)
        extra = {"count": np.array(2)}
    path = saved(model_of([node], {**constants, **extra}), tmp_path)
    with pytest.raises(lk.FormatError, match="no LSTM"):
        lk.load(path)
    lstm = lk.load(path, prefix="lstm")
    plain = model_of([lstm_node(hidden_size=4)], constants)
    close(as_outputs(lstm, numbers(5, 2, 3))[0], run(plain, numbers(5, 2, 3))[0])
    assert [network.prefix for network in lk.inspect(path).networks] == ["lstm"]


def if_model(then, otherwise, constants):
    """An If whose branches are lists of nodes that make "Y"."""
    made = [helper.make_tensor_value_info("Y", TensorProto.FLOAT, None)]
    branches = [helper.make_graph(nodes, name, [], made) for name, nodes in (("then", then), ("else", otherwise))]
    fork = helper.make_node("If", ["chosen"], ["Y"], name="if", then_branch=branches[0], else_branch=branches[1])
    return model_of([fork], {**constants, "chosen": np.array(True)})


def test_a_name_in_both_branches_is_ambiguous(tmp_path):
    constants = {k: parameters()[k] for k in "WRB"}
    path = saved(if_model([lstm_node(hidden_size=4)], [lstm_node(hidden_size=4)], constants), tmp_path)
    with pytest.raises(
        lk.FormatError, match="prefix 'lstm': expected LSTM nodes of one graph, got 2 with 'lstm', 'lstm'"
    ):
        lk.load(path, prefix="lstm")


def test_a_bodys_own_value_hides_a_constant_of_the_same_name_around_it(tmp_path):
    constants = {k: parameters()[k] for k in "WRB"} | {"h": numbers(1, 1, 4)}
    shadow = [node("Exp", ["x"], "h"), lstm_node(inputs=("W", "R", "B", "", "h"), hidden_size=4)]
    path = saved(if_model(shadow, [node("Identity", ["x"], "Y")], constants), tmp_path)
    with pytest.warns(RuntimeWarning, match="begins with 'h', which another part of the model computes"):
        assert not lk.load(path, prefix="lstm").initial_state


def filled(*values):
    """An LSTM whose states are side by side these numbers, in rows as x has them, which comes from another node."""
    parts = [f"h{place}" for place in range(len(values))]
    nodes = [
        helper.make_node("Exp", ["x"], ["e"]),
        helper.make_node("Shape", ["e"], ["s"]),
        helper.make_node("Gather", ["s", "one"], ["rows"], axis=0),
        helper.make_node("Concat", ["one", "rows", "width"], ["shape"], axis=0),
    ]
    for part, value in zip(parts, values, strict=True):
        number = numpy_helper.from_array(np.array([value], "f"))
        nodes.append(helper.make_node("ConstantOfShape", ["shape"], [part], value=number))
    nodes.append(helper.make_node("Concat", parts, ["joined"], axis=2))
    state = "joined" if len(values) > 1 else parts[0]
    nodes.append(lstm_node("e", inputs=("W", "R", "B", "", state, state), hidden_size=4))
    sizes = {"one": np.array([1]), "width": np.array([4 // len(values)])}
    return model_of(nodes, {k: parameters()[k] for k in "WRB"} | sizes)


@pytest.mark.parametrize("values", [(0.5,), (0.5, 0), (0, 0.5)])
def test_by_name_zeros_for_a_batch_that_is_not_known_yet_are_zeros_and_others_are_refused(tmp_path, values):
    """PyTorch makes zeros of x's shape, and x comes from what is not an LSTM."""
    zeros = saved(filled(*[0] * len(values)), tmp_path, "zeros.onnx")
    assert lk.load(zeros, prefix="lstm").hidden_size == 4
    with pytest.raises(lk.FormatError, match="initial_h: expected zeros"):
        lk.load(saved(filled(*values), tmp_path), prefix="lstm")


@pytest.mark.parametrize(("layout", "swaps", "told"), [(0, 0, False), (0, 1, True), (1, 0, True), (1, 1, False)])
def test_by_name_a_model_that_has_the_rows_first_is_told(tmp_path, layout, swaps, told):
    """By a Transpose somewhere before the node, or by the node's own layout."""
    nodes = [helper.make_node("Exp", ["x"], ["e"]), helper.make_node("Identity", ["e"], ["turned"])]
    if swaps:
        nodes[1] = helper.make_node("Transpose", ["e"], ["turned"], perm=[1, 0, 2])
    nodes += [helper.make_node("Relu", ["turned"], ["r"]), lstm_node("r", hidden_size=4, layout=layout)]
    path = saved(model_of(nodes, {k: parameters()[k] for k in "WRB"}), tmp_path)
    with pytest.warns(RuntimeWarning, match="the model has the rows first") if told else contextlib.nullcontext():
        lk.load(path, prefix="lstm")
    lk.load(path, prefix="lstm", batch_first=True)
