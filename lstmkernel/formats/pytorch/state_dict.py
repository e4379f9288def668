"""Networks in a state_dict: which layers its names and shapes speak of, and the chain that they form.

A state_dict tells neither how layers are connected nor what is between them. So a chain is taken for one where it can
hardly be anything else: LSTMs, each as wide as the next one expects, and at most one Linear, which comes last.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise, permutations
from typing import Any, NamedTuple

import numpy as np

from lstmkernel.backends.packing import Array
from lstmkernel.dense import Dense
from lstmkernel.formats import describe
from lstmkernel.formats.inspection import Network, Tensor
from lstmkernel.formats.pytorch import names as torch_names
from lstmkernel.lstm import LSTM
from lstmkernel.stack import Stack

#: An order is looked for among this many LSTMs at most.
MOST_WITHOUT_ORDER = 6

#: What torch.nn.utils makes of weights that are computed from others: weight and spectral norm, pruning.
_COMPUTED = re.compile(
    r"(?:.*\.)?(?:parametrizations\.(?:weight|bias)_[ih][hr].*"
    r"|(?:weight|bias)_[ih][hr](?:_l\d+(?:_reverse)?)?_(?:g|v|orig|mask|u|raw))"
)


class Part(NamedTuple):
    """The tensors directly under one prefix."""

    place: str  # the prefix with its dot, or ""
    tensors: dict[str, Tensor]  # by their own names
    kind: str  # "LSTM", "Linear" or "" for anything else
    widths: tuple[int, int]  # of input and output; (0, 0) where it cannot be loaded
    description: str

    @property
    def prefix(self) -> str:
        return self.place.removesuffix(".")


def load(
    tensors: Sequence[Tensor],
    read: Callable[[Tensor], Array],
    prefix: str | None,
    options: Mapping[str, Any],
    ordered: bool = True,
) -> LSTM | Stack:
    """The network behind a prefix; only its tensors are read.

    ``ordered`` says whether the tensors come in the order of the layers; otherwise only widths can tell it.
    """
    chosen = _chain(_parts(_behind(tensors, prefix)), ordered)
    values = [{name: read(tensor) for name, tensor in part.tensors.items()} for part in chosen]
    double = all(value.dtype == np.float64 for arrays in values for value in arrays.values())
    options = {"dtype": "float64" if double else "float32", **options}
    layers: list[LSTM | Dense] = []
    for part, arrays in zip(chosen, values, strict=True):
        layers.append(torch_names.lstm(arrays, options) if part.kind == "LSTM" else _dense(part, arrays, options))
    return layers[0] if len(layers) == 1 and isinstance(layers[0], LSTM) else Stack(layers)


def networks(tensors: Sequence[Tensor], ordered: bool = True) -> list[Network]:
    """What ``load`` would give: the whole, what is under a first name such as "state_dict", each single LSTM."""
    parts = _parts(tensors)
    wholes = {"": parts}
    for part in parts:
        if "." in part.prefix:
            wholes.setdefault(part.prefix.split(".", 1)[0], []).append(part)
    found = {}
    for prefix, inside in wholes.items():
        try:
            chain = _chain(inside, ordered)
        except ValueError:
            continue
        found[prefix] = Network(prefix, describe.THEN.join(part.description for part in chain))
    for part in parts:
        if part.kind == "LSTM":
            found.setdefault(part.prefix, Network(part.prefix, part.description))
    return list(found.values())


def _behind(tensors: Sequence[Tensor], prefix: str | None) -> list[Tensor]:
    place = f"{prefix}." if prefix and not prefix.endswith(".") else prefix or ""
    inside = [tensor for tensor in tensors if tensor.name.startswith(place)]
    if not inside and place:
        raise ValueError(f"prefix {place!r}: no such names; {_places(_parts(tensors))}")
    computed = next((tensor.name for tensor in inside if _COMPUTED.fullmatch(tensor.name)), None)
    if computed:
        raise ValueError(
            f"{computed}: expected a weight as it is used, got what a weight or spectral norm or pruning computes it "
            "from; undo that (torch.nn.utils.remove_weight_norm, parametrize.remove_parametrizations, prune.remove) "
            "and save again"
        )
    return inside


def _parts(tensors: Iterable[Tensor]) -> list[Part]:
    """Tensors by their prefixes, in order."""
    groups: dict[str, dict[str, Tensor]] = {}
    for tensor in tensors:
        place, dot, name = tensor.name.rpartition(".")
        groups.setdefault(place + dot, {})[name] = tensor
    return [_part(place, group) for place, group in groups.items()]


def _part(place: str, tensors: dict[str, Tensor]) -> Part:
    if torch_names.prefixes(tensors):
        try:
            s = torch_names.shape_of(torch_names.numbered(tensors)).checked()
        except ValueError as error:
            return Part(place, tensors, "LSTM", (0, 0), f"no LSTM that can be loaded: {error}")
        description = describe.of_layer("LSTM", s._asdict())
        return Part(place, tensors, "LSTM", (s.input_size, s.directions * s.output_size), description)
    weight, bias = tensors.get("weight"), tensors.get("bias")
    if weight and len(weight.shape) == 2 and tensors.keys() <= {"weight", "bias"} and 0 not in weight.shape:
        rows, columns = weight.shape
        if bias is None or bias.shape == (rows,):
            return Part(place, tensors, "Linear", (columns, rows), f"Linear {columns} -> {rows}")
    return Part(place, tensors, "", (0, 0), torch_names.some(tensors))


def _chain(parts: list[Part], ordered: bool) -> list[Part]:
    """The parts from first to last, or an error that says why they are no chain and what to choose."""
    lstms = [part for part in parts if part.kind == "LSTM"]
    heads = [part for part in parts if part.kind == "Linear"]
    if not lstms:
        names = [part.place + name for part in parts for name in part.tensors]
        raise ValueError(f"no LSTM: expected names such as weight_ih_l0, got {torch_names.some(names)}")
    if len(parts) == 1:
        return parts  # whatever is wrong with it is said when it is built
    strangers = [part for part in parts if part.widths == (0, 0)]
    if strangers or len(heads) > 1:
        got = ", ".join(f"{part.prefix or 'the rest'} ({part.description})" for part in (strangers or heads)[:6])
        raise ValueError(
            f"not one LSTM alone, nor LSTMs and a last Linear, but also {got}; choose with prefix=; {_places(parts)}"
        )
    if ordered:
        orders = [parts] if _fits(parts) and heads in ([], parts[-1:]) else []
    elif len(lstms) <= MOST_WITHOUT_ORDER:
        orders = [list(order) for order in permutations(lstms) if _fits([*order, *heads])]
        orders = [[*order, *heads] for order in orders]
    else:
        orders = []
    if len(orders) != 1:
        got = ", ".join(f"{part.prefix or 'the rest'} ({part.description})" for part in parts[:6])
        raise ValueError(
            f"expected layers in one order, each as wide as the next one expects, a Linear last, got {got}; "
            f"choose with prefix=; {_places(parts)}"
        )
    return orders[0]


def _fits(parts: list[Part]) -> bool:
    return all(below.widths[1] == above.widths[0] for below, above in pairwise(parts))


def _places(parts: list[Part]) -> str:
    return f"LSTMs are under: {torch_names.some(repr(part.prefix) for part in parts if part.kind == 'LSTM')}"


def _dense(part: Part, arrays: Mapping[str, Array], options: Mapping[str, Any]) -> Dense:
    columns, rows = part.widths
    own = {name: options[name] for name in ("backend", "dtype") if name in options}
    config = {"in_features": columns, "out_features": rows, "activation": "linear", "bias": "bias" in arrays}
    return Dense.from_config({"backend": "auto", **config, **own}, arrays)
