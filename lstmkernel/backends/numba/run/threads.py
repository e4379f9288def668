"""One call on several Python threads: kernels hold no GIL, so rows and directions run side by side.

Numba's own threads are never started: they break on fork, and a program may have chosen some for itself. A thread runs
a task of the call, with a workspace of its own. No two tasks share a sum, so results are bit-identical.

The helpers are threads that wait for jobs. A signal handler may raise between any two lines of the calling thread, and
then the call must not return while a helper writes to the caller's arrays. So the calling thread holds no lock and
waits for no Python object. It drops the tasks that nobody has begun and waits in machine code (settle.py), where no
handler runs. Each of the two is one call of C, and ``finally`` comes to both whatever is raised.
"""

from __future__ import annotations

import os
from _thread import start_new_thread
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import SimpleQueue
from typing import NamedTuple

import numpy as np

from lstmkernel.backends.numba.arrays import address
from lstmkernel.backends.numba.run import cost
from lstmkernel.backends.numba.run.settle import settle
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


class _Job:
    """The tasks of one call. Whoever is free takes the next one."""

    def __init__(self, calls: Sequence[Callable[[], None]], helpers: int) -> None:
        self.left = deque(calls)
        self.errors: list[BaseException] = []
        #: Of each helper: 1 from before it takes its first task until after its last one.
        self.running = np.zeros(helpers, np.uint8)

    def run(self) -> None:
        """The tasks that are left."""
        while True:
            try:
                call = self.left.popleft()
            except IndexError:
                return
            call()

    def help(self, helper: int) -> None:
        """``run``, on a helper's thread."""
        self.running[helper] = 1
        try:
            self.run()
        except BaseException as error:  # the caller raises it
            self.errors.append(error)
        finally:
            self.running[helper] = 0


#: What helpers are given: a job, and the helper's place in it. ``put`` may be called again in the middle of itself, by
#: a signal handler; a queue.Queue would wait for its own lock.
_jobs: SimpleQueue[tuple[_Job, int]] = SimpleQueue()
_started = 0
#: One byte that changes in a child of fork.
_forks = np.zeros(1, np.uint8)


def _forget_helpers() -> None:
    """A child of fork has none of its parent's threads."""
    global _jobs, _started
    _jobs, _started = SimpleQueue(), 0
    _forks[0] ^= 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_helpers)


def run(calls: Sequence[Callable[[], None]]) -> None:
    """All calls, on this thread and on helpers. It returns or raises when none of them runs any more."""
    wait, helpers = settle(), _helpers(len(calls) - 1)
    job, jobs, forks = _Job(calls, helpers), _jobs, int(_forks[0])
    running = address(job.running), helpers, address(_forks), forks
    drop = job.left.clear
    try:
        for helper in range(helpers):
            jobs.put((job, helper))
        job.run()
    finally:
        try:
            drop()
        finally:
            wait(*running)
    if job.errors:
        raise job.errors[0]
    if forks != _forks[0] and job.running.any():
        raise RuntimeError("a signal handler forked inside of this call: the child lacks the threads that had begun it")


def _helpers(wanted: int) -> int:
    """How many helpers there are, of so many; those that are missing are started."""
    global _started
    most = min(wanted, cores.available() - 1)
    while _started < most:
        try:
            start_new_thread(_serve, (_jobs,))
        except RuntimeError:  # the system refuses, or the interpreter is about to end
            break
        _started += 1
    return min(most, _started)


def _serve(jobs: SimpleQueue[tuple[_Job, int]]) -> None:
    """A helper's life."""
    while True:
        with suppress(MemoryError):
            job, helper = jobs.get()
            job.help(helper)
            del job  # it keeps the arrays of its tasks' errors
