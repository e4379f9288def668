"""One call on several Python threads: kernels hold no GIL, so rows and directions run side by side.

No Numba threading layer is started: those break on fork, and a program that has one for itself keeps it. What a thread
runs is a part of the same call with a workspace of its own; no part shares a sum with another, so the bits stay.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import NamedTuple

from lstmkernel.host import cores

Task = Callable[[], None]

#: Work of a call from where on a second thread pays: to wake one takes some 30 us, and the last one is waited for.
LEAST_NS = 200_000
#: Rows of a thread, at least; and where they are many, in sixteens, for lanes of vectors may be rows.
ROWS_A_THREAD, MANY_ROWS = 4, 64


class Part(NamedTuple):
    """Some of a network's layers, directions and rows: of each the first, and the last + 1."""

    layer: int
    layers: int
    direction: int
    directions: int
    row: int
    rows: int


def divide(layers: int, directions: int, rows: int, work_ns: float, threads: int) -> list[list[Part]]:
    """A call in turns, each of parts that may run at once. Nothing to gain: one turn of one part."""
    if threads == 1 or work_ns < LEAST_NS:
        return [[Part(0, layers, 0, directions, 0, rows)]]
    groups = _groups(rows, min(threads, rows // ROWS_A_THREAD))
    if directions == 1 or len(groups) >= threads:
        return [[Part(0, layers, 0, directions, *group) for group in groups]]
    # A layer needs both directions of the one below.
    sides = range(directions)
    return [
        [Part(layer, layer + 1, side, side + 1, *group) for group in groups for side in sides]
        for layer in range(layers)
    ]


def _groups(rows: int, count: int) -> list[tuple[int, int]]:
    if count <= 1:
        return [(0, rows)]
    size = -(-rows // count)
    if size >= MANY_ROWS:
        size = -(-size // 16) * 16
    return [(first, min(first + size, rows)) for first in range(0, rows, size)]


_pool: ThreadPoolExecutor | None = None
_making = threading.Lock()


def _forget_pool() -> None:
    """A child of fork has none of its parent's threads."""
    global _pool, _making
    _pool, _making = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)


def run(tasks: list[Task]) -> None:
    """All tasks, the first one on the calling thread; so are those that no other thread has begun by then."""
    futures: list[Future[None] | None] = []
    try:
        for task in tasks[1:]:
            futures.append(_submit(task))  # noqa: PERF401 - one by one: an interrupt must find those that were begun
        tasks[0]()
        for task, future in zip(tasks[1:], futures, strict=True):
            if future is None or future.cancel():
                task()
    finally:
        _settle([future for future in futures if future is not None])


def _settle(futures: list[Future[None]]) -> None:
    """None of them runs any more: an interrupt must not leave while arrays are written."""
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


def _submit(task: Task) -> Future[None] | None:
    global _pool
    with _making:
        if _pool is None:
            _pool = ThreadPoolExecutor(max(1, cores.available() - 1), "lstmkernel")
    try:
        return _pool.submit(task)
    except RuntimeError:  # the interpreter is about to end
        return None
