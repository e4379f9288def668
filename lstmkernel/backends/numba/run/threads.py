"""One call on several Python threads: kernels hold no GIL, so rows and directions run side by side.

Numba's own threads are never started: they break on fork, and a program may have chosen some for itself. A thread runs
a task of the call, with a workspace of its own. No two tasks share a sum, so results are bit-identical.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import NamedTuple

from lstmkernel.backends.numba.run import cost
from lstmkernel.host import cores

#: A task has at least MIN_ROWS_PER_TASK rows. From ROUND_ROWS_FROM rows on, they are a multiple of ROUND_ROWS, because
#: rows may be lanes of vectors (kernels/transposed.py).
MIN_ROWS_PER_TASK, ROUND_ROWS_FROM, ROUND_ROWS = 4, 64, 16


class Task(NamedTuple):
    """Some of a network's layers, directions and rows: of each the first, and the last + 1."""

    layer: int
    layers: int
    direction: int
    directions: int
    row: int
    rows: int


def divide(layers: int, directions: int, rows: int, work_ns: float, threads: int) -> list[list[Task]]:
    """The rounds of a call, one after the other; the tasks of a round may run at once. One task if more do not pay."""
    if threads == 1 or work_ns < cost.MIN_SHARED_NS:
        return [[Task(0, layers, 0, directions, 0, rows)]]
    shares = _shares(rows, min(threads, rows // MIN_ROWS_PER_TASK))
    if directions == 1 or len(shares) >= threads:
        return [[Task(0, layers, 0, directions, *share) for share in shares]]
    # A layer needs both directions of the one below.
    sides = range(directions)
    return [
        [Task(layer, layer + 1, side, side + 1, *share) for share in shares for side in sides]
        for layer in range(layers)
    ]


def _shares(rows: int, count: int) -> list[tuple[int, int]]:
    if count <= 1:
        return [(0, rows)]
    size = -(-rows // count)
    if size >= ROUND_ROWS_FROM:
        size = -(-size // ROUND_ROWS) * ROUND_ROWS
    return [(first, min(first + size, rows)) for first in range(0, rows, size)]


_pool: ThreadPoolExecutor | None = None
_making = threading.Lock()


def _forget_pool() -> None:
    """A child of fork has none of its parent's threads."""
    global _pool, _making
    _pool, _making = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)


def run(calls: list[Callable[[], None]]) -> None:
    """All calls. The calling thread runs the first one, and then those that no other thread has begun by then."""
    futures: list[Future[None] | None] = []
    try:
        for call in calls[1:]:
            futures.append(_submit(call))  # noqa: PERF401 - one by one: an interrupt must find those that were begun
        calls[0]()
        for call, future in zip(calls[1:], futures, strict=True):
            if future is None or future.cancel():
                call()
    finally:
        _settle([future for future in futures if future is not None])


def _settle(futures: list[Future[None]]) -> None:
    """Wait until none of them runs: an interrupt must not leave while arrays are written."""
    interrupt = None
    for future in futures:
        while not (future.cancel() or future.done()):
            try:
                wait([future])
            except KeyboardInterrupt as error:  # noqa: PERF203 - that is the point
                interrupt = error
    if interrupt:
        raise interrupt
    for future in futures:
        if not future.cancelled():
            future.result()


def _submit(call: Callable[[], None]) -> Future[None] | None:
    global _pool
    with _making:
        if _pool is None:
            _pool = ThreadPoolExecutor(max(1, cores.available() - 1), "lstmkernel")
    try:
        return _pool.submit(call)
    except RuntimeError:  # the interpreter is about to end
        return None
