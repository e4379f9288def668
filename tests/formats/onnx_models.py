"""ONNX models for tests: made here node by node, or by PyTorch's exporters; ONNX Runtime says what they compute."""

from __future__ import annotations

import io
import logging
import warnings

import numpy as np
import onnxruntime
import pytest
from helpers import assert_close, usable
from onnx import TensorProto, helper, numpy_helper

onnxruntime.set_default_logger_severity(3)

COMPILED = [name for name in usable() if name != "numpy"][:1] or ["numpy"]


def run(model, *inputs, names=None):
    """ONNX Runtime's outputs; inputs in the graph's order, or by name."""
    data = model if isinstance(model, bytes) else model.SerializeToString()
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    names = names or [info.name for info in session.get_inputs()]
    return session.run(None, dict(zip(names, inputs, strict=False)))


def saved(model, folder, name="model.onnx"):
    path = folder / name
    path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    return path


def close(got, expected):
    assert_close(np.asarray(got, np.float32), expected, "float32")


def numbers(*shape, seed=0):
    return np.random.default_rng((seed, *shape)).standard_normal(shape).astype(np.float32)


# ---------------------------------------------------------------- node by node


def lstm_node(x="x", name="lstm", outputs=("Y", "Y_h", "Y_c"), inputs=("W", "R", "B"), **attributes):
    return helper.make_node("LSTM", [x, *inputs], list(outputs), name=name, **attributes)


def parameters(I=3, H=4, D=1, seed=0):
    shapes = {"W": (D, 4 * H, I), "R": (D, 4 * H, H), "B": (D, 8 * H), "P": (D, 3 * H)}
    return {name: numbers(*shape, seed=seed) / 2 for name, shape in shapes.items()}


def model_of(nodes, constants, inputs=None, outputs=("Y",), opset=14):
    """A model whose inputs have the shapes of ``inputs``; outputs are of any shape."""
    inputs = {"x": ["T", "B", 3]} if inputs is None else inputs
    types = dict.fromkeys(("lengths", "others"), TensorProto.INT32)
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, types.get(name, TensorProto.FLOAT), s) for name, s in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=7)


def as_outputs(lstm, x, state=None, lengths=None, directions=1):
    """Y, Y_h and Y_c of the operator."""
    out, (h, c) = lstm(x, state, lengths=lengths)
    T, B, _ = out.shape
    return out.reshape(T, B, directions, -1).swapaxes(1, 2), h, c


# ---------------------------------------------------------------- PyTorch's exporters


def torch_net(forward, *, head=True, layers=1, linears=(), **options):
    """A module with an LSTM (5 -> 7), a Linear (-> 3), and a forward of one's own."""
    torch = pytest.importorskip("torch")

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = torch.nn.LSTM(5, 7, layers, **options)
            self.head = torch.nn.Linear(14 if options.get("bidirectional") else 7, 3)

        def forward(self, *inputs):
            return forward(torch, self, *inputs)

    torch.manual_seed(1)
    return Net().eval()


def torchscript(net, *inputs, folding=True, **axes):
    torch = pytest.importorskip("torch")
    file = io.BytesIO()
    names = ["x", "h", "c"][: len(inputs)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is the old exporter
        torch.onnx.export(
            net,
            tuple(map(torch.from_numpy, inputs)),
            file,
            dynamo=False,
            input_names=names,
            do_constant_folding=folding,
            dynamic_axes=axes or None,
        )
    return file.getvalue()


def dynamo(net, *inputs, dynamic=()):
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnxscript")
    shapes = [dict.fromkeys(axes, torch.export.Dim.DYNAMIC) for axes in dynamic] or None
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tensors = tuple(map(torch.from_numpy, inputs))
        shapes = None if shapes is None else {"inputs": tuple(shapes)}
        program = torch.onnx.export(net, tensors, dynamo=True, dynamic_shapes=shapes, verbose=False)
    return program.model_proto.SerializeToString()
