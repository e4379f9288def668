"""safetensors: names, shapes and raw numbers, nothing that could run. What the names do not tell is in the metadata."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as serialize

from lstmkernel.backends.packing import Array
from lstmkernel.cell import LSTMCell
from lstmkernel.dense import Dense
from lstmkernel.engine import parameters
from lstmkernel.engine.notes import GIVES
from lstmkernel.formats import assumptions, describe, kept_notes
from lstmkernel.formats.contract import AnyNetwork, Options
from lstmkernel.formats.inspection import Contents, LoadableNetwork, Tensor
from lstmkernel.formats.pytorch import names, state_dict
from lstmkernel.formats.pytorch.weights import Weight
from lstmkernel.formats.untrusted.json import parse_json
from lstmkernel.formats.untrusted.raw_tensors import as_array
from lstmkernel.host.files import replacing
from lstmkernel.lstm import LSTM
from lstmkernel.model import Model
from lstmkernel.stack import Stack

NAME = "safetensors"
SUFFIXES: tuple[str, ...] = (".safetensors",)

#: The metadata's key under which ``save`` describes the layers, as JSON.
KEY = "lstmkernel"

#: The package safetensors refuses longer headers, too.
MOST_HEADER_BYTES = 100_000_000

_TYPES: dict[str, type[LSTM] | type[LSTMCell] | type[Dense]] = {"LSTM": LSTM, "LSTMCell": LSTMCell, "Dense": Dense}

#: The format's dtypes by NumPy's names, and bfloat16. The rest keep the format's own names.
_DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "BOOL": "bool"}
_DTYPES |= {
    f"{kind}{bits}": f"{name}{bits}" for kind, name in (("I", "int"), ("U", "uint")) for bits in (8, 16, 32, 64)
}


class _Header(NamedTuple):
    tensors: list[Tensor]
    places: dict[str, tuple[int, int]]  # where each tensor's bytes begin and end in the file
    metadata: dict[str, str]


def recognises(path: str, head: bytes) -> bool:
    """The length of the header, then the header, a JSON object."""
    return head[8:].lstrip(b" ")[:1] == b"{" and int.from_bytes(head[:8], "little") <= MOST_HEADER_BYTES


def inspect(path: str) -> Contents:
    header = _header(path)
    if KEY not in header.metadata:
        return state_dict.contents(NAME, header.tensors, _weights(path, header), ordered=False)
    layers, skip = _layers(parse_json(header.metadata[KEY].encode()))
    networks = [LoadableNetwork("", _in_words(layers, skip))]
    if _is_stack(header):
        networks += [LoadableNetwork(str(place), _in_words([layer])) for place, layer in enumerate(layers)]
    notes = kept_notes.first(map(kept_notes.of_config, layers))
    words = ["written by lstmkernel.save", *kept_notes.in_words(notes)]
    return Contents(NAME, header.tensors, networks, words, notes.sample_rate)


def load(path: str, prefix: str | None, options: Options) -> AnyNetwork:
    header = _header(path)
    weights = _weights(path, header)
    if KEY not in header.metadata:
        return state_dict.load(weights, prefix, options, ordered=False)
    description = parse_json(header.metadata[KEY].encode())
    if not prefix:
        return _told(_restore(description, {weight.name: weight.read() for weight in weights}, options))
    place = prefix.removesuffix(".")
    layers, _ = _layers(description)
    if not _is_stack(header) or place not in map(str, range(len(layers))):
        known = f"0 to {len(layers) - 1}" if _is_stack(header) else "none, for the file is one layer"
        raise ValueError(f"prefix {place[:100]!r}: expected the number of a layer, {known}")
    inside = {weight.name: weight.read() for weight in weights if weight.name.startswith(f"{place}.")}
    return _told(_restore_layer(layers[int(place)], names.within(inside, f"{place}."), options))


def _told(net: AnyNetwork) -> AnyNetwork:
    """The same network; what its model gives instead of every step is told."""
    if isinstance(net, Model) and net.gives:
        assumptions.assume(GIVES[net.gives])
    return net


def _weights(path: str, header: _Header) -> list[Weight]:
    def read(tensor: Tensor) -> Array:
        begin, end = header.places[tensor.name]
        with open(path, "rb") as file:
            file.seek(begin)
            return as_array(tensor, file.read(end - begin), "<")

    return state_dict.of_tensors(header.tensors, read)


def save(net: AnyNetwork, path: str, state_inputs: bool, dynamic: bool) -> None:
    if dynamic:
        raise ValueError(f"dynamic: expected False for {path}, since only an ONNX model has operators")
    if not state_inputs:
        raise ValueError(f"state_inputs: expected True for {path}, since only an ONNX model has inputs")
    metadata = _stack_config(net) if isinstance(net, Stack) else _layer_config(net)
    with replacing(path) as file:
        file.write(serialize(_tensors(net), {KEY: json.dumps(metadata)}))


def _tensors(net: AnyNetwork) -> dict[str, Array]:
    """The parameters, and weights of fewer bits in those bits."""
    return net.state_dict() if isinstance(net, Dense) else dict(net.stored())


def _header(path: str) -> _Header:
    """What stands before the numbers.

    The package safetensors checks it first. It is then read here, because NumPy has no bfloat16 and because a key that
    is there twice must be refused.
    """
    try:
        with safe_open(path, framework="numpy"):
            pass
    except SafetensorError as error:
        raise ValueError(f"not a safetensors file: {error}") from error
    with open(path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
        entries = parse_json(file.read(size))
    metadata = entries.pop("__metadata__", None) or {}
    tensors, places = [], {}
    for name, entry in entries.items():
        dtype = entry["dtype"]
        tensors.append(Tensor(name, tuple(entry["shape"]), _DTYPES.get(dtype, dtype)))
        places[name] = (8 + size + entry["data_offsets"][0], 8 + size + entry["data_offsets"][1])
    return _Header(tensors, places, metadata)


def _layer_config(layer: LSTM | LSTMCell | Dense) -> dict[str, Any]:
    """What rebuilds a layer, without its backend and threads: those depend on the machine that loads it."""
    config = layer.config()
    return {"type": type(layer).__name__, **{k: v for k, v in config.items() if k not in ("backend", "num_threads")}}


def _stack_config(stack: Stack) -> list[Any] | dict[str, Any]:
    layers = [_layer_config(layer) for layer in stack.layers]
    return {"type": "Stack", "layers": layers, "skip": stack.skip} if stack.skip else layers


def _is_stack(header: _Header) -> bool:
    return header.metadata[KEY].lstrip().startswith("[") or '"layers"' in header.metadata[KEY]


def _layers(description: Any) -> tuple[list[Any], Any]:
    """The layers that the metadata describes, and their Stack's skip, whatever it holds: it is not checked here."""
    skip = None
    if isinstance(description, dict) and "layers" in description:
        description, skip = description["layers"], description.get("skip")
    return (description if isinstance(description, list) else [description]), skip


def _in_words(layers: list[Any], skip: Any = None) -> str:
    known = [describe.layer(str(layer.get("type")), layer) if isinstance(layer, dict) else "?" for layer in layers]
    return _short(describe.chain(known, skip))


def _restore(description: Any, tensors: dict[str, Array], options: Options) -> AnyNetwork:
    skip: Any = 0
    if isinstance(description, dict) and description.get("type") == "Stack":
        description, skip = description.get("layers"), description.get("skip")
        if not isinstance(description, list) or not isinstance(skip, float | int):
            raise ValueError(f"metadata {KEY!r}: expected a Stack's layers and skip, got {_short([description, skip])}")
    if not isinstance(description, list):
        return _restore_layer(description, tensors, options)
    layers: list[Any] = []
    for i, layer in enumerate(description):
        layers.append(_restore_layer(layer, names.within(tensors, f"{i}."), options))
    stack = Stack(layers, skip=skip)
    parameters.require_only(tensors, stack.stored())
    return stack


def _restore_layer(description: Any, tensors: dict[str, Array], options: Options) -> LSTM | LSTMCell | Dense:
    try:
        kind = _TYPES[description["type"]]
        config = {name: value for name, value in description.items() if name != "type"}
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"metadata {KEY!r}: expected what lstmkernel.save writes, got {_short(description)}"
        ) from error
    asked = options.of_lstm() if kind is LSTM else options.of_dense()
    try:
        layer = kind.from_config({**config, **asked}, tensors)
    except (KeyError, TypeError) as error:
        raise ValueError(f"metadata {KEY!r}: expected a {kind.__name__}, got {_short(description)}: {error}") from error
    if isinstance(layer, LSTM):
        options.checked(layer.shape)
    return layer


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 200 else f"{text[:200]} ..."
