"""Keras 2 and 3: .h5 and .weights.h5, which are HDF5, and .keras, a zip file of JSON and HDF5."""

from __future__ import annotations

import contextlib
import io
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from lstmkernel.dense import Dense
from lstmkernel.formats.contract import Options
from lstmkernel.formats.inspection import Contents, LoadableNetwork
from lstmkernel.formats.keras import config as keras_config
from lstmkernel.formats.keras import masks
from lstmkernel.formats.keras.config import KerasLayer, KerasModel
from lstmkernel.formats.keras.layers import check_kinds
from lstmkernel.formats.keras.layouts import Keras2Layout, Keras3Layout, WeightLayout
from lstmkernel.formats.keras.plan import Plan, Source, planned
from lstmkernel.formats.untrusted import archive, hdf5, limits
from lstmkernel.formats.untrusted.hdf5 import HDF5Reader
from lstmkernel.formats.untrusted.json import parse_json
from lstmkernel.host.warning import warn
from lstmkernel.lstm import LSTM
from lstmkernel.stack import Stack

NAME = "Keras"
SUFFIXES: tuple[str, ...] = (".keras", ".h5", ".hdf5")

CONFIG, METADATA, WEIGHTS = "config.json", "metadata.json", "model.weights.h5"

#: How many layers a message names.
MOST_NAMED = 20


@dataclass(frozen=True)
class _OpenFile:
    format: str
    version: tuple[int, int]  # of Keras
    model: KerasModel | None  # None: weights alone
    layers: list[KerasLayer]
    weights: WeightLayout
    reader: HDF5Reader
    why_alone: str = ""  # why the model is not known although the file is of a whole model

    def plan(self, prefix: str | None, recurrent_activation: str | None) -> Plan:
        """What ``load`` makes of the whole file, or of the part that the prefix names."""
        source = Source(self.weights.cells, self.reader.check, self.version, recurrent_activation)
        chain = self._named(prefix.removesuffix(".")) if prefix else self._whole()
        plan = planned(chain, source)
        warnings = [*plan.warnings]
        if any(layer.masked for layer in chain if layer.kind in keras_config.RECURRENT):
            warnings.append(self.of_masks)
        if self.model is None:
            warnings.append(_weights_alone(plan))
        elif not prefix and (states := keras_config.states_among_outputs(self.model)):
            warnings.append(f"among Keras's outputs are states ({states}): they are in h_n and c_n")
        return plan._replace(warnings=warnings)

    @cached_property
    def parts(self) -> dict[str, KerasLayer | KerasModel]:
        """What a prefix may name: models in the model, layers, and the directions of each Bidirectional."""
        found: dict[str, KerasLayer | KerasModel] = {layer.name: layer for layer in self.layers}
        for layer in self.layers:
            if layer.kind == "Bidirectional":
                with contextlib.suppress(ValueError):  # a broken layer inside
                    found |= {direction.name: direction for direction in layer.directions}
        return found | {model.name: model for model in (keras_config.models(self.model) if self.model else ())}

    @cached_property
    def of_masks(self) -> str:
        where = masks.source_in_words(self.layers)
        return f"the LSTM expects a mask: {where}, or lengths= for rows that are padded at their end"

    def listed(self) -> list[str]:
        """The prefixes to tell of. A direction of a Bidirectional is only worth it where the whole cannot be had."""
        directions = [
            f"{layer.name}.{direction}"
            for layer in self.layers
            if layer.kind == "Bidirectional" and layer.config.get("merge_mode", "concat") == "concat"
            for direction in ("forward", "backward")
        ]
        return [name for name in self.parts if name not in set(directions)]

    def _whole(self) -> list[KerasLayer]:
        """The layers of the whole model, one after the other."""
        if self.model is None:
            if self.why_alone:
                raise ValueError(self.why_alone)
            self.weights.check_order(self.layers)
            return self.layers
        of_masks = keras_config.of_masks(self.model)
        check_kinds([layer for layer in self.layers if layer.name not in of_masks])  # first: the better message
        return keras_config.chain(self.model)

    def _named(self, name: str) -> list[KerasLayer]:
        if name not in self.parts:
            raise ValueError(f"prefix {name[:100]!r}: no such layer")
        return keras_config.chain(self.parts[name])


def recognises(path: str, head: bytes) -> bool:
    return head.startswith(hdf5.SIGNATURE) or (head.startswith(archive.MAGIC) and CONFIG in archive.names(path))


def inspect(path: str) -> Contents:
    with _opened(path) as file:
        notes: dict[str, None] = {}
        networks, whole = [], None
        try:
            whole = file.plan(None, None)
            networks.append(LoadableNetwork("", whole.described()))
            notes |= dict.fromkeys([*whole.warnings, *whole.notes])
        except ValueError as error:
            notes[f"cannot be loaded as one network: {str(error)[:1000]}"] = None
        for name in file.listed():
            try:
                plan = file.plan(name, None)
            except ValueError as error:
                if "recurrent_activation=" in str(error):
                    notes[str(error)[:1000]] = None
                continue
            networks.append(LoadableNetwork(name, plan.described()))
            if whole is None:
                notes |= dict.fromkeys([*plan.warnings, *plan.notes])
        return Contents(file.format, file.reader.tensors(file.weights.top), networks, list(notes))


def load(path: str, prefix: str | None, options: Options) -> LSTM | Dense | Stack:
    with _opened(path) as file:
        try:
            plan = file.plan(prefix, options.recurrent_activation)
        except ValueError as error:
            raise ValueError(f"{error}{_way_out(file, options.recurrent_activation)}") from error
        net = plan.built(file.reader.read, options)
    for text in plan.warnings:
        warn(f"{path}: {text}")
    return net


# ---------------------------------------------------------------- words


def _weights_alone(plan: Plan) -> str:
    """What is assumed of a file without a model."""
    assumed = "activations and other options are assumed to be Keras's defaults, so that a Dense is linear"
    if any(layer.layer.kind in keras_config.RECURRENT for layer in plan.layers):
        assumed += "; net(x) gives every step, and net.last(x) what return_sequences=False gives"
    way = "save the whole model to be sure"
    if len(plan.layers) == 1:
        return f"weights alone: {assumed}; {way}"
    order = ", then ".join(str(layer.layer) for layer in plan.layers[:MOST_NAMED])
    return (
        f"weights alone: taken for a chain: {order[:1000]}, and nothing between them; {assumed}; {way}, or choose one "
        "layer with prefix="
    )


def _way_out(file: _OpenFile, recurrent_activation: str | None) -> str:
    """What else can be loaded from a file that was refused, as far as there is something."""
    found = []
    for name in file.listed():
        with contextlib.suppress(ValueError):
            file.plan(name, recurrent_activation)
            found.append(repr(name))
    if not found:
        return ""
    more = ", ..." if len(found) > MOST_NAMED else ""
    return f"; prefix= loads one of these: {', '.join(found[:MOST_NAMED])[:1000]}{more}"


# ---------------------------------------------------------------- files


@contextlib.contextmanager
def _opened(path: str) -> Iterator[_OpenFile]:
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        if not file.read(len(archive.MAGIC)).startswith(archive.MAGIC):
            yield _of_hdf5(HDF5Reader(file, size, size))
            return
    with archive.opened(path) as members:
        for name in (CONFIG, METADATA):  # the bytes, their text and its objects are in memory together
            limits.check(name, 6 * members.sizes.get(name, 0), size)
        config = _object(members.read(CONFIG), CONFIG)
        version = _version(_object(members.read(METADATA), METADATA).get("keras_version"))
        data = members.read(WEIGHTS)
    yield _of_archive(config, version, HDF5Reader(io.BytesIO(data), len(data), size))


def _of_archive(config: dict[str, Any], version: tuple[int, int], reader: HDF5Reader) -> _OpenFile:
    name, layout = f"Keras {version[0]}, .keras", Keras3Layout(reader)
    if not _has_layers(config):  # a class that somebody wrote; what it does is in its program
        kind = str(config.get("class_name"))[:80]
        why = f"model: expected a Sequential or a Functional one, got {kind}: a subclassed model is a program"
        return _OpenFile(name, version, None, layout.layers(), layout, reader, why)
    return _of_model(name, version, config, layout, reader)


def _of_hdf5(reader: HDF5Reader) -> _OpenFile:
    """A whole model, or weights alone as Keras 2 or as Keras 3 writes them."""
    root = reader.root
    text = reader.text(root, "model_config")
    if text is not None:
        version = _version(reader.text(root, "keras_version"))
        weights = Keras2Layout(reader, reader.group(root, "model_weights"))
        config = _object(text.encode(), "model_config")
        return _of_model(f"Keras {version[0]}, .h5", version, config, weights, reader)
    if reader.texts(root, "layer_names") is not None:
        version = _version(reader.text(root, "keras_version"))
        layout = Keras2Layout(reader, root)
        layers = masks.in_order(layout.layers())
        return _OpenFile(f"Keras {version[0]}, weights in .h5", version, None, layers, layout, reader)
    keras_3 = Keras3Layout(reader)
    return _OpenFile("Keras 3, .weights.h5", (3, 0), None, keras_3.layers(), keras_3, reader)


def _of_model(
    name: str, version: tuple[int, int], config: dict[str, Any], weights: WeightLayout, reader: HDF5Reader
) -> _OpenFile:
    model, _ = masks.with_masks(keras_config.model(config))
    return _OpenFile(name, version, model, keras_config.layers(model), weights, reader)


def _has_layers(config: dict[str, Any]) -> bool:
    inside = config.get("config")
    return isinstance(inside, list) or (isinstance(inside, dict) and "layers" in inside)


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
