"""lstmkernel's models of a module's tensors: packed at the first call, and again when the numbers have changed."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lstmkernel.backends.packing import Array
from lstmkernel.engine import arguments
from lstmkernel.formats import from_torch
from lstmkernel.lstm import LSTM
from lstmkernel.torch.function import array


class Models(dict[int | None, "_Packed"]):
    """The models of one module, by layer. Copies and pickles of the module start without models."""

    _trained = False  #: whether there was a call from which the weights can be trained

    def of(self, layer: int | None, tensors: dict[str, Tensor], *, by_value: bool) -> LSTM:
        """The model of these tensors, named as lstmkernel names them: of one layer, or of all.

        ``by_value`` compares all numbers, which takes as long as reading the weights twice. Otherwise PyTorch's
        counters of in-place changes decide; they do not count writes through ``.data`` or a NumPy array, nor those of
        optimizers with ``fused=True``. So numbers are also compared since a call from which the weights can be trained.
        """
        found, listed = self.get(layer), list(tensors.values())
        if found is None or not found.is_of(listed, by_value or self._trained):
            self[layer] = found = _pack(tensors)  # one assignment: other threads see the old model or this one
        if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in listed):
            self._trained = True
        return found.model

    def __reduce__(self) -> tuple[Any, ...]:
        return Models, ()


class _Packed(NamedTuple):
    """A model, and what is needed to see whether its tensors have changed."""

    model: LSTM
    num_threads: int
    tensors: list[Tensor]
    memory: list[Tensor]  # the tensors' memory: while it is held, no other tensor gets that address
    versions: list[int]

    def is_of(self, tensors: list[Tensor], by_value: bool) -> bool:
        if self.num_threads != _num_threads():
            return False
        if by_value:
            known = self.model.state_dict().values()
            return all(_same_bits(a, array(b)) for a, b in zip(known, tensors, strict=True))
        return all(map(_untouched, self.tensors, self.memory, self.versions, tensors))


def _pack(tensors: dict[str, Tensor]) -> _Packed:
    listed = list(tensors.values())
    memory, versions = [tensor.detach() for tensor in listed], list(map(_version, listed))  # before they are read
    arrays, threads = {name: array(tensor) for name, tensor in tensors.items()}, _num_threads()
    return _Packed(from_torch(arrays, num_threads=threads), threads, listed, memory, versions)


def _num_threads() -> int:
    """As many threads as PyTorch may use, or fewer if ``LSTMKERNEL_NUM_THREADS`` says so."""
    bound = arguments.num_threads(None)
    return torch.get_num_threads() if bound is None else min(bound, torch.get_num_threads())


def _same_bits(a: Array, b: Array) -> bool:
    """Compared as integers: NaN equals itself, and 0 is not -0."""
    integers = f"i{a.itemsize}"
    return a.dtype == b.dtype and np.array_equal(a.view(integers), b.view(integers))


def _version(tensor: Tensor) -> int:
    """PyTorch's counter of in-place changes; -1 where it keeps none."""
    return -1 if tensor.is_inference() else tensor._version  # noqa: SLF001 - the name that PyTorch documents


def _untouched(known: Tensor, memory: Tensor, version: int, now: Tensor) -> bool:
    return known is now and version == _version(now) != -1 and memory.data_ptr() == now.data_ptr()
