"""``lstmkernel.from_torch``: an LSTM from a live module of PyTorch, or from a state_dict in memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from lstmkernel.backends.packing import Array
from lstmkernel.formats.contract import Options
from lstmkernel.formats.pytorch import names
from lstmkernel.lstm import LSTM


def from_torch(
    source: Any,
    *,
    prefix: str | None = None,
    dtype: DTypeLike | None = None,
    backend: str = "auto",
    num_threads: int | None = None,
    batch_first: bool | None = None,
) -> LSTM:
    """An LSTM from a ``torch.nn.LSTM``, a module that holds one, or a state_dict of tensors or arrays.

    ``prefix`` picks one LSTM out of several. The other options are those of ``load``; ``batch_first`` is by default the
    module's own. PyTorch itself is not imported.
    """
    if isinstance(source, Mapping):
        mapping = source
    elif callable(getattr(source, "state_dict", None)) and callable(getattr(source, "get_submodule", None)):
        mapping = source.state_dict()
    else:
        raise TypeError(f"from_torch: expected a torch.nn.Module or a state_dict, got {type(source).__name__}")
    place = _place(mapping, prefix)
    if batch_first is None and mapping is not source:
        batch_first = bool(getattr(source.get_submodule(place.removesuffix(".")), "batch_first", False))
    parameters = {name: _array(value) for name, value in names.within(mapping, place).items()}
    return names.lstm(parameters, Options(backend, num_threads, dtype, batch_first))


def _place(mapping: Iterable[str], prefix: str | None) -> str:
    """What stands before the names of one LSTM, dot included: "" or "encoder.".

    Without a prefix, there must be one LSTM and nothing else.
    """
    mapping = list(mapping)
    found = names.prefixes(mapping)
    places = ", ".join(repr(place.removesuffix(".")) for place in found) or "none"
    if prefix is None:
        if not found:
            raise ValueError(f"no LSTM: expected names such as weight_ih_l0, got {names.some(mapping)}")
        others = [name for name in mapping if names.prefix_of(name) != found[0]]
        if others:
            raise ValueError(
                f"expected one LSTM and nothing else, got also {names.some(others)}; choose with prefix=, one of "
                f"{places}"
            )
        return found[0]
    place = f"{prefix}." if prefix and not prefix.endswith(".") else prefix
    if not any(name.startswith(place) for name in mapping):
        raise ValueError(f"prefix {place!r}: no such names; LSTMs are under: {places}")
    return place


def _array(value: Any) -> Array:
    """A tensor as a NumPy array; bfloat16, which NumPy does not have, becomes float32."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = value.float() if str(value.dtype) == "torch.bfloat16" else value
    return np.asarray(value)
