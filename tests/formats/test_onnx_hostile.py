"""ONNX models that are broken, lie or ask for too much, and their external data, which must stay in their folder."""

from __future__ import annotations

import os
import re
import sys
from itertools import pairwise

import numpy as np
import pytest
from fuzz_targets import onnx_target
from hostile import assert_refused_wherever_cut, assert_survives_changed_bytes, in_little_memory

import lstmkernel as lk

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from onnx_models import lstm_node, model_of, numbers, parameters, saved  # noqa: E402


def good():
    return model_of([lstm_node(hidden_size=4)], {k: parameters()[k] for k in "WRB"})


@pytest.mark.slow
def test_cut_anywhere_or_changed(tmp_path):
    target = onnx_target()
    assert_refused_wherever_cut(target, tmp_path)
    assert_survives_changed_bytes(target, tmp_path)


# ---------------------------------------------------------------- external data


def outside(folder, location="weights.bin", offset=0, length=None, **entries):
    """The good model with W's data in a file of its own; what is said of the file may be anything."""
    model = good()
    tensor = next(each for each in model.graph.initializer if each.name == "W")
    data = tensor.raw_data
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    told = {"location": location, "offset": str(offset), "length": str(len(data) if length is None else length)}
    for key, value in {**told, **entries}.items():
        tensor.external_data.add(key=key, value=value)
    (folder / "weights.bin").write_bytes(data)
    return saved(model, folder)


def test_external_data_in_the_folder_and_below(tmp_path):
    expected = lk.load(saved(good(), tmp_path)).state_dict()
    for location in ("weights.bin", "below/weights.bin"):
        path = outside(tmp_path, location)
        if "/" in location:
            (tmp_path / "below").mkdir()
            (tmp_path / "weights.bin").rename(tmp_path / location)
        for name, value in lk.load(path).state_dict().items():
            assert (value == expected[name]).all(), name


def test_external_data_as_onnx_writes_it(tmp_path):
    model = model_of([lstm_node(hidden_size=64)], {k: parameters(3, 64)[k] for k in "WRB"})
    expected = lk.load(saved(model, tmp_path)).state_dict()
    onnx.save_model(model, tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    assert (tmp_path / "m.onnx").stat().st_size < 2000
    for name, value in lk.load(tmp_path / "m.onnx").state_dict().items():
        assert (value == expected[name]).all(), name


IN_FOLDER = "expected a file in the model's folder"
ELSEWHERE = {
    "above": ({"location": "../weights.bin"}, IN_FOLDER),
    "above, later": ({"location": "below/../../weights.bin"}, IN_FOLDER),
    "above, on Windows": ({"location": "..\\weights.bin"}, IN_FOLDER),
    "absolute": ({"location": "/etc/hostname"}, IN_FOLDER),
    "absolute, on Windows": ({"location": "C:\\weights.bin"}, IN_FOLDER),
    "nowhere": ({"location": ""}, IN_FOLDER),
    "a name that ends early": ({"location": "weights.bin\0.txt"}, IN_FOLDER),
    "missing": ({"location": "none.bin"}, "No such file"),
    "a folder": ({"location": "folder"}, "Is a directory"),
    "a pipe": ({"location": "pipe"}, "expected a regular file"),
    "a link": ({"location": "link.bin"}, "got a link"),
    "a folder that is a link": ({"location": "linked/weights.bin"}, "got a link"),
    "beyond its end": ({"offset": 4}, "expected 192 bytes from 4 on, got a file of 192"),
    "far beyond its end": ({"offset": 2**63}, f"from {2**63} on"),
    "before its beginning": ({"offset": -4}, "expected a number for offset, got '-4'"),
    "no number": ({"offset": "1e3"}, "expected a number for offset"),
    "too little": ({"length": 188}, "expected 192 bytes .* got 188"),
    "too much": ({"length": 2**60}, "expected 192 bytes .* got 1152921504606846976"),
}


@pytest.mark.parametrize("what", ELSEWHERE)
def test_external_data_elsewhere_or_of_another_size(tmp_path, what):
    """Where it points to exists: what makes the error is that it is there."""
    told, message = ELSEWHERE[what]
    folder = tmp_path / "models"
    for each in (folder, folder / "folder", folder / "below", tmp_path / "other"):
        each.mkdir()
    os.mkfifo(folder / "pipe")
    (folder / "link.bin").symlink_to(tmp_path / "weights.bin")
    (folder / "linked").symlink_to(tmp_path / "other")
    path = outside(folder, **told)
    for place in (tmp_path, tmp_path / "other"):
        (place / "weights.bin").write_bytes((folder / "weights.bin").read_bytes())
    with pytest.raises(lk.FormatError, match=message) as error:
        lk.load(path)
    assert "W: " in str(error.value)
    lk.inspect(path)  # says what it can


# ---------------------------------------------------------------- tensors and graphs that lie


def spoiled(name="W", **fields):
    """The good model with fields of one tensor changed; None clears one."""
    model = good()
    tensor = next(each for each in model.graph.initializer if each.name == name)
    for field, value in fields.items():
        tensor.ClearField(field)
        if isinstance(value, list):
            getattr(tensor, field).extend(value)
        elif value is not None:
            setattr(tensor, field, value)
    return model


def edited(change):
    model = good()
    change(model)
    return model


def node_of(op, *, domain=""):
    def change(model):
        model.graph.node[0].op_type, model.graph.node[0].domain = op, domain

    return lambda: edited(change)


def nodes_before(*nodes, **constants):
    """The good model with nodes that make its W."""
    return lambda: model_of(
        [*nodes, lstm_node(hidden_size=4)], {**{k: parameters()[k] for k in "RB"}, **constants}, opset=13
    )


def chain(op, count, *more):
    """A node that reads the node before it, over and over."""
    names = ["s", *(f"v{k}" for k in range(count - 1)), "W"]
    return [helper.make_node(op, [a, *(more or [a])], [b], axis=0) for a, b in pairwise(names)]


def nested(depth):
    body = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "b", [], [])
    for _ in range(depth):
        node = helper.make_node("If", ["x"], ["y"], then_branch=body)
        body = helper.make_graph([node], "b", [], [])
    return edited(lambda model: model.graph.node.extend(body.node))


LIES = {
    "a petabyte": (lambda: spoiled(dims=[1, 1 << 50, 3]), r"W: expected \d+ bytes"),
    "more than 64 bits": (lambda: spoiled(dims=[1 << 62, 1 << 62, 1 << 62]), r"W: expected \d+ bytes"),
    "a negative size": (lambda: spoiled(dims=[1, -16, -3]), "W: expected sizes of at least 0"),
    "another shape": (lambda: spoiled(dims=[1, 8, 6]), r"W: expected shape \(1, 16, 6\), got \(1, 8, 6\)"),
    "nothing": (lambda: spoiled(raw_data=None), "W: expected 48 numbers"),
    "integers": (lambda: spoiled(data_type=TensorProto.INT32), "W: expected floating-point numbers, got int32"),
    "strings": (lambda: spoiled(data_type=TensorProto.STRING), "W: expected one of float32.*, got string"),
    "no type there is": (lambda: spoiled(data_type=99), "W: expected one of float32.*, got 99"),
    "a segment": (lambda: edited(lambda m: m.graph.initializer[0].segment.SetInParent()), "a segment"),
    "one name twice": (lambda: edited(lambda m: m.graph.initializer.append(m.graph.initializer[0])), "a name of its"),
    "a value made twice": (lambda: edited(lambda m: m.graph.node.append(m.graph.node[0])), "which exists already"),
    "a ring": (lambda: edited(lambda m: m.graph.node[0].input.__setitem__(0, "Y_h")), "made later or never"),
    "an output from nowhere": (lambda: edited(lambda m: setattr(m.graph.output[0], "name", "Z")), "graph output 'Z'"),
    "an old opset": (lambda: edited(lambda m: setattr(m.opset_import[0], "version", 1)), "opset in 7"),
    "an opset to come": (lambda: edited(lambda m: setattr(m.opset_import[0], "version", 999)), "opset in 7"),
    "no opset": (lambda: edited(lambda m: m.ClearField("opset_import")), "got none"),
    "a GRU": (node_of("GRU"), "expected an LSTM node, got GRU"),
    "another's LSTM": (node_of("DynamicQuantizeLSTM", domain="com.microsoft"), "com.microsoft.DynamicQuantizeLSTM"),
    "a long name": (lambda: edited(lambda m: setattr(m.graph.node[0], "name", "n" * 100_000)), "at most 500"),
    "a negative input": (
        lambda: model_of([lstm_node(hidden_size=4)], {k: parameters()[k] for k in "WRB"}, {"x": [-4, 1, 3]}),
        "expected sizes of at least 0",
    ),
    "a file of zeros": (lambda: b"\x08\x07\x12" + bytes(1000), "not an ONNX model"),
}
BOMBS = {
    "zeros of a terabyte": (
        nodes_before(helper.make_node("ConstantOfShape", ["s"], ["W"]), s=np.array([1, 1 << 37, 3])),
        "max_bytes=|expected shape",
    ),
    "one number, a terabyte wide, put in order": (
        nodes_before(
            helper.make_node("Expand", ["one", "s"], ["e"]),
            helper.make_node("Reshape", ["e", "t"], ["W"]),
            one=numbers(1, 1),
            s=np.array([1 << 19, 1 << 19]),
            t=np.array([1, 1 << 38]),
        ),
        "max_bytes=",
    ),
    "twice as much, forty times": (nodes_before(*chain("Concat", 40), s=numbers(64)), "max_bytes="),
    "the same row a million times": (
        nodes_before(*chain("Gather", 2, "places"), s=numbers(1, 4096), places=np.zeros(200_000, "i1").astype("i8")),
        "max_bytes=",
    ),
    "a number a billion times": (
        nodes_before(helper.make_node("Tile", ["s", "r"], ["W"]), s=numbers(1), r=np.array([1 << 30])),
        "max_bytes=",
    ),
    "the whole of one number, for one of them": (
        lambda: of_zeros([1 << 34], helper.make_node("Gather", ["zeros", "one"], ["none"]), one=np.array([0])),
        None,
    ),
    "places that are one number, a billion times": (
        lambda: of_zeros(
            [1 << 30],
            helper.make_node("Cast", ["zeros"], ["places"], to=TensorProto.INT64),
            helper.make_node("Gather", ["one", "places"], ["none"]),
            one=np.array([0]),
        ),
        "max_bytes=",
    ),
    "none of a million times a thousand": (
        lambda: of_zeros([1 << 20, 1], helper.make_node("Tile", ["zeros", "r"], ["none"]), r=np.array([1 << 10, 0])),
        None,
    ),
    "a sum of every pair and more": (
        lambda: of_zeros(
            [1],
            *(helper.make_node("Add", ["a", "b"], [f"c{k}"]) for k in range(2000)),
            a=np.ones((64, 1), "i8"),
            b=np.ones((1, 64), "i8"),
        ),
        "max_bytes=",
    ),
    "the output, wider than memory": (
        lambda: model_of(
            [
                lstm_node(hidden_size=4),
                helper.make_node("Expand", ["Y", "s"], ["wide"]),
                helper.make_node("MatMul", ["wide", "M"], ["m"]),
            ],
            {**{k: parameters()[k] for k in "WRB"}, "s": np.array([1 << 20, 1, 1, 1, 1]), "M": numbers(4, 4)},
            outputs=("m",),
        ),
        "max_bytes=",
    ),
    "an output of the whole, wider than memory": (
        lambda: model_of(
            [lstm_node(hidden_size=4), helper.make_node("Expand", ["Y", "s"], ["wide"])],
            {**{k: parameters()[k] for k in "WRB"}, "s": np.array([1 << 20, 1, 1, 1, 1])},
            outputs=("wide",),
        ),
        "max_bytes=",
    ),
    "calls of calls of calls": (lambda: laughs(30), "max_bytes="),
    "shapes of nothing": (lambda: dimensions(1 << 21), "max_bytes="),
    "room made by less than nothing": (
        nodes_before(
            helper.make_node("Tile", ["s", "less"], ["none"]),
            helper.make_node("Tile", ["s", "r"], ["W"]),
            s=numbers(1),
            less=np.array([-(1 << 30)]),
            r=np.array([1 << 30]),
        ),
        "'none': .*a number of repeats",
    ),
    "many steps and rows": (
        lambda: model_of(
            [lstm_node(hidden_size=120), helper.make_node("Reshape", ["Y", "shape"], ["out"])],
            {**{k: parameters(1, 120)[k] for k in "WRB"}, "shape": np.array([62, 1000, 120])},
            {"x": [1000, 62, 1]},
            ("out",),
        ),
        "max_bytes=",
    ),
    "small messages": (
        lambda: b"\x08\x07" + b"\x3a" + varint(2 << 20) + b"\x0a\x00" * (1 << 20),
        "max_bytes=",
    ),
    "small numbers": (
        lambda: b"\x08\x07\x3a" + varint((8 << 20) + 10) + b"\x2a" + varint((8 << 20) + 5) + b"\x3a" + varint(8 << 20)
        + b"\x01" * (8 << 20),
        "max_bytes=|not an ONNX model",
    ),
    "bodies in bodies": (lambda: nested(12), "at most 8 graphs"),
    "bodies in bodies, many": (lambda: nested(30), "in one another"),
}  # fmt: skip


def of_zeros(shape, *nodes, **constants):
    """The good model beside zeros of a shape, which may be larger than memory, and nodes that use them."""
    zeros = helper.make_node("ConstantOfShape", ["shape"], ["zeros"])
    parts = {k: parameters()[k] for k in "WRB"} | {"shape": np.array(shape)} | constants
    return model_of([zeros, *nodes, lstm_node(hidden_size=4)], parts)


def laughs(depth):
    """Functions that call the next one twice each."""
    model, names = good(), [f"F{k}" for k in range(depth)]
    opsets = [helper.make_opsetid("", 14), helper.make_opsetid("own", 1)]
    for name, inner in pairwise([*names, "last"]):
        calls = [helper.make_node(inner, ["a"], [b], domain="own") for b in ("b", "c")]
        model.functions.append(helper.make_function("own", name, ["a"], ["c"], calls, opsets))
    node = helper.make_node("Identity", ["a"], ["b"])
    model.functions.append(helper.make_function("own", "last", ["a"], ["b"], [node], opsets))
    model.graph.node.insert(0, helper.make_node("F0", ["x"], ["laughter"], domain="own"))
    model.opset_import.append(opsets[1])
    return model


def dimensions(count):
    """A type whose shape has many dimensions of two bytes each."""

    def field(number, content):
        return bytes([number << 3 | 2]) + varint(len(content)) + content

    shape = field(1, field(2, b"\x0a\x00" * count))
    return good().SerializeToString() + field(7, field(13, field(2, shape)))


def varint(number):
    data = bytearray()
    while number >= 128:
        data.append(number & 127 | 128)
        number >>= 7
    return bytes([*data, number])


@pytest.mark.parametrize("what", LIES)
def test_a_model_that_lies_is_refused_by_name(tmp_path, what):
    make, message = LIES[what]
    path = saved(make(), tmp_path)
    with pytest.raises(lk.FormatError, match=message) as error:
        lk.load(path)
    assert str(path) in str(error.value)
    assert len(str(error.value)) < 1000


@pytest.mark.slow
@pytest.mark.parametrize("what", BOMBS)
def test_a_bomb_takes_little_memory(tmp_path, what):
    make, message = BOMBS[what]
    said = in_little_memory(saved(make(), tmp_path), saved(good(), tmp_path, "good.onnx"))
    assert re.search(message, said) if message else said is None, said


def test_weights_that_are_no_numbers_load_with_a_warning(tmp_path):
    parts = {k: parameters()[k] for k in "WRB"}
    parts["B"][0, 3] = np.nan
    with pytest.warns(RuntimeWarning, match="NaN or infinite weights in bias_ih_l0"):
        lk.load(saved(model_of([lstm_node(hidden_size=4)], parts), tmp_path))


def test_sparse_weights_are_refused_by_name(tmp_path):
    def change(model):
        dense = next(each for each in model.graph.initializer if each.name == "W")
        values = numpy_helper.from_array(numpy_helper.to_array(dense).ravel(), "W")
        places = numpy_helper.from_array(np.arange(48), "places")
        model.graph.initializer.remove(dense)
        model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, [1, 16, 3]))

    with pytest.raises(lk.FormatError, match="W: expected an initializer"):
        lk.load(saved(edited(change), tmp_path))


def test_without_the_package_the_error_names_the_extra(tmp_path, monkeypatch):
    path = saved(good(), tmp_path)
    monkeypatch.setitem(sys.modules, "onnx", None)
    for door in (lk.load, lk.inspect, lambda path: lk.save(lk.LSTM(2, 3), path)):
        with pytest.raises(ModuleNotFoundError, match=r"needs onnx; pip install 'lstmkernel\[onnx\]'"):
            door(path)
