"""Notes of a network in a file that ``save`` wrote: told again by ``load`` and ``inspect``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from lstmkernel.engine.notes import GIVES, Notes


def of_config(config: Any) -> Notes:
    """The notes among the entries of an LSTM's ``config()`` as a file has it, which may be anything."""
    found = config if isinstance(config, Mapping) else {}
    return Notes(found.get("gives"), found.get("sample_rate"), found.get("certificate")).checked()


def first(notes: Iterable[Notes]) -> Notes:
    """What the first layers that say something say."""
    gives, rate, certificate = None, None, None
    for each in notes:
        gives, rate = gives or each.gives, rate or each.sample_rate
        certificate = certificate or each.certificate
    return Notes(gives, rate, certificate)


def in_words(notes: Notes) -> list[str]:
    """Sentences for ``inspect``."""
    words = [GIVES[notes.gives]] if notes.gives else []
    words += [f"made for a sample rate of {notes.sample_rate:g} Hz"] if notes.sample_rate else []
    if found := notes.certificate:
        error = f"rms {found.out.rms:.2g}, largest {found.out.largest:.2g}, on {found.measured} steps"
        words.append(f"certificate: error of out against float64: {error}; net.certificate has all of it")
    return words
