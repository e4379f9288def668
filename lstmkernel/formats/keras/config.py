"""Which layers a Keras model has and how they are connected, from the JSON that Keras 2 and 3 write.

A model may contain models. Their layers have names such as "encoder/lstm".
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

#: Modules of Keras's own classes. A class of any other module is a user's, even if it has the name of a Keras class.
_KERAS = re.compile(r"(tf_)?keras(\.|$)")

RECURRENT = ("LSTM", "CuDNNLSTM", "RNN", "Bidirectional")
WRAPPERS = ("Bidirectional", "TimeDistributed")

FUNCTIONAL = ("Functional", "Model")  # Keras before 2.4 wrote Model
MODELS = ("Sequential", *FUNCTIONAL)

#: Models in models in models.
MOST_NESTED = 8


class KerasLayer(NamedTuple):
    """A layer: its name, its class, its constructor's arguments, and where its weights are."""

    name: str  # with the names of the models that it is in: "encoder/lstm"
    kind: str
    config: dict[str, Any]
    places: tuple[str, ...] = ()  # the names of the models that it is in and its own
    stored: tuple[str, ...] = ()  # the way to its group in the .weights.h5 of Keras 3: ("layers", "lstm")
    half: int | None = None  # of a Bidirectional's weights: 0 is forward, 1 backward
    masked: bool = False  # whether a mask reaches it

    def __str__(self) -> str:
        return f"layer {short(self.name)} ({self.kind[:80]})"

    @property
    def inside(self) -> KerasLayer:
        """The layer inside a wrapper (Bidirectional, TimeDistributed); any other layer itself."""
        if self.kind not in WRAPPERS:
            return self
        return _layer(self.config.get("layer"), f"{self}: layer")._replace(masked=self.masked)

    def with_option(self, name: str, value: Any) -> KerasLayer:
        """The same layer with another value of an option; of a wrapper, the option of the layer inside."""
        if self.kind not in WRAPPERS:
            return self._replace(config={**self.config, name: value})
        inside = self.inside.with_option(name, value)
        return self._replace(config={**self.config, "layer": {**self.config["layer"], "config": inside.config}})

    @property
    def is_stacked(self) -> bool:
        """Whether it is an RNN of a list of cells."""
        cell = self.config.get("cell")
        return self.kind == "RNN" and (
            isinstance(cell, list) or (isinstance(cell, dict) and cell.get("class_name") == "StackedRNNCells")
        )

    @property
    def cells(self) -> list[KerasLayer]:
        """The cells of an RNN, in Keras's classes of cells; LSTM and CuDNNLSTM are a cell themselves."""
        if self.kind != "RNN":
            return [self]
        cell = self.config.get("cell")
        if not self.is_stacked:
            return [_layer(cell, f"{self}: cell")]
        listed = cell if isinstance(cell, list) else _layer(cell, f"{self}: cell").config.get("cells")
        if not isinstance(listed, list) or not listed:
            raise ValueError(f"{self}: expected a list of cells, got {short(listed)}")
        return [_layer(each, f"{self}: cell {number}") for number, each in enumerate(listed)]

    @property
    def directions(self) -> list[KerasLayer]:
        """The two layers of a Bidirectional, each as a layer of its own: "both.forward" and "both.backward"."""
        forward, written = self.inside, self.config.get("backward_layer")
        if written is None:
            backward = forward.with_option("go_backwards", not forward.config.get("go_backwards", False))
        else:
            backward = _layer(written, f"{self}: backward_layer")
        return [
            layer._replace(
                name=f"{self.name}.{direction}",
                places=self.places,
                stored=(*self.stored[:-1], f"{self.stored[-1]}/{direction}_layer"),
                half=half,
                masked=self.masked,
            )
            for half, (layer, direction) in enumerate([(forward, "forward"), (backward, "backward")])
        ]


class KerasModel(NamedTuple):
    """A model: its name, its class, its layers and models in the order in which Keras lists and saves them."""

    name: str  # "" of the whole
    kind: str
    parts: list[KerasLayer | KerasModel]
    names: list[str]  # of the parts, without those of the models that they are in
    calls: list[Any]  # how each part of a functional model is called: its inbound_nodes
    outputs: Any


def model(description: dict[str, Any]) -> KerasModel:
    """The whole model."""
    return _model(description, (), ())


def layers(part: KerasLayer | KerasModel) -> list[KerasLayer]:
    """All layers, those of models in it, too."""
    if isinstance(part, KerasLayer):
        return [part]
    return [layer for inner in part.parts for layer in layers(inner)]


def models(whole: KerasModel) -> Iterator[KerasModel]:
    """All models in it, without itself."""
    for part in whole.parts:
        if isinstance(part, KerasModel):
            yield part
            yield from models(part)


def chain(part: KerasLayer | KerasModel) -> list[KerasLayer]:
    """The layers from input to output; a model that is no single chain is refused."""
    if isinstance(part, KerasLayer):
        return [part]
    if part.kind not in MODELS:
        raise ValueError(f"model: expected a Sequential or a Functional one, got {part.kind[:80]}")
    parts = part.parts if part.kind == "Sequential" else _path(part)
    if part.name and (states := states_among_outputs(part)):
        raise ValueError(f"{in_words(part)}: expected its output to be that of a layer, got {states}")
    return [layer for inner in parts for layer in chain(inner)]


def states_among_outputs(part: KerasModel) -> str:
    """Which outputs of a functional model are states, which an LSTM with return_state=True gives; "" if none is."""
    ends = _ends(part.outputs, "output_layers") if part.kind in FUNCTIONAL else []
    return ", ".join(f"state {output} of {short(name)}" for name, output in ends if output)[:200]


def of_masks(part: KerasModel) -> set[str]:
    """Names of the layers that compute masks and nothing else. Keras 3 saves such: NotEqual, Any."""
    found: set[str] = set()
    for inner in [part, *models(part)]:
        if inner.kind in FUNCTIONAL:
            found |= _only_for_masks(inner)
    return found


def snake_case(name: str) -> str:
    """The name of a class's group, by Keras 3's rule: "TimeDistributed" -> "time_distributed", "LSTM" -> "lstm"."""
    name = re.sub(r"\W+", "", name)
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


# ---------------------------------------------------------------- layers and models


def _model(description: dict[str, Any], places: tuple[str, ...], stored: tuple[str, ...]) -> KerasModel:
    if len(places) > MOST_NESTED:
        raise ValueError(f"model: expected models within models {MOST_NESTED} deep at most, got more")
    kind, config = _kind(description, "model"), description.get("config")
    # Keras before 2.2.3 wrote a Sequential's config as the list of its layers.
    listed = config if isinstance(config, list) else _mapping(config, "model").get("layers")
    if not isinstance(listed, list) or not listed:
        raise ValueError(f"model: expected a list of layers in the config of {kind[:80]}, got {short(listed)}")
    parts, names, met = list[KerasLayer | KerasModel](), list[str](), Counter[str]()
    for i, inner in enumerate(listed):
        inner = _mapping(inner, f"layer {i}")
        inner_kind, name = _kind(inner, f"layer {i}"), _name(inner, f"layer {i}")
        snake = snake_case(inner_kind)
        own = (*stored, "layers", f"{snake}_{met[snake]}" if met[snake] else snake)
        met[snake] += 1
        names.append(name)
        path = (*places, name)
        if inner_kind in MODELS:
            parts.append(_model(inner, path, own))
        else:
            parts.append(_layer(inner, f"layer {i}")._replace(name="/".join(path), places=path, stored=own))
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise ValueError(f"model: two layers with the name {short(twice[0])}")
    calls = [inner.get("inbound_nodes") for inner in listed]
    outputs = config.get("output_layers") if isinstance(config, dict) else None
    return KerasModel("/".join(places), kind, parts, names, calls, outputs)


def _layer(description: Any, what: str) -> KerasLayer:
    description = _mapping(description, what)
    kind = _kind(description, what)
    return KerasLayer(_name(description, what), kind, _mapping(description.get("config"), f"{what}: config"))


def _name(description: dict[str, Any], what: str) -> str:
    config = description.get("config")
    name = config.get("name") if isinstance(config, dict) else None
    name = description.get("name") if name is None else name
    if name is None and isinstance(config, list):
        return ""  # a Sequential before Keras 2.2.3
    if not isinstance(name, str):
        raise ValueError(f"{what}: expected a name, got {short(name)}")
    return name


def _kind(description: dict[str, Any], what: str) -> str:
    """The class. One that is not Keras's own has its module before it, so that it equals none of Keras's."""
    kind, module = description.get("class_name"), description.get("module")
    if not isinstance(kind, str):
        raise ValueError(f"{what}: expected a class_name, got {short(kind)}")
    registered = description.get("registered_name")
    keras_module = isinstance(module, str) and _KERAS.match(module) is not None
    if registered is None and (module is None or keras_module):
        return kind
    if registered == kind and keras_module:
        return kind
    return f"{str(module or registered)[:40]}:{kind[:40]}"


# ---------------------------------------------------------------- functional models


class Call(NamedTuple):
    """Which parts feed a part, by their names: with their output, and with a mask."""

    inputs: list[str]
    masks: list[str]


def calls_of(part: KerasModel) -> dict[str, Call]:
    """For each part of a functional model, all that is mentioned in its calls; nothing is checked."""
    return {name: _mentioned(nodes) for name, nodes in zip(part.names, part.calls, strict=True)}


def outputs_of(part: KerasModel) -> list[str]:
    """The names of the parts that give a functional model's outputs."""
    return list(dict.fromkeys(name for name, _ in _ends(part.outputs, "output_layers")))


def own_names(part: KerasModel) -> dict[str, KerasLayer | KerasModel]:
    """The parts by their names in the model."""
    return dict(zip(part.names, part.parts, strict=True))


def _path(part: KerasModel) -> list[KerasLayer | KerasModel]:
    """The parts of a functional model, found from the output back to the input."""
    by_name = own_names(part)
    nodes = dict(zip(by_name, part.calls, strict=True))
    outputs = outputs_of(part)
    if len(outputs) != 1:
        raise ValueError(f"model: expected one output, got {short(sorted(outputs)) if outputs else 'none'}")
    path: dict[str, KerasLayer | KerasModel] = {}
    name: str | None = outputs[0]
    while name is not None:
        if name not in by_name:
            raise ValueError(f"model: expected a layer of the name {short(name)}, got none")
        if name in path:
            raise ValueError(f"{in_words(by_name[name])}: expected a chain of layers, got a layer that feeds itself")
        path[name] = by_name[name]
        name = _source(nodes[name], by_name[name])
    masks = _only_for_masks(part)
    beside = [inner for own, inner in by_name.items() if own not in path and inner.name not in masks]
    if beside:
        raise ValueError(
            f"model: expected one chain of layers, but {in_words(beside[0])} does not lead to the output through it"
        )
    return list(path.values())[::-1]


def in_words(part: KerasLayer | KerasModel) -> str:
    return str(part) if isinstance(part, KerasLayer) else f"model {short(part.name)}"


def _only_for_masks(part: KerasModel) -> set[str]:
    """Names of the parts from which masks come, and which feed no output otherwise."""
    calls, by_name = calls_of(part), own_names(part)
    data = _behind(outputs_of(part), {name: call.inputs for name, call in calls.items()})
    masks = [source for name in data for source in calls[name].masks]
    everything = {name: [*call.inputs, *call.masks] for name, call in calls.items()}
    return {by_name[name].name for name in _behind(masks, everything) - data}


def _behind(names: list[str], sources: dict[str, list[str]]) -> set[str]:
    """These names, and all from which they come."""
    found, waiting = set[str](), list(names)
    while waiting:
        name = waiting.pop()
        if name in sources and name not in found:
            found.add(name)
            waiting += sources[name]
    return found


def _mentioned(nodes: Any) -> Call:
    call = Call([], [])
    waiting = [(nodes, call.inputs)]
    while waiting:
        value, found = waiting.pop()
        match value:
            case {"class_name": "__keras_tensor__", "config": {"keras_history": [str(name), *_]}}:
                found.append(name)
            case [str(name), int(), int()]:
                found.append(name)
            case [str(name), int(), int(), dict(arguments)]:
                found.append(name)
                waiting.append((arguments, found))
            case list():
                waiting += [(inner, found) for inner in value]
            case dict():
                waiting += [(inner, call.masks if key == "mask" else found) for key, inner in value.items()]
    return call


def _source(nodes: Any, part: KerasLayer | KerasModel) -> str | None:
    """The one part that feeds this one; None for an input."""
    words = in_words(part)
    if not isinstance(nodes, list):
        raise ValueError(f"{words}: expected inbound_nodes, got {short(nodes)}")
    if not nodes and isinstance(part, KerasLayer) and part.kind == "InputLayer":
        return None
    if len(nodes) != 1:
        raise ValueError(f"{words}: expected to be called once, got {len(nodes)} calls")
    sources = _keras_3_call(nodes[0], words) if isinstance(nodes[0], dict) else _keras_2_call(nodes[0], words)
    if len(sources) != 1:
        raise ValueError(f"{words}: expected one input, got {len(sources)}; this library takes states with each call")
    name, output = sources[0]
    if output:
        raise ValueError(f"{words}: expected the output of {short(name)}, got its state {output}")
    return name


def _keras_2_call(node: Any, words: str) -> list[tuple[str, int]]:
    """From [["lstm", 0, 0, {}]]: a layer, the number of its call, the number of its output, the arguments."""
    if not isinstance(node, list):
        raise ValueError(f"{words}: expected a list of inputs, got {short(node)}")
    sources = []
    for entry in node:
        match entry:
            case [str(name), int(), int(output)]:
                pass
            case [str(name), int(), int(output), dict(arguments)]:
                _check_arguments(arguments, words)
            case _:
                raise ValueError(f"{words}: expected an input such as ['lstm', 0, 0, {{}}], got {short(entry)}")
        sources.append((name, output))
    return sources


def _keras_3_call(node: dict[str, Any], words: str) -> list[tuple[str, int]]:
    """From the arguments of a call: all of them must be tensors."""
    _check_arguments(_mapping(node.get("kwargs", {}), f"{words}: kwargs"), words)
    sources = []
    arguments = node.get("args") or []
    if not isinstance(arguments, list):
        raise ValueError(f"{words}: expected a list of arguments, got {short(arguments)}")
    for argument in arguments:
        match argument:
            case {"class_name": "__keras_tensor__", "config": {"keras_history": [str(name), int(), int(output)]}}:
                sources.append((name, output))
            case _:
                raise ValueError(f"{words}: expected a tensor as its argument, got {short(argument)}")
    return sources


def _check_arguments(arguments: dict[str, Any], words: str) -> None:
    """Arguments change what a layer does: training=True turns dropout on, a state comes from elsewhere."""
    for name, value in arguments.items():
        if value is None or (name == "training" and value is False) or (name == "mask" and _is_tensor(value)):
            continue
        raise ValueError(f"{words}: expected a call without {name[:80]}, got {name[:80]} = {short(value)}")


def _is_tensor(value: Any) -> bool:
    return bool(_mentioned(value).inputs)


def _ends(ends: Any, what: str) -> list[tuple[str, int]]:
    """From ["lstm", 0, 0], or a list or an object of such."""
    if isinstance(ends, dict):
        ends = list(ends.values())
    if isinstance(ends, list) and ends and isinstance(ends[0], str):
        ends = [ends]
    found = []
    for end in ends if isinstance(ends, list) else []:
        match end:
            case [str(name), int(), int(output)]:
                found.append((name, output))
            case _:
                raise ValueError(f"model: {what}: expected an output such as ['lstm', 0, 0], got {short(end)}")
    return found


def _mapping(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{what}: expected a JSON object, got {short(value)}")
    return value


def short(value: Any) -> str:
    """A value in a message; a long one is cut."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]} ..."
