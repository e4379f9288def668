"""The LSTM in PyTorch's own operations: slow, but PyTorch can follow them.

The kernels give results and gradients. Whoever asks for more (gradients of gradients, forward-mode differentiation,
the transforms of ``torch.func``, a recorder of operations) gets this.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn.functional import linear

State = tuple[Tensor, Tensor]


def are_followed() -> bool:
    """Whether this call is under a transform or a recorder that knows PyTorch's operations alone."""
    recorders: int = torch._C._len_torch_dispatch_stack()  # noqa: SLF001 - no public name says it
    return are_transformed() or recorders > 0 or forward_ad._current_level >= 0  # noqa: SLF001


def are_transformed() -> bool:
    """Whether this call is within a transform of ``torch.func``."""
    return bool(torch._C._are_functorch_transforms_active())  # noqa: SLF001 - no public name says it


def lstm(x: Tensor, state: State | None, lengths: Tensor | None, weights: Mapping[str, Tensor]) -> tuple[Tensor, State]:
    """x (T, B, I), (h_0, c_0) of (L*D, B, R) and (L*D, B, H), row lengths (B,) -> out (T, B, D*R), (h_n, c_n).

    weights: by the names of ``torch.nn.LSTM``. As there, out is 0 and the state stays where a row has ended.
    """
    ends = [name.removeprefix("weight_ih") for name in weights if name.startswith("weight_ih")]
    D = 2 if any(end.endswith("_reverse") for end in ends) else 1
    last = []
    with torch.autocast("cpu", enabled=False):
        for first in range(0, len(ends), D):
            outs = []
            for place, end in enumerate(ends[first : first + D], start=first):
                start = None if state is None else (state[0][place], state[1][place])
                own = {name.removesuffix(end): weight for name, weight in weights.items() if name.endswith(end)}
                out, states = _direction(x, start, lengths, own, reverse=place > first)
                outs.append(out)
                last.append(states)
            x = torch.cat(outs, -1)
        h, c = zip(*last, strict=True)
        return x, (torch.stack(h), torch.stack(c))


def gradients(
    names: Sequence[str],
    lengths: Tensor | None,
    given: Sequence[Tensor | None],
    seeds: Sequence[Tensor | None],
    needed: Sequence[bool],
) -> list[Tensor | None]:
    """Of x, h_0, c_0 and the named weights, which are ``given``: those that are needed.

    seeds: those of out, h_n and c_n. Under ``create_graph=True`` the gradients have gradients.
    """
    with torch.autocast("cpu", enabled=False):
        with torch.enable_grad():
            # Views: where one was computed from another one, or is it, each gets the gradient of its own place.
            places: list[Any] = [None if tensor is None else tensor.view_as(tensor) for tensor in given]
            x, h, c, *weights = places
            out, last = lstm(x, None if h is None else (h, c), lengths, dict(zip(names, weights, strict=True)))
        results = (out, *last)
        used = [at for at, seed in enumerate(seeds) if seed is not None and results[at].requires_grad]
        if not used:
            return [None] * len(given)
        found = iter(
            torch.autograd.grad(
                [results[at] for at in used],
                [tensor for tensor, need in zip(places, needed, strict=True) if need],
                [seeds[at] for at in used],
                create_graph=torch.is_grad_enabled(),
                allow_unused=True,
            )
        )
        return [next(found) if need else None for need in needed]


def _direction(
    x: Tensor, state: State | None, lengths: Tensor | None, weights: Mapping[str, Tensor], *, reverse: bool
) -> tuple[Tensor, State]:
    """One layer in one direction."""
    T, B, _ = x.shape
    w_hh, w_hr = weights["weight_hh"], weights.get("weight_hr")
    if state is None:
        state = x.new_zeros(B, w_hh.shape[1]), x.new_zeros(B, w_hh.shape[0] // 4)
    h, c = state
    of_x = linear(x, weights["weight_ih"], weights.get("bias_ih"))
    outs = []
    for t in reversed(range(T)) if reverse else range(T):
        z_i, z_f, z_g, z_o = (of_x[t] + linear(h, w_hh, weights.get("bias_hh"))).chunk(4, -1)
        new_c = z_f.sigmoid() * c + z_i.sigmoid() * z_g.tanh()
        new_h = z_o.sigmoid() * new_c.tanh()
        new_h = new_h if w_hr is None else linear(new_h, w_hr)
        if lengths is None:
            out, h, c = new_h, new_h, new_c
        else:
            runs = (lengths > t).unsqueeze(-1)
            out, h, c = new_h.where(runs, 0.0), new_h.where(runs, h), new_c.where(runs, c)
        outs.append(out)
    if not T:
        return x.new_zeros(0, B, w_hh.shape[1]), (h, c)
    return torch.stack(outs[::-1] if reverse else outs), (h, c)
