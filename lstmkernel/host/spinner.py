"""A sign of life on a terminal while something is compiled, and nothing anywhere else."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

#: Seconds after which one would wonder.
PATIENCE = 1.0

_silent = threading.local()


def on_a_terminal() -> bool:
    """Whether stderr is one: programs close it, and put objects in its place that cannot tell."""
    try:
        return bool(sys.stderr.isatty())
    except (AttributeError, ValueError):
        return False


@contextmanager
def silenced() -> Iterator[None]:
    """For whoever has a progress bar of their own on this thread."""
    before, _silent.on = getattr(_silent, "on", False), True
    try:
        yield
    finally:
        _silent.on = before


@contextmanager
def spinning(what: str) -> Iterator[None]:
    """Say ``what`` on stderr, where that is a terminal, once the block has taken PATIENCE."""
    if getattr(_silent, "on", False) or not on_a_terminal():
        yield
        return
    done = threading.Event()
    thread = threading.Thread(target=_spin, args=(what, done), daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _spin(what: str, done: threading.Event) -> None:
    if done.wait(PATIENCE):
        return
    from rich.console import Console

    with Console(stderr=True).status(what):
        done.wait()
