"""What the formats of amplifier and effect models share: one network a file, float32, perhaps with a sample rate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lstmkernel.backends.packing import Array
from lstmkernel.dense import Dense
from lstmkernel.formats import describe
from lstmkernel.formats.inspection import Contents, Network, Tensor
from lstmkernel.formats.pytorch import names
from lstmkernel.lstm import LSTM
from lstmkernel.stack import Stack


def whole(prefix: str | None) -> None:
    """The file is one network."""
    if prefix:
        raise ValueError(f"prefix: expected none, for the file is one network, got {prefix!r}")


def lstm(weights: dict[str, Array], options: dict[str, Any]) -> LSTM:
    """Of PyTorch's names; options as for ``load``."""
    return names.lstm(weights, {"dtype": "float32", **options})


def dense(weight: Array, bias: Array | None, options: dict[str, Any], activation: str = "linear") -> Dense:
    """weight (O, K), bias (O,)."""
    out_features, in_features = weight.shape
    config = {"in_features": in_features, "out_features": out_features, "activation": activation}
    config |= {"bias": bias is not None, "dtype": options.get("dtype", "float32"), "backend": options["backend"]}
    return Dense.from_config(config, {"weight": weight} if bias is None else {"weight": weight, "bias": bias})


def contents(
    kind: str, tensors: list[Tensor], rate: float | None, build: Callable[[dict[str, Any]], Stack]
) -> Contents:
    """What is inside; that it is no network which lstmkernel runs is a note."""
    notes = [f"made for a sample rate of {rate:g} Hz"] if rate else []
    try:
        net = build({"backend": "auto", "num_threads": None})
        layers = [describe.of_layer(type(layer).__name__, layer.config()) for layer in net.layers]
        networks = [Network("", describe.THEN.join(layers) + describe.of_skip(net.skip))]
    except ValueError as error:
        networks, notes = [], [*notes, f"not to be loaded: {error}"]
    return Contents(kind, tensors, networks, notes, rate)


def sample_rate(value: Any) -> float | None:
    """Hz, as a number or its digits (AIDA-X); None where the file does not say."""
    try:
        rate = float(value) if isinstance(value, int | float | str) else 0.0
    except (OverflowError, ValueError):
        return None
    return rate if 0 < rate < float("inf") else None
