"""The layers that have been found so far: each takes all of the output of the one below, in its order."""

from __future__ import annotations

from lstmkernel.backends.packing import Array
from lstmkernel.formats.onnx import symbols
from lstmkernel.formats.onnx.dense import DenseNodes
from lstmkernel.formats.onnx.nodes import Node
from lstmkernel.formats.onnx.operator import LSTMNode
from lstmkernel.formats.onnx.symbols import Labels, equal
from lstmkernel.formats.onnx.tensors import TensorReader


class LayerChain:
    """Layers, and the labels of the numbers between them and at their end."""

    def __init__(self, x: Array | None, labels: Labels, reader: TensorReader) -> None:
        self.layers: list[LSTMNode | DenseNodes] = []
        self.states: list[tuple[Array, Array]] = []  # of h_n and c_n of each LSTM node
        self.out = x  # of the last layer's output, or the input, if it is known
        self.batch_first: bool | None = None  # None: not known yet
        self._labels, self._reader = labels, reader

    @property
    def lstms(self) -> list[LSTMNode]:
        return [layer for layer in self.layers if isinstance(layer, LSTMNode)]

    @property
    def top(self) -> DenseNodes | None:
        """The last layer, if it is a Dense, which may not be complete yet."""
        layer = self.layers[-1] if self.layers else None
        return layer if isinstance(layer, DenseNodes) else None

    def take(self, node: Node, x: Array, width: int) -> None:
        """Check that x (T, B, I) is the output so far. The first LSTM settles which axis is time."""
        out = self.out
        if out is None or x.ndim != 3 or x.shape[2] != width:
            raise ValueError(f"{node}: X: expected 3 dimensions, the last of {width} as in W, got shape {x.shape}")
        if self.batch_first is None:
            if equal(x, out) or (out.ndim == 2 and equal(x, out[:, None] if node.op == "LSTM" else out[None])):
                self.batch_first = False
            elif out.ndim == 3 and equal(x, out.swapaxes(0, 1)):
                self.batch_first = True
            if self.batch_first is not None:
                return
        elif equal(x, out):
            return
        raise ValueError(
            f"{node}: X: expected all of the output of {self._below()}, in its order, got a part or another order"
        )

    def add_lstm(self, layer: LSTMNode, T: int, B: int) -> tuple[Array, Array, Array]:
        """Labels of the node's outputs Y, Y_h and Y_c; h_n is a part of the output."""
        D, H = layer.directions, layer.hidden_size
        self.out = out = self._labels.fresh(str(layer.node), (T, B, D * H))
        Y = out.reshape(T, B, D, H).transpose(0, 2, 1, 3)
        ends = [0 if layer.reverse or d else -1 for d in range(D)]
        Y_h = Y[ends, range(D)] if T else Y[:0]
        Y_c = self._labels.fresh(str(layer.node), (D, B, H))
        if layer.rows_first:
            Y, Y_h, Y_c = Y.transpose(2, 0, 1, 3), Y_h.swapaxes(0, 1), Y_c.swapaxes(0, 1)
        self.layers.append(layer)
        self.states.append((Y_h, Y_c))
        return Y, Y_h, Y_c

    def add_dense(self, node: Node, dense: DenseNodes, taken: Array) -> Array:
        """Labels of a node's output; ``dense`` begins with the node, which takes the labels ``taken``."""
        out = self._row_by_row(node, taken, dense.weight.shape[1], len(dense.weight))
        self.layers.append(dense)
        return out

    def complete_dense(self, node: Node, dense: DenseNodes, taken: Array) -> Array:
        """Labels of a node's output; the node completes the last layer, which becomes ``dense``."""
        out = self._row_by_row(node, taken, len(dense.weight), len(dense.weight))
        self.layers[-1] = dense
        return out

    def _row_by_row(self, node: Node, taken: Array, width: int, new_width: int) -> Array:
        """Labels after a node that works on each row of the output; nothing can take the old output from then on."""
        rows = None if self.out is None else symbols.rows(taken, self.out, width)
        if rows is None or self.out is None:
            raise ValueError(
                f"{node}: expected the outputs of {self._below()} at some or all steps, each whole and in order"
            )
        self.out = self._labels.fresh(str(node), (*self.out.shape[:-1], new_width))
        self._reader.make(str(node), symbols.BYTES * rows.size * new_width)
        labels: Array = self.out.reshape(-1, new_width)[rows]
        return labels

    def _below(self) -> Node | str:
        return self.layers[-1].node if self.layers else "the graph's input"
