"""ONNX models: LSTM nodes and the operators between and after them, read as data; nothing of a model is run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from lstmkernel.backends.packing import Array
from lstmkernel.dense import Dense
from lstmkernel.engine import precision
from lstmkernel.engine.notes import GIVES, Notes
from lstmkernel.engine.precision import INT8
from lstmkernel.formats import assumptions, build, describe, errors, kept_notes
from lstmkernel.formats.contract import AnyNetwork, Options
from lstmkernel.formats.inspection import Contents, LoadableNetwork
from lstmkernel.formats.onnx import graph, operator, parse_budget, quantized, select
from lstmkernel.formats.onnx.dense import DenseNodes
from lstmkernel.formats.onnx.follow import FollowedNetwork, Part
from lstmkernel.formats.onnx.operator import LSTMNode
from lstmkernel.formats.onnx.tensors import TensorReader, described
from lstmkernel.formats.untrusted.json import parse_json
from lstmkernel.host.files import replacing
from lstmkernel.host.warning import warn
from lstmkernel.lstm import LSTM
from lstmkernel.model import Model
from lstmkernel.stack import Stack

NAME = "ONNX"
SUFFIXES: tuple[str, ...] = (".onnx",)

#: The metadata's key under which ``save`` keeps what is no part of a graph, as JSON.
KEY = "lstmkernel"

#: How many LSTM nodes ``inspect`` tries to load.
MOST_LISTED = 50

#: Of LSTM nodes alone.
ROWS_FIRST = (
    "by its name, the LSTM takes x as (T, B, I), but the model has the rows first, (B, T, I). batch_first=True takes x "
    "as the model does, batch_first=False says that (T, B, I) is wanted"
)


def recognises(path: str, head: bytes) -> bool:
    """A ModelProto: its first field is ir_version, a small number; the next field is one of those that can follow."""
    return len(head) > 2 and head[0] == 0x08 and head[1] < 0x80 and head[2] in b"\x12\x1a\x22\x28\x32\x3a\x42"


def inspect(path: str) -> Contents:
    model, reader = _model(path)
    scopes = select.scopes(model, reader)
    networks, notes = [], []
    names = select.prefixes(scopes)
    for prefix in ("", *names[:MOST_LISTED]):
        found = select.tried(scopes, reader, prefix)
        if isinstance(found, FollowedNetwork):
            networks.append(LoadableNetwork(prefix, describe.chain(_in_words(part, found) for part in found.parts)))
            notes += [told for told in _told(found.parts) if told not in notes and not _kept_activations(model)]
            if found.only:
                notes.append(GIVES[found.only])
            if found.rows_first and ROWS_FIRST not in notes:
                notes.append(ROWS_FIRST)
        else:
            notes.append(f"cannot be loaded {f'with prefix={prefix!r}' if prefix else 'as a whole'}: {found}")
    if len(names) > MOST_LISTED:
        notes.append(f"{len(names) - MOST_LISTED} more names of LSTM nodes, which prefix= can be, too")
    kept = _kept_notes(model)
    notes += kept_notes.in_words(kept)
    return Contents(NAME, [described(tensor) for tensor in model.graph.initializer], networks, notes, kept.sample_rate)


def load(path: str, prefix: str | None, options: Options) -> LSTM | Dense | Stack:
    model, reader = _model(path)
    scopes = select.scopes(model, reader)
    found = select.network(scopes, reader, prefix or "")
    kept, activations = Notes() if prefix else _kept_notes(model), _kept_activations(model)
    del model, scopes  # frees the file's bytes before the network takes memory
    if found.elsewhere:
        node, sources = found.elsewhere[0][0], ", ".join(sorted({repr(name) for _, name in found.elsewhere})[:6])
        warn(
            f"{path}: {node}: begins with {sources}, which another part of the model computes and which is not loaded: "
            "give state= to each call; without it, it begins with zeros"
        )
    notes = kept_notes.first([Notes(gives=found.only or None), kept])
    if notes.gives:
        warn(f"{path}: {GIVES[notes.gives]}")
    for sentence in [] if activations else _told(found.parts):
        assumptions.assume(sentence)
    if found.rows_first and options.batch_first is None:
        assumptions.assume(ROWS_FIRST)
    return _built(found, options, notes, activations)


def save(net: AnyNetwork, path: str, state_inputs: bool, dynamic: bool) -> None:
    """Save as an ONNX model; ``export.py`` says with which inputs and outputs."""
    errors.needed("onnx", "onnx", f"saving {path}")
    from lstmkernel.formats.onnx import export  # imports onnx

    notes = kept_notes.of_net(net).given() if isinstance(net, Model) else {}
    if isinstance(net, Model) and (activations := export.activations(net)):
        notes |= {"activations": activations}
    with replacing(path) as file:
        made = export.model(net, {KEY: json.dumps(notes)} if notes else {}, state_inputs, dynamic)
        file.write(made.SerializeToString())


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


def _kept(model: Any) -> Any:
    """What ``save`` wrote beside the graph, if it did."""
    found = [entry.value for entry in model.metadata_props if entry.key == KEY]
    return parse_json(found[0].encode()) if len(found) == 1 else None


def _kept_notes(model: Any) -> Notes:
    return kept_notes.of_config(_kept(model))


def _kept_activations(model: Any) -> Any:
    """What integers are multiplied by, in all LSTM nodes or by their names: not checked yet. None if it is not said."""
    kept = _kept(model)
    return kept.get("activations") if isinstance(kept, dict) else None


def _told(parts: Sequence[Part]) -> list[str]:
    """What differs from the model where its weights are integers, in sentences."""
    operators = (node.quantized for part in parts if not isinstance(part, DenseNodes) for node in part)
    return [quantized.TOLD[operator] for operator in dict.fromkeys(operators) if operator]


def _built(found: FollowedNetwork, options: Options, notes: Notes, activations: Any = None) -> LSTM | Dense | Stack:
    options = options.or_else(
        build.dtype_of(array for part in found.parts for array in _arrays(part)), found.batch_first
    )
    top = max(i for i, part in enumerate(found.parts) if not isinstance(part, DenseNodes))
    noted = options._replace(notes=notes)
    layers = enumerate(found.parts)
    return build.chain([_layer(part, found, noted if i == top else options, activations) for i, part in layers])


def _layer(part: Part, found: FollowedNetwork, options: Options, activations: Any) -> LSTM | Dense:
    if isinstance(part, DenseNodes):
        return build.dense(part.weight, part.bias, part.activation, options)
    shape, named = operator.shape_of(part), operator.as_state_dict(part)
    return build.lstm(shape, named, options, found.expects, **_quantized(part, activations))


def _quantized(part: list[LSTMNode], activations: Any) -> dict[str, Any]:
    """``precision`` and ``activations`` of build.lstm; nothing where no layer has integers.

    activations: as ``_kept_activations`` found them. Raises ValueError if they are none.
    """
    if not any(node.quantized for node in part):
        return {}
    known = activations if isinstance(activations, dict) else {node.node.name: activations for node in part}
    precisions = [
        precision.checked(INT8, known.get(node.node.name)) if node.quantized else precision.PLAIN for node in part
    ]
    return precision.config(tuple(precisions))


def _arrays(part: Part) -> list[Array]:
    if isinstance(part, DenseNodes):
        return [part.weight] if part.bias is None else [part.weight, part.bias]
    return [array for node in part for array in node.weights.values()]


def _in_words(part: Part, found: FollowedNetwork) -> str:
    if isinstance(part, DenseNodes):
        O, K = part.weight.shape
        config = {"in_features": K, "out_features": O, "activation": part.activation, "bias": part.bias is not None}
        return describe.layer("Dense", config)
    told = {"expects": found.expects, "precision": _quantized(part, None).get("precision")}
    return describe.layer("LSTM", {**operator.shape_of(part)._asdict(), **told})
