"""Graph inputs besides x: initial states and sequence lengths, which must reach the LSTM nodes as a call gives them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from lstmkernel.backends.packing import Array
from lstmkernel.formats.onnx import fold
from lstmkernel.formats.onnx.nodes import Node
from lstmkernel.formats.onnx.operator import LSTMNode
from lstmkernel.formats.onnx.symbols import Signal, equal


class GraphInputs:
    """What the LSTM nodes have taken so far of the graph's inputs."""

    def __init__(self, inputs: Mapping[str, Signal] | None) -> None:
        """``inputs`` is None for LSTM nodes that are followed alone: they may take lengths and states from nodes that
        are not followed."""
        self._inputs = inputs
        self._given: dict[str, tuple[str, int]] = {}  # for h and c: the input they come from, and its next label
        self._lengths: list[tuple[Node, str]] = []  # for each LSTM node: the input that is its lengths
        self._with_state: Node | None = None  # an LSTM node whose initial state is no constant
        self.elsewhere: list[tuple[Node, str]] = []  # LSTM nodes and where their states come from, if that is unknown

    @property
    def known(self) -> bool:
        return self._inputs is not None

    def take_state(self, layer: LSTMNode, name: str, place: int, signal: Signal | None, B: int) -> None:
        """Check that h or c is the next part of one input, so that the whole input is h_0 or c_0, (L*D, B, H)."""
        self._with_state = layer.node
        if signal is None and not self.known:
            self.elsewhere.append((layer.node, layer.node.input(place)))
            return
        if signal is None:
            got = layer.node.input(place)
            raise ValueError(f"{layer.node}: {name}: expected constants or an input of the graph, got {got!r}")
        D, H, labels = layer.directions, layer.hidden_size, signal.labels
        if labels.shape != ((B, D, H) if layer.rows_first else (D, B, H)):
            raise ValueError(f"{layer.node}: {name}: expected a state for {D} x {B} x {H}, got shape {labels.shape}")
        first = int(labels[0, 0, 0]) if labels.size else 0
        source = next((each for each, given in (self._inputs or {}).items() if first in given.labels), "")
        begin = self._given.get(name, (source, -1))
        contiguous = equal(labels.ravel(), np.arange(first, first + labels.size, dtype=np.int32))
        if not source or not contiguous or begin[0] != source or begin[1] not in (-1, first):
            raise ValueError(f"{layer.node}: {name}: expected the layer's own part of an input of the graph, in order")
        self._given[name] = source, first + labels.size

    def take_lengths(self, node: Node, signal: Signal | None, constant: Array | None, T: int) -> None:
        """Check that sequence_lens is one of the inputs, row for row, or T for every row; "" where it is left out."""
        name = node.input(4)
        if name and constant is not None and constant.dtype.kind == "i":
            numbers = fold.once(constant)
            if not self.known or (numbers != T).any():
                raise ValueError(
                    f"{node}: sequence_lens: expected an input of the graph, the caller's lengths, or all steps, got "
                    f"constants {numbers.ravel()[:6].tolist()}; make that input of the node empty, and give "
                    "lengths= to each call"
                )
            name = ""
        if name:
            name = self._source_of(node, signal) if self.known else "anywhere"
        self._lengths.append((node, name))

    @property
    def expects(self) -> Literal["lengths"] | None:
        """What the model gives its LSTMs in each call, so that a call without it has to warn."""
        return "lengths" if any(name for _, name in self._lengths) else None

    def check_one_call(self, lstms: Sequence[LSTMNode]) -> None:
        """A call has one ``lengths`` for all LSTMs, and one ``state``, which takes the place of all constants."""
        for node, name in self._lengths:
            if name != self._lengths[0][1]:
                raise ValueError(f"{node}: sequence_lens: expected the same for all LSTMs, or none, got different ones")
        if self._with_state and any(layer.first for layer in lstms):
            raise ValueError(
                f"{self._with_state}: initial states: expected all from constants or all from the caller, because the "
                "state of a call takes the place of all constants; got both"
            )

    def _source_of(self, node: Node, signal: Signal | None) -> str:
        if signal is not None and signal.kind == "i":
            for name, given in (self._inputs or {}).items():
                if equal(given.labels.ravel(), signal.labels):
                    return name
        raise ValueError(
            f"{node}: sequence_lens: expected an input of the graph, the caller's lengths, got {node.input(4)!r}"
        )
