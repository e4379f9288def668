"""PyTorch's parameter names: which LSTMs a state_dict holds, and their sizes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from lstmkernel.backends.packing import Array
from lstmkernel.engine.parameters import LSTMShape
from lstmkernel.engine.precision import SCALE
from lstmkernel.formats import build
from lstmkernel.formats.contract import Options
from lstmkernel.formats.inspection import Shaped
from lstmkernel.lstm import LSTM

#: "encoder.weight_ih_l0_reverse": the prefix "encoder.", then the parameter's own name. LSTMCell's lack "_l0".
_NAME = re.compile(
    r"(?P<prefix>(?:.*\.)?)(?P<kind>weight_ih|weight_hh|bias_ih|bias_hh|weight_hr)"
    r"(?:_l(?P<layer>[0-9]{1,6})(?P<reverse>_reverse)?)?",
    re.DOTALL,
)

Named = TypeVar("Named")


def within(mapping: Mapping[str, Any], place: str) -> dict[str, Any]:
    """The entries whose names begin with ``place``, under the rest of their names."""
    return {name.removeprefix(place): value for name, value in mapping.items() if name.startswith(place)}


def prefixes(names: Iterable[str]) -> list[str]:
    """Where LSTMs are, each with its dot: "" or "encoder."."""
    return list(dict.fromkeys(prefix for name in names if (prefix := prefix_of(name)) is not None))


def prefix_of(name: str) -> str | None:
    """What stands before an LSTM's parameter; None for any other name."""
    match = _NAME.fullmatch(name)
    return match["prefix"] if match else None


def layer_of(name: str) -> int:
    """The layer of an LSTM's parameter; 0 for an LSTMCell's."""
    match = _NAME.fullmatch(name)
    return int(match["layer"] or 0) if match else 0


def lstm(
    mapping: Mapping[str, Array], options: Options, plain: bool = False, precision: str | Sequence[str] = ""
) -> LSTM:
    """The LSTM whose parameters are all of ``mapping``; sizes are taken from their shapes.

    ``precision`` is that of weights that were quantized: "int8", with their scales in ``mapping``, or "float16"; or of
    each layer.
    ``plain`` says that the format has only the plain LSTM, so that ``options`` cannot ask for another.
    """
    mapping = numbered(mapping)
    shape = shape_of(mapping)
    shape = options.checked(shape) if plain else options.applied(shape)
    return build.lstm(shape, mapping, options.or_else(build.dtype_of(mapping.values())), precision=precision)


def checked_shape(mapping: Mapping[str, Shaped], options: Options) -> LSTMShape:
    """The shape of an LSTM with exactly these parameters, or ValueError that names what does not fit."""
    mapping = numbered(mapping)
    shape = options.applied(shape_of(mapping))
    if shape.num_layers > len(mapping):
        raise ValueError(f"num_layers: {shape.num_layers} layers, but only {len(mapping)} parameters in all")
    expected = shape.checked().parameters()
    wrong = [f"missing {name}" for name in expected if name not in mapping]
    wrong += [f"superfluous {name[:100]}" for name in mapping if name not in expected]
    wrong += [
        f"{name}: expected shape {extents}, got {mapping[name].shape}"
        for name, extents in expected.items()
        if name in mapping and mapping[name].shape != extents
    ]
    if wrong:
        raise ValueError(f"{some(wrong)}; expected exactly {some(expected)}")
    return shape


def numbered(mapping: Mapping[str, Named]) -> Mapping[str, Named]:
    """The parameters of an LSTMCell under an LSTM's names; those of an LSTM as they are."""
    if {"weight_ih", "weight_hh"} & set(mapping):
        return {
            f"{name.removesuffix(SCALE)}_l0{SCALE if name.endswith(SCALE) else ''}": value
            for name, value in mapping.items()
        }
    return mapping


def shape_of(mapping: Mapping[str, Shaped]) -> LSTMShape:
    """The sizes that the names and shapes of one LSTM tell. Loading checks that every parameter fits them."""
    matches = [match for name in mapping if (match := _NAME.fullmatch(name))]
    for name in ("weight_ih_l0", "weight_hh_l0"):
        if name not in mapping:
            raise ValueError(f"missing {name}, got {some(mapping)}")
        if len(mapping[name].shape) != 2 or 0 in mapping[name].shape:
            raise ValueError(f"{name}: expected a matrix, got shape {mapping[name].shape}")
    projection = mapping.get("weight_hr_l0")
    rows, R = mapping["weight_hh_l0"].shape
    if rows == R and projection is None:
        raise ValueError(f"weight_hh_l0: expected shape (4H, H), got {(rows, R)}: one gate, an RNN, not an LSTM")
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
    """How many layers, whose numbers must count from 0 without a gap."""
    for layer in range(len(numbers)):
        if layer not in numbers:
            raise ValueError(
                f"missing weight_ih_l{layer} and weight_hh_l{layer}, got layers {some(map(str, sorted(numbers)))}"
            )
    return len(numbers)


def some(names: Iterable[str]) -> str:
    """Names in a message: at most six, and how many more there are."""
    names = [name if len(name) <= 100 else f"{name[:100]} ..." for name in names]
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "") if names else "nothing"
