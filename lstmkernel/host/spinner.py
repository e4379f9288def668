"""A progress spinner on stderr while something is compiled, if stderr is a terminal."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

#: Seconds before the spinner appears.
PATIENCE = 1.0

_silent = threading.local()


def on_a_terminal() -> bool:
    """Whether stderr is a terminal. Programs may close it, or replace it by an object without isatty."""
    try:
        return bool(sys.stderr.isatty())
    except (AttributeError, ValueError):
        return False


@contextmanager
def silenced() -> Iterator[None]:
    """No spinner inside the block, on this thread: for code that has its own progress bar."""
    before, _silent.on = getattr(_silent, "on", False), True
    try:
        yield
    finally:
        _silent.on = before


@contextmanager
def spinning(what: str) -> Iterator[None]:
    """Show ``what`` on stderr, if it is a terminal, once the block has taken PATIENCE seconds."""
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
