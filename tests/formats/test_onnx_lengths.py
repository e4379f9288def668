"""sequence_lens of ONNX models: what a file takes as an input, a call must give; nothing is dropped without a word."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import lstmkernel as lk

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
from onnx import TensorProto, helper  # noqa: E402
from onnx_models import as_outputs, close, lstm_node, model_of, numbers, parameters, run, saved  # noqa: E402

WRB = ("W", "R", "B")


def model(source="lengths", *before, x=("T", "B", 3), **constants):
    """An LSTM with this sequence_lens; ``before`` are nodes that may make it."""
    parts = {k: parameters()[k] for k in WRB} | constants
    inputs = {"x": list(x)} | ({"lengths": ["B"]} if "lengths" not in constants else {})
    return model_of([*before, lstm_node(inputs=(*WRB, source), hidden_size=4)], parts, inputs)


@pytest.mark.parametrize("prefix", [None, "lstm"])
def test_a_call_without_the_lengths_that_a_model_takes_warns(tmp_path, prefix):
    path, x = saved(model(), tmp_path), numbers(5, 2, 3)
    net = lk.load(path, prefix=prefix)
    assert net.expects == "lengths"
    with pytest.warns(RuntimeWarning, match="give lengths="):
        net(x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = as_outputs(net, x, lengths=[5, 2])
    close(got[0], run(model(), x, np.array([5, 2], np.int32))[0])
    assert all("expects lengths" in network.description for network in lk.inspect(path).networks)


def test_lengths_that_nodes_compute_are_expected_by_name(tmp_path):
    nodes = [helper.make_node("Neg", ["lengths"], ["less"]), helper.make_node("Neg", ["less"], ["more"])]
    path = saved(model("more", *nodes), tmp_path)
    with pytest.raises(lk.FormatError, match="Neg node 'less'"):
        lk.load(path)
    assert lk.load(path, prefix="lstm").expects == "lengths"


def test_a_model_without_lengths_expects_none(tmp_path):
    net = lk.load(saved(model_of([lstm_node(hidden_size=4)], {k: parameters()[k] for k in WRB}), tmp_path))
    assert net.expects is None


def test_lengths_that_are_all_steps_are_none(tmp_path):
    """Constants of a fixed T, and what tf2onnx writes: T from x's shape, once for each row."""
    fixed = model(x=(5, 2, 3), lengths=np.array([5, 5], "i4"))
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "zero"], ["steps"]),
        helper.make_node("Gather", ["shape", "one"], ["rows"]),
        helper.make_node("Expand", ["steps", "rows"], ["wide"]),
        helper.make_node("Cast", ["wide"], ["whole"], to=TensorProto.INT32),
    ]
    open_sizes = model("whole", *nodes, zero=np.array([0]), one=np.array([1]))
    for made, given in ((fixed, {}), (open_sizes, {"lengths": np.zeros(2, "i4")})):
        x = numbers(5, 2, 3)
        net = lk.load(saved(made, tmp_path))
        assert net.expects is None
        close(as_outputs(net, x)[0], run(made, x, *given.values())[0])


@pytest.mark.parametrize("prefix", [None, "lstm"])
@pytest.mark.parametrize("x", [(5, 2, 3), ("T", "B", 3)], ids=["fixed", "open"])
def test_lengths_that_are_constants_are_refused_with_a_way_out(tmp_path, x, prefix):
    made = model(x=x, lengths=np.array([5, 2], "i4"))
    with pytest.raises(lk.FormatError, match=r"got constants \[5, 2\]; make that input of the node empty, and give"):
        lk.load(saved(made, tmp_path), prefix=prefix)
    made.graph.node[0].input[4] = ""
    net, x = lk.load(saved(made, tmp_path), prefix=prefix), numbers(5, 2, 3)
    expected = run(model(x=(5, 2, 3), lengths=np.array([5, 2], "i4")), x)[0]
    close(as_outputs(net, x, lengths=[5, 2])[0], expected)


def test_what_expects_lengths_is_saved_with_them(tmp_path):
    net, x = lk.load(saved(model(), tmp_path)), numbers(5, 2, 3)
    lk.save(net, tmp_path / "back.onnx")
    back = lk.load(tmp_path / "back.onnx")
    assert back.expects == "lengths"
    out = run((tmp_path / "back.onnx").read_bytes(), x, np.array([5, 2], "i4"), names=["x", "lengths"])[0]
    close(back(x, lengths=[5, 2])[0], out)


def test_what_expects_a_mask_is_not_saved_as_onnx(tmp_path):
    net = lk.LSTM.from_config({**lk.LSTM(3, 4).config(), "expects": "mask"}, lk.LSTM(3, 4).state_dict())
    with pytest.raises(ValueError, match=r"expects: expected 'lengths' or None.*save as \.safetensors"):
        lk.save(net, tmp_path / "net.onnx")
    lk.save(net, tmp_path / "net.safetensors")
    assert lk.load(tmp_path / "net.safetensors").expects == "mask"


def test_a_state_that_another_part_of_the_model_computes_is_told(tmp_path):
    def of(*before, state="h"):
        parts = {k: parameters()[k] for k in WRB} | {"b": np.array([0]), "e": np.array([1])}
        node = lstm_node(inputs=(*WRB, "", state, state), hidden_size=4)
        return saved(model_of([*before, node], parts, {"x": ["T", "B", 3], "h": [2, "B", 4]}), tmp_path)

    computed = of(
        helper.make_node("Slice", ["h", "b", "e"], ["part"]), helper.make_node("Exp", ["part"], ["z"]), state="z"
    )
    with pytest.warns(RuntimeWarning, match="LSTM node 'lstm': begins with 'z', which another part"):
        lk.load(computed, prefix="lstm")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lk.load(of(helper.make_node("Slice", ["h", "b", "e"], ["part"]), state="part"), prefix="lstm")
