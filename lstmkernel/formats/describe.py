"""Networks in words, for ``lstmkernel.inspect`` and ``lstmkernel info FILE``: the same words for every format."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from lstmkernel.cell import LSTMCell
from lstmkernel.dense import Dense
from lstmkernel.lstm import LSTM
from lstmkernel.stack import Stack
from lstmkernel.variant import Variant


def network(net: LSTM | LSTMCell | Dense | Stack) -> str:
    layers = net.layers if isinstance(net, Stack) else (net,)
    return chain((layer(type(each).__name__, each.config()) for each in layers), getattr(net, "skip", 0))


def chain(layers: Iterable[str], skip: Any = 0) -> str:
    """Layers that were described, one after the other; ``skip`` is that of their Stack."""
    return ", then ".join(layers) + (f"; skip {skip}" if skip else "")


def layer(kind: str, config: Mapping[str, Any]) -> str:
    """For example "LSTM 40 -> 64, 2 layers" or "Dense 64 -> 5, sigmoid", from what ``config()`` gives for a layer.

    The mapping may come from a file and hold anything: a description checks nothing.
    """
    if kind in ("Dense", "Linear"):
        activation = config.get("activation", "linear")
        words = [f"{kind} {config.get('in_features')} -> {config.get('out_features')}"]
        words += [] if activation == "linear" else [f"{activation}"]
    else:
        layers, projection = config.get("num_layers", 1), config.get("proj_size", 0)
        words = [f"{kind} {config.get('input_size')} -> {config.get('hidden_size')}"]
        words += [] if layers == 1 else [f"{layers} layers"]
        words += [f"projected to {projection}"] if projection else []
        words += ["both directions"] if config.get("bidirectional") else []
        words += ["reverse"] if config.get("reverse") else []
        words += [f"expects {expects}"] if (expects := config.get("expects")) else []
        words += ["initial state"] if config.get("initial_state") else []
        words += _by_layer("weights", config.get("precision")) + _by_layer("activations", config.get("activations"))
        words += _variant(config.get("variant"))
    words += [] if config.get("bias") else ["no bias"]
    return ", ".join(words)


def _by_layer(what: str, value: Any) -> list[str]:
    """For example "int8 weights"; where layers differ, "weights int8 float32 by layer"."""
    if not value:
        return []
    if not isinstance(value, list | tuple):
        return [f"{value} {what}"]
    return [f"{what} {' '.join('-' if each is None else str(each) for each in value)} by layer"]


def _variant(variant: Any) -> list[str]:
    """What differs from the plain LSTM, by the names of Variant's arguments."""
    given = variant.to_dict() if isinstance(variant, Variant) else variant
    if not isinstance(given, Mapping):
        return [] if given is None else [f"variant {given}"]
    plain = Variant().to_dict()
    words = {name: _value(value) for name, value in given.items() if _value(value) != _value(plain.get(name))}
    return [name if word == "True" else f"{name} {word}" for name, word in words.items()]


def _value(value: Any) -> str:
    """Lists without commas, which stand between the words: "sigmoid elu(1) tanh"."""
    if not isinstance(value, list | tuple):
        return f"{value:g}" if isinstance(value, float) else str(value)
    return " ".join(
        f"{each[0]}({' '.join(map(_value, each[1:]))})" if isinstance(each, list | tuple) and each else str(each)
        for each in value
    )
