"""One small good file of every format, for the fuzzer: made anew rather than kept."""

from __future__ import annotations

import io
import json
import pickle
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from hostile import Target

import lstmkernel as lk

SMALL = lk.Stack([lk.LSTM(1, 1, seed=1), lk.Dense(1, 1, seed=1)])
INTEGERS = SMALL.quantize("int8")

#: Amplifier models of one unit.
LAYERS = [
    {"type": "lstm", "activation": "tanh", "shape": [None, None, 1], "weights": [[[0.5] * 4], [[0.5] * 4], [0.5] * 4]},
    {"type": "dense", "activation": "", "shape": [None, None, 1], "weights": [[[0.5]], [0.5]]},
]
RTNEURAL = {"in_shape": [None, None, 1], "in_skip": 1, "in_gain": 1.5, "layers": LAYERS}
STATE_DICT = {"rec.weight_ih_l0": [[0.5]] * 4, "rec.weight_hh_l0": [[0.5]] * 4}
STATE_DICT |= {"rec.bias_ih_l0": [0.5] * 4, "rec.bias_hh_l0": [0.5] * 4, "lin.weight": [[0.5]], "lin.bias": [0.5]}
ABOUT = {"model": "SimpleRNN", "input_size": 1, "skip": 1, "output_size": 1, "unit_type": "LSTM", "num_layers": 1}
GUITARML = {"model_data": {**ABOUT, "hidden_size": 1, "bias_fl": True}, "state_dict": STATE_DICT}
CONFIG = {"num_layers": 1, "input_size": 1, "hidden_size": 1}
NAM = {"version": "0.5.4", "architecture": "LSTM", "config": CONFIG, "weights": [0.5] * 16, "sample_rate": 48000}


def written(write: Callable[[Path], object], suffix: str) -> bytes:
    """What ``write`` writes into a file of that suffix."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"net{suffix}"
        write(path)
        return path.read_bytes()


def rezipped(archive: bytes, changed: Mapping[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    """The same zip with some members' content changed, or added at the end, checksums right."""
    with zipfile.ZipFile(io.BytesIO(archive)) as old:
        return zipped({**{name: old.read(name) for name in old.namelist()}, **changed}, method)


def zipped(members: Mapping[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as new:
        for name, content in members.items():
            new.writestr(name, content)
    return file.getvalue()


def torch_pickle_target() -> Target:
    """The pickle in a small ``.pt`` file; its zip is made around it."""
    import torch

    state = {"lstm." + name: value for name, value in torch.nn.LSTM(1, 1).state_dict().items()}
    state |= {"head." + name: value for name, value in torch.nn.Linear(1, 1).state_dict().items()}
    archive = written(lambda path: torch.save(state, path), ".pt")
    with zipfile.ZipFile(io.BytesIO(archive)) as file:
        data = file.read("net/data.pkl")
    return Target("torch", ".pt", data, lambda payload: rezipped(archive, {"net/data.pkl": payload}))


def quantized_torch_target() -> Target:
    """The pickle of what PyTorch's ``quantize_dynamic`` made; its zip is made around it."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.ao is deprecated
        module = torch.ao.quantization.quantize_dynamic(torch.nn.Sequential(torch.nn.LSTM(1, 1)), {torch.nn.LSTM})
    archive = written(lambda path: torch.save(module.state_dict(), path), ".pt")
    with zipfile.ZipFile(io.BytesIO(archive)) as file:
        data = file.read("net/data.pkl")
    return Target("torch_quantized", ".pt", data, lambda payload: rezipped(archive, {"net/data.pkl": payload}))


def old_torch_target() -> Target:
    """A file as PyTorch wrote it before 1.6."""
    import torch

    state = {"lstm": torch.nn.LSTM(1, 1).state_dict(), "epoch": 3, "scores": {0.5, 1.5}}

    def write(path: Path) -> None:
        torch.save(state, path, _use_new_zipfile_serialization=False)

    return Target("torch_old", ".pt", written(write, ".pt"))


def torchscript_target() -> Target:
    """The pickle of a small module of TorchScript; its zip is made around it."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated
        module = torch.jit.script(torch.nn.LSTM(1, 1))
        archive = written(lambda path: module.save(str(path)), ".pt")
    with zipfile.ZipFile(io.BytesIO(archive)) as file:
        data = file.read("net/data.pkl")
    return Target("torchscript", ".pt", data, lambda payload: rezipped(archive, {"net/data.pkl": payload}))


def numpy_pickle_target() -> Target:
    """A pickle alone, of NumPy's arrays, beside values of a program."""
    state = {f"lstm.{name}": value for name, value in SMALL.layers[0].state_dict().items()}
    state |= {"more": [Path("a"), np.float64(1), {1: {2}, (3,): b"b"}]}
    return Target("numpy_pickle", ".pkl", pickle.dumps(state, 4))


def torch_json_target() -> Target:
    state = {name: value.tolist() for name, value in SMALL.layers[0].state_dict().items()}
    return Target("torch_json", ".json", json.dumps({"lstm": state, "epoch": 3}).encode())


def amplifier_targets() -> list[Target]:
    models = {"rtneural": (".json", RTNEURAL), "guitarml": (".json", GUITARML), "nam": (".nam", NAM)}
    return [Target(name, suffix, json.dumps(model).encode()) for name, (suffix, model) in models.items()]


def keras_hdf5() -> bytes:
    """A model as Keras 2 writes it, with the least that h5py makes of it."""
    import h5py

    layers = [
        {"class_name": "LSTM", "config": {"name": "lstm", "units": 1}},
        {"class_name": "Dense", "config": {"name": "dense", "units": 1}},
    ]
    arrays = {
        "lstm": {"kernel:0": (1, 4), "recurrent_kernel:0": (1, 4), "bias:0": (4,)},
        "dense": {"kernel:0": (1, 1), "bias:0": (1,)},
    }
    file = io.BytesIO()
    with h5py.File(file, "w") as h5:
        h5.attrs["keras_version"] = "2.15.0"
        h5.attrs["model_config"] = json.dumps({"class_name": "Sequential", "config": {"layers": layers}})
        for layer, shapes in arrays.items():
            group = h5.create_group(f"model_weights/{layer}")
            group.attrs["weight_names"] = [name.encode() for name in shapes]
            for name, shape in shapes.items():
                group[name] = np.full(shape, 0.5, "float32")
    return file.getvalue()


def keras_hdf5_target() -> Target:
    return Target("keras_hdf5", ".h5", keras_hdf5())


def keras_config_target() -> Target:
    """The configuration in a ``.keras`` file of Keras 3, a functional model; its zip is made around it."""
    import h5py

    def call(name: str) -> list[dict[str, Any]]:
        return [{"args": [{"class_name": "__keras_tensor__", "config": {"keras_history": [name, 0, 0]}}], "kwargs": {}}]

    layers = [
        {"class_name": "InputLayer", "config": {"name": "x"}, "inbound_nodes": []},
        {"class_name": "LSTM", "config": {"name": "lstm", "units": 1}, "inbound_nodes": call("x")},
        {"class_name": "Dense", "config": {"name": "dense", "units": 1}, "inbound_nodes": call("lstm")},
    ]
    config = {"class_name": "Functional", "config": {"layers": layers, "output_layers": ["dense", 0, 0]}}
    file = io.BytesIO()
    with h5py.File(file, "w") as h5:
        for place, shapes in {"lstm/cell": [(1, 4), (1, 4), (4,)], "dense": [(1, 1), (1,)]}.items():
            for number, shape in enumerate(shapes):
                h5[f"layers/{place}/vars/{number}"] = np.full(shape, 0.5, "float32")
    archive = zipped({"metadata.json": b'{"keras_version": "3.15.1"}', "model.weights.h5": file.getvalue()})

    def wrap(payload: bytes) -> bytes:
        return rezipped(archive, {"config.json": payload})

    return Target("keras_config", ".keras", json.dumps(config).encode(), wrap)


def keras_weights_target() -> Target:
    """Weights alone of Keras 3, as h5repack might write them: in chunks, deflated and shuffled."""
    import h5py

    file = io.BytesIO()
    with h5py.File(file, "w") as h5:
        for number, shape in enumerate([(3, 8), (2, 8), (8,)]):
            options = {"chunks": tuple(extent // 2 + 1 for extent in shape), "compression": "gzip", "shuffle": True}
            name = f"layers/rnn/cell/vars/{number}"
            h5.create_dataset(name, data=np.full(shape, 0.5, "float32"), **options)
        h5.create_group("layers/rnn/vars").attrs["name"] = "rnn"
    return Target("keras_weights", ".h5", file.getvalue())


def onnx_target() -> Target:
    return Target("onnx", ".onnx", written(lambda path: lk.save(SMALL, path), ".onnx"))


def onnx_integers_target() -> Target:
    """Weights behind DequantizeLinear."""
    return Target("onnx_int8", ".onnx", written(lambda path: lk.save(INTEGERS, path), ".onnx"))


def onnx_dynamic_target() -> Target:
    """ONNX Runtime's quantized LSTM, as its quantizer writes it."""
    import onnx
    from onnx import helper, numpy_helper

    constants = {
        **{"W": np.full((1, 1, 4), 100, "i1"), "R": np.full((1, 1, 4), 200, "u1"), "B": np.full((1, 8), 0.5, "f4")},
        **{"W_s": np.full(1, 0.01, "f4"), "W_z": np.zeros(1, "i1")},
        **{"R_s": np.full((1, 4), 0.01, "f4"), "R_z": np.full((1, 4), 128, "u1")},
    }
    names = ["x", "W", "R", "B", "", "", "", "", "W_s", "W_z", "R_s", "R_z"]
    graph = helper.make_graph(
        [helper.make_node("DynamicQuantizeLSTM", names, ["Y"], domain="com.microsoft", hidden_size=1)],
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["T", "B", 1])],
        [helper.make_tensor_value_info("Y", onnx.TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", 14), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=7)
    return Target("onnx_dynamic", ".onnx", model.SerializeToString())


def onnx_cell_target() -> Target:
    """A cell that is written out, in a function of the model."""
    import onnx
    from onnx import helper, numpy_helper

    nodes = [
        helper.make_node("Gemm", ["x", "W", "b"], ["a"], transB=1),
        helper.make_node("MatMul", ["h", "R"], ["r"]),
        helper.make_node("Add", ["a", "r"], ["all"]),
        helper.make_node("Split", ["all"], [*"ifgo"], axis=1),
        *(helper.make_node("Tanh" if gate == "g" else "Sigmoid", [gate], [f"{gate}1"]) for gate in "ifgo"),
        helper.make_node("Mul", ["f1", "c"], ["kept"]),
        helper.make_node("Mul", ["i1", "g1"], ["written"]),
        helper.make_node("Add", ["kept", "written"], ["c1"]),
        helper.make_node("Tanh", ["c1"], ["shown"]),
        helper.make_node("Mul", ["o1", "shown"], ["h1"]),
    ]
    opsets, names = [helper.make_opsetid("", 14), helper.make_opsetid("own", 1)], ["x", "h", "c", "W", "R", "b"]
    function = helper.make_function("own", "Cell", names, ["h1", "c1"], nodes, opsets)
    weights = {"W": (8, 1), "R": (2, 8), "b": (8,)}
    graph = helper.make_graph(
        [helper.make_node("Cell", names, ["h1", "c1"], domain="own")],
        "g",
        [
            helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["B", n])
            for name, n in zip("xhc", (1, 2, 2), strict=True)
        ],
        [helper.make_tensor_value_info("h1", onnx.TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.full(shape, 0.5, "f4"), name) for name, shape in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8, functions=[function])
    return Target("onnx_cell", ".onnx", model.SerializeToString())


def targets() -> list[Target]:
    """Those whose package is missing stay out."""
    found = [
        Target("safetensors", ".safetensors", written(lambda path: lk.save(SMALL, path), ".safetensors")),
        Target("safetensors_int8", ".safetensors", written(lambda path: lk.save(INTEGERS, path), ".safetensors")),
        torch_json_target(),
        numpy_pickle_target(),
        *amplifier_targets(),
    ]
    of_packages = (
        ("torch", torch_pickle_target),
        ("torch", old_torch_target),
        ("torch", quantized_torch_target),
        ("torch", torchscript_target),
        ("h5py", keras_hdf5_target),
        ("h5py", keras_config_target),
        ("h5py", keras_weights_target),
        ("onnx", onnx_target),
        ("onnx", onnx_integers_target),
        ("onnx", onnx_dynamic_target),
        ("onnx", onnx_cell_target),
    )
    for package, make in of_packages:
        if find_spec(package):
            found.append(make())
    return found
