"""safetensors: names, shapes and raw numbers, nothing that could run. The metadata holds what names do not tell."""

from __future__ import annotations

import json
import os
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as serialize

from lstmkernel import parameters
from lstmkernel.backends.packing import Array
from lstmkernel.cell import LSTMCell
from lstmkernel.dense import Dense
from lstmkernel.files import replacing
from lstmkernel.formats import torch_names
from lstmkernel.lstm import LSTM
from lstmkernel.stack import Stack

#: Metadata key of a file that ``save`` wrote.
KEY = "lstmkernel"

_TYPES: dict[str, type[LSTM] | type[LSTMCell] | type[Dense]] = {"LSTM": LSTM, "LSTMCell": LSTMCell, "Dense": Dense}


def load(path: str, prefix: str | None, options: dict[str, Any]) -> LSTM | LSTMCell | Dense | Stack:
    if not os.path.isfile(path):
        raise FileNotFoundError(f"{path}: no such file")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            if prefix is None and KEY in metadata:
                return _restore(json.loads(metadata[KEY]), _read(file, ""), options)
            place = torch_names.locate(file.keys(), prefix)
            return torch_names.lstm(_read(file, place), options)
    except SafetensorError as error:
        raise ValueError(f"{path}: not a safetensors file: {error}") from error
    except (ValueError, TypeError, RecursionError) as error:  # the latter: JSON that nests without end
        raise ValueError(f"{path}: {error}") from error


def save(net: LSTM | LSTMCell | Dense | Stack, path: str) -> None:
    metadata: Any = [_describe(layer) for layer in net.layers] if isinstance(net, Stack) else _describe(net)
    with replacing(path) as file:
        file.write(serialize(net.state_dict(), {KEY: json.dumps(metadata)}))


def _read(file: Any, place: str) -> dict[str, Array]:
    """The tensors behind a prefix, by their own names; the rest of a large model is left on disk."""
    tensors = {}
    for name in file.keys():  # noqa: SIM118
        if name.startswith(place):
            try:
                tensors[name.removeprefix(place)] = file.get_tensor(name)
            except (TypeError, AttributeError) as error:
                came = file.get_slice(name).get_dtype()
                raise ValueError(f"{name}: expected float16, float32 or float64, got {came}") from error
    return tensors


def _describe(layer: LSTM | LSTMCell | Dense) -> dict[str, Any]:
    """What rebuilds a layer; where and how it runs is the loading machine's affair."""
    config = layer.config()
    return {"type": type(layer).__name__, **{k: v for k, v in config.items() if k not in ("backend", "num_threads")}}


def _restore(description: Any, tensors: dict[str, Array], options: dict[str, Any]) -> LSTM | LSTMCell | Dense | Stack:
    if not isinstance(description, list):
        return _restore_layer(description, tensors, options)
    layers: list[Any] = []
    for i, layer in enumerate(description):
        layers.append(_restore_layer(layer, torch_names.within(tensors, f"{i}."), options))
    stack = Stack(layers)
    parameters.checked(tensors, stack.parameter_shapes(), stack.dtype)  # no tensor beside those of the layers
    return stack


def _restore_layer(description: Any, tensors: dict[str, Array], options: dict[str, Any]) -> LSTM | LSTMCell | Dense:
    try:
        kind = _TYPES[description["type"]]
        config = {name: value for name, value in description.items() if name != "type"}
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"metadata {KEY!r}: expected what lstmkernel.save wrote, got {_short(description)}") from error
    own: dict[str, Any] = (
        options if kind is LSTM else {name: options[name] for name in ("backend", "dtype") if name in options}
    )
    try:
        return kind.from_config({**config, **own}, tensors)
    except (KeyError, TypeError) as error:
        raise ValueError(f"metadata {KEY!r}: expected a {kind.__name__}, got {_short(description)}: {error}") from error


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]} ..."
