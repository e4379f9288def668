"""``torch.nn.LSTMCell`` on lstmkernel's kernels."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from lstmkernel.torch import autocast
from lstmkernel.torch.function import as_pytorchs, between_graphs, check, is_traced, run
from lstmkernel.torch.operations import State
from lstmkernel.torch.packing import Models


class LSTMCell(torch.nn.LSTMCell):
    """A ``torch.nn.LSTMCell`` that lstmkernel computes, under the same conditions as ``lstmkernel.torch.LSTM``."""

    compares_weights: bool = True  #: see LSTM

    def _get_name(self) -> str:
        """What ``print(model)`` shows."""
        return "lstmkernel.torch.LSTMCell"

    def forward(self, input: Tensor, hx: State | None = None) -> State:  # noqa: A002
        """As ``torch.nn.LSTMCell``: (B, I) or (I,), and (h, c)."""
        if is_traced():
            return super().forward(input, hx)
        return between_graphs(self._run)(input, hx)

    def __prepare_scriptable__(self) -> torch.nn.Module:
        return as_pytorchs(self, torch.nn.LSTMCell)

    def _run(self, x: Tensor, hx: State | None) -> State:
        names = ("weight_ih", "weight_hh", *(("bias_ih", "bias_hh") if self.bias else ()))
        weights = {f"{name}_l0": getattr(self, name) for name in names}
        result: State = autocast.run(partial(self._run_on, weights), x, hx, weights["weight_ih_l0"].dtype)
        return result

    def _run_on(self, weights: dict[str, Tensor], x: Tensor, hx: State | None) -> State:
        check(x, hx, weights)
        I, H, rows = self.input_size, self.hidden_size, x.shape[:-1]
        if x.dim() not in (1, 2) or x.shape[-1] != I:
            raise ValueError(f"input: expected shape (B, I) or (I,) with I = {I}, got {tuple(x.shape)}")
        for part in hx or ():
            if part.shape != (*rows, H):
                raise ValueError(f"hx: expected shape {(*rows, H)}, got {tuple(part.shape)}")
        kept: Models = self.__dict__.setdefault("_models", Models())
        model = partial(kept.of, None, weights, by_value=self.compares_weights)
        state = None if hx is None else (hx[0].reshape(1, -1, H), hx[1].reshape(1, -1, H))
        _, (h, c) = run(model, x.reshape(1, -1, I), state, None, weights)
        return h.reshape(*rows, H), c.reshape(*rows, H)
