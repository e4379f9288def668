"""The libraries that are compared in training: each runs the same network forward and backward, to dL/dx."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from contenders import Call, Contender

import lstmkernel as lk


def d_out_for(lstm: lk.LSTM, x: np.ndarray) -> np.ndarray:
    T, B, _ = x.shape
    return np.random.default_rng(2).standard_normal((T, B, lstm.out_features)).astype(x.dtype)


def lstmkernel_training(lstm: lk.LSTM, x: np.ndarray, threads: int) -> Call:
    model, d_out = lk.LSTM.from_config({**lstm.config(), "num_threads": threads}, lstm.state_dict()), d_out_for(lstm, x)
    return lambda: model.backward(model.forward(x)[2], d_out)["x"]


def torch_training(lstm: lk.LSTM, x: np.ndarray, threads: int) -> Call:
    import torch

    torch.set_num_threads(threads)
    module = torch.nn.LSTM(lstm.input_size, lstm.hidden_size, lstm.num_layers, bidirectional=lstm.bidirectional)
    module.load_state_dict({name: torch.tensor(value) for name, value in lstm.state_dict().items()})
    steps, d_out = torch.tensor(x, requires_grad=True), torch.from_numpy(d_out_for(lstm, x))

    def train() -> np.ndarray:
        module.zero_grad()
        steps.grad = None
        module(steps)[0].backward(d_out)
        assert steps.grad is not None
        return steps.grad.numpy()

    return train


#: The names are those of contenders.py, and "training".
TRAINERS = {
    "lstmkernel, training": Contender((), lstmkernel_training),
    "PyTorch, training": Contender(("torch",), torch_training),
}


def bytes_at_most(call: Callable[[], Any]) -> int:
    """The memory that a call takes at its peak; 0 if the process had more before."""
    before = _kilobytes("VmRSS")
    call()
    return max(0, _kilobytes("VmHWM") - before) * 1024


def _kilobytes(line: str) -> int:
    """Resident memory of this program. getrusage would also count the program that started it."""
    return int(re.findall(rf"^{line}:\s*(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)[0])
