"""ONNX models: LSTM nodes and what is between and behind them, read as data; nothing of a model is run."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from typing import Any

import numpy as np

from lstmkernel.backends.packing import Array
from lstmkernel.dense import Dense
from lstmkernel.formats import errors
from lstmkernel.formats.inspection import Contents, Network
from lstmkernel.formats.onnx import dense as onnx_heads
from lstmkernel.formats.onnx import follow, graph, operator, parse_budget, select
from lstmkernel.formats.onnx.graph import Node
from lstmkernel.formats.onnx.tensors import Reader, described
from lstmkernel.lstm import LSTM
from lstmkernel.stack import Stack

NAME = "ONNX"
SUFFIXES = (".onnx",)


def recognises(path: str, head: bytes) -> bool:
    """A ModelProto: its first field is ir_version, a small number, and its next one is one of those that follow."""
    return len(head) > 2 and head[0] == 0x08 and head[1] < 0x80 and head[2] in b"\x12\x1a\x22\x28\x32\x3a\x42"


def inspect(path: str) -> Contents:
    model, reader = _model(path)
    scopes = select.scopes(model.graph, reader)
    networks, notes = [], []
    try:
        networks.append(Network("", ", then ".join(map(_in_words, select.whole(scopes[0], reader).parts))))
    except ValueError as error:
        notes.append(f"not to be loaded as a whole: {error}")
    for node, constants in select.lstms(scopes):
        networks.append(Network(node.name, _node_in_words(node, constants, reader)))
    return Contents(NAME, [described(tensor) for tensor in model.graph.initializer], networks, notes)


def _node_in_words(node: Node, constants: Mapping[str, Array], reader: Reader) -> str:
    try:
        return _in_words([operator.layer(node, constants, copy(reader))])
    except ValueError as error:
        return f"no LSTM that can be loaded: {error}"


def load(path: str, prefix: str | None, options: dict[str, Any]) -> LSTM | Dense | Stack:
    model, reader = _model(path)
    scopes = select.scopes(model.graph, reader)
    found = select.named(scopes, reader, prefix) if prefix else select.whole(scopes[0], reader)
    del model, scopes  # the file's bytes, before the network takes memory
    return _built(found, options)


def save(net: LSTM | Stack, path: str) -> None:
    """Save as an ONNX model; ``lstmkernel.formats.onnx.export`` says with which inputs and outputs."""
    from lstmkernel.formats.onnx import export
    from lstmkernel.host.files import replacing

    errors.needed("onnx", "onnx", f"saving {path}")
    with replacing(path) as file:
        file.write(export.model(net).SerializeToString())


def _model(path: str) -> tuple[Any, Reader]:
    onnx = errors.needed("onnx", "onnx", f"{path}: reading ONNX")
    protobuf = errors.needed("google.protobuf.message", "onnx", f"{path}: reading ONNX")
    with open(path, "rb") as file:
        data = file.read()
    parse_budget.check(data)
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except protobuf.DecodeError as error:
        raise ValueError(f"not an ONNX model: {error}") from error
    graph.opset(model, onnx.defs.onnx_opset_version())
    return model, Reader(path)


def _built(found: follow.Found, options: dict[str, Any]) -> LSTM | Dense | Stack:
    arrays = [array for part in found.parts for array in _arrays(part)]
    double = all(array.dtype == np.float64 for array in arrays)
    options = {"batch_first": found.batch_first, "dtype": "float64" if double else "float32", **options}
    layers = [_lstm(part, options) if isinstance(part, list) else _dense(part, options) for part in found.parts]
    return layers[0] if len(layers) == 1 else Stack(layers)


def _arrays(part: list[operator.Layer] | onnx_heads.Dense) -> list[Array]:
    if isinstance(part, list):
        return [array for layer in part for array in layer.weights.values()]
    return [part.weight] if part.bias is None else [part.weight, part.bias]


def _lstm(layers: list[operator.Layer], options: dict[str, Any]) -> LSTM:
    parameters = operator.as_state_dict(layers)
    config = {"input_size": layers[0].input_size, "num_layers": len(layers), "proj_size": 0, **layers[0].options()}
    return LSTM.from_config({**config, "initial_state": "h_0" in parameters, **options}, parameters)


def _dense(dense: onnx_heads.Dense, options: dict[str, Any]) -> Dense:
    O, K = dense.weight.shape
    config: dict[str, Any] = {"in_features": K, "out_features": O, "activation": dense.activation, "backend": "auto"}
    config |= {name: options[name] for name in ("backend", "dtype") if name in options}
    parameters = {"weight": dense.weight} if dense.bias is None else {"weight": dense.weight, "bias": dense.bias}
    return Dense.from_config({**config, "bias": dense.bias is not None}, parameters)


def _in_words(part: list[operator.Layer] | onnx_heads.Dense) -> str:
    if isinstance(part, onnx_heads.Dense):
        O, K = part.weight.shape
        return f"Dense {K} -> {O}" + ("" if part.activation == "linear" else f", {part.activation}")
    first = part[0]
    words = [f"LSTM {first.input_size} -> {first.hidden_size}", f"{len(part)} layers" if len(part) > 1 else ""]
    words += ["both directions" if first.directions == 2 else "", "reverse" if first.reverse else ""]
    words += ["initial state" if any(layer.first for layer in part) else ""]
    words += ["" if first.bias else "no bias", *map(str, first.variant)]
    return ", ".join(filter(None, words))
