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
        found = Notes(*(mine or its for mine, its in zip(found, each, strict=True)))
    return found


def in_words(notes: Notes) -> list[str]:
    """Sentences for ``inspect``."""
    words = [GIVES[notes.gives]] if notes.gives else []
    if notes.sample_rate:
        words.append(f"made for a sample rate of {notes.sample_rate:g} Hz")
    elif notes.sound:
        words.append("made for sound; the sample rate is not said")
    if found := notes.certificate:
        error = f"rms {found.out.rms:.2g}, largest {found.out.largest:.2g}, on {found.measured} steps"
        words.append(f"certificate: error of out against float64: {error}; net.certificate has all of it")
    return words
