"""What a model without an LSTM node has instead, in words: LSTMs in bodies, other recurrent operators, or none."""

from __future__ import annotations

from collections.abc import Sequence

from lstmkernel.formats.onnx import graph as onnx_graph
from lstmkernel.formats.onnx.graph import Graph
from lstmkernel.formats.onnx.nodes import bodies

#: Operators that are no LSTM that this library runs, and what to do.
NAMES = {
    "GRU": "a GRU, not an LSTM",
    "RNN": "a plain RNN, not an LSTM",
    "com.microsoft.AttnLSTM": "an LSTM with attention",
}

#: What a cell that is written out consists of, at least.
_CELL = {"Sigmoid", "Tanh", "Mul"}


def instead_of_lstm(graphs: Sequence[Graph], lstm_ops: Sequence[str]) -> str:
    """Why there is no LSTM in the main graph, which is the first."""
    nodes = [node for graph in graphs for node in graph.nodes]
    inside = list(dict.fromkeys(node.name for node in nodes if node.op in lstm_ops))
    if inside:
        around = ", ".join(dict.fromkeys(node.op for node in nodes if bodies(node)))
        return f"no LSTM in the main graph: LSTM nodes in bodies of {around}: {', '.join(map(repr, inside[:6]))}"
    other = next((node for node in nodes if node.op in NAMES), None)
    if other:
        return f"no LSTM: expected an LSTM node, got {other}: {NAMES[other.op]}"
    other = next((node for node in nodes if "lstm" in node.op.lower()), None)
    if other:
        return f"no LSTM: expected ONNX's own LSTM node, got {other}, whose meaning is not known here"
    if {node.op for node in nodes} >= _CELL:
        return (
            "no LSTM: expected an LSTM node, or a cell that is written out as PyTorch exports it: got "
            f"{', '.join(sorted(_CELL))} in another form; save the weights where it was trained and load those with "
            "prefix=: in PyTorch torch.save(model.state_dict(), path), in Keras model.save('model.keras')"
        )
    return f"no LSTM: expected an LSTM node, got {onnx_graph.ops(graphs[0])}"
