"""Keras's activations: those of an LSTM, that of a Dense, and those that are a layer after a Dense."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lstmkernel.backends.contract import DENSE_ACTIVATIONS
from lstmkernel.formats.keras.config import RECURRENT, KerasLayer, short
from lstmkernel.variant import Activation, Variant

#: Layers that are an activation and nothing else.
LAYERS = ("Activation", "Softmax")

#: Keras's activations that an LSTM can have in lstmkernel. hard_sigmoid differs between Keras 2 (backend.py) and
#: Keras 3 (activations/activations.py: relu6(x + 3) / 6).
_OF_LSTM: dict[str, Activation] = {
    **{name: name for name in ("tanh", "sigmoid", "relu", "linear", "softsign", "softplus")},
    "elu": ("elu", 1.0),
}
_HARD_SIGMOID: dict[int, Activation] = {2: ("hard_sigmoid", 0.2, 0.5), 3: ("hard_sigmoid", 1 / 6, 0.5)}


def of_lstm(layer: KerasLayer, version: tuple[int, int], given: str | None) -> Variant | None:
    """None for the plain LSTM. ``given`` is the recurrent activation that ``load`` was asked for.

    A file of weights alone does not say it. Then Keras's default is assumed, but before 2.3 there were two of them.
    """
    known = {**_OF_LSTM, "hard_sigmoid": _HARD_SIGMOID[version[0]]}
    stated = layer.config.get("recurrent_activation", "sigmoid" if layer.kind == "CuDNNLSTM" else None)
    if stated is not None and given is not None and given != stated:
        raise ValueError(f"{layer}: recurrent_activation: expected {short(stated)}, as the file says, got {given!r}")
    chosen = given if stated is None else stated
    if chosen is None and version < (2, 3):
        raise ValueError(
            f"{layer}: weights alone of Keras {version[0]}.{version[1]}: the file does not say which activation the "
            "gates had, and before Keras 2.3 there were two defaults; give recurrent_activation='hard_sigmoid', that "
            "of Keras itself, or recurrent_activation='sigmoid', that of tf.keras in TensorFlow 2 and of CuDNN"
        )

    def activation(option: str, value: Any) -> Activation:
        return known[_checked(layer, option, value, known)]

    gates = activation("recurrent_activation", "sigmoid" if chosen is None else chosen)
    other = activation("activation", layer.config.get("activation", "tanh"))
    return Variant.of(Variant(activations=(gates, other, other)))


def of_dense(layer: KerasLayer) -> str:
    """The activation of a Dense or of an Activation layer, also inside TimeDistributed."""
    return _checked(layer, "activation", layer.inside.config.get("activation", "linear"), tuple(DENSE_ACTIVATIONS))


def folded(below: Sequence[KerasLayer], layer: KerasLayer) -> list[KerasLayer]:
    """The layers ``below``, the activation layer joined to the last of them, which must be a linear Dense."""
    name = "softmax" if layer.inside.kind == "Softmax" else of_dense(layer)
    if name == "linear":
        return [*below]
    if not below or below[-1].inside.kind != "Dense":
        got = below[-1] if below else "none"
        raise ValueError(f"{layer}: expected a linear Dense right below it, got {got}")
    top = below[-1]
    if of_dense(top) != "linear":
        raise ValueError(f"{layer}: expected a linear Dense right below it, got {top} with {of_dense(top)}")
    if layer.inside.kind == "Softmax":
        _check_axis(layer, below)
    return [*below[:-1], top.with_option("activation", name)]


def _check_axis(layer: KerasLayer, below: Sequence[KerasLayer]) -> None:
    """A Softmax must be over the last axis: the third one of a sequence, the second one of a single step."""
    recurrent = [other.inside for other in below if other.kind in RECURRENT]
    steps = bool(recurrent) and recurrent[-1].config.get("return_sequences", True)
    last = 2 if steps and layer.kind == "Softmax" else 1  # inside TimeDistributed, it sees one step at a time
    axis = layer.inside.config.get("axis", -1)
    if axis != -1 and not (recurrent and axis == last):
        raise ValueError(f"{layer}: axis: expected -1, the last one, got {short(axis)}")


def _checked(layer: KerasLayer, option: str, value: Any, known: Sequence[str] | dict[str, Activation]) -> str:
    name = _name_of(value)
    if name not in known:
        raise ValueError(f"{layer}: {option}: expected one of {', '.join(known)}, got {short(name)}")
    return name


def _name_of(activation: Any) -> str:
    """The activation's name. A user's function is stored as a mapping, whose name only serves the message."""
    if activation is None:
        return "linear"
    if isinstance(activation, dict):
        activation = activation.get("registered_name") or activation.get("class_name")
        return f"{activation} (not a name)"
    return activation if isinstance(activation, str) else f"{activation} (not a name)"
