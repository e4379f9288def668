"""ONNX models: LSTM nodes and what is between and behind them, read as data; nothing of a model is run."""

from __future__ import annotations


from typing import Any

import numpy as np

from lstmkernel.dense import Dense
from lstmkernel.formats import errors, onnx_choice, onnx_graph, onnx_lstm, onnx_network, onnx_wire
from lstmkernel.formats.contents import Contents, Network
from lstmkernel.formats.onnx_tensors import Reader, described
from lstmkernel.lstm import LSTM
from lstmkernel.stack import Stack

NAME = "ONNX"
SUFFIXES = (".onnx",)


def recognises(path: str, head: bytes) -> bool:
    """A ModelProto: its first field is ir_version, a small number, and its next one is one of those that follow."""
    return len(head) > 2 and head[0] == 0x08 and head[1] < 0x80 and head[2] in b"\x12\x1a\x22\x28\x32\x3a\x42"


def inspect(path: str) -> Contents:
    model, reader = _model(path)
    scopes = onnx_choice.scopes(model.graph, reader)
    networks, notes = [], []
    try:
        networks.append(Network("", _described(onnx_choice.whole(scopes[0], reader).layers)))
    except ValueError as error:
        notes.append(f"not to be loaded as a whole: {error}")
    for node in onnx_choice.lstms(scopes):
        try:
            networks.append(Network(node.name, _described(onnx_choice.named(scopes, reader, node.name).layers)))
        except ValueError as error:
            notes.append(f"{node} is not to be loaded: {error}")
    return Contents(NAME, [described(tensor) for tensor in model.graph.initializer], networks, notes)


def load(path: str, prefix: str | None, options: dict[str, Any]) -> LSTM | Dense | Stack:
    model, reader = _model(path)
    scopes = onnx_choice.scopes(model.graph, reader)
    found = onnx_choice.named(scopes, reader, prefix) if prefix else onnx_choice.whole(scopes[0], reader)
    del model, scopes  # the file's bytes, before the network takes memory
    return _built(found, options)


def save(net: LSTM | Stack, path: str) -> None:
    """Save as an ONNX model; ``lstmkernel.formats.onnx_export`` says with which inputs and outputs."""
    from lstmkernel.files import replacing
    from lstmkernel.formats import onnx_export

    errors.needed("onnx", "onnx", f"saving {path}")
    with replacing(path) as file:
        file.write(onnx_export.model(net).SerializeToString())


def _model(path: str) -> tuple[Any, Reader]:
    onnx = errors.needed("onnx", "onnx", f"{path}: reading ONNX")
    protobuf = errors.needed("google.protobuf.message", "onnx", f"{path}: reading ONNX")
    with open(path, "rb") as file:
        data = file.read()
    onnx_wire.check(data)
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except protobuf.DecodeError as error:
        raise ValueError(f"not an ONNX model: {error}") from error
    onnx_graph.opset(model, onnx.defs.onnx_opset_version())
    return model, Reader(path)


def _built(found: onnx_network.Found, options: dict[str, Any]) -> LSTM | Dense | Stack:
    """Neighbouring nodes that one LSTM can be become its layers."""
    arrays = [array for layer in found.layers for array in _arrays(layer)]
    double = all(array.dtype == np.float64 for array in arrays)
    options = {"batch_first": found.batch_first, "dtype": "float64" if double else "float32", **options}
    layers: list[LSTM | Dense] = []
    for group in _groups(found):
        first = group[0]
        if isinstance(first, onnx_network.Dense):
            layers.append(_dense(first, options))
            continue
        lstms = [layer for layer in group if isinstance(layer, onnx_lstm.Layer)]
        sizes = {"input_size": first.input_size, "num_layers": len(lstms), "proj_size": 0}
        layers.append(LSTM.from_config({**sizes, **first.options(), **options}, onnx_lstm.as_state_dict(lstms)))
    return layers[0] if len(layers) == 1 else Stack(layers)


def _groups(found: onnx_network.Found) -> list[list[Any]]:
    groups: list[list[Any]] = []
    joins = iter(found.joins)
    below = None
    for layer in found.layers:
        together = isinstance(layer, onnx_lstm.Layer) and any(isinstance(x, onnx_lstm.Layer) for g in groups for x in g)
        may = next(joins) if together else False
        if may and isinstance(below, onnx_lstm.Layer) and layer.options() == below.options():
            groups[-1].append(layer)
        else:
            groups.append([layer])
        below = layer
    return groups


def _arrays(layer: Any) -> list[Any]:
    if isinstance(layer, onnx_lstm.Layer):
        return list(layer.weights.values())
    return [layer.weight] if layer.bias is None else [layer.weight, layer.bias]


def _dense(dense: onnx_network.Dense, options: dict[str, Any]) -> Dense:
    O, K = dense.weight.shape
    config = {"in_features": K, "out_features": O, "activation": dense.activation, "bias": dense.bias is not None}
    own = {name: options[name] for name in ("backend", "dtype") if name in options}
    parameters = {"weight": dense.weight} if dense.bias is None else {"weight": dense.weight, "bias": dense.bias}
    return Dense.from_config({"backend": "auto", **config, **own}, parameters)


def _described(layers: list[Any]) -> str:
    words = []
    for layer in layers:
        if isinstance(layer, onnx_network.Dense):
            O, K = layer.weight.shape
            words.append(f"Dense {K} -> {O}, {layer.activation}")
        else:
            way = "both directions" if layer.directions == 2 else "reverse" if layer.reverse else ""
            words.append(", ".join(filter(None, [f"LSTM {layer.input_size} -> {layer.hidden_size}", way])))
    return ", then ".join(words)
