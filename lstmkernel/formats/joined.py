"""Parts of a network, each loaded by itself, one after the other in a Stack: ``prefix=`` as a list, modules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from lstmkernel.dense import Dense
from lstmkernel.formats.contract import AnyNetwork, Options, Prefix
from lstmkernel.lstm import LSTM
from lstmkernel.stack import Stack


def checked(prefix: Prefix) -> str | list[str] | None:
    """The prefix, or TypeError or ValueError that says what it can be."""
    if prefix is None or isinstance(prefix, str):
        return prefix
    parts = list(prefix)
    if not all(isinstance(part, str) for part in parts):
        raise TypeError(f"prefix: expected a string or a list of strings, got {parts!r}")
    if not parts:
        raise ValueError("prefix: expected at least one, got an empty list")
    return parts


def load(
    one: Callable[[str | None, Options], AnyNetwork], prefix: str | list[str] | None, options: Options
) -> AnyNetwork:
    """What ``one`` gives for a prefix that was checked; for a list of them, all layers as one Stack."""
    if not isinstance(prefix, list):
        return one(prefix, options)
    options = options._replace(prefixes=tuple(prefix))
    return chain([(f"prefix {part!r}", partial(one, part)) for part in prefix], options)


def chain(parts: Sequence[tuple[str, Callable[[Options], AnyNetwork]]], options: Options) -> AnyNetwork:
    """What the functions give, one after the other. A name stands before each, for errors."""
    nets = [load_part(options) for _, load_part in parts]
    if options.dtype is None and len({net.dtype for net in nets}) > 1:
        nets = [load_part(options._replace(dtype=np.float32)) for _, load_part in parts]
    layers: list[LSTM | Dense] = []
    for (name, _), net in zip(parts, nets, strict=True):
        if not isinstance(net, LSTM | Dense | Stack) or (isinstance(net, Stack) and net.skip):
            raise ValueError(f"{name}: expected layers that can stand in a Stack, got {net!r}")
        layers += net.layers if isinstance(net, Stack) else [net]
    return layers[0] if len(layers) == 1 else Stack(layers)
