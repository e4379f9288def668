"""What ``load`` will make of working layers: LSTMs and Dense layers with their sizes, all of it checked.

No number is read for a plan, and ``inspect`` describes plans. So of what ``inspect`` lists, ``load`` refuses only
numbers that cannot be read. Nothing that Keras computes is left out: what lstmkernel cannot express is refused by the
layer's name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from lstmkernel.backends.packing import Array
from lstmkernel.dense import Dense
from lstmkernel.engine.notes import Notes
from lstmkernel.engine.parameters import LSTMShape
from lstmkernel.formats import build, describe
from lstmkernel.formats.contract import Options
from lstmkernel.formats.keras import activations, layers
from lstmkernel.formats.keras.config import RECURRENT, KerasLayer, short
from lstmkernel.formats.keras.layouts import Cell
from lstmkernel.formats.untrusted.hdf5 import StoredArray
from lstmkernel.lstm import LSTM
from lstmkernel.stack import Stack

#: The arrays of a cell or a Dense by Keras's names: kernel, recurrent_kernel, bias.
Arrays = Mapping[str, Array]

Read = Callable[[StoredArray], Array]

#: What a Bidirectional multiplies each direction's output with before it adds them; and Keras's answer of one output.
_SHARES = {"sum": 1.0, "ave": 0.5}
_LAST_OF_TWO = {"concat": "np.concatenate(list(h_n), axis=-1)", "sum": "h_n.sum(0)", "ave": "h_n.mean(0)"}

_CELLS = ("LSTM", "CuDNNLSTM", "LSTMCell")


class Source(NamedTuple):
    """What a plan is made from."""

    cells: Callable[[KerasLayer], list[Cell]]  # a layer's arrays, not read
    check: Callable[[StoredArray], None]  # ValueError for an array that cannot be read
    version: tuple[int, int]  # of Keras
    recurrent_activation: str | None  # as ``load`` is told


class PlannedLSTM(NamedTuple):
    layer: KerasLayer
    cells: list[Cell]  # one for each direction
    shape: LSTMShape

    @property
    def widths(self) -> tuple[int, int]:
        return self.shape.input_size, self.shape.hidden_size * len(self.cells)

    @property
    def is_cudnn(self) -> bool:
        """Whether it has two biases, in one array."""
        return self.shape.bias and self.cells[0]["bias"].shape == (8 * self.shape.hidden_size,)

    @property
    def expects(self) -> str | None:
        return "mask" if self.layer.masked else None

    def described(self) -> str:
        return describe.layer("LSTM", {**self.shape._asdict(), "expects": self.expects})

    def built(self, arrays: Sequence[Arrays], options: Options) -> LSTM:
        parameters: dict[str, Array] = {}
        for cell, end in zip(arrays, ("_l0", "_l0_reverse"), strict=False):
            parameters |= _parameters(cell, end)
        return build.lstm(self.shape, parameters, options, self.expects)


class PlannedDense(NamedTuple):
    layer: KerasLayer
    cells: list[Cell]
    widths: tuple[int, int]
    activation: str

    def described(self) -> str:
        K, O = self.widths
        config = {"in_features": K, "out_features": O, "bias": "bias" in self.cells[0], "activation": self.activation}
        return describe.layer("Dense", config)

    def built(self, arrays: Sequence[Arrays], options: Options) -> Dense:
        return build.dense(arrays[0]["kernel"].T, arrays[0].get("bias"), self.activation, options)


class PlannedSum(NamedTuple):
    """The directions' outputs, added: a Dense with the same weight for each of the two."""

    layer: KerasLayer
    units: int
    share: float
    cells: tuple[Cell, ...] = ()  # its weights are not in the file

    @property
    def widths(self) -> tuple[int, int]:
        return 2 * self.units, self.units

    def described(self) -> str:
        return describe.layer("Dense", {"in_features": 2 * self.units, "out_features": self.units, "bias": False})

    def built(self, arrays: Sequence[Arrays], options: Options) -> Dense:
        one = self.share * np.eye(self.units, dtype="float32")
        return build.dense(np.concatenate([one, one], axis=1), None, "linear", options)


class Plan(NamedTuple):
    layers: list[PlannedLSTM | PlannedDense | PlannedSum]
    warnings: list[str]  # where Keras's answer is not simply the output
    notes: list[str]
    gives: str | None  # a key of GIVES, where Keras's answer is not every step in the order of x

    def described(self) -> str:
        return describe.chain(layer.described() for layer in self.layers)

    def built(self, read: Read, options: Options) -> LSTM | Dense | Stack:
        arrays = [
            [{name: read(array) for name, array in cell.items()} for cell in layer.cells] for layer in self.layers
        ]
        every = (array for cells in arrays for cell in cells for array in cell.values())
        # A batch of Keras is (B, T, I), so that is what its models expect here.
        options = options.or_else(build.dtype_of(every), batch_first=True)
        noted = options._replace(notes=Notes(gives=self.gives))
        top = max((i for i, layer in enumerate(self.layers) if isinstance(layer, PlannedLSTM)), default=None)
        return build.chain(
            [
                layer.built(cells, noted if i == top else options)
                for i, (layer, cells) in enumerate(zip(self.layers, arrays, strict=True))
            ]
        )


def planned(chain: Sequence[KerasLayer], source: Source) -> Plan:
    """The plan for layers that follow each other; ValueError for what no Stack can be."""
    found: list[PlannedLSTM | PlannedDense | PlannedSum] = []
    backwards = False  # whether the sequence between Keras's layers runs against x
    working = layers.working(chain)
    for place, layer in enumerate(working):
        if layer.kind in RECURRENT:
            _check_place(layer, working[place + 1 :], backwards)
            # Keras hands on the outputs of a reversed layer in the order in which it computed them.
            backwards ^= _flag(layer, "go_backwards")
            found += _recurrent(layer, backwards, source)
        else:
            found.append(_dense(layer, source))
    _check_widths(found)
    _check_masks(found)
    _check_choice(found, source)
    warnings, notes, gives = _of_the_answer(working, backwards)
    return Plan(found, warnings, notes, gives)


# ---------------------------------------------------------------- the chain


def _check_place(layer: KerasLayer, above: Sequence[KerasLayer], backwards: bool) -> None:
    """Refuse a recurrent layer that a Stack cannot have there: its layers hand on the output of every step."""
    if not _every_step(layer):
        # With one direction, Keras's answer is the last step of ours. With two, no single step has both last states.
        if layer.kind == "Bidirectional" and above:
            raise ValueError(
                f"{layer}: return_sequences=False hands on the last state of each direction, which a Stack cannot"
            )
        recurrent = [other for other in above if other.kind in RECURRENT]
        if recurrent:
            raise ValueError(f"{layer}: expected return_sequences=True below {recurrent[0]}, got False")
    if layer.kind == "Bidirectional" and backwards:
        raise ValueError(f"{layer}: expected no layer with go_backwards=True below it")


def _check_widths(found: Sequence[PlannedLSTM | PlannedDense | PlannedSum]) -> None:
    for below, above in pairwise(found):
        if below.widths[1] != above.widths[0]:
            raise ValueError(
                f"{above.layer}: expected input width {below.widths[1]}, the output width of {below.layer}, "
                f"got {above.widths[0]}"
            )


def _check_masks(found: Sequence[PlannedLSTM | PlannedDense | PlannedSum]) -> None:
    """A Stack hands its mask to all its LSTMs."""
    lstms = [layer.layer for layer in found if isinstance(layer, PlannedLSTM)]
    if len({lstm.masked for lstm in lstms}) > 1:
        without, with_mask = (next(lstm for lstm in lstms if lstm.masked == masked) for masked in (False, True))
        raise ValueError(f"{with_mask}: a mask reaches it, but not {without}; a Stack has one mask for all its LSTMs")


def _check_choice(found: Sequence[PlannedLSTM | PlannedDense | PlannedSum], source: Source) -> None:
    """An option of ``load`` that no layer takes is a mistake."""
    given = source.recurrent_activation
    lstms = [layer for layer in found if isinstance(layer, PlannedLSTM)]
    if given is not None and not lstms:
        raise ValueError(f"recurrent_activation: expected None without an LSTM, got {given!r}")
    if given not in (None, "sigmoid") and all(lstm.is_cudnn for lstm in lstms):
        raise ValueError(f"recurrent_activation: expected 'sigmoid', as the file says by CuDNN's biases, got {given!r}")


def _of_the_answer(working: Sequence[KerasLayer], backwards: bool) -> tuple[list[str], list[str], str | None]:
    """How Keras's answer is found in the output: warnings where one could not guess it, notes, and a key of GIVES."""
    warnings, notes, gives = list[str](), list[str](), None
    top = next((layer for layer in reversed(working) if layer.kind in RECURRENT), None)
    if top is None:
        return [], [], None
    if not _every_step(top) and top.kind == "Bidirectional":
        answer = _LAST_OF_TWO[_merge_mode(top)]
        text = f"{top}: return_sequences=False: Keras's answer is not in the output, but in the states: {answer}"
        warnings.append(text)
        gives = "last states"
    elif not _every_step(top):
        answer = (
            "y[:, 0]"
            if backwards
            else "net.last(x), with lengths= where a mask reaches it"
            if top.masked
            else "net.last(x)"
        )
        warnings.append(f"{top}: return_sequences=False: Keras's answer is {answer}; net(x) gives every step")
        gives = "first step" if backwards else "last step"
    elif backwards and top.half is None:  # a Bidirectional turns that half's output around
        warnings.append(f"{top}: go_backwards=True: the output is in the order of x; Keras's answer is y[:, ::-1]")
        gives = "reverse"
    if any(_flag(layer.inside, "stateful") for layer in working):
        notes.append("stateful=True: net.stream(batch_size=B) keeps the states from call to call")
    return warnings, notes, gives


# ---------------------------------------------------------------- layers


def _recurrent(layer: KerasLayer, reverse: bool, source: Source) -> list[PlannedLSTM | PlannedSum]:
    """LSTMs one above the other, for an RNN of several cells; and what joins two directions."""
    two = layer.kind == "Bidirectional"
    if two:
        _check_bidirectional(layer)
    inner = layer.inside
    if _flag(inner, "time_major"):
        raise ValueError(f"{layer}: expected time_major=False, got True")
    units, stored = inner.cells, source.cells(layer)
    if two and len(units) > 1:
        raise ValueError(f"{layer}: expected one cell in each direction, got {len(units)}{_one_by_one(layer)}")
    if len(stored) != len(units) * (1 + two):
        raise ValueError(f"{layer}: expected weights of {len(units) * (1 + two)} cells, got {len(stored)}")
    groups = [stored] if two else [[cell] for cell in stored]
    found: list[PlannedLSTM | PlannedSum] = [
        _lstm(layer, unit, cells, reverse, source) for unit, cells in zip(units, groups, strict=True)
    ]
    if two and _merge_mode(layer) != "concat":
        found.append(PlannedSum(layer, found[0].widths[1] // 2, _SHARES[_merge_mode(layer)]))
    return found


def _lstm(layer: KerasLayer, unit: KerasLayer, cells: list[Cell], reverse: bool, source: Source) -> PlannedLSTM:
    if unit.kind not in _CELLS:
        raise ValueError(f"{layer}: expected {', '.join(_CELLS)}, got {unit}; lstmkernel runs LSTMs")
    sizes = [_sizes(unit, cell, source) for cell in cells]
    if any(other != sizes[0] for other in sizes):
        raise ValueError(f"{layer}: expected the same sizes in both directions, got {sizes[0]} and {sizes[1]}")
    I, H = sizes[0]
    if "bias" in cells[0] and cells[0]["bias"].shape == (8 * H,):  # in a file of weights alone it is an LSTM so far
        unit = unit._replace(kind="CuDNNLSTM")
    given = source.recurrent_activation if unit.kind != "CuDNNLSTM" or "recurrent_activation" in unit.config else None
    variant = activations.of_lstm(unit, source.version, given)
    shape = LSTMShape(I, H, 1, "bias" in cells[0], len(cells) == 2, 0, variant, reverse)
    return PlannedLSTM(layer, cells, shape.checked())


def _dense(layer: KerasLayer, source: Source) -> PlannedDense:
    inner = layer.inside
    _check_quantized(inner)
    cells = source.cells(layer)
    cell = cells[0] if len(cells) == 1 else {}
    _check_arrays(inner, cell, ("kernel",), source)
    kernel = cell["kernel"].shape
    units = _units(inner, kernel[1] if len(kernel) == 2 else 0)
    if len(kernel) != 2 or kernel[1] != units or not kernel[0]:
        raise ValueError(f"{layer}: kernel: expected shape (K, {units}), got {kernel}")
    if "bias" in cell and cell["bias"].shape != (units,):
        raise ValueError(f"{layer}: bias: expected shape ({units},), got {cell['bias'].shape}")
    return PlannedDense(layer, cells, (kernel[0], units), activations.of_dense(layer))


def _check_bidirectional(layer: KerasLayer) -> None:
    forward, backward = layer.directions
    merge_mode = _merge_mode(layer)
    if forward.kind not in ("LSTM", "CuDNNLSTM", "RNN"):
        raise ValueError(f"{layer}: expected an LSTM inside, got {layer.inside}")
    if merge_mode not in ("concat", *_SHARES):
        raise ValueError(f"{layer}: expected merge_mode concat, sum or ave, got {merge_mode}{_one_by_one(layer)}")
    if _flag(layer.inside, "go_backwards"):
        raise ValueError(f"{layer}: expected go_backwards=False inside, got True{_one_by_one(layer)}")
    if backward.kind != forward.kind or not _flag(backward, "go_backwards"):
        raise ValueError(f"{layer}: expected a backward {forward.kind} with go_backwards=True, got {backward}")
    for name in ("time_major", "return_sequences"):
        _check_same(layer, name, forward, backward)
    for one, other in zip(forward.cells, backward.cells, strict=False):
        for name in ("units", "use_bias", "activation", "recurrent_activation"):
            _check_same(layer, name, one, other)


def _check_same(layer: KerasLayer, name: str, one: KerasLayer, other: KerasLayer) -> None:
    values = [each.config.get(name) for each in (one, other)]
    if values[0] != values[1]:
        raise ValueError(f"{layer}: expected the same {name} in both directions, got {short(values)}")


def _one_by_one(layer: KerasLayer) -> str:
    forward, backward = (short(direction.name) for direction in layer.directions)
    return f"; prefix={forward} and prefix={backward} load the directions by themselves"


def _check_quantized(layer: KerasLayer) -> None:
    policy = layer.config.get("dtype")
    if isinstance(policy, dict) and "Quantized" in str(policy.get("class_name")):
        raise ValueError(f"{layer}: expected floating-point weights, got quantized ones; save before model.quantize()")


# ---------------------------------------------------------------- arrays


def _sizes(unit: KerasLayer, cell: Cell, source: Source) -> tuple[int, int]:
    """I and H of a cell, whose arrays must have the shapes that belong to them."""
    _check_arrays(unit, cell, ("kernel", "recurrent_kernel"), source)
    shapes = {name: array.shape for name, array in cell.items()}
    kernel, recurrent = shapes["kernel"], shapes["recurrent_kernel"]
    units = _units(unit, recurrent[0] if recurrent else 0)
    gates = {(units, units): "one gate, a SimpleRNN", (units, 3 * units): "three gates, a GRU"}
    if recurrent in gates:
        raise ValueError(f"{unit}: recurrent_kernel {recurrent}: {gates[recurrent]}, not an LSTM")
    if len(recurrent) > 2:
        raise ValueError(f"{unit}: recurrent_kernel {recurrent}: an LSTM of convolutions; lstmkernel runs LSTMs")
    if recurrent != (units, 4 * units):
        raise ValueError(f"{unit}: recurrent_kernel: expected shape ({units}, 4 * {units}), got {recurrent}")
    if len(kernel) != 2 or kernel[1] != 4 * units or not kernel[0]:
        raise ValueError(f"{unit}: kernel: expected shape (I, {4 * units}), got {kernel}")
    biases = ((8 * units,),) if unit.kind == "CuDNNLSTM" else ((4 * units,), (8 * units,))
    if "bias" in shapes and shapes["bias"] not in biases:
        raise ValueError(f"{unit}: bias: expected shape {biases[0]}, got {shapes['bias']}")
    return kernel[0], units


def _check_arrays(layer: KerasLayer, cell: Cell, kernels: tuple[str, ...], source: Source) -> None:
    """A cell must have these kernels, and a bias where the layer says so; if it says nothing, the bias is optional."""
    use_bias = layer.config.get("use_bias", layer.kind == "CuDNNLSTM" or "bias" in cell)
    expected = [*kernels, "bias"] if use_bias else list(kernels)
    if sorted(cell) != sorted(expected):
        raise ValueError(f"{layer}: expected weights {', '.join(expected)}, got {', '.join(cell)[:200] or 'none'}")
    for array in cell.values():
        source.check(array)


def _units(layer: KerasLayer, found: int) -> int:
    """The number of units as the configuration says; without one, as the arrays say."""
    units = layer.config.get("units", found)
    if type(units) is not int or units < 1:  # a bool is not an integer here
        raise ValueError(f"{layer}: units: expected a positive integer, got {str(units)[:40]}")
    return units


def _parameters(cell: Arrays, end: str) -> dict[str, Array]:
    """A cell's parameters by PyTorch's names and shapes; Keras's gate order i, f, c, o is PyTorch's i, f, g, o."""
    kernel, recurrent, bias = cell["kernel"], cell["recurrent_kernel"], cell.get("bias")
    if bias is None:
        return {f"weight_ih{end}": kernel.T, f"weight_hh{end}": recurrent.T}
    if bias.size == 8 * len(recurrent):
        return _cudnn(kernel, recurrent, bias, end)
    return {
        f"weight_ih{end}": kernel.T,
        f"weight_hh{end}": recurrent.T,
        f"bias_ih{end}": bias,
        f"bias_hh{end}": np.zeros_like(bias),
    }


def _cudnn(kernel: Array, recurrent: Array, bias: Array, end: str) -> dict[str, Array]:
    """The parameters of a CuDNNLSTM, whose gates hold the numbers in PyTorch's order under Keras's shape.

    The source is ``_convert_rnn_weights`` in saving/legacy/hdf5_format.py of tf_keras.
    """
    I, H = kernel.shape[0], recurrent.shape[0]
    return {
        f"weight_ih{end}": np.concatenate([gate.reshape(H, I) for gate in np.split(kernel, 4, axis=1)]),
        f"weight_hh{end}": np.concatenate(np.split(recurrent, 4, axis=1)),
        f"bias_ih{end}": bias[: 4 * H],
        f"bias_hh{end}": bias[4 * H :],
    }


# ---------------------------------------------------------------- options


def _merge_mode(layer: KerasLayer) -> str:
    merge_mode: Any = layer.config.get("merge_mode", "concat")
    return merge_mode if isinstance(merge_mode, str) and len(merge_mode) < 40 else short(merge_mode)


def _every_step(layer: KerasLayer) -> bool:
    return bool(layer.inside.config.get("return_sequences", True))


def _flag(layer: KerasLayer, name: str) -> bool:
    return bool(layer.config.get(name, False))
