"""``torch.nn.LSTM`` on lstmkernel's kernels."""

from __future__ import annotations

from functools import partial
from typing import Any, SupportsIndex

import torch
from torch import Tensor
from torch.nn.functional import dropout
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

import lstmkernel
from lstmkernel.engine.arguments import size
from lstmkernel.torch import autocast, operations
from lstmkernel.torch.function import as_pytorchs, between_graphs, check, is_traced, run
from lstmkernel.torch.operations import State
from lstmkernel.torch.packing import Models


class LSTM(torch.nn.LSTM):
    """A ``torch.nn.LSTM``, with its arguments, parameters, results and gradients, that lstmkernel computes.

    One argument more saves memory in training: with ``checkpoint_every=k`` a call keeps the states before every k-th
    step for the backward pass, which runs forward again from there. Results and gradients are bit-identical to those
    without it; a backward pass does one third more work. T / k + k steps are kept instead of T: least where k is about
    sqrt(T). Setting the attribute ``checkpoint_every`` later has the same effect, also after ``accelerate``.

    It runs on the CPU in float32 and float64. Other dtypes raise TypeError and other devices ValueError, before
    anything runs. Under ``torch.autocast`` x and the states may have 16 bits; it computes in the dtype of the weights,
    and gives the dtype that came. A model that is traced, scripted or exported contains PyTorch's own LSTM.
    ``torch.compile`` runs this one between two graphs. It uses at most ``torch.get_num_threads()`` threads.

    The kernels compute results and first gradients. Gradients of gradients, forward-mode differentiation and the
    transforms of ``torch.func`` are computed by PyTorch's own operations: exact, and slow.

    The weights are packed for the kernels at the first call, and again when they have changed in any way
    (``compares_weights``).
    """

    #: Whether each call compares all weights with the packed ones. False is for weights that do not change. A call then
    #: sees only changes that PyTorch counts (load_state_dict, in-place operations), no write to ``.data``. A module is
    #: compared in any case since a call from which its weights can be trained.
    compares_weights: bool = True
    checkpoint_every: int | None = None  #: see above

    def __init__(self, *arguments: Any, checkpoint_every: SupportsIndex | None = None, **options: Any) -> None:
        super().__init__(*arguments, **options)
        if checkpoint_every is not None:
            self.checkpoint_every = size("checkpoint_every", checkpoint_every)

    def _get_name(self) -> str:
        """What ``print(model)`` shows."""
        return "lstmkernel.torch.LSTM"

    def extra_repr(self) -> str:
        """The arguments that are not the defaults."""
        return super().extra_repr() + (f", checkpoint_every={self.checkpoint_every}" if self.checkpoint_every else "")

    def forward(self, input: Any, hx: State | None = None) -> Any:  # noqa: A002
        """As ``torch.nn.LSTM``: (T, B, I), (B, T, I), (T, I) or a PackedSequence, and (h_0, c_0)."""
        if is_traced():
            return super().forward(input, hx)
        return between_graphs(self._run)(input, hx)

    def __prepare_scriptable__(self) -> torch.nn.Module:
        return as_pytorchs(self, torch.nn.LSTM)

    def _run(self, x: Any, hx: State | None) -> Any:
        weights = {name: getattr(self, name) for name in self._flat_weights_names}
        return autocast.run(partial(self._run_on, weights), x, hx, weights["weight_ih_l0"].dtype)

    def _run_on(self, weights: dict[str, Tensor], x: Any, hx: State | None) -> Any:
        if isinstance(x, PackedSequence):
            check(x.data, hx, weights)
            return self._run_packed(x, hx, weights)
        check(x, hx, weights)
        dims = x.dim()
        if dims not in (2, 3):
            raise ValueError(f"input: expected 3 dimensions, or 2 unbatched, got shape {tuple(x.shape)}")
        if hx is not None and not hx[0].dim() == hx[1].dim() == dims:
            raise ValueError(f"hx: expected {dims} dimensions, as input has, got {hx[0].dim()} and {hx[1].dim()}")
        if dims == 3:
            return self._run_batched(x, hx, weights)
        rows = 0 if self.batch_first else 1
        hx = None if hx is None else (hx[0].unsqueeze(1), hx[1].unsqueeze(1))
        out, (h, c) = self._run_batched(x.unsqueeze(rows), hx, weights)
        return out.squeeze(rows), (h.squeeze(1), c.squeeze(1))

    def _run_batched(self, x: Tensor, hx: State | None, weights: dict[str, Tensor]) -> tuple[Tensor, State]:
        self._check_sizes(x, hx, None)
        out, last = self._run_layers(x.transpose(0, 1) if self.batch_first else x, hx, None, weights)
        return out.transpose(0, 1) if self.batch_first else out, last

    def _run_packed(
        self, packed: PackedSequence, hx: State | None, weights: dict[str, Tensor]
    ) -> tuple[PackedSequence, State]:
        data, batch_sizes, sorted_indices, unsorted_indices = packed
        state = None if hx is None else self.permute_hidden(hx, sorted_indices)
        self._check_sizes(data, state, batch_sizes)
        x, lengths = _unpack(PackedSequence(data, batch_sizes))
        out, last = self._run_layers(x, state, lengths, weights)
        return (
            PackedSequence(pack_padded_sequence(out, lengths).data, batch_sizes, sorted_indices, unsorted_indices),
            self.permute_hidden(last, unsorted_indices),
        )

    def _check_sizes(self, x: Tensor, state: State | None, batch_sizes: Tensor | None) -> None:
        """Raise PyTorch's own errors for wrong sizes."""
        if state is None:
            self.check_input(x, batch_sizes)
        else:
            self.check_forward_args(x, state, batch_sizes)

    def _run_layers(
        self, x: Tensor, state: State | None, lengths: Tensor | None, weights: dict[str, Tensor]
    ) -> tuple[Tensor, State]:
        """x (T, B, I) -> out (T, B, D*R); one layer at a time where there is dropout between them."""
        if not (self.training and self.dropout and self.num_layers > 1):
            return run(partial(self._model, None, weights), x, state, lengths, weights, self.checkpoint_every)
        D = 2 if self.bidirectional else 1
        last = []
        for layer in range(self.num_layers):
            if layer:
                x = _drop(x, self.dropout, lengths)
            own = None if state is None else (state[0][layer * D : layer * D + D], state[1][layer * D : layer * D + D])
            of_layer = _of_layer(layer, weights)
            x, states = run(partial(self._model, layer, of_layer), x, own, lengths, of_layer, self.checkpoint_every)
            last.append(states)
        h, c = zip(*last, strict=True)
        return x, (torch.cat(h), torch.cat(c))

    def _model(self, layer: int | None, weights: dict[str, Tensor]) -> lstmkernel.LSTM:
        kept: Models = self.__dict__.setdefault("_models", Models())
        return kept.of(layer, weights, by_value=self.compares_weights)


def _of_layer(layer: int, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights of this layer, by the names of an LSTM with one layer."""
    ends = f"_l{layer}", f"_l{layer}_reverse"
    return {name.replace(f"_l{layer}", "_l0"): weight for name, weight in weights.items() if name.endswith(ends)}


def _unpack(packed: PackedSequence) -> tuple[Tensor, Tensor]:
    """(T, B, I) and the rows' lengths, the longest first."""
    try:
        return pad_packed_sequence(packed)
    except RuntimeError as error:
        if not operations.are_transformed():
            raise
        raise RuntimeError(
            "input: PyTorch cannot unpack this PackedSequence under torch.func's transforms, in torch.nn.LSTM neither; "
            "torch.autograd.grad and torch.autograd.functional can"
        ) from error


def _drop(x: Tensor, p: float, lengths: Tensor | None) -> Tensor:
    """Dropout of the steps that rows have, so that a seed draws the same numbers as for ``torch.nn.LSTM``."""
    if lengths is None:
        return dropout(x, p)
    packed = pack_padded_sequence(x, lengths)
    return pad_packed_sequence(packed._replace(data=dropout(packed.data, p)))[0]
