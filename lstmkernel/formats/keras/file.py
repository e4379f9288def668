"""Keras 2 and 3: .h5 and .weights.h5, which are HDF5, and .keras, a zip file of JSON and HDF5; read as data."""

from __future__ import annotations

import contextlib
import io
import os
import re
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

from lstmkernel.dense import Dense
from lstmkernel.formats import describe
from lstmkernel.formats.inspection import Contents, Network
from lstmkernel.formats.keras import config as keras_config
from lstmkernel.formats.keras import layers as keras_layers
from lstmkernel.formats.keras.config import Layer
from lstmkernel.formats.keras.weights import LAYERS, ByName, ByPlace, Weights
from lstmkernel.formats.untrusted import archive, hdf5, json_text, limits
from lstmkernel.formats.untrusted.hdf5 import Reader
from lstmkernel.lstm import LSTM
from lstmkernel.stack import Stack

NAME = "Keras"
SUFFIXES = (".keras", ".h5", ".hdf5")

WEIGHTS_ALONE = (
    "weights alone: activations and other options are taken for Keras's defaults, so that a Dense is linear, and the "
    "last layer where the file does not tell; a model saved whole says it all"
)

CONFIG, METADATA, WEIGHTS = "config.json", "metadata.json", "model.weights.h5"


class _Model(NamedTuple):
    """A file while it is open."""

    format: str
    keras: int  # 2 or 3
    config: dict[str, Any] | None  # None: weights alone
    layers: list[Layer]
    weights: Weights
    reader: Reader

    def chain(self) -> list[Layer]:
        """The working layers of the whole model, one after the other."""
        if self.config is not None:
            keras_layers.check_kinds(self.layers)  # a better reason than how such layers are connected
            return keras_layers.working(keras_config.chain(self.config))
        self.weights.check_order(self.layers)
        return keras_layers.working(self.layers)

    def picked(self, prefix: str | None) -> list[Layer]:
        if not prefix:
            return self.chain()
        picked = [layer for layer in self.layers if layer.name == prefix.removesuffix(".")]
        if not picked:
            names = ", ".join(repr(layer.name) for layer in self.layers[:20])
            raise ValueError(f"prefix {prefix!r}: no such layer; there are {names[:1000]}")
        return keras_layers.working(picked)


def recognises(path: str, head: bytes) -> bool:
    return head.startswith(hdf5.SIGNATURE) or (head.startswith(archive.MAGIC) and CONFIG in archive.names(path))


def inspect(path: str) -> Contents:
    with _opened(path) as model:
        described = {layer.name: _description(layer, model.weights) for layer in model.layers}
        networks, notes = [], []
        try:
            chain = model.chain()
        except ValueError as error:
            notes.append(f"not one network: {str(error)[:1000]}")
        else:
            networks.append(
                Network("", describe.THEN.join(_description(layer, model.weights) or "?" for layer in chain))
            )
        networks += [Network(name, description) for name, description in described.items() if description]
        if model.config is None:
            notes.append(WEIGHTS_ALONE)
        return Contents(model.format, model.reader.tensors(model.weights.top), networks, notes)


def load(path: str, prefix: str | None, options: dict[str, Any]) -> LSTM | Dense | Stack:
    with _opened(path) as model:
        layers = model.picked(prefix)
        cells = {
            layer.name: [
                {name: model.reader.read(dataset) for name, dataset in cell.items()}
                for cell in model.weights.cells(layer)
            ]
            for layer in layers
        }
        if model.config is None:
            warnings.warn(f"{path}: {WEIGHTS_ALONE}", RuntimeWarning, stacklevel=3)
    masks = next((layer for layer in model.layers if layer.kind == "Masking"), None)
    if masks and not prefix:
        warnings.warn(f"{path}: {masks}: masks are not applied; call with lengths=", RuntimeWarning, stacklevel=3)
    return keras_layers.network(layers, cells, model.keras, options)


@contextlib.contextmanager
def _opened(path: str) -> Iterator[_Model]:
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        head = file.read(64)
    if not head.startswith(archive.MAGIC):
        with hdf5.reading(path, head, size, size) as reader:
            yield _of_hdf5(reader)
        return
    with archive.opened(path) as members:
        for name in (CONFIG, METADATA):  # text that is read, decoded and then becomes objects
            limits.check(name, 6 * members.sizes.get(name, 0), size)
        config = _object(members.read(CONFIG), CONFIG)
        keras, _ = _version(_object(members.read(METADATA), METADATA).get("keras_version"))
        data = members.read(WEIGHTS)
    with hdf5.reading(io.BytesIO(data), data[:64], len(data), size) as reader:
        yield _Model(f"Keras {keras}, .keras", keras, config, keras_config.layers(config), _by_place(reader), reader)


def _of_hdf5(reader: Reader) -> _Model:
    """One of three: a whole model, or the weights alone, as Keras 2 or as Keras 3 writes them."""
    root = reader.root
    text = reader.text(root, "model_config")
    if text is not None:
        keras, _ = _version(reader.text(root, "keras_version"))
        config = _object(text.encode(), "model_config")
        weights = ByName(reader, reader.group(root, "model_weights"))
        return _Model(f"Keras {keras}, .h5", keras, config, keras_config.layers(config), weights, reader)
    if "layer_names" in root.attrs or "layer_names0" in root.attrs:
        version = _version(reader.text(root, "keras_version"))
        if version < (2, 3):
            raise ValueError(
                f"weights alone, of Keras {version[0]}.{version[1]}: before 2.3, LSTMs came with one or another "
                "recurrent_activation, and which one is not in the file; save the whole model with model.save"
            )
        by_name = ByName(reader, root)
        return _Model(f"Keras {version[0]}, weights in .h5", version[0], None, by_name.layers(), by_name, reader)
    by_place = _by_place(reader)
    return _Model("Keras 3, .weights.h5", 3, None, by_place.layers(), by_place, reader)


def _by_place(reader: Reader) -> ByPlace:
    for name in LAYERS:
        if name in reader.root:
            return ByPlace(reader, reader.group(reader.root, name))
    names = ", ".join(list(reader.root)[:6])
    raise ValueError(
        f"expected what Keras saves of a Sequential or functional model: model_config, layer_names or layers; "
        f"got {names[:500] or 'nothing'}"
    )


def _version(text: Any) -> tuple[int, int]:
    match = re.match(r"([23])\.(\d{1,4})\b", text) if isinstance(text, str) else None
    if not match:
        raise ValueError(f"keras_version: expected one of Keras 2 or 3, got {str(text)[:40]}")
    return int(match[1]), int(match[2])


def _object(text: bytes, what: str) -> dict[str, Any]:
    value = json_text.parse(text)
    if not isinstance(value, dict):
        raise ValueError(f"{what}: expected a JSON object, got {str(value)[:80]}")
    return value


def _description(layer: Layer, weights: Weights) -> str:
    """A working layer in words, or "" where there is nothing to load by itself."""
    try:
        (working,) = keras_layers.working([layer])
        cell, *others = weights.cells(working)
        inputs, outputs = cell["kernel"].shape
    except (ValueError, LookupError):
        return ""
    if layer.kind in keras_layers.HEADS:
        activation = layer.inside.config.get("activation", "linear")
        own = {"in_features": inputs, "out_features": outputs, "activation": keras_config.short(activation).strip("'")}
        return describe.of_layer("Dense", {**own, "bias": "bias" in cell})
    own = {"input_size": inputs, "hidden_size": outputs // 4, "bidirectional": bool(others), "bias": "bias" in cell}
    return describe.of_layer("LSTM", own)
