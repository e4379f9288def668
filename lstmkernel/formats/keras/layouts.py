"""Where Keras's files keep a layer's weights: the layout of Keras 2's .h5 and that of Keras 3's .weights.h5.

Both give a layer's cells: one for an LSTM or a Dense, two for a Bidirectional, each with its arrays by Keras's names.
An optimizer's arrays have the same names, but they are elsewhere in the file. A file of weights alone has no
configuration. Then the layers are found by their groups and arrays, in the order that the file gives, if it gives one,
and with Keras's default activations.
"""

from __future__ import annotations

import contextlib
import re
from typing import Any, Protocol

from lstmkernel.formats.keras.config import MOST_NESTED, RECURRENT, KerasLayer, short, snake_case
from lstmkernel.formats.keras.layers import HEADS, IDLE
from lstmkernel.formats.untrusted.hdf5 import Group, HDF5Reader, StoredArray

Cell = dict[str, StoredArray]

UNKNOWN = "of unknown class"

#: The configuration of an LSTMCell with Keras's default options.
_CELL = {"class_name": "LSTMCell", "config": {"name": "cell"}}

#: The group of all layers in Keras 3's layout; Keras 2.12 has the second name.
LAYERS = ("layers", "_layer_checkpoint_dependencies")
#: Other groups beside it, which belong to no layer.
OF_TRAINING = ("vars", "optimizer", "metrics")

_RECURRENT_NAMES = ("kernel", "recurrent_kernel", "bias")
_DENSE_NAMES = ("kernel", "bias")

#: Classes by the names that Keras gives to layers by default, without the number at the end.
_BY_NAME = {snake_case(kind): kind for kind in (*RECURRENT, *HEADS, *IDLE, "Masking")} | {"input": "InputLayer"}


class WeightLayout(Protocol):
    top: Group

    def cells(self, layer: KerasLayer) -> list[Cell]: ...

    def layers(self) -> list[KerasLayer]:
        """The layers of a file without a configuration, in its order, if it has one."""

    def check_order(self, layers: list[KerasLayer]) -> None:
        """ValueError if the file does not tell the order of ``layers``."""


class Keras2Layout:
    """Keras 2: a group for each layer; its attribute weight_names lists the arrays in it.

    A model in the model is one group, too, with the arrays of all its layers.
    """

    def __init__(self, reader: HDF5Reader, top: Group) -> None:
        self.top = top
        self._reader = reader
        self._arrays: dict[int, tuple[str, dict[str, StoredArray]]] = {}

    def cells(self, layer: KerasLayer) -> list[Cell]:
        cells: list[Cell] = []
        for name, array in self._arrays_of(layer.places[0]).items():
            if len(layer.places) > 1 and layer.places[-1] not in name.split("/"):
                continue
            own = name.rpartition("/")[2].partition(":")[0]  # "lstm/lstm_cell/kernel:0" -> "kernel"
            if not cells or own in cells[-1]:
                cells.append({})
            cells[-1][own] = array
        if layer.half is None:
            return cells
        middle = len(cells) // 2
        return cells[middle:] if layer.half else cells[:middle]

    def _arrays_of(self, name: str) -> dict[str, StoredArray]:
        """The arrays of a layer's group in their order. They are listed once, and a group belongs to one layer."""
        group = self._reader.group(self.top, name)
        if group.address not in self._arrays:
            names = self._reader.texts(group, "weight_names") or []
            self._arrays[group.address] = name, {own: self._reader.dataset(group, own) for own in names}
        owner, arrays = self._arrays[group.address]
        if owner != name:
            raise ValueError(
                f"{group.name[:200]}: expected a group for each layer, got one that is also {owner[:100]!r}"
            )
        return arrays

    def layers(self) -> list[KerasLayer]:
        return [self._layer(name) for name in self._reader.texts(self.top, "layer_names") or []]

    def check_order(self, layers: list[KerasLayer]) -> None:
        pass  # the attribute layer_names lists them in order

    def _layer(self, name: str) -> KerasLayer:
        cells = self.cells(_without_config(name, UNKNOWN))
        if not cells:
            kind = _BY_NAME.get(re.sub(r"_\d+$", "", name), UNKNOWN)
            return _without_config(name, kind if kind in (*IDLE, "Masking") else UNKNOWN)
        if all("recurrent_kernel" in cell for cell in cells):
            return self._recurrent(name, len(cells))
        return _without_config(name, "Dense" if len(cells) == 1 and cells[0].keys() <= {*_DENSE_NAMES} else UNKNOWN)

    def _recurrent(self, name: str, cells: int) -> KerasLayer:
        """With several cells, the names of the arrays tell two directions, an RNN of cells and a model apart."""
        if cells == 1:
            return _without_config(name, "LSTM")
        names = list(self._arrays_of(name))
        if cells == 2 and all("forward_" in own or "backward_" in own for own in names):
            return _without_config(name, "Bidirectional")
        if all("stacked_rnn_cells" in own for own in names):
            return _without_config(name, "RNN")._replace(config={"cell": _stacked(cells)})
        return _without_config(name, UNKNOWN)


class Keras3Layout:
    """Keras 3: groups are named after the layers' classes, with numbers from the second one on; arrays are numbered."""

    def __init__(self, reader: HDF5Reader) -> None:
        self._reader = reader
        self._layers = next((name for name in LAYERS if name in reader.root.links), None)
        self.top = reader.root if self._layers is None else reader.group(reader.root, self._layers)

    def cells(self, layer: KerasLayer) -> list[Cell]:
        place = self._place(layer.stored)
        names = _DENSE_NAMES if layer.kind in HEADS else _RECURRENT_NAMES
        return [self._cell(f"{place}/{inside}", names) for inside in _places(layer)]

    def _place(self, way: tuple[str, ...]) -> str:
        return "/".join(str(self._layers) if name == LAYERS[0] else name for name in way)

    def _cell(self, place: str, names: tuple[str, ...]) -> Cell:
        group = self._reader.group(self._reader.root, place)
        numbers = [str(number) for number in range(len(group.links))]
        if sorted(group.links) != sorted(numbers) or len(numbers) > len(names):
            raise ValueError(f"{group.name}: expected arrays 0 to {len(names) - 1}, got {short(sorted(group.links))}")
        return {names[int(number)]: self._reader.dataset(group, number) for number in numbers}

    def layers(self) -> list[KerasLayer]:
        """Recurrent layers, then Dense layers; those of one class in their order."""
        if self._layers is None:
            names = ", ".join(list(self._reader.root.links)[:6])
            raise ValueError(
                "expected what Keras saves of a Sequential or functional model: model_config, layer_names or layers; "
                f"got {names[:500] or 'nothing'}"
            )
        return [*self._in_order(LAYERS[0]), *self._in_models(), *self._beside()]

    def _in_models(self) -> list[KerasLayer]:
        """The layers of models in the model, for prefix=. The models themselves are layers of no known class."""
        found: list[KerasLayer] = []
        waiting: list[tuple[str, tuple[str, ...]]] = [(name, (LAYERS[0], name)) for name in self.top.links]
        seen = {self.top.address}
        while waiting:
            model, way = waiting.pop()
            try:
                group = self._reader.group(self._reader.root, self._place((*way, LAYERS[0])))
            except ValueError:  # no model
                continue
            if group.address in seen:  # under another name
                continue
            seen.add(group.address)
            if len(way) > 2 * MOST_NESTED:
                raise ValueError(f"model: expected models within models {MOST_NESTED} deep at most, got more")
            layers = self._in_order("/".join((*way, LAYERS[0])))
            found += [layer._replace(name=f"{model}/{layer.name}") for layer in layers]
            waiting += [(f"{model}/{layer.stored[-1]}", layer.stored) for layer in layers]
        return found

    def _in_order(self, way: str) -> list[KerasLayer]:
        found = []
        for stored in self._reader.group(self._reader.root, self._place(tuple(way.split("/")))).links:
            match = re.fullmatch(r"(.+?)(?:_(\d{1,9}))?", stored)
            snake, number = (match[1], int(match[2] or 0)) if match else (stored, 0)
            kind = _BY_NAME.get(snake, snake)
            found.append((kind in HEADS, kind, number, self._layer(f"{way}/{stored}", kind)))
        return [layer for *_, layer in sorted(found, key=lambda entry: entry[:3])]

    def _beside(self) -> list[KerasLayer]:
        """Layers of a program, under the names of its attributes. Their arrays say what they are."""
        found = []
        for name in self._reader.root.links:
            if name in (*LAYERS, *OF_TRAINING):
                continue
            for kind in ("LSTM", "Bidirectional", "Dense"):
                layer = self._layer(name, kind)
                with contextlib.suppress(ValueError):
                    if all(len(cell) == (2 if kind == "Dense" else 3) for cell in self.cells(layer)):
                        found.append(layer)
        return found

    def check_order(self, layers: list[KerasLayer]) -> None:
        root = self._reader.root
        beside = [name for name in root.links if name not in (*LAYERS, *OF_TRAINING)]
        others = [name for name in beside if self._reader.tensors(self._reader.group(root, name))]
        if others:
            raise ValueError(
                f"expected layers alone, got also {short(others[0])}: the model is subclassed, and how it connects its "
                "layers is not in the file"
            )
        for kinds in (RECURRENT, HEADS):
            several = sorted({layer.kind for layer in layers if layer.kind in kinds})
            if len(several) > 1:
                raise ValueError(
                    f"expected a whole model, or layers of one class, got weights alone of {' and '.join(several)} "
                    "layers, whose order is not in the file; save the model as .keras"
                )

    def _layer(self, stored: str, kind: str) -> KerasLayer:
        """The layer's own name is an attribute of its group ``vars``."""
        way = tuple(stored.split("/"))
        try:
            name = self._reader.text(self._reader.group(self._reader.root, f"{self._place(way)}/vars"), "name")
        except ValueError:
            name = None
        layer = _without_config(name or way[-1], kind)._replace(stored=way)
        return layer._replace(config={"cell": self._cell_of_rnn(layer)}) if kind == "RNN" else layer

    def _cell_of_rnn(self, layer: KerasLayer) -> dict[str, Any]:
        """A configuration with as many LSTMCells as there are groups of them."""
        try:
            stacked = self._reader.group(self._reader.root, f"{self._place(layer.stored)}/cell/cells").links
        except ValueError:
            return dict(_CELL)
        numbered = ["lstm_cell", *(f"lstm_cell_{number}" for number in range(1, len(stacked)))]
        if sorted(stacked) != sorted(numbered):
            raise ValueError(f"{layer}: expected LSTMCells, got {short(sorted(stacked))}")
        return _stacked(len(stacked))


def _places(layer: KerasLayer) -> list[str]:
    """In Keras 3's layout: the groups of a layer's numbered arrays, below the layer's own group."""
    if layer.kind == "Bidirectional":
        forward, backward = layer.directions
        below = [("forward_layer", forward), ("backward_layer", backward)]
        return [f"{name}/{place}" for name, direction in below for place in _places(direction)]
    if layer.kind == "TimeDistributed":
        return ["layer/vars"]
    if layer.kind not in RECURRENT:
        return ["vars"]
    if not layer.is_stacked:
        return ["cell/vars"]
    names = [snake_case(cell.kind) for cell in layer.cells]
    numbers = [names[:place].count(name) for place, name in enumerate(names)]
    return [f"cell/cells/{name}{f'_{n}' if n else ''}/vars" for name, n in zip(names, numbers, strict=True)]


def _stacked(cells: int) -> dict[str, Any]:
    """The configuration of so many LSTMCells with Keras's default options."""
    return {"class_name": "StackedRNNCells", "config": {"name": "cells", "cells": [_CELL] * cells}}


def _without_config(name: str, kind: str) -> KerasLayer:
    """A layer with Keras's default options; its sizes come from its arrays."""
    inside = {"Bidirectional": "LSTM", "TimeDistributed": "Dense"}.get(kind)
    config = {} if inside is None else {"layer": {"class_name": inside, "config": {"name": name}}}
    return KerasLayer(name, kind, config, places=(name,), stored=(name,))
