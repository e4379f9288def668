"""Where Keras's files keep a layer's weights: the layout of Keras 2's .h5 and that of Keras 3's .weights.h5.

Both give a layer's cells: one for an LSTM or a Dense, two for a Bidirectional, each with its arrays by Keras's names.
An optimizer's arrays have the same names, but they are elsewhere in the file. A file of weights alone has no
configuration. Then the layers are found by their groups and arrays, in the order that the file gives, if it gives one,
and with Keras's default activations.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Protocol

from lstmkernel.formats.keras.config import RECURRENT, KerasLayer, short, snake_case
from lstmkernel.formats.keras.layers import HEADS, IDLE
from lstmkernel.formats.untrusted.hdf5 import HDF5Reader

if TYPE_CHECKING:
    import h5py

Cells = list[dict[str, "h5py.Dataset"]]

UNKNOWN = "of unknown class"

#: The group of all layers in Keras 3's layout; Keras 2.12 has the second name.
LAYERS = ("layers", "_layer_checkpoint_dependencies")
#: Other groups beside it, which belong to no layer.
OF_TRAINING = ("vars", "optimizer", "metrics")

_RECURRENT_NAMES = ("kernel", "recurrent_kernel", "bias")
_DENSE_NAMES = ("kernel", "bias")

#: In Keras 3's layout: the groups of a layer's numbered arrays, below the layer's own group, and the arrays' names.
_PLACES = {
    "LSTM": (("cell/vars",), _RECURRENT_NAMES),
    "Bidirectional": (("forward_layer/cell/vars", "backward_layer/cell/vars"), _RECURRENT_NAMES),
    "Dense": (("vars",), _DENSE_NAMES),
    "TimeDistributed": (("layer/vars",), _DENSE_NAMES),
}

#: Classes by the names that Keras gives to layers by default, without the number at the end.
_BY_NAME = {snake_case(kind): kind for kind in (*RECURRENT, *HEADS, *IDLE, "Masking")} | {"input": "InputLayer"}


class WeightLayout(Protocol):
    top: h5py.Group

    def cells(self, layer: KerasLayer) -> Cells: ...

    def layers(self) -> list[KerasLayer]:
        """The layers of a file without a configuration, in its order, if it has one."""

    def check_order(self, layers: list[KerasLayer]) -> None:
        """ValueError if the file does not tell the order of ``layers``."""


class Keras2Layout:
    """Keras 2: a group for each layer; its attribute weight_names lists the arrays in it."""

    def __init__(self, reader: HDF5Reader, top: h5py.Group) -> None:
        self.top = top
        self._reader = reader

    def cells(self, layer: KerasLayer) -> Cells:
        group = self._reader.group(self.top, layer.name)
        cells: Cells = []
        for name in self._reader.texts(group, "weight_names") or []:
            own = name.rpartition("/")[2].partition(":")[0]  # "lstm/lstm_cell/kernel:0" -> "kernel"
            if not cells or own in cells[-1]:
                cells.append({})
            cells[-1][own] = self._reader.dataset(group, name)
        return cells

    def layers(self) -> list[KerasLayer]:
        return [self._layer(name) for name in self._reader.texts(self.top, "layer_names") or []]

    def check_order(self, layers: list[KerasLayer]) -> None:
        pass  # the attribute layer_names lists them in order

    def _layer(self, name: str) -> KerasLayer:
        cells = self.cells(KerasLayer(name, "", {}))
        if not cells:
            kind = _BY_NAME.get(re.sub(r"_\d+$", "", name), UNKNOWN)
            return _without_config(name, kind if kind in (*IDLE, "Masking") else UNKNOWN)
        if all("recurrent_kernel" in cell for cell in cells):
            return _without_config(name, "LSTM" if len(cells) == 1 else "Bidirectional")
        return _without_config(name, "Dense" if len(cells) == 1 and cells[0].keys() <= {*_DENSE_NAMES} else UNKNOWN)


class Keras3Layout:
    """Keras 3: groups are named after the layers' classes, with numbers from the second one on; arrays are numbered."""

    def __init__(self, reader: HDF5Reader, top: h5py.Group) -> None:
        self.top = top
        self._reader = reader

    def cells(self, layer: KerasLayer) -> Cells:
        if layer.kind not in _PLACES:
            raise ValueError(f"{layer}: expected {', '.join(_PLACES)} in a file of Keras 3")
        places, names = _PLACES[layer.kind]
        cells: Cells = []
        for place in places:
            group = self._reader.group(self.top, f"{layer.stored}/{place}")
            numbers = [str(number) for number in range(len(group))]
            if sorted(group) != sorted(numbers) or len(numbers) > len(names):
                raise ValueError(f"{group.name}: expected arrays 0 to {len(names) - 1}, got {short(sorted(group))}")
            cells.append({names[int(number)]: self._reader.dataset(group, number) for number in numbers})
        return cells

    def layers(self) -> list[KerasLayer]:
        """Recurrent layers, then Dense layers; those of one class in their order."""
        found = []
        for stored in self.top:
            match = re.fullmatch(r"(.+?)(?:_(\d{1,9}))?", stored)
            snake, number = (match[1], int(match[2] or 0)) if match else (stored, 0)
            kind = _BY_NAME.get(snake, snake)
            found.append((kind in HEADS, kind, number, self._layer(stored, kind)))
        return [layer for *_, layer in sorted(found, key=lambda entry: entry[:3])]

    def check_order(self, layers: list[KerasLayer]) -> None:
        root = self._reader.root
        beside = [name for name in root if name not in (*LAYERS, *OF_TRAINING)]
        others = [name for name in beside if self._reader.tensors(self._reader.group(root, name))]
        if others:
            raise ValueError(
                f"expected layers alone, got also {short(others[0])}: the model is subclassed, and how it connects its "
                "layers is not in the file; pick one layer with prefix="
            )
        for kinds in (RECURRENT, HEADS):
            several = sorted({layer.kind for layer in layers if layer.kind in kinds})
            if len(several) > 1:
                raise ValueError(
                    f"expected a whole model, or layers of one class, got weights alone of {' and '.join(several)} "
                    "layers, whose order is not in the file; save the model as .keras, or pick one layer with prefix="
                )

    def _layer(self, stored: str, kind: str) -> KerasLayer:
        """The layer's own name is an attribute of its group ``vars``."""
        try:
            name = self._reader.text(self._reader.group(self.top, f"{stored}/vars"), "name")
        except ValueError:
            name = None
        return _without_config(name or stored, kind)._replace(stored=stored)


def _without_config(name: str, kind: str) -> KerasLayer:
    """A layer with Keras's default options; its sizes come from its arrays."""
    inside = {"Bidirectional": "LSTM", "TimeDistributed": "Dense"}.get(kind)
    config = {} if inside is None else {"layer": {"class_name": inside, "config": {"name": name}}}
    return KerasLayer(name, kind, config)
