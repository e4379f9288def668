"""What the formats of audio effects share: a file is one JSON object that holds one network, in float32."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from lstmkernel.backends.packing import Array
from lstmkernel.dense import Dense
from lstmkernel.engine.notes import Notes
from lstmkernel.formats import build, describe, kept_notes
from lstmkernel.formats.contract import Options
from lstmkernel.formats.inspection import Contents, LoadableNetwork, Tensor
from lstmkernel.formats.pytorch import names
from lstmkernel.formats.untrusted.json import mentions, read_json
from lstmkernel.lstm import LSTM
from lstmkernel.stack import Stack


class LSTMLayer(NamedTuple):
    """The parameters of an LSTM, by PyTorch's names."""

    parameters: dict[str, Array]

    @property
    def out_features(self) -> int:
        return len(self.parameters["weight_hh_l0"].T)

    def built(self, options: Options) -> LSTM:
        return names.lstm(self.parameters, options, plain=True)


class DenseLayer(NamedTuple):
    weight: Array  # (O, K)
    bias: Array | None  # (O,)
    activation: str = "linear"

    @property
    def out_features(self) -> int:
        return len(self.weight)

    def built(self, options: Options) -> Dense:
        return build.dense(self.weight, self.bias, self.activation, options)


Layers = list[LSTMLayer | DenseLayer]


@dataclass
class AmplifierFormat:
    """A ``Format`` made of three functions of the parsed file, which may hold anything."""

    NAME: str
    SUFFIXES: tuple[str, ...]
    keys: tuple[str, ...]  # a file that contains all of these is of this format
    network: Callable[[Any], tuple[Layers, float]]  # the layers, and the skip of their Stack
    tensors: Callable[[Any], list[Tensor]]
    about: Callable[[Any], tuple[str, Any]]  # the format's name, and the sample rate as the file states it
    parts: Callable[[Any], Mapping[str, Any]] = lambda model: {}  # by their prefixes, models in the model

    def recognises(self, path: str, head: bytes) -> bool:
        return mentions(path, head, *self.keys)

    def inspect(self, path: str) -> Contents:
        model = read_json(path)
        tensors = self.tensors(model)
        name, stated_rate = self.about(model)
        rate = _hertz(stated_rate)
        notes = kept_notes.in_words(Notes(sample_rate=rate))
        networks = []
        try:
            networks.append(LoadableNetwork("", describe.network(self._built(model, Options()))))
            notes = kept_notes.in_words(_notes(rate))
        except ValueError as error:
            notes.append(f"cannot be loaded: {error}")
        for prefix, part in self.parts(model).items():
            with contextlib.suppress(ValueError):
                networks.append(LoadableNetwork(prefix, describe.network(self._built(part, Options()))))
        return Contents(name, tensors, networks, notes, rate)

    def load(self, path: str, prefix: str | None, options: Options) -> Stack:
        model = read_json(path)
        if not prefix:
            return self._built(model, options)
        parts = self.parts(model)
        if prefix not in parts:
            expected = f"one of {', '.join(parts)}" if parts else "none, for the file is one network"
            raise ValueError(f"prefix: expected {expected}, got {prefix!r}")
        return self._built({"sample_rate": self.about(model)[1], **parts[prefix]}, options)

    def _built(self, model: Any, options: Options) -> Stack:
        layers, skip = self.network(model)
        rate = _hertz(self.about(model)[1])
        options = options.or_else("float32")._replace(notes=_notes(rate))
        return Stack([layer.built(options) for layer in layers], skip=skip)


def _notes(rate: float | None) -> Notes:
    """Of a network for sound. GuitarML's files, and most of RTNeural's, do not say the sample rate."""
    return Notes(sample_rate=rate, sound=True)


def _hertz(stated: Any) -> float | None:
    """A sample rate that is a number or its digits (AIDA-X); None where the file has no such number."""
    try:
        rate = float(stated) if isinstance(stated, int | float | str) else 0.0
    except (OverflowError, ValueError):
        return None
    return rate if 0 < rate < float("inf") else None
