"""Keras's layers as LSTM and Dense: transposes, biases, activations, directions.

Nothing that Keras computes is left out: a layer that lstmkernel cannot express is refused by its name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from lstmkernel.backends.packing import Array
from lstmkernel.dense import Dense
from lstmkernel.engine.parameters import LSTMShape
from lstmkernel.formats import build, describe
from lstmkernel.formats.contract import Options
from lstmkernel.formats.inspection import Shaped
from lstmkernel.formats.keras import activations
from lstmkernel.formats.keras import config as keras_config
from lstmkernel.formats.keras.config import RECURRENT, KerasLayer
from lstmkernel.lstm import LSTM
from lstmkernel.stack import Stack

#: The arrays of a cell or a Dense by Keras's names: kernel, recurrent_kernel, bias. A Bidirectional has two cells.
Cell = Mapping[str, Array]

#: Layers that do nothing once a model is trained.
IDLE = (
    *("InputLayer", "Dropout", "SpatialDropout1D", "GaussianDropout", "AlphaDropout", "GaussianNoise"),
    "ActivityRegularization",
)
HEADS = ("Dense", "TimeDistributed")


def check_kinds(layers: Sequence[KerasLayer]) -> None:
    """Refuse the first layer that is not supported, by its name."""
    passing = ("Dense", *activations.LAYERS, *IDLE, "Masking")
    for layer in layers:
        if layer.kind in RECURRENT or layer.inside.kind in passing:
            continue
        if layer.kind == "TimeDistributed":
            raise ValueError(f"{layer}: expected a Dense inside, got {layer.inside}; prefix= picks one layer")
        raise ValueError(
            f"{layer}: expected LSTM, Bidirectional, Dense, Activation, Softmax or Dropout; prefix= picks one layer"
        )


def working(layers: Sequence[KerasLayer]) -> list[KerasLayer]:
    """The layers that compute something, in order; activation layers are joined to the Dense below them."""
    check_kinds(layers)
    found: list[KerasLayer] = []
    for layer in layers:
        if layer.kind in RECURRENT or layer.inside.kind == "Dense":
            found.append(layer)
        elif layer.inside.kind in activations.LAYERS:
            found = activations.folded(found, layer)
    if not found:
        raise ValueError("expected an LSTM or Dense among the layers, got none")
    return found


def with_directions(layers: Sequence[KerasLayer]) -> list[tuple[KerasLayer, bool]]:
    """Each working layer, and whether it runs from the end of x to its start; ValueError for what no Stack can be."""
    found = []
    backwards = False  # whether the sequence between Keras's layers runs against x
    for place, layer in enumerate(layers):
        if layer.kind in RECURRENT:
            _check_place(layer, layers[place + 1 :], backwards)
            # Keras hands on the outputs of a reversed layer in the order in which it computed them.
            backwards ^= _flag(layer, "go_backwards")
        found.append((layer, backwards))
    return found


def network(
    layers: Sequence[KerasLayer], cells: Mapping[str, Sequence[Cell]], keras: int, options: Options
) -> LSTM | Dense | Stack:
    """The network that working layers form, from each one's cells under its name; ``keras`` is 2 or 3."""
    arrays = (array for layer in layers for cell in cells[layer.name] for array in cell.values())
    # A batch of Keras is (B, T, I), so that is what its models expect here.
    options = options.or_else(build.dtype_of(arrays), batch_first=True)
    return build.chain(
        [
            _dense(layer, cells[layer.name], options)
            if layer.kind in HEADS
            else _lstm(layer, cells[layer.name], keras, reverse, options)
            for layer, reverse in with_directions(layers)
        ]
    )


def described(layer: KerasLayer, cells: Sequence[Mapping[str, Shaped]], keras: int, reverse: bool) -> str:
    """A working layer in words, from its arrays' shapes."""
    if layer.kind in HEADS:
        K, O = cells[0]["kernel"].shape
        config = {"in_features": K, "out_features": O, "bias": "bias" in cells[0]}
        return describe.layer("Dense", {**config, "activation": activations.of_dense(layer)})
    return describe.layer("LSTM", _shape(layer, cells, keras, reverse)._asdict())


def _check_place(layer: KerasLayer, above: Sequence[KerasLayer], backwards: bool) -> None:
    """Refuse a recurrent layer that a Stack cannot have there: its layers hand on the output of every step."""
    if not layer.inside.config.get("return_sequences", True):
        # With one direction, Keras's answer is the last step of ours. With two, no single step has both last states.
        if layer.kind == "Bidirectional" and above:
            raise ValueError(
                f"{layer}: return_sequences=False hands on the last state of each direction, which a Stack cannot; "
                f"load {keras_config.short(layer.name)} and the layers after it one by one with prefix="
            )
        recurrent = [other for other in above if other.kind in RECURRENT]
        if recurrent:
            raise ValueError(f"{layer}: expected return_sequences=True below {recurrent[0]}, got False")
    if layer.kind == "Bidirectional" and backwards:
        raise ValueError(f"{layer}: expected no layer with go_backwards=True below it; prefix= picks one layer")


def _lstm(layer: KerasLayer, cells: Sequence[Cell], keras: int, reverse: bool, options: Options) -> LSTM:
    two = layer.kind == "Bidirectional"
    if two:
        _check_bidirectional(layer)
    if len(cells) != 1 + two:
        raise ValueError(f"{layer}: expected weights of {1 + two} cells, got {len(cells)}")
    if _flag(layer.inside, "time_major"):
        raise ValueError(f"{layer}: expected time_major=False, got True")
    ends = ("_l0", "_l0_reverse")[: 1 + two]
    parameters: dict[str, Array] = {}
    for cell, end in zip(cells, ends, strict=True):
        parameters |= _parameters(layer.inside, cell, end)
    return build.lstm(_shape(layer, cells, keras, reverse), parameters, options)


def _shape(layer: KerasLayer, cells: Sequence[Mapping[str, Shaped]], keras: int, reverse: bool) -> LSTMShape:
    I, H = cells[0]["kernel"].shape[0], cells[0]["recurrent_kernel"].shape[0]
    variant = activations.of_lstm(layer.inside, keras)
    return LSTMShape(I, H, 1, "bias" in cells[0], layer.kind == "Bidirectional", 0, variant, reverse)


def _check_bidirectional(layer: KerasLayer) -> None:
    merge_mode, inner = layer.config.get("merge_mode", "concat"), layer.inside
    if inner.kind not in ("LSTM", "CuDNNLSTM"):
        raise ValueError(f"{layer}: expected an LSTM inside, got {inner}")
    if merge_mode != "concat":
        raise ValueError(f"{layer}: expected merge_mode 'concat', got {keras_config.short(merge_mode)}")
    if _flag(inner, "go_backwards"):
        raise ValueError(f"{layer}: expected go_backwards=False inside, got True")
    backward = layer.backward
    if backward is None:
        return
    if backward.kind != inner.kind or not _flag(backward, "go_backwards"):
        raise ValueError(f"{layer}: expected a backward LSTM with go_backwards=True, got {backward}")
    for name in ("units", "use_bias", "activation", "recurrent_activation", "time_major", "return_sequences"):
        if backward.config.get(name) != inner.config.get(name):
            raise ValueError(
                f"{layer}: expected the same {name} in both directions, "
                f"got {keras_config.short([other.config.get(name) for other in (inner, backward)])}"
            )


def _parameters(layer: KerasLayer, cell: Cell, end: str) -> dict[str, Array]:
    """A cell's parameters by PyTorch's names and shapes; Keras's gate order i, f, c, o is PyTorch's i, f, g, o."""
    _check_names(layer, cell, ("kernel", "recurrent_kernel"))
    kernel, recurrent, bias = cell["kernel"], cell["recurrent_kernel"], cell.get("bias")
    units = _units(layer, recurrent)
    if recurrent.shape == (units, 3 * units):
        raise ValueError(f"{layer}: recurrent_kernel {recurrent.shape}: three gates, a GRU, not an LSTM")
    if recurrent.shape != (units, 4 * units):
        raise ValueError(f"{layer}: recurrent_kernel: expected shape ({units}, 4 * {units}), got {recurrent.shape}")
    if kernel.ndim != 2 or kernel.shape[1] != 4 * units or not len(kernel):
        raise ValueError(f"{layer}: kernel: expected shape (I, {4 * units}), got {kernel.shape}")
    if bias is None:
        return {f"weight_ih{end}": kernel.T, f"weight_hh{end}": recurrent.T}
    if bias.shape == (8 * units,):
        return _cudnn(kernel, recurrent, bias, end)
    if bias.shape != (4 * units,):
        raise ValueError(f"{layer}: bias: expected shape ({4 * units},), got {bias.shape}")
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


def _dense(layer: KerasLayer, cells: Sequence[Cell], options: Options) -> Dense:
    inner = layer.inside
    cell = cells[0] if len(cells) == 1 else {}
    _check_names(inner, cell, ("kernel",))
    kernel = cell["kernel"]
    units = _units(inner, kernel.T)
    if kernel.ndim != 2 or kernel.shape[1] != units or not kernel.size:
        raise ValueError(f"{layer}: kernel: expected shape (K, {units}), got {kernel.shape}")
    return build.dense(kernel.T, cell.get("bias"), activations.of_dense(layer), options)


def _check_names(layer: KerasLayer, cell: Cell, kernels: tuple[str, ...]) -> None:
    """A cell must have these kernels, and a bias where the layer says so; if it says nothing, the bias is optional."""
    use_bias = layer.config.get("use_bias", layer.kind == "CuDNNLSTM" or "bias" in cell)
    expected = [*kernels, "bias"] if use_bias else list(kernels)
    if sorted(cell) != sorted(expected):
        raise ValueError(f"{layer}: expected weights {', '.join(expected)}, got {', '.join(cell)[:200] or 'none'}")


def _units(layer: KerasLayer, array: Array) -> int:
    """The number of units as the configuration says; without one, the array's first dimension."""
    units = layer.config.get("units", array.shape[0] if array.ndim else 0)
    if type(units) is not int or units < 1:  # a bool is not an integer here
        raise ValueError(f"{layer}: units: expected a positive integer, got {str(units)[:40]}")
    return units


def _flag(layer: KerasLayer, name: str) -> bool:
    return bool(layer.config.get(name, False))
