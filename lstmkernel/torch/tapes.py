"""Tapes live as long as autograd's saved tensors, so that a backward pass frees both.

Anything else that a function keeps lives as long as the graph. In a training loop that is until the next loss replaces
this one, and there would be two tapes at a time. So the function saves a small tensor, and the tape lives as long as
that tensor's memory.
"""

from __future__ import annotations

import itertools
import weakref

import numpy as np
import torch
from torch import Tensor

from lstmkernel.engine.tape import Tape

_tapes: dict[int, Tape] = {}
_numbers = itertools.count()


def ticket(tape: Tape) -> Tensor:
    """A tensor to save in place of the tape."""
    number = np.array(next(_numbers))
    _tapes[int(number)] = tape
    weakref.finalize(number, _tapes.pop, int(number)).atexit = False
    return torch.from_numpy(number)  # holds the array


def tape_of(ticket: Tensor) -> Tape:
    """The tape of a saved tensor."""
    try:
        return _tapes[int(ticket)]
    except KeyError:
        raise RuntimeError(
            "lstmkernel.torch: expected the tensor that was saved, got a copy of it, and the tape is gone; "
            "torch.autograd.graph.saved_tensors_hooks that copy (save_on_cpu) cannot hold a tape"
        ) from None
