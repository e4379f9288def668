"""Work that a fork must not cut in two.

A child of fork has only the thread that forked. If another thread was importing a module or compiling at that moment,
the child would find it half done, behind a lock that nobody opens. So a fork waits until such work is done.
"""

from __future__ import annotations

# These two also take a lock before a fork, which whoever imports Numba needs. The hooks of a fork run in the order last
# registered, first run. So they must be registered before ours: ours then waits while no other lock is taken.
import contextlib
import logging  # noqa: F401
import os
import sys
import threading
from typing import Any

#: Held while such work is done. A signal handler may take it again: it runs on the thread that holds it.
whole = threading.RLock()

#: Numba's own lock, which also the user's compiled functions hold.
_NUMBAS = "numba.core.compiler_lock"


def _locks() -> list[Any]:
    """In the order in which threads take them."""
    numbas = getattr(sys.modules.get(_NUMBAS), "global_compiler_lock", None)
    return [whole] if numbas is None else [whole, numbas]


_taken: list[Any] = []


def _before() -> None:
    for lock in _locks():
        lock.acquire()
        _taken.append(lock)


def _after() -> None:
    while _taken:
        with contextlib.suppress(RuntimeError):  # Ctrl-C ended the wait, so another thread has it
            _taken.pop().release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_after, after_in_child=_after)
