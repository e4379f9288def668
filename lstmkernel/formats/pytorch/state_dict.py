"""The network in a state_dict: its layers, found by their names and shapes.

A state_dict tells neither how layers are connected nor what is between them: ``assumed_chain.py`` has the rule.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property, partial
from itertools import pairwise, product, takewhile
from typing import NamedTuple

from lstmkernel.backends.packing import Array
from lstmkernel.dense import Dense
from lstmkernel.engine.precision import FLOAT32, INT8, SCALE
from lstmkernel.formats import assumed_chain, assumptions, build, describe
from lstmkernel.formats.assumed_chain import Part
from lstmkernel.formats.contract import Options
from lstmkernel.formats.inspection import Contents, LoadableNetwork, Tensor
from lstmkernel.formats.pytorch import computed, modules, names
from lstmkernel.formats.pytorch.weights import Weight, problem_of
from lstmkernel.lstm import LSTM
from lstmkernel.stack import Stack

#: What to do with an object of a program.
WHERE_IT_IS = "where the program is, torch.save(model.state_dict(), path)"


class Group(NamedTuple):
    """The tensors directly under one prefix."""

    place: str  # the prefix with its dot, or ""
    weights: dict[str, Weight]  # by their own names
    kind: str  # "LSTM", "Linear" or "" for anything else
    widths: tuple[int, int]  # of input and output
    description: str
    problem: str  # why it cannot be loaded, or ""
    precision: str | list[str] = ""  # of an LSTM that was quantized: "int8" or "float16"; a list where layers differ

    @property
    def prefix(self) -> str:
        return self.place.removesuffix(".")


def of_tensors(tensors: Sequence[Tensor], read: Callable[[Tensor], Array]) -> list[Weight]:
    """The tensors of a file as weights that ``read`` reads."""
    return [Weight(tensor.name, tensor.shape, tensor.dtype, partial(read, tensor)) for tensor in tensors]


def load(
    weights: Sequence[Weight], prefix: str | None, options: Options, ordered: bool = True, hidden: Sequence[str] = ()
) -> LSTM | Dense | Stack:
    """The network behind a prefix; only its tensors are read.

    ``ordered`` says that the weights stand in the order of the layers. Otherwise only the layers' widths tell it.
    ``hidden`` are objects of other programs that have tensors in them, for the error where nothing else is found.
    """
    groups = _Groups(computed.resolved(weights), options)
    try:
        if len(options.prefixes) > 1 and options.prefixes[0] == prefix:
            groups.tell_of_list(options.prefixes, ordered)
        chosen = groups.chosen(prefix, ordered)
    except ValueError as error:
        raise ValueError(f"{error}{_hint(hidden)}") from None
    values = [{name: weight.read() for name, weight in group.weights.items()} for group in chosen]
    options = options.or_else(build.dtype_of(value for arrays in values for value in arrays.values()))
    return build.chain(
        [
            names.lstm(arrays, options, precision=group.precision)
            if group.kind == "LSTM"
            else build.dense(arrays["weight"], arrays.get("bias"), "linear", options)
            for group, arrays in zip(chosen, values, strict=True)
        ]
    )


def contents(
    name: str, tensors: list[Tensor], weights: Sequence[Weight], others: Sequence[str] = (), ordered: bool = True
) -> Contents:
    """What ``inspect`` returns for a file of that format; ``others`` are names of what is not a tensor."""
    found, notes = networks(weights, ordered)
    beside = [f"not tensors: {', '.join(others[:20])}"] if others else []
    return Contents(name, tensors, found, [*beside, *notes, *_untold(found)])


def _untold(found: Sequence[LoadableNetwork]) -> list[str]:
    """What no state_dict says, and what ``load`` takes then, as a note."""
    kinds = {kind for network in found for kind in ("LSTM", "Linear") if kind in network.description}
    untold = ["batch_first (load takes False: x is (T, B, I))"] if "LSTM" in kinds else []
    untold += ["the activation behind a Linear (load takes none)"] if "Linear" in kinds else []
    return [f"the file does not say {', nor '.join(untold)}"] if untold else []


def networks(weights: Sequence[Weight], ordered: bool = True) -> tuple[list[LoadableNetwork], list[str]]:
    """What ``load`` can give, and in sentences what it would have to assume and what it would refuse.

    These are the whole, what is under a first name such as "state_dict", and each layer.
    """
    groups = _Groups(computed.resolved(weights), Options())
    found: dict[str, LoadableNetwork] = {}
    with assumptions.collected() as told:
        for prefix in groups.wholes() if groups.layers() else []:
            try:
                chain = groups.chosen(prefix, ordered)
            except ValueError:
                continue
            found[prefix] = LoadableNetwork(prefix, describe.chain(group.description for group in chain))
    refused = []
    for group in groups.layers():
        name = groups.name_of(group)
        if group.problem:
            refused.append(f"{name or 'the whole file'}: {group.description}")
        else:
            found.setdefault(name, LoadableNetwork(name, group.description))
    whole = any(", then " in network.description for network in found.values())
    return list(found.values()), [*told, *refused, *([] if whole else _row(groups)), *_batch_norms(groups)]


def parts(weights: Sequence[Weight]) -> list[str]:
    """The prefixes of the LSTMs and Linears that ``load`` takes."""
    groups = _Groups(weights, Options())
    return [groups.name_of(group) for group in groups.layers() if not group.problem]


def _row(groups: _Groups) -> list[str]:
    """A note: how to load an LSTM with the Linear behind it, if two of them fit."""
    layers = [group for group in groups.layers() if not group.problem]
    for below, above in product(layers, layers):
        if (below.kind, above.kind) == ("LSTM", "Linear") and below.widths[1] == above.widths[0]:
            lstm, head = groups.name_of(below), groups.name_of(above)
            return [
                f"a list of prefixes loads its parts one after the other, for example prefix={[lstm, head]}; on the "
                f"command line, --prefix {lstm} --prefix {head}"
            ]
    return []


def _batch_norms(groups: _Groups) -> list[str]:
    """A note: what no list of prefixes applies, though the model may have it between the parts."""
    found = [group.prefix for group in groups.every() if _is_batch_norm(group)]
    if not found or not groups.layers():
        return []
    return [f"{names.some(found)}: a BatchNorm, which is not loaded; {modules.WITHOUT_BATCH_NORM}"]


def _is_batch_norm(group: Group) -> bool:
    return {"running_mean", "running_var"} <= group.weights.keys()


def _without_batch_norm(groups: Sequence[Group]) -> str:
    """What to do with a BatchNorm that was asked for."""
    if not any(map(_is_batch_norm, groups)):
        return ""
    return f": a BatchNorm; {modules.WITHOUT_BATCH_NORM}"


def _hint(hidden: Sequence[str]) -> str:
    if not hidden:
        return ""
    return (
        f"; there are tensors in {names.some(hidden)}: what is in an object of a program is not read, for nothing in a "
        f"file is executed or imported; {WHERE_IT_IS}"
    )


class _Groups:
    """The groups of a state_dict, in its order."""

    def __init__(self, weights: Sequence[Weight], options: Options) -> None:
        inside: dict[str, dict[str, Weight]] = {}
        for weight in weights:
            place = names.prefix_of(weight.name)
            if place is None:
                place = weight.name[: weight.name.rfind(".") + 1]
            inside.setdefault(place, {})[weight.name[len(place) :]] = weight
        self._groups = {place: _group(place, weights, options) for place, weights in inside.items()}
        self._sorted = sorted(self._groups)  # what begins alike stands side by side
        self._order = {place: number for number, place in enumerate(self._groups)}

    def every(self) -> list[Group]:
        return list(self._groups.values())

    def wholes(self) -> list[str]:
        """Prefixes that may be a network of several layers: nothing, and first names."""
        firsts = (place.split(".", 1)[0] for place in self._groups)
        return list(dict.fromkeys(["", *(first for first in firsts if first)]))

    def layers(self) -> list[Group]:
        """Each LSTM and, where there is one, each Linear."""
        lstms = [group for group in self._groups.values() if group.kind == "LSTM"]
        heads = [group for group in self._groups.values() if group.kind == "Linear" and not group.problem]
        heads = [group for group in heads if not assumed_chain.looks_embedded(_part(group.prefix, group))]
        return lstms + heads if lstms or self._is_linear else []

    @property
    def _is_linear(self) -> bool:
        """Whether all is one Linear. A matrix alone, without a bias, may be anything."""
        group = next(iter(self._groups.values()), None)
        return len(self._groups) == 1 and group is not None and group.kind == "Linear" and "bias" in group.weights

    def name_of(self, group: Group) -> str:
        """The prefix that picks this group alone: with a dot at the end where others are below it."""
        return group.prefix if self._below(group.place) == [group] else group.place or "."

    def chosen(self, prefix: str | None, ordered: bool) -> list[Group]:
        """The layers that ``load`` is asked for, from first to last; ValueError where they cannot be loaded."""
        groups = self._behind(prefix)
        if len(groups) == 1 and groups[0].kind == "Linear" and (prefix or self._is_linear):
            _check_head(groups[0])
        elif len(groups) > 1 or not groups or groups[0].kind != "LSTM":
            groups = self._chain(groups, ordered)
        for group in groups:
            if group.problem:
                raise ValueError(group.problem)
            for weight in group.weights.values():
                if weight.assumed:
                    assumptions.assume(weight.assumed)
            if INT8 in group.precision and not any(weight.precision for weight in group.weights.values()):
                assumptions.assume(
                    "the file does not say what its 8-bit weights are multiplied by: activations='int16'"
                )
        return groups

    def tell_of_list(self, prefixes: Sequence[str], ordered: bool) -> None:
        """A word about what a list of prefixes leaves out: what the file has between its parts, and activations.

        Where the file has no order, a part of the model may be anywhere beside them.
        """
        parts = [group for prefix in prefixes for group in self._behind(prefix)]
        taken = {part.place for part in parts}
        numbers = [self._order[place] for place in taken]
        beside = self._below(_common([part.prefix.split(".")[:-1] for part in parts]))
        if ordered:
            beside = [group for group in beside if min(numbers) < self._order[group.place] < max(numbers)]
        left_out = [group.prefix or "the rest" for group in beside if group.place not in taken]
        if left_out:
            assumptions.assume(
                f"{list(prefixes)} run one after the other; left out is what the file has "
                f"{'between' if ordered else 'beside'} them: {names.some(left_out)}"
            )
        for below, above in pairwise(parts):
            if below.kind == above.kind == "Linear":
                assumptions.assume(
                    f"nothing is computed between the Linears {below.prefix!r} and {above.prefix!r}; an activation "
                    "there is not in the file, but from_torch takes it from a list of modules"
                )

    def _behind(self, prefix: str | None) -> list[Group]:
        """What is at a prefix and below it; with a dot at its end only what is at it, if anything is."""
        if not prefix:
            return list(self._groups.values())
        exact = "" if prefix == "." else prefix
        if prefix.endswith(".") and exact in self._groups:
            return [self._groups[exact]]
        place = prefix if prefix.endswith(".") else f"{prefix}."
        found = self._below(place)
        if not found:
            raise ValueError(f"prefix {place!r}: no such names; {self._places}")
        return found

    def _below(self, place: str) -> list[Group]:
        begin = end = bisect_left(self._sorted, place)
        while end < len(self._sorted) and self._sorted[end].startswith(place):
            end += 1
        return [self._groups[name] for name in sorted(self._sorted[begin:end], key=self._order.__getitem__)]

    def _chain(self, groups: list[Group], ordered: bool) -> list[Group]:
        lstms = [group for group in groups if group.kind == "LSTM"]
        if not lstms:
            got = names.some(group.place + name for group in groups for name in group.weights)
            raise ValueError(f"no LSTM: expected names such as weight_ih_l0, got {got}{_without_batch_norm(groups)}")
        problem = next((group.problem for group in lstms if group.problem), None)
        if problem:
            raise ValueError(problem)
        heads = [group for group in groups if group.kind == "Linear" and not group.problem]
        others = [group for group in groups if group.problem or not group.kind]
        parts = {self.name_of(group): group for group in groups}
        as_parts = {name: _part(name, group) for name, group in parts.items()}
        embedded = [group for name, group in parts.items() if assumed_chain.looks_embedded(as_parts[name])]
        odd = others or (heads if len(heads) > 1 else embedded)
        if odd:
            raise ValueError(
                f"expected one LSTM, or LSTMs and a last Linear, got also {_some(odd)}; choose with prefix=; "
                f"{self._places}"
            )
        return [parts[part.name] for part in assumed_chain.ordered(list(as_parts.values()), ordered)]

    @cached_property
    def _places(self) -> str:
        layers = self.layers()
        lstms, heads = (
            [repr(self.name_of(group)) for group in layers if group.kind == kind] for kind in ("LSTM", "Linear")
        )
        linears = f", Linears under: {names.some(heads)}; a list of prefixes loads one after the other"
        return f"LSTMs are under: {names.some(lstms)}{linears if heads else ''}"


def _common(paths: Sequence[Sequence[str]]) -> str:
    """The names with which all paths begin, each with its dot."""
    same = takewhile(lambda names: len(set(names)) == 1, zip(*paths, strict=False))
    return "".join(f"{names[0]}." for names in same)


def _part(name: str, group: Group) -> Part:
    shapes = tuple(sorted((own, weight.shape) for own, weight in group.weights.items()))
    return Part(
        name, group.description, group.kind == "LSTM", group.widths, (group.kind, *shapes), "bias" in group.weights
    )


def _check_head(group: Group) -> None:
    """A matrix alone is a Linear without a bias, or an Embedding: only names tell, if anything."""
    part = _part(group.prefix, group)
    if assumed_chain.looks_embedded(part):
        raise ValueError(
            f"{group.place}weight: expected a Linear, got what its name says is an Embedding; else rename it"
        )
    if not part.bias:
        assumptions.assume(f"{group.place}weight: taken for a Linear without bias; an Embedding looks the same")


def _group(place: str, weights: dict[str, Weight], options: Options) -> Group:
    if any(names.prefix_of(name) == "" for name in weights):
        scaled = {name for name, weight in weights.items() if weight.dtype == INT8 and name + SCALE in weights}
        plain = {name: weight for name, weight in weights.items() if name.removesuffix(SCALE) not in scaled}
        try:
            shape = names.checked_shape({**plain, **{name: weights[name] for name in scaled}}, options)
        except (ValueError, TypeError) as error:
            unread = {name: weight for name, weight in weights.items() if weight.problem}
            problem = _first_problem(place, unread) or str(error)
            return Group(place, weights, "LSTM", (0, 0), f"no LSTM that can be loaded: {problem}", problem)
        told = {name: weight for name, weight in weights.items() if name in plain or weight.problem}
        problem = _first_problem(place, told)
        if problem:
            return Group(place, weights, "LSTM", (0, 0), f"no LSTM that can be loaded: {problem}", problem)
        widths = (shape.input_size, shape.directions * shape.output_size)
        precision = _precision(weights, scaled, shape.num_layers)
        words = describe.layer("LSTM", {**shape._asdict(), "precision": precision})
        return Group(place, weights, "LSTM", widths, words, "", precision)
    weight, bias = weights.get("weight"), weights.get("bias")
    if weight and weights.keys() <= {"weight", "bias"}:
        problem = _first_problem(place, weights)
        if problem:
            return Group(place, weights, "Linear", (0, 0), names.some(weights), problem)
        if len(weight.shape) == 2 and 0 not in weight.shape and (bias is None or bias.shape == weight.shape[:1]):
            O, K = weight.shape
            config = {"in_features": K, "out_features": O, "bias": bias is not None}
            return Group(place, weights, "Linear", (K, O), describe.layer("Linear", config), "")
    return Group(place, weights, "", (0, 0), names.some(weights), "not a layer that lstmkernel has")


def _precision(weights: Mapping[str, Weight], scaled: Iterable[str], num_layers: int) -> str | list[str]:
    """Of an LSTM. scaled: the names of matrices of integers that have scales."""
    of_integers = {names.layer_of(name) for name in scaled}
    if not of_integers:
        return next((weight.precision for weight in weights.values()), "")
    by_layer = [INT8 if layer in of_integers else FLOAT32 for layer in range(num_layers)]
    return by_layer if FLOAT32 in by_layer else INT8


def _first_problem(place: str, weights: Mapping[str, Weight]) -> str:
    found = ((name, problem_of(weight)) for name, weight in weights.items())
    return next((f"{place[-100:]}{name[:100]}: {problem}" for name, problem in found if problem), "")


def _some(groups: list[Group]) -> str:
    return ", ".join(f"{group.prefix[:100] or 'the rest'} ({group.description[:500]})" for group in groups[:6])
