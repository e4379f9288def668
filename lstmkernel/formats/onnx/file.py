"""ONNX models: LSTM nodes and the operators between and after them, read as data; nothing of a model is run."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from typing import Any

from lstmkernel.backends.packing import Array
from lstmkernel.dense import Dense
from lstmkernel.formats import build, describe, errors
from lstmkernel.formats.contract import AnyNetwork, Options
from lstmkernel.formats.inspection import Contents, LoadableNetwork
from lstmkernel.formats.onnx import graph, operator, parse_budget, select
from lstmkernel.formats.onnx.dense import DenseNodes
from lstmkernel.formats.onnx.follow import FollowedNetwork
from lstmkernel.formats.onnx.nodes import Node
from lstmkernel.formats.onnx.operator import LSTMNode
from lstmkernel.formats.onnx.tensors import TensorReader, described
from lstmkernel.host.files import replacing
from lstmkernel.lstm import LSTM
from lstmkernel.stack import Stack

NAME = "ONNX"
SUFFIXES: tuple[str, ...] = (".onnx",)


def recognises(path: str, head: bytes) -> bool:
    """A ModelProto: its first field is ir_version, a small number; the next field is one of those that can follow."""
    return len(head) > 2 and head[0] == 0x08 and head[1] < 0x80 and head[2] in b"\x12\x1a\x22\x28\x32\x3a\x42"


def inspect(path: str) -> Contents:
    model, reader = _model(path)
    scopes = select.scopes(model, reader)
    networks, notes = [], []
    try:
        networks.append(LoadableNetwork("", describe.chain(map(_in_words, select.whole(scopes[0], reader).parts))))
    except ValueError as error:
        notes.append(f"cannot be loaded as a whole: {error}")
    for node, constants in select.lstms(scopes):
        networks.append(LoadableNetwork(node.name, _node_in_words(node, constants, reader)))
    return Contents(NAME, [described(tensor) for tensor in model.graph.initializer], networks, notes)


def load(path: str, prefix: str | None, options: Options) -> LSTM | Dense | Stack:
    model, reader = _model(path)
    scopes = select.scopes(model, reader)
    found = select.named(scopes, reader, prefix) if prefix else select.whole(scopes[0], reader)
    del model, scopes  # frees the file's bytes before the network takes memory
    return _built(found, options)


def save(net: AnyNetwork, path: str) -> None:
    """Save as an ONNX model; ``export.py`` says with which inputs and outputs."""
    from lstmkernel.formats.onnx import export

    errors.needed("onnx", "onnx", f"saving {path}")
    with replacing(path) as file:
        file.write(export.model(net).SerializeToString())


def _model(path: str) -> tuple[Any, TensorReader]:
    onnx = errors.needed("onnx", "onnx", f"{path}: reading ONNX")
    protobuf = errors.needed("google.protobuf.message", "onnx", f"{path}: reading ONNX")
    with open(path, "rb") as file:
        data = file.read()
    parse_budget.check(data, onnx.ModelProto.DESCRIPTOR)
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except protobuf.DecodeError as error:
        raise ValueError(f"not an ONNX model: {error}") from error
    graph.expect_known_opsets(model, onnx.defs.onnx_opset_version())
    return model, TensorReader(path)


def _built(found: FollowedNetwork, options: Options) -> LSTM | Dense | Stack:
    options = options.or_else(
        build.dtype_of(array for part in found.parts for array in _arrays(part)), found.batch_first
    )
    return build.chain([_layer(part, options) for part in found.parts])


def _layer(part: list[LSTMNode] | DenseNodes, options: Options) -> LSTM | Dense:
    if isinstance(part, DenseNodes):
        return build.dense(part.weight, part.bias, part.activation, options)
    return build.lstm(operator.shape_of(part), operator.as_state_dict(part), options)


def _arrays(part: list[LSTMNode] | DenseNodes) -> list[Array]:
    if isinstance(part, DenseNodes):
        return [part.weight] if part.bias is None else [part.weight, part.bias]
    return [array for node in part for array in node.weights.values()]


def _in_words(part: list[LSTMNode] | DenseNodes) -> str:
    if isinstance(part, DenseNodes):
        O, K = part.weight.shape
        config = {"in_features": K, "out_features": O, "activation": part.activation, "bias": part.bias is not None}
        return describe.layer("Dense", config)
    return describe.layer("LSTM", operator.shape_of(part)._asdict())


def _node_in_words(node: Node, constants: Mapping[str, Array], reader: TensorReader) -> str:
    try:
        return _in_words([operator.lstm_node(node, constants, copy(reader))])
    except ValueError as error:
        return f"no LSTM that can be loaded: {error}"
