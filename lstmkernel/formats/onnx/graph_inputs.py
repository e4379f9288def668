"""What a caller gives beside x, states and lengths: a graph's inputs, as its LSTM nodes must get them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lstmkernel.backends.packing import Array
from lstmkernel.formats.onnx.graph import Node
from lstmkernel.formats.onnx.operator import Layer
from lstmkernel.formats.onnx.symbols import Signal, equal


class Caller:
    """Keeps what the LSTM nodes have taken so far of the graph's ``inputs``."""

    def __init__(self, inputs: Mapping[str, Signal]) -> None:
        self._inputs = dict(inputs)
        self._given: dict[str, tuple[str, int]] = {}  # which input h and c are taken from, and its next label

    def state(self, layer: Layer, name: str, labels: Array, B: int) -> None:
        """The next rows of one input of the graph, so that (L*D, B, H) of it is what h_0 and c_0 are here."""
        D, H = layer.directions, layer.hidden_size
        if labels.shape != ((B, D, H) if layer.rows_first else (D, B, H)):
            raise ValueError(f"{layer.node}: {name}: expected a state for {D} x {B} x {H}, got shape {labels.shape}")
        first = int(labels[0, 0, 0]) if labels.size else 0
        source = next((each for each, signal in self._inputs.items() if first in signal.labels), "")
        begin = self._given.get(name, (source, -1))
        contiguous = equal(labels.ravel(), np.arange(first, first + labels.size, dtype=np.int32))
        if not source or not contiguous or begin[0] != source or begin[1] not in (-1, first):
            raise ValueError(f"{layer.node}: {name}: expected the layer's own part of an input of the graph, in order")
        self._given[name] = source, first + labels.size

    def lengths(self, node: Node, signal: Signal | None) -> str:
        """The name of the input that is sequence_lens, row for row."""
        if signal is not None and signal.kind == "i":
            for name, given in self._inputs.items():
                if equal(given.labels.ravel(), signal.labels):
                    return name
        raise ValueError(
            f"{node}: sequence_lens: expected an input of the graph, the caller's lengths, got {node.input(4)!r}"
        )
