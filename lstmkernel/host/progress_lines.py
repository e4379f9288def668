"""Lines on stderr that say how far long work is, where no terminal shows a bar: in the log of a build, for example."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from time import monotonic

from lstmkernel.host.plain_text import plain

#: Seconds from one line to the next, and before the first one.
APART = 10.0


@contextmanager
def lines(what: Callable[[], str]) -> Iterator[None]:
    """Say every APART seconds what ``what()`` gives, and for how long the block has run."""
    running = threading.Lock()  # no Event: Ctrl-C inside of its methods can leave it locked
    running.acquire()
    thread = threading.Thread(target=_say, args=(what, running), daemon=True)
    try:
        with suppress(RuntimeError):  # the system refuses a thread
            thread.start()
        yield
    finally:
        running.release()
        if thread.is_alive():
            thread.join()


def _say(what: Callable[[], str], running: threading.Lock) -> None:
    """Until ``running`` is released."""
    begin = monotonic()
    while not running.acquire(timeout=APART):
        line = plain(f"{what()} ({monotonic() - begin:.0f} s so far)")
        with suppress(AttributeError, OSError, ValueError):  # stderr may be closed, or be anything, or None
            sys.stderr.write(f"{line}\n")
            sys.stderr.flush()
