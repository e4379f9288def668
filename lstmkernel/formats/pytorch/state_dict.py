"""The network in a state_dict: its layers, found by their names and shapes, and the chain that they form.

A state_dict tells neither how layers are connected nor what is between them. So several layers count as one network
only if they can hardly be anything else: LSTMs, each as wide as the next one expects, and at most one Linear, at the
end.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise, permutations
from typing import NamedTuple

from lstmkernel.backends.packing import Array
from lstmkernel.formats import build, describe
from lstmkernel.formats.contract import Options
from lstmkernel.formats.inspection import Contents, LoadableNetwork, Tensor
from lstmkernel.formats.pytorch import names
from lstmkernel.lstm import LSTM
from lstmkernel.stack import Stack

#: Among more LSTMs than this, no order is looked for: there are too many to try.
MOST_WITHOUT_ORDER = 6

#: Names of what weights are computed from, as torch.nn.utils gives them: weight norm, spectral norm, pruning.
_COMPUTED = re.compile(
    r"(?:.*\.)?(?:parametrizations\.(?:weight|bias)_[ih][hr].*"
    r"|(?:weight|bias)_[ih][hr](?:_l\d+(?:_reverse)?)?_(?:g|v|orig|mask|u|raw))"
)


class Group(NamedTuple):
    """The tensors directly under one prefix."""

    place: str  # the prefix with its dot, or ""
    tensors: dict[str, Tensor]  # by their own names
    kind: str  # "LSTM", "Linear" or "" for anything else
    widths: tuple[int, int]  # of input and output; (0, 0) for what cannot be loaded
    description: str

    @property
    def prefix(self) -> str:
        return self.place.removesuffix(".")


def load(
    tensors: Sequence[Tensor],
    read: Callable[[Tensor], Array],
    prefix: str | None,
    options: Options,
    ordered: bool = True,
) -> LSTM | Stack:
    """The network behind a prefix; only its tensors are read.

    ``ordered`` says that the tensors stand in the order of the layers. Otherwise only the layers' widths tell it.
    """
    chosen = _chain(_groups(_behind(tensors, prefix)), ordered)
    values = [{name: read(tensor) for name, tensor in group.tensors.items()} for group in chosen]
    options = options.or_else(build.dtype_of(value for arrays in values for value in arrays.values()))
    layers = [
        names.lstm(arrays, options)
        if group.kind == "LSTM"
        else build.dense(arrays["weight"], arrays.get("bias"), "linear", options)
        for group, arrays in zip(chosen, values, strict=True)
    ]
    return layers[0] if len(layers) == 1 and isinstance(layers[0], LSTM) else Stack(layers)


def contents(name: str, tensors: list[Tensor], others: list[str]) -> Contents:
    """What ``inspect`` returns for a file of that format; ``others`` are names of what is not a tensor."""
    notes = [f"not tensors: {', '.join(others[:20])}"] if others else []
    return Contents(name, tensors, networks(tensors), notes)


def networks(tensors: Sequence[Tensor], ordered: bool = True) -> list[LoadableNetwork]:
    """What ``load`` can give: the whole, what is under a first name such as "state_dict", and each single LSTM."""
    groups = _groups(tensors)
    wholes = {"": groups}
    for group in groups:
        if "." in group.prefix:
            wholes.setdefault(group.prefix.split(".", 1)[0], []).append(group)
    found = {}
    for prefix, inside in wholes.items():
        try:
            chain = _chain(inside, ordered)
        except ValueError:
            continue
        found[prefix] = LoadableNetwork(prefix, describe.chain(group.description for group in chain))
    for group in groups:
        if group.kind == "LSTM":
            found.setdefault(group.prefix, LoadableNetwork(group.prefix, group.description))
    return list(found.values())


def _behind(tensors: Sequence[Tensor], prefix: str | None) -> list[Tensor]:
    place = f"{prefix}." if prefix and not prefix.endswith(".") else prefix or ""
    inside = [tensor for tensor in tensors if tensor.name.startswith(place)]
    if not inside and place:
        raise ValueError(f"prefix {place!r}: no such names; {_places(_groups(tensors))}")
    computed = next((tensor.name for tensor in inside if _COMPUTED.fullmatch(tensor.name)), None)
    if computed:
        raise ValueError(
            f"{computed}: expected the weights themselves, got what weight norm, spectral norm or pruning computes "
            "them from; undo that (torch.nn.utils.remove_weight_norm, parametrize.remove_parametrizations, "
            "prune.remove) and save again"
        )
    return inside


def _groups(tensors: Iterable[Tensor]) -> list[Group]:
    """Tensors by their prefixes, in order."""
    groups: dict[str, dict[str, Tensor]] = {}
    for tensor in tensors:
        place, dot, name = tensor.name.rpartition(".")
        groups.setdefault(place + dot, {})[name] = tensor
    return [_group(place, inside) for place, inside in groups.items()]


def _group(place: str, tensors: dict[str, Tensor]) -> Group:
    if names.prefixes(tensors):
        try:
            shape = names.shape_of(names.numbered(tensors)).checked()
        except ValueError as error:
            return Group(place, tensors, "LSTM", (0, 0), f"no LSTM that can be loaded: {error}")
        widths = (shape.input_size, shape.directions * shape.output_size)
        return Group(place, tensors, "LSTM", widths, describe.layer("LSTM", shape._asdict()))
    weight, bias = tensors.get("weight"), tensors.get("bias")
    if weight and len(weight.shape) == 2 and tensors.keys() <= {"weight", "bias"} and 0 not in weight.shape:
        O, K = weight.shape
        if bias is None or bias.shape == (O,):
            config = {"in_features": K, "out_features": O, "bias": bias is not None}
            return Group(place, tensors, "Linear", (K, O), describe.layer("Linear", config))
    return Group(place, tensors, "", (0, 0), names.some(tensors))


def _chain(groups: list[Group], ordered: bool) -> list[Group]:
    """The layers from first to last, or an error that says why they are no chain and what to choose."""
    lstms = [group for group in groups if group.kind == "LSTM"]
    heads = [group for group in groups if group.kind == "Linear"]
    if not lstms:
        got = names.some(group.place + name for group in groups for name in group.tensors)
        raise ValueError(f"no LSTM: expected names such as weight_ih_l0, got {got}")
    if len(groups) == 1:
        return groups  # building it says whatever is wrong with it
    others = [group for group in groups if group.widths == (0, 0)]
    if others or len(heads) > 1:
        raise ValueError(
            f"expected one LSTM, or LSTMs and a last Linear, got also {_some(others or heads)}; choose with prefix=; "
            f"{_places(groups)}"
        )
    if ordered:
        orders = [groups] if _fits(groups) and heads in ([], groups[-1:]) else []
    elif len(lstms) <= MOST_WITHOUT_ORDER:
        orders = [list(order) for order in permutations(lstms) if _fits([*order, *heads])]
        orders = [[*order, *heads] for order in orders]
    else:
        orders = []
    if len(orders) != 1:
        chain = "each layer as wide as the next one expects, a Linear last"
        expected = chain if ordered else f"one order of the layers, which the file does not tell, with {chain}"
        raise ValueError(f"expected {expected}, got {_some(groups)}; choose with prefix=; {_places(groups)}")
    return orders[0]


def _fits(groups: list[Group]) -> bool:
    return all(below.widths[1] == above.widths[0] for below, above in pairwise(groups))


def _some(groups: list[Group]) -> str:
    return ", ".join(f"{group.prefix or 'the rest'} ({group.description})" for group in groups[:6])


def _places(groups: list[Group]) -> str:
    return f"LSTMs are under: {names.some(repr(group.prefix) for group in groups if group.kind == 'LSTM')}"
