"""Amplifier models as their own projects make them: a PyTorch network, and the JSON that the project's exporter writes.

Each function gives the text's object and the network as a function of x (T, I) float64, as the project plays it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

Made = tuple[dict[str, Any], Callable[[np.ndarray], np.ndarray]]


def modules(inputs: int, hidden: int, layers: int = 1, outputs: int = 1, bias: bool = True) -> tuple[Any, Any]:
    torch.manual_seed(5)
    lstm, head = torch.nn.LSTM(inputs, hidden, layers), torch.nn.Linear(hidden, outputs, bias=bias)
    return lstm.requires_grad_(False), head.requires_grad_(False)


def played(lstm: Any, head: Any, x: np.ndarray, state: Any = None) -> np.ndarray:
    """In float64, from the same float32 weights."""
    lstm.double(), head.double()
    h, _ = lstm(torch.tensor(x, dtype=torch.float64), state)
    return head(h).numpy()


def nam(inputs: int = 1, hidden: int = 4, layers: int = 2, outputs: int = 1, **more: Any) -> Made:
    """Neural Amp Modeler's LSTM: ``_export_weights`` of its recurrent.py."""
    lstm, head = modules(inputs, hidden, layers, outputs)
    h, c = torch.randn(2, layers, hidden)
    flat = []
    for i in range(layers):
        fused = torch.cat([getattr(lstm, f"weight_ih_l{i}"), getattr(lstm, f"weight_hh_l{i}")], dim=1)
        bias = getattr(lstm, f"bias_ih_l{i}") + getattr(lstm, f"bias_hh_l{i}")
        flat += [fused.flatten(), bias, h[i], c[i]]
    flat += [head.weight.flatten(), head.bias]
    config = {"input_size": inputs, "hidden_size": hidden, "num_layers": layers}
    config |= {"in_channels": inputs, "out_channels": outputs} if outputs > 1 else {}
    file = {"version": "0.5.4", "architecture": "LSTM", "config": config, "weights": torch.cat(flat).tolist(), **more}
    return file, lambda x: played(lstm, head, x, (h.double(), c.double()))


def guitarml(inputs: int = 1, hidden: int = 4, layers: int = 1, skip: int = 1, bias: bool = True) -> Made:
    """CoreAudioML's SimpleRNN: ``save_model`` and ``forward`` of its networks.py."""
    lstm, head = modules(inputs, hidden, layers, bias=bias)
    about = {"model": "SimpleRNN", "input_size": inputs, "skip": skip, "output_size": 1, "unit_type": "LSTM"}
    about |= {"num_layers": layers, "hidden_size": hidden, "bias_fl": bias}
    state_dict = {f"rec.{name}": value.tolist() for name, value in lstm.state_dict().items()}
    state_dict |= {f"lin.{name}": value.tolist() for name, value in head.state_dict().items()}
    return {"model_data": about, "state_dict": state_dict}, lambda x: played(lstm, head, x) + skip * x[:, :1]


def rtneural(inputs: int = 1, hidden: int = 4, activation: str = "", **more: Any) -> Made:
    """Keras's layout, as RTNeural's model_utils.py writes it, and AIDA-X's keys, as ``applyModel`` plays them."""
    lstm, head = modules(inputs, hidden)
    bias = lstm.bias_ih_l0 + lstm.bias_hh_l0
    kernels = [lstm.weight_ih_l0.T.tolist(), lstm.weight_hh_l0.T.tolist(), bias.tolist()]
    dense = [head.weight.T.tolist(), head.bias.tolist()]
    layers = [
        {"type": "lstm", "activation": "tanh", "shape": [None, None, hidden], "weights": kernels},
        {"type": "dense", "activation": activation, "shape": [None, None, 1], "weights": dense},
    ]

    def play(x: np.ndarray) -> np.ndarray:
        u = x.copy()
        u[:, 0] *= 10 ** ((more.get("in_gain") or 0) / 20)
        y = played(lstm, head, u)
        y = {"": y, "tanh": np.tanh(y)}[activation]
        return ((more.get("in_skip") or 0) * u[:, :1] + y) * 10 ** ((more.get("out_gain") or 0) / 20)

    return {"in_shape": [None, None, inputs], "layers": layers, **more}, play
