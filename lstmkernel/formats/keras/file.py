"""Keras 2 and 3: .h5 and .weights.h5, which are HDF5, and .keras, a zip file of JSON and HDF5."""

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
from lstmkernel.formats.contract import Options
from lstmkernel.formats.inspection import Contents, LoadableNetwork
from lstmkernel.formats.keras import config as keras_config
from lstmkernel.formats.keras import layers as keras_layers
from lstmkernel.formats.keras.config import KerasLayer
from lstmkernel.formats.keras.layouts import LAYERS, Keras2Layout, Keras3Layout, WeightLayout
from lstmkernel.formats.untrusted import archive, hdf5, limits
from lstmkernel.formats.untrusted.hdf5 import HDF5Reader
from lstmkernel.formats.untrusted.json import parse_json
from lstmkernel.lstm import LSTM
from lstmkernel.stack import Stack

NAME = "Keras"
SUFFIXES: tuple[str, ...] = (".keras", ".h5", ".hdf5")

WEIGHTS_ALONE = (
    "weights alone: activations and other options are assumed to be Keras's defaults, so that a Dense is linear; if "
    "the file does not tell the order, a Dense is assumed to come last; save the whole model to be sure"
)

CONFIG, METADATA, WEIGHTS = "config.json", "metadata.json", "model.weights.h5"


class _OpenFile(NamedTuple):
    format: str
    keras: int  # 2 or 3
    config: dict[str, Any] | None  # None: weights alone
    layers: list[KerasLayer]
    weights: WeightLayout
    reader: HDF5Reader

    def chain(self) -> list[KerasLayer]:
        """The working layers of the whole model, one after the other."""
        if self.config is not None:
            keras_layers.check_kinds(self.layers)  # first: the better message if a layer is not supported at all
            return keras_layers.working(keras_config.chain(self.config))
        self.weights.check_order(self.layers)
        return keras_layers.working(self.layers)

    def picked(self, prefix: str | None) -> list[KerasLayer]:
        """The working layers that ``load`` is asked for."""
        if not prefix:
            return self.chain()
        picked = [layer for layer in self.layers if layer.name == prefix.removesuffix(".")]
        if not picked:
            names = ", ".join(repr(layer.name) for layer in self.layers[:20])
            raise ValueError(f"prefix {prefix!r}: no such layer; there are {names[:1000]}")
        return keras_layers.working(picked)

    def in_words(self, layers: list[KerasLayer]) -> str:
        """Working layers as one network."""
        return describe.chain(
            keras_layers.described(layer, self.weights.cells(layer), self.keras, reverse)
            for layer, reverse in keras_layers.with_directions(layers)
        )


def recognises(path: str, head: bytes) -> bool:
    return head.startswith(hdf5.SIGNATURE) or (head.startswith(archive.MAGIC) and CONFIG in archive.names(path))


def inspect(path: str) -> Contents:
    with _opened(path) as file:
        networks, notes = [], []
        try:
            networks.append(LoadableNetwork("", file.in_words(file.chain())))
        except (ValueError, LookupError) as error:
            notes.append(f"cannot be loaded as one network: {str(error)[:1000]}")
        for layer in file.layers:
            with contextlib.suppress(ValueError, LookupError):  # nothing that can be loaded by itself
                networks.append(LoadableNetwork(layer.name, file.in_words(keras_layers.working([layer]))))
        if file.config is None:
            notes.append(WEIGHTS_ALONE)
        return Contents(file.format, file.reader.tensors(file.weights.top), networks, notes)


def load(path: str, prefix: str | None, options: Options) -> LSTM | Dense | Stack:
    with _opened(path) as file:
        layers = file.picked(prefix)
        cells = {
            layer.name: [
                {name: file.reader.read(dataset) for name, dataset in cell.items()}
                for cell in file.weights.cells(layer)
            ]
            for layer in layers
        }
        if file.config is None:
            warnings.warn(f"{path}: {WEIGHTS_ALONE}", RuntimeWarning, stacklevel=3)
    masks = next((layer for layer in file.layers if layer.kind == "Masking"), None)
    if masks and not prefix:
        warnings.warn(
            f"{path}: {masks}: masks are not applied; give each call lengths=",
            RuntimeWarning,
            stacklevel=3,
        )
    return keras_layers.network(layers, cells, file.keras, options)


@contextlib.contextmanager
def _opened(path: str) -> Iterator[_OpenFile]:
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        head = file.read(64)
    if not head.startswith(archive.MAGIC):
        with hdf5.reading(path, head, size, size) as reader:
            yield _of_hdf5(reader)
        return
    with archive.opened(path) as members:
        for name in (CONFIG, METADATA):  # the bytes, their text and its objects are in memory together
            limits.check(name, 6 * members.sizes.get(name, 0), size)
        config = _object(members.read(CONFIG), CONFIG)
        keras, _ = _version(_object(members.read(METADATA), METADATA).get("keras_version"))
        data = members.read(WEIGHTS)
    with hdf5.reading(io.BytesIO(data), data[:64], len(data), size) as reader:
        yield _OpenFile(f"Keras {keras}, .keras", keras, config, keras_config.layers(config), _keras_3(reader), reader)


def _of_hdf5(reader: HDF5Reader) -> _OpenFile:
    """A whole model, or weights alone as Keras 2 or as Keras 3 writes them."""
    root = reader.root
    text = reader.text(root, "model_config")
    if text is not None:
        keras, _ = _version(reader.text(root, "keras_version"))
        config = _object(text.encode(), "model_config")
        weights = Keras2Layout(reader, reader.group(root, "model_weights"))
        return _OpenFile(f"Keras {keras}, .h5", keras, config, keras_config.layers(config), weights, reader)
    if "layer_names" in root.attrs or "layer_names0" in root.attrs:
        version = _version(reader.text(root, "keras_version"))
        if version < (2, 3):
            raise ValueError(
                f"expected a whole model, got weights alone of Keras {version[0]}.{version[1]}: before 2.3, LSTMs had "
                "different default activations, and the file does not tell which; save the whole model with model.save"
            )
        layout = Keras2Layout(reader, root)
        return _OpenFile(f"Keras {version[0]}, weights in .h5", version[0], None, layout.layers(), layout, reader)
    keras_3 = _keras_3(reader)
    return _OpenFile("Keras 3, .weights.h5", 3, None, keras_3.layers(), keras_3, reader)


def _keras_3(reader: HDF5Reader) -> Keras3Layout:
    for name in LAYERS:
        if name in reader.root:
            return Keras3Layout(reader, reader.group(reader.root, name))
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
    value = parse_json(text)
    if not isinstance(value, dict):
        raise ValueError(f"{what}: expected a JSON object, got {str(value)[:80]}")
    return value
