"""Keras's layers as LSTM and Dense: transposes, biases, activations, directions. Nothing that Keras computes is left
out: a layer that has no match here is refused by its name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lstmkernel.backends.packing import Array
from lstmkernel.dense import Dense
from lstmkernel.engine.parameters import LSTMShape
from lstmkernel.formats.keras import activations
from lstmkernel.formats.keras import config as keras_config
from lstmkernel.formats.keras.config import RECURRENT, Layer
from lstmkernel.lstm import LSTM
from lstmkernel.stack import Stack

#: Weights of a cell or a dense layer by Keras's names: kernel, recurrent_kernel, bias. Bidirectional has two cells.
Cell = Mapping[str, Array]

#: What passes its input on, once a model is trained.
IDLE = (
    *("InputLayer", "Dropout", "SpatialDropout1D", "GaussianDropout", "AlphaDropout", "GaussianNoise"),
    "ActivityRegularization",
)
HEADS = ("Dense", "TimeDistributed")


def check_kinds(layers: Sequence[Layer]) -> None:
    """The first layer that is not understood is refused by its name."""
    passing = ("Dense", *activations.LAYERS, *IDLE, "Masking")
    for layer in layers:
        if layer.kind in RECURRENT or layer.inside.kind in passing:
            continue
        if layer.kind == "TimeDistributed":
            raise ValueError(f"{layer}: expected a Dense inside, got {layer.inside}; prefix= picks one layer")
        raise ValueError(
            f"{layer}: expected LSTM, Bidirectional, Dense, Activation, Softmax or Dropout; prefix= picks one layer"
        )


def working(layers: Sequence[Layer]) -> list[Layer]:
    """The layers that compute something, in order, activations as part of the Dense below them."""
    check_kinds(layers)
    found: list[Layer] = []
    for layer in layers:
        if layer.kind in RECURRENT or layer.inside.kind == "Dense":
            found.append(layer)
        elif layer.inside.kind in activations.LAYERS:
            found = activations.folded(found, layer)
    if not found:
        raise ValueError("expected an LSTM or Dense among the layers, got none")
    return found


def network(
    layers: Sequence[Layer], cells: Mapping[str, Sequence[Cell]], keras: int, options: Mapping[str, Any]
) -> LSTM | Dense | Stack:
    """What working layers compute one after the other, with each one's cells under its name; ``keras`` is 2 or 3."""
    arrays = [array for layer in layers for cell in cells[layer.name] for array in cell.values()]
    double = all(array.dtype == np.float64 for array in arrays)
    # Keras's batches are (B, T, I), so that is what its models expect here.
    options = {"batch_first": True, "dtype": "float64" if double else "float32", **options}
    built: list[LSTM | Dense] = []
    backwards = False  # whether Keras's sequence runs against that of x here
    for place, layer in enumerate(layers):
        if layer.kind in HEADS:
            built.append(_dense(layer, cells[layer.name], options))
            continue
        _check_place(layer, layers[place + 1 :], backwards)
        # Keras hands the outputs of a reversed layer on in the order in which they were computed.
        backwards ^= _flag(layer, "go_backwards")
        built.append(_lstm(layer, cells[layer.name], keras, backwards, options))
    return built[0] if len(built) == 1 else Stack(built)


def _check_place(layer: Layer, above: Sequence[Layer], backwards: bool) -> None:
    """Whether a recurrent layer can stand there in a Stack, whose layers hand on the output of every step."""
    if not layer.inside.config.get("return_sequences", True):
        # With one direction, a head's last step is what Keras gives; with two, no step has both last states.
        if layer.kind == "Bidirectional" and above:
            raise ValueError(
                f"{layer}: return_sequences=False hands on the last state of each direction, which no Stack does; "
                f"load {keras_config.short(layer.name)} and what follows it alone with prefix="
            )
        recurrent = [other for other in above if other.kind in RECURRENT]
        if recurrent:
            raise ValueError(f"{layer}: return_sequences=False below {recurrent[0]}: expected a sequence for it")
    if layer.kind == "Bidirectional" and backwards:
        raise ValueError(f"{layer}: above a layer with go_backwards=True, its directions change places; not supported")


def _lstm(layer: Layer, cells: Sequence[Cell], keras: int, reverse: bool, options: Mapping[str, Any]) -> LSTM:
    two = layer.kind == "Bidirectional"
    if two:
        _check_bidirectional(layer)
    if len(cells) != 1 + two:
        raise ValueError(f"{layer}: expected weights of {1 + two} cells, got {len(cells)}")
    inner = layer.inside
    if _flag(inner, "time_major"):
        raise ValueError(f"{layer}: time_major=True is not supported")
    parameters = _parameters(inner, cells[0], "_l0")
    if two:
        parameters |= _parameters(inner, cells[1], "_l0_reverse")
    I, H = parameters["weight_ih_l0"].shape[1], parameters["weight_hh_l0"].shape[1]
    shape = LSTMShape(I, H, 1, "bias_ih_l0" in parameters, two, 0, activations.of_lstm(inner, keras), reverse)
    return LSTM.from_config({**shape._asdict(), **options}, parameters)


def _check_bidirectional(layer: Layer) -> None:
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


def _parameters(layer: Layer, cell: Cell, end: str) -> dict[str, Array]:
    """PyTorch's names and shapes; Keras's gate order i, f, c, o is PyTorch's i, f, g, o."""
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
    """CuDNNLSTM keeps cuDNN's own layout: each gate's numbers are those of PyTorch's, under Keras's shape (tf_keras,
    saving/legacy/hdf5_format.py, _convert_rnn_weights)."""
    I, H = kernel.shape[0], recurrent.shape[0]
    return {
        f"weight_ih{end}": np.concatenate([gate.reshape(H, I) for gate in np.split(kernel, 4, axis=1)]),
        f"weight_hh{end}": np.concatenate(np.split(recurrent, 4, axis=1)),
        f"bias_ih{end}": bias[: 4 * H],
        f"bias_hh{end}": bias[4 * H :],
    }


def _dense(layer: Layer, cells: Sequence[Cell], options: Mapping[str, Any]) -> Dense:
    inner = layer.inside
    cell = cells[0] if len(cells) == 1 else {}
    _check_names(inner, cell, ("kernel",))
    activation = activations.of_dense(layer)
    kernel = cell["kernel"]
    units = _units(inner, kernel.T)
    if kernel.ndim != 2 or kernel.shape[1] != units or not kernel.size:
        raise ValueError(f"{layer}: kernel: expected shape (K, {units}), got {kernel.shape}")
    config = {"in_features": len(kernel), "out_features": units, "activation": activation, "bias": "bias" in cell}
    own = {name: options[name] for name in ("backend", "dtype") if name in options}
    parameters = {"weight": kernel.T, **({"bias": cell["bias"]} if "bias" in cell else {})}
    return Dense.from_config({"backend": "auto", **config, **own}, parameters)


def _check_names(layer: Layer, cell: Cell, kernels: tuple[str, ...]) -> None:
    """kernel and the like, and a bias where the layer says so; without a word on it, where there is one."""
    use_bias = layer.config.get("use_bias", layer.kind == "CuDNNLSTM" or "bias" in cell)
    expected = [*kernels, "bias"] if use_bias else list(kernels)
    if sorted(cell) != sorted(expected):
        raise ValueError(f"{layer}: expected weights {', '.join(expected)}, got {', '.join(cell)[:200] or 'none'}")


def _units(layer: Layer, array: Array) -> int:
    """As the configuration says; without one, the array's first dimension."""
    units = layer.config.get("units", array.shape[0] if array.ndim else 0)
    if type(units) is not int or units < 1:  # JSON has true, too
        raise ValueError(f"{layer}: units: expected a positive integer, got {str(units)[:40]}")
    return units


def _flag(layer: Layer, name: str) -> bool:
    return bool(layer.config.get(name, False))
