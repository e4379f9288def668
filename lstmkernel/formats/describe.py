"""Networks in words, for ``lstmkernel.inspect`` and ``lstmkernel info FILE``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: Between the layers of a chain.
THEN = ", then "


def of_layer(kind: str, config: Mapping[str, Any]) -> str:
    """As "LSTM 40 -> 64, 2 layers" or "Dense 64 -> 5, sigmoid", from a layer's ``config()``.

    It may come from a file, with anything in it: words are no checks.
    """
    if kind == "Dense":
        activation = config.get("activation")
        words = [f"Dense {config.get('in_features')} -> {config.get('out_features')}"]
        words += [] if activation == "linear" else [f"{activation}"]
    else:
        layers, projection = config.get("num_layers", 1), config.get("proj_size", 0)
        words = [f"{kind} {config.get('input_size')} -> {config.get('hidden_size')}"]
        words += [] if layers == 1 else [f"{layers} layers"]
        words += [f"projected to {projection}"] if projection else []
        words += ["both directions"] if config.get("bidirectional") else []
        words += ["initial state"] if config.get("initial_state") else []
    words += [] if config.get("bias") else ["no bias"]
    return ", ".join(words)


def of_skip(skip: Any) -> str:
    """A Stack's, behind its layers."""
    return f"; skip {skip}" if skip else ""
