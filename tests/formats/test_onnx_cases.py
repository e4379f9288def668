"""The test cases that ONNX and ONNX Runtime have for the LSTM operator."""

from __future__ import annotations

import json

import numpy as np
import pytest
from helpers import DATA

import lstmkernel as lk

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
from onnx import numpy_helper  # noqa: E402
from onnx_models import COMPILED, as_outputs, close, lstm_node, model_of, saved  # noqa: E402


def node_cases():
    return sorted(path.parent for path in (DATA / "onnx_node").rglob("model.onnx")) or [None]


def read_tensor(path):
    return numpy_helper.to_array(onnx.TensorProto.FromString(path.read_bytes()))


@pytest.mark.filterwarnings("ignore:.*the model gives only the last:RuntimeWarning")
@pytest.mark.parametrize("backend", COMPILED)
@pytest.mark.parametrize(
    "folder", node_cases(), ids=lambda folder: folder and f"{folder.parents[1].name[:6]} {folder.name}"
)
def test_onnx_node(data, tmp_path, folder, backend):
    """The weights are inputs there; here they become initializers, as in any model that holds weights."""
    model = onnx.load(folder / "model.onnx")
    names = [info.name for info in model.graph.input]
    given = {name: read_tensor(folder / "test_data_set_0" / f"input_{k}.pb") for k, name in enumerate(names)}
    (node,) = model.graph.node
    for name in set(names) & {"W", "R", "B", "P"}:
        model.graph.initializer.append(numpy_helper.from_array(given[name], name))
    lstm = lk.load(saved(model, tmp_path), backend=backend)
    x, rows = given["X"], given["X"].shape[0 if lstm.batch_first else 1]
    D, H = lstm.shape.directions, lstm.hidden_size
    state = [given.get(name, np.zeros((D, rows, H))) for name in ("initial_h", "initial_c")]
    out, (h, c) = lstm(x, state, lengths=given.get("sequence_lens"))
    Y = out.reshape(*out.shape[:2], D, H)
    answers = [Y if lstm.batch_first else Y.swapaxes(1, 2), *((h.swapaxes(0, 1), c) if lstm.batch_first else (h, c))]
    wanted = [(place, name) for place, name in enumerate(node.output) if name]
    for k, (place, _) in enumerate(wanted):
        close(answers[place], read_tensor(folder / "test_data_set_0" / f"output_{k}.pb"))


def test_there_are_eighteen_node_cases(data):
    assert len(node_cases()) == 18


def runtime_cases():
    path = DATA / "onnxruntime" / "cases.json"
    return json.loads(path.read_text())["cases"] if path.exists() else [{"name": "absent"}]


@pytest.mark.parametrize("backend", COMPILED)
@pytest.mark.parametrize("case", runtime_cases(), ids=lambda case: case["name"])
def test_onnxruntimes_own_cases(data, tmp_path, case, backend):
    T, B, I, H, D = (case[k] for k in ("seq_length", "batch_size", "input_size", "hidden_size", "num_directions"))
    shapes = {"W": (D, 4 * H, I), "R": (D, 4 * H, H), "B": (D, 8 * H)}
    constants = {k: np.reshape(case[k], s).astype("f") for k, s in shapes.items() if case[k] is not None}
    states = {k: np.reshape(case[k], (D, B, H)) for k in ("initial_h", "initial_c") if case[k] is not None}
    inputs = [
        *(k if k in constants else "" for k in "WRB"),
        "",
        *(k if k in states else "" for k in ("initial_h", "initial_c")),
    ]
    node = lstm_node(inputs=inputs, hidden_size=H, direction=case["direction"])
    declared = {"x": [T, B, I], **{name: [D, B, H] for name in states}}
    lstm = lk.load(saved(model_of([node], constants, declared, ("Y", "Y_h", "Y_c")), tmp_path), backend=backend)
    state = [states.get(name, np.zeros((D, B, H))) for name in ("initial_h", "initial_c")]
    got = as_outputs(lstm, np.reshape(case["X"], (T, B, I)), state, directions=D)
    for part, name, shape in zip(got, ("Y", "Y_h", "Y_c"), [(T, D, B, H), (D, B, H), (D, B, H)], strict=True):
        assert np.abs(part - np.reshape(case[name], shape)).max() <= 5e-7  # they print seven digits
