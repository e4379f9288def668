"""The helpers of job.py: Python threads that enter machine code, and do not hold the GIL there.

Numba's own threads are never started: they break on fork, and a program may have chosen some for itself.

A helper that had no job for 0.1 to 0.2 ms sleeps in Python until a caller wakes it. Whether it comes in time does not
matter: a call begins without it, and may end without it. So an exception from a signal handler, which may come between
any two lines here, costs no more than a helper that is woken in vain.
"""

from __future__ import annotations

import atexit
import os
from _thread import start_new_thread
from collections.abc import Callable
from itertools import count
from queue import SimpleQueue
from time import monotonic, perf_counter, sleep

import numpy as np

from lstmkernel.backends.contract import BackendError
from lstmkernel.backends.numba.arrays import address
from lstmkernel.backends.numba.run import board, job
from lstmkernel.backends.packing import Array, empty
from lstmkernel.host import cores

#: Within so many seconds, helpers without a job are asleep.
MOST_SECONDS_TO_SLEEP = 1.0

#: A program is busy where its last call ended less than so many seconds ago: helpers look for jobs for about as long.
BUSY_SECONDS = 0.0002

_board = empty((board.WORDS,), np.int64)
board_address = address(_board)
_running, _awake = (_board[board.THREADS + word :: board.THREAD_WORDS] for word in (board.RUNNING, board.AWAKE))

#: What helpers wait for, by rank. ``put`` may be called again in the middle of itself, by a signal handler; a
#: queue.Queue would wait for its own lock.
_wakes: list[SimpleQueue[None]] = []
#: Ranks of helpers that are yet to come, and how many were started.
_ranks = count(1)
_started = 0
#: When the last call for several threads ended.
_ended = 0.0


def _forget_helpers() -> None:
    """A child of fork has none of its parent's threads."""
    global _wakes, _ranks, _started
    _board[...] = 0
    _wakes, _ranks, _started = [SimpleQueue() for _ in range(board.MOST_THREADS)], count(1), 0


_forget_helpers()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_helpers)


def called(wanted: int, is_long: bool = True) -> int:
    """How many threads a job may have, of so many; its helpers are started, and awake or about to be.

    A helper that sleeps takes a while to wake, and slows the call that wakes it. So it is woken for a long call, or if
    the program is busy: then it is awake for the calls that follow. Any other call has one thread.
    """
    if wanted <= 1 or not (is_long or perf_counter() - _ended < BUSY_SECONDS):
        return 1
    threads = min(wanted, cores.available(), board.MOST_THREADS)
    if threads <= 1:
        return 1
    threads = min(threads, 1 + _start(threads - 1))
    for rank in range(1, threads):
        if not _awake[rank] and _wakes[rank].empty():
            _wakes[rank].put(None)
    return threads


def ended() -> None:
    """A call for several threads has ended."""
    global _ended
    _ended = perf_counter()


def _start(helpers: int) -> int:
    """How many helpers there are, of so many; those that are missing are started."""
    global _started
    try:
        serve = job.serve()  # compiled here, so that no helper has to
    except BackendError:  # in a signal handler, in the middle of another kernel's compilation
        return 0
    while _started < helpers:
        try:
            start_new_thread(_live, (serve, _ranks, _wakes, _board))
        except RuntimeError:  # the system refuses, or the interpreter is about to end
            break
        _started += 1
    return min(helpers, _started)


def _live(
    serve: Callable[[int, int], None], ranks: count[int], wakes: list[SimpleQueue[None]], _keep_alive: Array
) -> None:
    """A helper's life. It takes its rank itself, so that no two have the same."""
    rank = next(ranks)
    while rank < board.MOST_THREADS:
        serve(board_address, rank)
        wakes[rank].get()


@atexit.register
def _leave_machine_code() -> None:
    """Before the interpreter ends, and takes the machine code along."""
    end = monotonic() + MOST_SECONDS_TO_SLEEP
    while _awake.any() and monotonic() < end:
        sleep(0.001)
