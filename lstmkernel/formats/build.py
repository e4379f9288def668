"""Layers from a file's arrays: the last step of every reader."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from lstmkernel.backends.packing import Array
from lstmkernel.dense import Dense
from lstmkernel.engine.parameters import LSTMShape
from lstmkernel.formats.contract import Options
from lstmkernel.lstm import LSTM
from lstmkernel.stack import Stack


def dtype_of(arrays: Iterable[Array]) -> str:
    """The dtype of a network with these weights: float64 where all of them are, else float32."""
    return "float64" if all(array.dtype == np.float64 for array in arrays) else "float32"


def lstm(
    shape: LSTMShape,
    parameters: Mapping[str, Array],
    options: Options,
    expects: str | None = None,
    precision: str | Sequence[str] = "",
    activations: str | Sequence[str | None] | None = None,
) -> LSTM:
    """An LSTM from parameters under PyTorch's names; ``options`` has a dtype and a batch_first.

    The shape is what the file says, so ``options`` cannot ask for another. expects: "mask" or "lengths" if the file
    says that the network runs with them. precision, activations: of a network that was quantized, as
    ``precision.config`` has them.
    """
    options.checked(shape)
    quantized = {"precision": precision, "activations": activations} if precision else {}
    return LSTM.from_config({**shape._asdict(), **options.of_lstm(), "expects": expects, **quantized}, parameters)


def dense(weight: Array, bias: Array | None, activation: str, options: Options) -> Dense:
    """A Dense from weight (O, K) and bias (O,); ``options`` has a dtype."""
    out_features, in_features = weight.shape
    config = {"in_features": in_features, "out_features": out_features, "activation": activation}
    parameters = {"weight": weight} if bias is None else {"weight": weight, "bias": bias}
    return Dense.from_config({**config, "bias": bias is not None, **options.of_dense()}, parameters)


def chain(layers: Sequence[LSTM | Dense]) -> LSTM | Dense | Stack:
    """One layer as it is, several as a Stack."""
    return layers[0] if len(layers) == 1 else Stack(layers)
