"""``.pt`` and ``.pth``: a state_dict or a checkpoint as ``torch.save`` writes it, read without PyTorch.

``containers.py`` finds the pickle and the storages, ``unpickle.py`` reads the one, ``flatten.py`` finds the tensors.
"""

from __future__ import annotations

import os
import re
from functools import cache
from math import prod

import numpy as np

from lstmkernel.backends.packing import Array
from lstmkernel.dense import Dense
from lstmkernel.formats.contract import Options
from lstmkernel.formats.inspection import Contents, Tensor
from lstmkernel.formats.pytorch import containers, state_dict
from lstmkernel.formats.pytorch.containers import Checkpoint, recognises
from lstmkernel.formats.pytorch.pickled import Storage
from lstmkernel.formats.pytorch.weights import Weight, unreadable
from lstmkernel.formats.untrusted import limits
from lstmkernel.formats.untrusted.raw_tensors import as_array
from lstmkernel.lstm import LSTM
from lstmkernel.stack import Stack

__all__ = ["NAME", "SUFFIXES", "inspect", "load", "recognises"]

NAME = "PyTorch (.pt, .pth)"
SUFFIXES: tuple[str, ...] = (".pt", ".pth")


def inspect(path: str) -> Contents:
    with containers.opened(path) as checkpoint:
        found = checkpoint.found
        others = [f"{name} ({why})" for name, why in found.unreadable.items()] + found.others
        contents = state_dict.contents(NAME, _tensors(checkpoint), _weights(checkpoint, path), others)
    hidden = f"tensors in an object of a program, not read: {', '.join(found.hidden[:20])}; {state_dict.WHERE_IT_IS}"
    return contents._replace(notes=checkpoint.notes + contents.notes + ([hidden] if found.hidden else []))


def load(path: str, prefix: str | None, options: Options) -> LSTM | Dense | Stack:
    with containers.opened(path) as checkpoint:
        return state_dict.load(_weights(checkpoint, path), prefix, options, hidden=checkpoint.found.hidden)


def _tensors(checkpoint: Checkpoint) -> list[Tensor]:
    return [Tensor(name, tensor.shape, tensor.storage.dtype) for name, tensor in checkpoint.found.stored.items()]


def _weights(checkpoint: Checkpoint, path: str) -> list[Weight]:
    """The tensors, and parameters that are none: these are refused where they are needed."""
    size, taken = os.path.getsize(path), 0

    @cache  # several tensors can share a storage: with cuDNN, all weights of an LSTM do
    def elements(storage: Storage) -> Array:
        whole = Tensor(f"storage {storage.key[:100]}", (storage.elements,), storage.dtype)
        order = checkpoint.byte_order if storage.data is None else storage.byte_order
        return as_array(whole, checkpoint.elements(storage), order)

    def read(tensor: Tensor) -> Array:
        nonlocal taken
        stored = checkpoint.found.stored[tensor.name]
        values = elements(stored.storage)
        taken += prod(stored.shape) * values.itemsize
        limits.check("tensors that share storages", taken, size)
        strides = [stride * values.itemsize for stride in stored.strides]
        return np.lib.stride_tricks.as_strided(values[stored.offset :], stored.shape, strides, writeable=False)

    found = state_dict.of_tensors(_tensors(checkpoint), read)
    parameters = (item for item in checkpoint.found.unreadable.items() if re.search(r"(weight|bias)[^.]*$", item[0]))
    return found + [unreadable(name, f"expected numbers in the file, got {why}") for name, why in parameters]
