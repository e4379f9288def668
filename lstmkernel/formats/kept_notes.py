"""Notes of a network in a file that ``save`` wrote: told again by ``load`` and ``inspect``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from lstmkernel.engine.chain import Chain
from lstmkernel.engine.notes import GIVES, Notes
from lstmkernel.model import Model


def of_config(config: Any) -> Notes:
    """The notes among the entries of an LSTM's ``config()`` as a file has it, which may be anything."""
    found = config if isinstance(config, Mapping) else {}
    return Notes(**{name: found.get(name) for name in Notes._fields}).checked()


def of_net(net: Model) -> Notes:
    """The notes of a network in memory."""
    return first(network.options.notes for network in Chain.of(net.engine).networks)


def first(notes: Iterable[Notes]) -> Notes:
    """What the first layers that say something say."""
    found = Notes()
    for each in notes:
        found = Notes(found.gives or each.gives, found.sample_rate or each.sample_rate, found.sound or each.sound)
    return found


def in_words(notes: Notes) -> list[str]:
    """Sentences for ``inspect``."""
    words = [GIVES[notes.gives]] if notes.gives else []
    if notes.sample_rate:
        return [*words, f"made for a sample rate of {notes.sample_rate:g} Hz"]
    return [*words, "made for sound; the sample rate is not said"] if notes.sound else words
