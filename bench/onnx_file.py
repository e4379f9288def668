"""An LSTM as an ONNX model, for ONNX Runtime and OpenVINO."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import lstmkernel as lk


def onnx_model(lstm: lk.LSTM, with_states: bool = False) -> bytes:
    """One LSTM node for each layer; after it, the directions are put side by side. ONNX orders gates i, o, f, c.

    The input is x, the output out. with_states: also inputs h0, c0, h1 ... and outputs h_n0, c_n0, h_n1 ..., (D, B, H).
    """
    H, D, named = lstm.hidden_size, lstm.shape.directions, lstm.state_dict()

    def gates(name: str) -> np.ndarray:
        return named[name].reshape(4, H, -1)[[0, 3, 1, 2]].reshape(4 * H, -1)

    first, last = [], []
    nodes, constants, below = [], [numpy_helper.from_array(np.array([0, 0, D * H]), "merged")], "x"
    for layer in range(lstm.num_layers):
        ends = [lstm.shape.suffix(layer, direction) for direction in range(D)]
        weights = {
            f"W{layer}": [gates(f"weight_ih{end}") for end in ends],
            f"R{layer}": [gates(f"weight_hh{end}") for end in ends],
            f"B{layer}": [np.concatenate([gates(f"bias_ih{end}"), gates(f"bias_hh{end}")])[:, 0] for end in ends],
        }
        constants += [numpy_helper.from_array(np.stack(parts), name) for name, parts in weights.items()]
        above = "out" if layer == lstm.num_layers - 1 else f"out{layer}"
        way = "bidirectional" if D == 2 else "forward"
        reads, writes = [below, *weights], [f"Y{layer}"]
        if with_states:
            first += [f"h{layer}", f"c{layer}"]
            last += [f"h_n{layer}", f"c_n{layer}"]
            reads, writes = [*reads, "", *first[-2:]], [*writes, *last[-2:]]
        nodes += [
            helper.make_node("LSTM", reads, writes, hidden_size=H, direction=way),
            helper.make_node("Transpose", [f"Y{layer}"], [f"Z{layer}"], perm=[0, 2, 1, 3]),
            helper.make_node("Reshape", [f"Z{layer}", "merged"], [above]),
        ]
        below = above
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["T", "B", lstm.input_size])]
    outputs = [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["T", "B", D * H])]
    inputs += [helper.make_tensor_value_info(name, TensorProto.FLOAT, [D, "B", H]) for name in first]
    outputs += [helper.make_tensor_value_info(name, TensorProto.FLOAT, [D, "B", H]) for name in last]
    graph = helper.make_graph(nodes, "lstm", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())
