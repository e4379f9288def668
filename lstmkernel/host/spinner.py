"""A progress spinner on stderr while something is compiled, if stderr is a terminal; else lines, if they are wanted."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from lstmkernel.host import progress_lines
from lstmkernel.host.plain_text import plain

#: Seconds before the spinner appears.
PATIENCE = 1.0

_silent = threading.local()


def on_a_terminal() -> bool:
    """Whether stderr is a terminal. Programs may close it, or replace it by an object without isatty."""
    try:
        return bool(sys.stderr.isatty())
    except (AttributeError, ValueError):
        return False


def is_silenced() -> bool:
    """Whether this thread is within ``silenced()``."""
    return bool(getattr(_silent, "on", False))


def is_wanted() -> bool:
    """Whether a spinner or a bar may be shown now, on this thread."""
    return not is_silenced() and on_a_terminal()


@contextmanager
def silenced() -> Iterator[None]:
    """No spinner and no bar inside the block, on this thread: for code that has its own progress bar."""
    before, _silent.on = getattr(_silent, "on", False), True
    try:
        yield
    finally:
        _silent.on = before


@contextmanager
def spinning(what: str, lines: bool = False) -> Iterator[None]:
    """Show ``what`` on stderr, if it is a terminal, once the block has taken PATIENCE seconds.

    lines: where stderr is no terminal, say it in lines, a few a minute.
    """
    if lines and not is_silenced() and not on_a_terminal():
        with progress_lines.lines(lambda: what):
            yield
        return
    if not is_wanted():
        yield
        return
    running = threading.Lock()  # no Event: Ctrl-C inside of its methods can leave it locked
    running.acquire()
    thread = threading.Thread(target=_spin, args=(what, running), daemon=True)
    try:
        with suppress(RuntimeError):  # the system refuses a thread
            thread.start()
        yield
    finally:
        running.release()
        if thread.is_alive():
            thread.join()


def _spin(what: str, running: threading.Lock) -> None:
    """Until ``running`` is released."""
    if running.acquire(timeout=PATIENCE):
        return
    from rich.console import Console

    with suppress(OSError, ValueError):  # stderr may be closed meanwhile
        console = Console(stderr=True)
        with console.status(plain(what), spinner="dots" if console.encoding.startswith("utf") else "line"):
            running.acquire()
