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


def tape_of(ticket: Tensor) -> Tape | None:
    """The tape of a saved tensor; None of a copy, as ``torch.autograd.graph.save_on_cpu`` makes one."""
    return _tapes.get(int(ticket))
