"""Threads that share a layer, phase by phase: csrc/run/team.c and csrc/kernels/team.h, in a simpler form.

A phase has n blocks, which any thread may compute, because every output is a sum in its own fixed order:

    part = first_part(team, n)
    while part[1] >= 0:
        compute blocks part[0] .. part[1] - 1
        part = next_part(team, n)

After the loop all n blocks are done, by whichever thread, unless the job is over for this thread (is_over): then it
must return at once, and touch none of the job's memory.

The blocks are divided into shares. Each thread owns one in every phase and every call, so that its weights stay in the
cache of its core; a job may have more shares, which nobody owns. A thread claims a share before it computes it: its
own; then those whose owners were late in the phase before, and those that nobody owns; then, after a short wait, any.
So a thread that the system does not run delays the others by no more than the share that it has claimed. A thread that
comes late passes through the phases that it missed.

Phases have numbers that only grow, over all jobs, so nothing has to be reset between two of them.
"""

# mypy: ignore-errors
# Compiled code: its types are Numba's, and inferred.

from __future__ import annotations

import numpy as np
from numba import int64

from lstmkernel.backends.numba.jit import internal, spliced
from lstmkernel.backends.numba.memory import at, pointer
from lstmkernel.backends.numba.run import board as places
from lstmkernel.backends.numba.run.atomics import load, replace, spin, store

#: Turns of waiting before a thread takes over the share of an owner that was in time before.
PATIENCE = 100

#: ALONE: a kernel that is not in a team has this for one. Numba compiles a function anew for a literal, not for these.
ALONE, ONE = np.int64(0), np.int64(1)


@spliced
def is_alone(team):
    return team == 0


@spliced
def is_over(team):
    return team != 0 and pointer(team, int64)[places.OVER] != 0


@spliced
def rank_of(team):
    return pointer(team, int64)[places.RANK] if team != 0 else 0


@spliced
def first_part(team, n):
    """One thread alone takes all blocks at once."""
    return (0, n) if team == 0 else take(team, n)


@spliced
def next_part(team, n):
    return (0, -1) if team == 0 else take(team, n)


@spliced
def thread_of(board, rank):
    return at(board, places.THREADS + places.THREAD_WORDS * rank)


@spliced
def join(board, board_address, rank, job):
    """The thread becomes one of the job's team."""
    me = thread_of(board, rank)
    me[places.BOARD], me[places.RANK], me[places.OF_JOB] = board_address, rank, job
    me[places.OF_SHARES] = board[places.SHARE_COUNT]
    me[places.PHASE], me[places.WORKING_FOR], me[places.OVER] = board[places.BEFORE], -1, 0


@internal
def begin_phase(me, board):
    """Returns False where it is done already: this thread came late."""
    me[places.PHASE] += 1
    if load(board, places.JOB) != me[places.OF_JOB]:
        me[places.OVER] = 1
    return me[places.OVER] == 0 and load(board, places.DONE) < me[places.PHASE]


@internal
def finish_share(me, board, shares):
    """Whoever finishes the last share tells the others."""
    me[places.WORKING_FOR], phase, count = -1, me[places.PHASE], 0
    while True:
        before = load(board, places.FINISHED)
        counted = before & ((1 << places.COUNT_BITS) - 1)
        count = 1 + (counted if before >> places.COUNT_BITS == phase else 0)
        if replace(board, places.FINISHED, before, (phase << places.COUNT_BITS) + count):
            break
    if count == shares:
        store(board, places.DONE, phase)


@internal
def claim(me, board, share):
    """Returns whether this thread is to compute the share."""
    place, phase = at(board, places.SHARES + places.LINE * share), me[places.PHASE]
    before = load(place, places.CLAIMED)
    if before >= phase or not replace(place, places.CLAIMED, before, phase):
        return False
    if share == me[places.RANK]:
        store(place, places.OWNED, phase)
    me[places.WORKING_FOR] = share
    return True


@internal
def claim_of_others(me, board, shares, only_late):
    for after in range(1, shares + 1):
        share = (me[places.RANK] + after) % shares
        late = load(board, places.SHARES + places.LINE * share + places.OWNED) + 1 < me[places.PHASE]
        if (late or not only_late) and claim(me, board, share):
            return True
    return False


@internal
def wait_for_phase(me, board):
    """A helper that waits says that it touches none of the job's memory, and the caller may leave without it."""
    looks, is_helper = 0, me[places.RANK] != 0
    if is_helper:
        store(me, places.RUNNING, 0)
    while load(board, places.DONE) < me[places.PHASE] and load(board, places.JOB) == me[places.OF_JOB]:
        looks += 1
        spin(looks)
    if is_helper:
        store(me, places.RUNNING, 1)
        if load(board, places.JOB) != me[places.OF_JOB]:
            me[places.OVER] = 1


@internal
def claim_next(me, board, shares):
    """Returns False when all shares are claimed, or the phase is done."""
    if me[places.RANK] < shares and claim(me, board, me[places.RANK]):
        return True
    if claim_of_others(me, board, shares, True):
        return True
    for looks in range(1, PATIENCE):
        if load(board, places.DONE) >= me[places.PHASE]:
            return False
        spin(looks)
    return claim_of_others(me, board, shares, False)


@internal
def take(team, n):
    """The next blocks of n for this thread: (from, to). `to` is -1 when all are done, by whichever thread."""
    me = pointer(team, int64)
    board, shares = pointer(me[places.BOARD], int64), min(me[places.OF_SHARES], n)
    if me[places.OVER] != 0:
        return 0, -1
    if me[places.WORKING_FOR] >= 0:
        finish_share(me, board, shares)
    elif n == 0 or not begin_phase(me, board):
        return 0, -1
    if not claim_next(me, board, shares):
        wait_for_phase(me, board)
        return 0, -1
    share = me[places.WORKING_FOR]
    return n * share // shares, n * (share + 1) // shares
