"""Which layers a mask reaches: Masking and Embedding(mask_zero=True) make one, most layers hand it on."""

from __future__ import annotations

import re

from lstmkernel.formats.keras import config as keras_config
from lstmkernel.formats.keras.config import FUNCTIONAL, RECURRENT, KerasLayer, KerasModel, short

#: Layers that hand on no mask: steps become others, or end.
_ENDS = re.compile(r"Conv|Pool|Flatten|Reshape|RepeatVector|Permute|Cropping|ZeroPadding|UpSampling")

#: Layers that hand it on if they hand on every step.
_RECURRENT = (*RECURRENT, "GRU", "CuDNNGRU", "SimpleRNN")


def with_masks(part: KerasModel, incoming: bool = False) -> tuple[KerasModel, bool]:
    """The model with ``masked`` set in its layers, and whether a mask comes out of it."""
    if part.kind in FUNCTIONAL:
        reached = _reached(part, incoming)
        made = {name: _handed(inner, reached[name]) for name, inner in keras_config.own_names(part).items()}
        parts = [inner for inner, _ in made.values()]
        masked = any(made[name][1] for name in keras_config.outputs_of(part) if name in made)
        return part._replace(parts=parts), masked
    parts = []
    for inner in part.parts:
        inner, incoming = _handed(inner, incoming)
        parts.append(inner)
    return part._replace(parts=parts), incoming


def in_order(layers: list[KerasLayer]) -> list[KerasLayer]:
    """The same for layers that follow each other."""
    found, incoming = [], False
    for layer in layers:
        found.append(layer._replace(masked=incoming))
        incoming = _hands_on(layer, incoming)
    return found


def source_in_words(layers: list[KerasLayer]) -> str:
    """Where masks come from and how they are computed, as far as the file says."""
    for layer in layers:
        if layer.kind == "Masking":
            value = layer.config.get("mask_value", 0)
            return f"{layer} skips steps where all of x is {short(value)}, so give mask=(x != {short(value)}).any(-1)"
        if _is_masking_embedding(layer):
            return f"{layer} skips steps where its index is 0, so give mask=(indices != 0)"
    return "the model is called with a mask of its own, so give mask="


def _handed(part: KerasLayer | KerasModel, incoming: bool) -> tuple[KerasLayer | KerasModel, bool]:
    if isinstance(part, KerasModel):
        return with_masks(part, incoming)
    return part._replace(masked=incoming), _hands_on(part, incoming)


def _hands_on(layer: KerasLayer, incoming: bool) -> bool:
    if layer.kind == "Masking" or _is_masking_embedding(layer):
        return True
    if _ENDS.search(layer.kind):
        return False
    if layer.kind in _RECURRENT:
        options = layer.config.get("layer") if layer.kind == "Bidirectional" else None
        options = options.get("config") if isinstance(options, dict) else layer.config
        return incoming and isinstance(options, dict) and bool(options.get("return_sequences", True))
    return incoming


def _is_masking_embedding(layer: KerasLayer) -> bool:
    return layer.kind == "Embedding" and bool(layer.config.get("mask_zero", False))


def _reached(part: KerasModel, incoming: bool) -> dict[str, bool]:
    """For each part of a functional model, whether a mask comes in."""
    calls, by_name = keras_config.calls_of(part), keras_config.own_names(part)
    feeds: dict[str, list[str]] = {name: [] for name in by_name}
    for name, call in calls.items():
        for source in call.inputs:
            feeds.get(source, []).append(name)
    reached = {
        name: bool(calls[name].masks) or (incoming and inner.kind == "InputLayer") for name, inner in by_name.items()
    }
    handed: set[str] = set()
    waiting = list(by_name)
    while waiting:
        name = waiting.pop()
        if name in handed or not _handed(by_name[name], reached[name])[1]:
            continue
        handed.add(name)
        for above in feeds[name]:
            reached[above] = True
        waiting += feeds[name]
    return reached
