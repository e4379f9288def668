"""What a reader had to assume, because the file does not say it: ``load`` warns of it, ``inspect`` notes it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

_told: ContextVar[list[str] | None] = ContextVar("told", default=None)


def assume(sentence: str) -> None:
    """Tell what was assumed, and how the user can say it instead."""
    told = _told.get()
    if told is not None and sentence not in told:
        told.append(sentence)


@contextlib.contextmanager
def collected() -> Iterator[list[str]]:
    """Within the block, the assumptions of all readers go into this list."""
    told: list[str] = []
    token = _told.set(told)
    try:
        yield told
    finally:
        _told.reset(token)
