"""safetensors: names, shapes and raw numbers, nothing that could run. The metadata holds what names do not tell."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as serialize

from lstmkernel.backends.packing import Array
from lstmkernel.cell import LSTMCell
from lstmkernel.dense import Dense
from lstmkernel.engine import parameters
from lstmkernel.formats import describe
from lstmkernel.formats.inspection import Contents, Network, Tensor
from lstmkernel.formats.pytorch import names, state_dict
from lstmkernel.formats.untrusted import json_text
from lstmkernel.formats.untrusted.raw_tensors import widened
from lstmkernel.host.files import replacing
from lstmkernel.lstm import LSTM
from lstmkernel.stack import Stack

NAME = "safetensors"
SUFFIXES = (".safetensors",)

#: Metadata key of a file that ``save`` wrote.
KEY = "lstmkernel"

#: The library refuses longer headers, too.
MOST_HEADER_BYTES = 100_000_000

_TYPES: dict[str, type[LSTM] | type[LSTMCell] | type[Dense]] = {"LSTM": LSTM, "LSTMCell": LSTMCell, "Dense": Dense}

#: Names of NumPy's dtypes, and bfloat16; the rest keep the format's own names.
_DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "BOOL": "bool"}
_DTYPES |= {
    f"{kind}{bits}": f"{name}{bits}" for kind, name in (("I", "int"), ("U", "uint")) for bits in (8, 16, 32, 64)
}


class _Header(NamedTuple):
    tensors: list[Tensor]
    places: dict[str, tuple[int, int]]  # of each tensor's bytes in the file
    metadata: dict[str, str]


def recognises(path: str, head: bytes) -> bool:
    """A length, then an object in JSON."""
    return head[8:].lstrip(b" ")[:1] == b"{" and int.from_bytes(head[:8], "little") <= MOST_HEADER_BYTES


def inspect(path: str) -> Contents:
    header = _header(path)
    networks = state_dict.networks(header.tensors, ordered=False)
    notes = []
    if KEY in header.metadata:
        whole = _described(json_text.parse(header.metadata[KEY].encode()))
        networks = [Network("", whole), *(network for network in networks if network.prefix)]
        notes = ["written by lstmkernel.save"]
    return Contents(NAME, header.tensors, networks, notes)


def load(path: str, prefix: str | None, options: dict[str, Any]) -> LSTM | LSTMCell | Dense | Stack:
    header = _header(path)

    def read(tensor: Tensor) -> Array:
        begin, end = header.places[tensor.name]
        with open(path, "rb") as file:
            file.seek(begin)
            return widened(tensor, file.read(end - begin), "<")

    if prefix is None and KEY in header.metadata:
        description = json_text.parse(header.metadata[KEY].encode())
        return _restore(description, {tensor.name: read(tensor) for tensor in header.tensors}, options)
    return state_dict.load(header.tensors, read, prefix, options, ordered=False)


def save(net: LSTM | LSTMCell | Dense | Stack, path: str) -> None:
    metadata: Any = _describe_stack(net) if isinstance(net, Stack) else _describe(net)
    with replacing(path) as file:
        file.write(serialize(net.state_dict(), {KEY: json.dumps(metadata)}))


def _header(path: str) -> _Header:
    """What stands before the numbers: checked by the library, then read here, which knows bfloat16 and twice a key."""
    try:
        with safe_open(path, framework="numpy"):
            pass
    except SafetensorError as error:
        raise ValueError(f"not a safetensors file: {error}") from error
    with open(path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
        entries = json_text.parse(file.read(size))
    metadata = entries.pop("__metadata__", None) or {}
    tensors, places = [], {}
    for name, entry in entries.items():
        dtype = entry["dtype"]
        tensors.append(Tensor(name, tuple(entry["shape"]), _DTYPES.get(dtype, dtype)))
        places[name] = (8 + size + entry["data_offsets"][0], 8 + size + entry["data_offsets"][1])
    return _Header(tensors, places, metadata)


def _describe(layer: LSTM | LSTMCell | Dense) -> dict[str, Any]:
    """What rebuilds a layer; where and how it runs is the loading machine's affair."""
    config = layer.config()
    return {"type": type(layer).__name__, **{k: v for k, v in config.items() if k not in ("backend", "num_threads")}}


def _describe_stack(stack: Stack) -> list[Any] | dict[str, Any]:
    layers = [_describe(layer) for layer in stack.layers]
    return {"type": "Stack", "layers": layers, "skip": stack.skip} if stack.skip else layers


def _described(description: Any) -> str:
    """A description in words, whatever it holds: inspecting does not check it."""
    skip = None
    if isinstance(description, dict) and "layers" in description:
        description, skip = description["layers"], description.get("skip")
    layers = description if isinstance(description, list) else [description]
    known = [describe.of_layer(str(layer.get("type")), layer) if isinstance(layer, dict) else "?" for layer in layers]
    return _short(describe.THEN.join(known) + describe.of_skip(skip))


def _restore(description: Any, tensors: dict[str, Array], options: dict[str, Any]) -> LSTM | LSTMCell | Dense | Stack:
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
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 200 else f"{text[:200]} ..."
