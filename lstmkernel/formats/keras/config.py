"""Which layers a Keras model has and how they are connected, from the JSON that Keras 2 and 3 write."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any, NamedTuple

#: Modules of Keras's own classes. A class of any other module is a user's, even if it has the name of a Keras class.
_KERAS = re.compile(r"(tf_)?keras(\.|$)")

RECURRENT = ("LSTM", "CuDNNLSTM", "Bidirectional")
WRAPPERS = ("Bidirectional", "TimeDistributed")


class KerasLayer(NamedTuple):
    """A layer: its name, its class, its constructor's arguments, and its group in the .weights.h5 of Keras 3."""

    name: str
    kind: str
    config: dict[str, Any]
    stored: str = ""

    def __str__(self) -> str:
        return f"layer {short(self.name)} ({self.kind[:80]})"

    @property
    def inside(self) -> KerasLayer:
        """The layer inside a wrapper (Bidirectional, TimeDistributed); any other layer itself."""
        return _layer(self.config.get("layer"), f"{self}: layer") if self.kind in WRAPPERS else self

    def with_option(self, name: str, value: Any) -> KerasLayer:
        """The same layer with another value of an option; of a wrapper, the option of the layer inside."""
        if self.kind not in WRAPPERS:
            return self._replace(config={**self.config, name: value})
        inside = self.inside.with_option(name, value)
        return self._replace(config={**self.config, "layer": {**self.config["layer"], "config": inside.config}})

    @property
    def backward(self) -> KerasLayer | None:
        """A Bidirectional's layer for the other direction, if the file has it."""
        written = self.config.get("backward_layer")
        return None if written is None else _layer(written, f"{self}: backward_layer")


def chain(model: dict[str, Any]) -> list[KerasLayer]:
    """The layers from input to output; a model that is no single chain is refused."""
    kind, found = _kind(model, "model"), layers(model)
    if kind == "Sequential":
        return found
    if kind not in ("Functional", "Model"):  # Keras before 2.4 wrote Model
        raise ValueError(f"model: expected a Sequential or a Functional one, got {kind[:80]}")
    config = _mapping(model.get("config"), "model")
    return _functional(found, config)


def layers(model: dict[str, Any]) -> list[KerasLayer]:
    """All layers in the order in which Keras lists and saves them."""
    config = model.get("config")
    # Keras before 2.2.3 wrote a Sequential's config as the list of its layers.
    listed = config if isinstance(config, list) else _mapping(config, "model").get("layers")
    if not isinstance(listed, list) or not listed:
        kind = str(model.get("class_name"))[:80]
        raise ValueError(f"model: expected a list of layers in the config of {kind}, got {short(listed)}")
    found, met = [], Counter[str]()
    for i, description in enumerate(listed):
        layer = _layer(description, f"layer {i}")
        snake = snake_case(layer.kind)
        found.append(layer._replace(stored=f"{snake}_{met[snake]}" if met[snake] else snake))
        met[snake] += 1
    twice = [name for name, times in Counter(layer.name for layer in found).items() if times > 1]
    if twice:
        raise ValueError(f"model: two layers with the name {short(twice[0])}")
    return found


def snake_case(name: str) -> str:
    """The name of a class's group, by Keras 3's rule: "TimeDistributed" -> "time_distributed", "LSTM" -> "lstm"."""
    name = re.sub(r"\W+", "", name)
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def _layer(description: Any, what: str) -> KerasLayer:
    description = _mapping(description, what)
    kind = _kind(description, what)
    config = _mapping(description.get("config"), f"{what}: config")
    name = config.get("name", description.get("name"))
    if not isinstance(name, str):
        raise ValueError(f"{what}: expected a name, got {short(name)}")
    return KerasLayer(name, kind, config)


def _kind(description: dict[str, Any], what: str) -> str:
    kind, module = description.get("class_name"), description.get("module")
    if not isinstance(kind, str):
        raise ValueError(f"{what}: expected a class_name, got {short(kind)}")
    foreign = module is not None and not (isinstance(module, str) and _KERAS.match(module))
    registered = description.get("registered_name")
    if foreign or registered not in (None, kind):
        raise ValueError(f"{what}: expected one of Keras's own classes, got {short(module or registered)}: {kind[:80]}")
    return kind


# ---------------------------------------------------------------- functional models


def _functional(found: list[KerasLayer], config: dict[str, Any]) -> list[KerasLayer]:
    """The layers of a Functional model, found from the output back to the input."""
    by_name = {layer.name: layer for layer in found}
    sources = {
        layer.name: _source(description, layer) for layer, description in zip(found, config["layers"], strict=True)
    }
    outputs = {name for name, _ in _ends(config.get("output_layers"), "output_layers")}
    if len(outputs) != 1:
        raise ValueError(f"model: expected one output, got {short(sorted(outputs)) if outputs else 'none'}")
    path: dict[str, KerasLayer] = {}
    name: str | None = outputs.pop()
    while name is not None:
        if name not in by_name:
            raise ValueError(f"model: expected a layer of the name {short(name)}, got none")
        if name in path:
            raise ValueError(f"{by_name[name]}: expected a chain of layers, got a layer that feeds itself")
        path[name] = by_name[name]
        name = sources[name]
    beside = [layer for layer in found if layer.name not in path]
    if beside:
        raise ValueError(f"model: expected one chain of layers, but {beside[0]} does not lead to the output")
    return list(path.values())[::-1]


def _source(description: dict[str, Any], layer: KerasLayer) -> str | None:
    """The one layer that feeds this one; None for an input."""
    nodes = description.get("inbound_nodes")
    if not isinstance(nodes, list):
        raise ValueError(f"{layer}: expected inbound_nodes, got {short(nodes)}")
    if not nodes and layer.kind == "InputLayer":
        return None
    if len(nodes) != 1:
        raise ValueError(f"{layer}: expected to be called once, got {len(nodes)} calls")
    sources = _keras_3_call(nodes[0], layer) if isinstance(nodes[0], dict) else _keras_2_call(nodes[0], layer)
    if len(sources) != 1:
        raise ValueError(f"{layer}: expected one input, got {len(sources)}; give initial states to each call instead")
    name, part = sources[0]
    if part:
        raise ValueError(f"{layer}: expected the output of {short(name)}, got its state {part}")
    return name


def _keras_2_call(node: Any, layer: KerasLayer) -> list[tuple[str, int]]:
    """From [["lstm", 0, 0, {}]]: a layer, the number of its call, the number of its output, the arguments."""
    if not isinstance(node, list):
        raise ValueError(f"{layer}: expected a list of inputs, got {short(node)}")
    sources = []
    for entry in node:
        match entry:
            case [str(name), 0, int(part)]:
                pass
            case [str(name), 0, int(part), dict(arguments)]:
                _check_arguments(arguments, layer)
            case _:
                raise ValueError(f"{layer}: expected an input such as ['lstm', 0, 0, {{}}], got {short(entry)}")
        sources.append((name, part))
    return sources


def _keras_3_call(node: dict[str, Any], layer: KerasLayer) -> list[tuple[str, int]]:
    """From the arguments of a call: all of them must be tensors."""
    _check_arguments(_mapping(node.get("kwargs", {}), f"{layer}: kwargs"), layer)
    sources = []
    arguments = node.get("args") or []
    if not isinstance(arguments, list):
        raise ValueError(f"{layer}: expected a list of arguments, got {short(arguments)}")
    for argument in arguments:
        match argument:
            case {"class_name": "__keras_tensor__", "config": {"keras_history": [str(name), 0, int(part)]}}:
                sources.append((name, part))
            case _:
                raise ValueError(f"{layer}: expected a tensor as its argument, got {short(argument)}")
    return sources


def _check_arguments(arguments: dict[str, Any], layer: KerasLayer) -> None:
    """Arguments change what a layer does: training=True turns dropout on, a mask or a state comes from elsewhere."""
    for name, value in arguments.items():
        if value is not None and not (name == "training" and value is False):
            raise ValueError(f"{layer}: expected a call without {name[:80]}, got {name[:80]} = {short(value)}")


def _ends(ends: Any, what: str) -> list[tuple[str, int]]:
    """From ["lstm", 0, 0], or a list or an object of such."""
    if isinstance(ends, dict):
        ends = list(ends.values())
    if isinstance(ends, list) and ends and isinstance(ends[0], str):
        ends = [ends]
    found = []
    for end in ends if isinstance(ends, list) else []:
        match end:
            case [str(name), 0, int(part)]:
                found.append((name, part))
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
