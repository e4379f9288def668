"""LSTM cells that are written out in ONNX as products, sigmoids and tanhs: told by what they compute; or no LSTM."""

from __future__ import annotations

import re

import numpy as np
import pytest

import lstmkernel as lk

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from onnx_models import close, dynamo, lstm_node, numbers, parameters, run, saved, torchscript  # noqa: E402

H = 4
NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
node = helper.make_node


def cell(
    order="ifgo",
    biases="both",
    product="Gemm",
    cut="Split",
    names="cell.{}",
    I=3,
    turned=False,
    more=(),
    outputs=("y",),
    **extra,
):
    """One step of an LSTM cell, x (B, I), h and c (B, H); each option is another way to write the same."""
    raw = {"weight_ih": numbers(4 * H, I), "weight_hh": numbers(4 * H, H, seed=1)}
    if biases in ("both", "one"):
        raw["bias_ih"] = numbers(4 * H, seed=2)
    if biases == "both":
        raw["bias_hh"] = numbers(4 * H, seed=3)
    called = dict(zip(raw, ["w0", "w1", "b0", "b1"], strict=False))
    called = {name: called.get(name, "") if names == "anything" else names.format(name) for name in NAMES}
    constants = {called[name]: value for name, value in raw.items()}

    def product_of(source, end, out):
        weight, bias = called[f"weight_{end}"], called[f"bias_{end}"]
        if product == "Gemm":
            return [node("Gemm", [source, weight, *([bias] if bias in constants else [])], [out], transB=1)]
        constants[weight] = np.ascontiguousarray(constants[weight].T)
        if bias not in constants:
            return [node("MatMul", [source, weight], [out])]
        return [node("MatMul", [source, weight], [f"{out}m"]), node("Add", [bias, f"{out}m"], [out])]

    parts = [*order]
    nodes = [
        *product_of("x", "ih", "a"),
        *product_of("h", "hh", "b"),
        node("Add", ["a", "b"][:: -1 if turned else 1], ["all"]),
    ]
    if cut == "Split":
        nodes.append(node("Split", ["all", "quarters"], parts, axis=-1))
        constants["quarters"] = np.full(4, H)
    else:
        constants["axis"] = np.array([1])
        for place, name in enumerate(parts):
            constants |= {f"s{place}": np.array([place * H]), f"e{place}": np.array([place * H + H])}
            nodes.append(node("Slice", ["all", f"s{place}", f"e{place}", "axis"], [name]))
    nodes += [node("Tanh" if name == "g" else "Sigmoid", [name], [f"{name}1"]) for name in "oigf"]
    pairs = [(["f1", "c"], "kept"), (["i1", "g1"], "written"), (["o1", "shown"], "y")]
    pairs = {out: names[:: -1 if turned else 1] for names, out in pairs}
    nodes += [node("Mul", pairs["kept"], ["kept"]), node("Mul", pairs["written"], ["written"])]
    nodes += [node("Add", ["written", "kept"], ["c1"]), node("Tanh", ["c1"], ["shown"])]
    nodes += [node("Mul", pairs["y"], ["y"], name="last"), *more]
    return model(nodes, {**constants, **extra}, outputs, I)


def model(nodes, constants, outputs, I=3, inputs=None):
    shapes = {"x": ["B", I], "h": ["B", H], "c": ["B", H]} if inputs is None else inputs
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)


def step(net, x, h, c):
    """The outputs y, h' and c' of one step."""
    y, (h1, c1) = net(x[None], (h[None], c[None]))
    return y[0], h1[0], c1[0]


def given(I=3, rows=2):
    return numbers(rows, I, seed=5), numbers(rows, H, seed=6), numbers(rows, H, seed=7)


WAYS = {
    "as PyTorch writes it": {},
    "one bias": {"biases": "one"},
    "no bias": {"biases": "none"},
    "MatMul and Add": {"product": "MatMul"},
    "MatMul alone": {"product": "MatMul", "biases": "none"},
    "Slice": {"cut": "Slice"},
    "gates in ONNX's order": {"order": "iogf"},
    "gates in TensorFlow's order": {"order": "igfo", "product": "MatMul", "biases": "one"},
    "factors the other way round": {"turned": True},
    "x as wide as h": {"I": H},
    "names of anything": {"names": "anything"},
}


@pytest.mark.parametrize("prefix", [None, "its own"])
@pytest.mark.parametrize("way", WAYS)
def test_a_cell_that_is_written_out(tmp_path, way, prefix):
    made, inputs = cell(**WAYS[way], outputs=("y", "c1")), given(WAYS[way].get("I", 3))
    path = saved(made, tmp_path)
    name = "last" if way == "names of anything" else "cell"
    net = lk.load(path, prefix=name if prefix else None)
    y, _, c1 = step(net, *inputs)
    for got, expected in zip((y, c1), run(made, *inputs), strict=True):
        close(got, expected)
    assert [network.prefix for network in lk.inspect(path).networks] == ["", name]


def test_x_as_wide_as_h_without_names_is_refused_unless_h_and_c_are_parts_of_one_value(tmp_path):
    made = cell(I=H, names="anything")
    with pytest.raises(lk.FormatError, match="no LSTM: expected an LSTM node, or a cell that is written out"):
        lk.load(saved(made, tmp_path))
    del made.graph.input[1:]
    made.graph.input.append(helper.make_tensor_value_info("state", TensorProto.FLOAT, [2, "B", H]))
    made.graph.initializer.extend([numpy_helper.from_array(np.array(k), f"k{k}") for k in (0, 1)])
    for k, name in enumerate("hc"):
        made.graph.node.insert(0, node("Gather", ["state", f"k{k}"], [name], axis=0))
    x, h, c = given(H)
    close(step(lk.load(saved(made, tmp_path), prefix="last"), x, h, c)[0], run(made, x, np.stack([h, c]))[0])


def test_a_head_above_a_cell(tmp_path):
    more = [node("MatMul", ["y", "M"], ["m"]), node("Sigmoid", ["m"], ["p"])]
    made, inputs = cell(more=more, outputs=("p", "y", "c1"), M=numbers(H, 2)), given()
    net = lk.load(saved(made, tmp_path))
    assert [type(layer).__name__ for layer in net.layers] == ["LSTM", "Dense"]
    y, _ = net(inputs[0][None], [(inputs[1][None], inputs[2][None])])
    close(y[0], run(made, *inputs)[0])


def test_a_value_inside_that_is_used_elsewhere_is_not_lost(tmp_path):
    path = saved(cell(outputs=("y", "f1")), tmp_path)
    with pytest.raises(lk.FormatError, match="choose an LSTM alone with prefix='cell'"):
        lk.load(path)
    assert lk.load(path, prefix="cell").hidden_size == H


def changed(find, replace):
    made = cell()
    for each in made.graph.node:
        for place, name in enumerate(each.input):
            if (each.output[0], name) == find:
                each.input[place] = replace
    return made


NO_CELL = {
    "h of another value": lambda: changed(("b", "h"), "c"),
    "a product times 2": lambda: edited(
        lambda m: m.graph.node[0].attribute.append(helper.make_attribute("alpha", 2.0))
    ),
    "columns that overlap": lambda: cell(cut="Slice", s1=np.array([1])),
    "rows instead of columns": lambda: edited(lambda m: setattr(m.graph.node[3].attribute[0], "i", 0)),
    "a relu": lambda: edited(lambda m: setattr(m.graph.node[4], "op_type", "Relu")),
}


def edited(change):
    made = cell()
    change(made)
    return made


@pytest.mark.parametrize("what", NO_CELL)
def test_what_is_no_cell_is_not_taken_for_one(tmp_path, what):
    path = saved(NO_CELL[what](), tmp_path)
    with pytest.raises(lk.FormatError, match="no LSTM"):
        lk.load(path)


def torch_cell(torch):
    class Step(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = torch.nn.LSTMCell(5, 7)

        def forward(self, x, h, c):
            return self.cell(x, (h, c))

    torch.manual_seed(1)
    return Step().eval()


def torch_loop(torch):
    class Loop(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = torch.nn.LSTMCell(5, 7)

        def forward(self, x, h, c):
            for t in range(3):
                h, c = self.cell(x[t], (h, c))
            return h, c

    torch.manual_seed(1)
    return Loop().eval()


@pytest.mark.slow
@pytest.mark.parametrize("exporter", [torchscript, dynamo])
def test_pytorchs_lstmcell(tmp_path, exporter):
    torch = pytest.importorskip("torch")
    x, h, c = numbers(2, 5), numbers(2, 7), numbers(2, 7, seed=1)
    data = exporter(torch_cell(torch), x, h, c)
    for prefix in (None, "cell"):
        y, _, c1 = step(lk.load(saved(data, tmp_path), prefix=prefix), x, h, c)
        for got, expected in zip((y, c1), run(data, x, h, c), strict=True):
            close(got, expected)
    steps = numbers(3, 2, 5)
    data = exporter(torch_loop(torch), steps, h, c)
    path = saved(data, tmp_path)
    with pytest.raises(lk.FormatError, match="choose an LSTM alone with prefix='cell'"):
        lk.load(path)
    _, (h1, c1) = lk.load(path, prefix="cell")(steps, (h[None], c[None]))
    for got, expected in zip((h1[0], c1[0]), run(data, steps, h, c), strict=True):
        close(got, expected)


# ---------------------------------------------------------------- no LSTM


def recurrent(op, gates, domain="", **attributes):
    constants = {"W": numbers(1, gates * H, 3), "R": numbers(1, gates * H, H)}
    made = node(op, ["x", "W", "R"], ["Y"], name="rnn", domain=domain, hidden_size=H, **attributes)
    return model([made], constants, ("Y",), inputs={"x": ["T", "B", 3]})


def branches(count=2):
    made = [helper.make_tensor_value_info("z", TensorProto.FLOAT, None)]
    bodies = [
        helper.make_graph([lstm_node(outputs=("z",), name=f"/{name}/LSTM", hidden_size=H)], name, [], made)
        for name in ("fast", "slow")
    ]
    fork = node("If", ["yes"], ["Y"], then_branch=bodies[0], else_branch=bodies[1])
    constants = {**{k: parameters()[k] for k in "WRB"}, "yes": np.array(True)}
    return model([fork], constants, ("Y",), inputs={"x": ["T", "B", 3]})


WITHOUT = {
    "a GRU": (lambda: recurrent("GRU", 3), "got GRU node 'rnn': a GRU, not an LSTM"),
    "an RNN": (lambda: recurrent("RNN", 1), "got RNN node 'rnn': a plain RNN"),
    "a quantized LSTM of numbers": (
        lambda: recurrent("DynamicQuantizeLSTM", 4, "com.microsoft"),
        "com.microsoft.DynamicQuantizeLSTM node 'rnn': W: expected constants, int8 or uint8, of 3",
    ),
    "another's LSTM": (lambda: recurrent("LSTMBlock", 4, "own"), "expected ONNX's own LSTM node, got own.LSTMBlock"),
    "LSTMs in branches": (
        branches,
        "no LSTM in the main graph: LSTM nodes in bodies of If: .*; choose an LSTM alone with prefix=",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", WITHOUT)
def test_what_is_there_instead_of_an_lstm_is_named(tmp_path, what):
    make, message = WITHOUT[what]
    path = saved(make(), tmp_path)
    with pytest.raises(lk.FormatError, match=message) as error:
        lk.load(path)
    for name in re.findall(r"prefix='([^']+)'", str(error.value)):
        assert isinstance(lk.load(path, prefix=name), lk.LSTM)
    assert ("prefix=" in str(error.value)) == bool(lk.inspect(path).networks)
