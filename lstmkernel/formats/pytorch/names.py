"""LSTMs under PyTorch's parameter names, in a state_dict of any framework's arrays."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import DTypeLike

from lstmkernel.backends.packing import Array
from lstmkernel.engine.parameters import LSTMShape
from lstmkernel.lstm import LSTM

#: "encoder.weight_ih_l0_reverse" -> prefix "encoder.", then the parameter's own name. LSTMCell has no "_l0".
_NAME = re.compile(
    r"(?P<prefix>(?:.*\.)?)(?P<kind>weight_ih|weight_hh|bias_ih|bias_hh|weight_hr)"
    r"(?:_l(?P<layer>\d+)(?P<reverse>_reverse)?)?"
)


Named = TypeVar("Named")


class Shaped(Protocol):
    """An array, or what is known of one."""

    @property
    def shape(self) -> tuple[int, ...]: ...


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

    ``prefix`` picks one LSTM out of several, and the options are those of ``load``; ``batch_first`` is by default the
    module's own. PyTorch itself is not imported.
    """
    if isinstance(source, Mapping):
        mapping = source
    elif callable(getattr(source, "state_dict", None)) and callable(getattr(source, "get_submodule", None)):
        mapping = source.state_dict()
    else:
        raise TypeError(f"from_torch: expected a torch.nn.Module or a state_dict, got {type(source).__name__}")
    place = locate(mapping, prefix)
    if batch_first is None and mapping is not source:
        batch_first = bool(getattr(source.get_submodule(place.removesuffix(".")), "batch_first", False))
    options: dict[str, Any] = {"backend": backend, "num_threads": num_threads}
    if dtype is not None:
        options["dtype"] = dtype
    if batch_first is not None:
        options["batch_first"] = batch_first
    return lstm({name: _array(value) for name, value in within(mapping, place).items()}, options)


def locate(names: Iterable[str], prefix: str | None) -> str:
    """What stands before the names of one LSTM, dot included: "" or "encoder.".

    Without a prefix, there must be one LSTM and nothing else.
    """
    names = list(names)
    found = prefixes(names)
    places = ", ".join(repr(place.removesuffix(".")) for place in found) or "none"
    if prefix is None:
        if not found:
            raise ValueError(f"no LSTM: expected names such as weight_ih_l0, got {some(names)}")
        strangers = [name for name in names if _prefix(name) != found[0]]
        if strangers:
            raise ValueError(f"not one LSTM alone, but also {some(strangers)}; choose with prefix=, one of {places}")
        return found[0]
    place = f"{prefix}." if prefix and not prefix.endswith(".") else prefix
    if not any(name.startswith(place) for name in names):
        raise ValueError(f"prefix {place!r}: no such names; LSTMs are under: {places}")
    return place


def within(mapping: Mapping[str, Any], place: str) -> dict[str, Any]:
    """The part of a state_dict behind a prefix, by its own names."""
    return {name.removeprefix(place): value for name, value in mapping.items() if name.startswith(place)}


def prefixes(names: Iterable[str]) -> list[str]:
    """Where LSTMs are, each with its dot: "" or "encoder."."""
    return list(dict.fromkeys(prefix for name in names if (prefix := _prefix(name)) is not None))


def lstm(mapping: Mapping[str, Array], options: Mapping[str, Any]) -> LSTM:
    """The LSTM whose parameters are all of ``mapping``, sizes taken from their shapes; options as for ``load``."""
    mapping = numbered(mapping)
    double = all(value.dtype == np.float64 for value in mapping.values())
    defaults = {"batch_first": False, "dtype": "float64" if double else "float32"}
    return LSTM.from_config({**shape_of(mapping)._asdict(), **defaults, **options}, mapping)


def numbered(mapping: Mapping[str, Named]) -> Mapping[str, Named]:
    """The same under an LSTM's names where they are those of an LSTMCell."""
    if {"weight_ih", "weight_hh"} & set(mapping):
        return {f"{name}_l0": value for name, value in mapping.items()}
    return mapping


def shape_of(mapping: Mapping[str, Shaped]) -> LSTMShape:
    """The sizes that a state_dict's names and shapes speak of; whether all of it fits them is checked on loading."""
    matches = [match for name in mapping if (match := _NAME.fullmatch(name))]
    for name in ("weight_ih_l0", "weight_hh_l0"):
        if name not in mapping:
            raise ValueError(f"missing {name}, got {some(mapping)}")
        if len(mapping[name].shape) != 2 or 0 in mapping[name].shape:
            raise ValueError(f"{name}: expected a matrix, got shape {mapping[name].shape}")
    projection = mapping.get("weight_hr_l0")
    rows, R = mapping["weight_hh_l0"].shape
    if rows == 3 * R and projection is None:
        raise ValueError(f"weight_hh_l0: expected shape (4H, H), got {(rows, R)}: three gates, a GRU, not an LSTM")
    if rows % 4 or (projection is None and rows != 4 * R):
        raise ValueError(f"weight_hh_l0: expected shape (4H, H), or (4H, P) beside weight_hr_l0, got {(rows, R)}")
    return LSTMShape(
        input_size=mapping["weight_ih_l0"].shape[1],
        hidden_size=rows // 4,
        num_layers=_layers({int(match["layer"]) for match in matches if match["layer"]}),
        bias="bias_ih_l0" in mapping,
        bidirectional=any(match["reverse"] for match in matches),
        proj_size=0 if projection is None else R,
        initial_state="h_0" in mapping,
    )


def _layers(numbers: set[int]) -> int:
    """How many, where they count from 0 without a gap."""
    for layer in range(len(numbers)):
        if layer not in numbers:
            raise ValueError(
                f"missing weight_ih_l{layer} and weight_hh_l{layer}, got layers {some(map(str, sorted(numbers)))}"
            )
    return len(numbers)


def _prefix(name: str) -> str | None:
    match = _NAME.fullmatch(name)
    return match["prefix"] if match else None


def _array(value: Any) -> Array:
    """A NumPy array of a tensor; bfloat16, which NumPy lacks, is widened."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = value.float() if str(value.dtype) == "torch.bfloat16" else value
    return np.asarray(value)


def some(names: Iterable[str]) -> str:
    """Names for an error's text: six of them, and how many more there are."""
    names = [name if len(name) <= 100 else f"{name[:100]} ..." for name in names]
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "") if names else "nothing"
