"""How the Numba backend divides a call between threads, the teams that share a layer, and the threads themselves."""

from __future__ import annotations

import os
import signal
import threading
import time
from itertools import product

import numpy as np
import pytest
from helpers import assert_same_answer, normal, run_python

pytest.importorskip("numba")

from numba import float32, float64, int64, njit

import lstmkernel as lk
from lstmkernel.backends.numba import frames, jit
from lstmkernel.backends.numba.kernels import one_row
from lstmkernel.backends.numba.memory import pointer
from lstmkernel.backends.numba.run import atomics, board, job, plan, team, threads
from lstmkernel.backends.numba.run.forward import run_chunk, run_variant_chunk

#: Sizes of a layer of which a step of 12 rows takes a while.
WIDE = plan.Sizes(512, 512, 512, 4, 8)


@pytest.mark.parametrize("most", [1, 2, 3, 8])
@pytest.mark.parametrize("rows", [1, 5, 12, 13, 200, 1000])
@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("layers", [1, 3])
def test_everything_once_and_layers_in_order(layers, directions, rows, most):
    rounds = plan.divide(layers, directions, rows, most)
    done = set()
    for tasks in rounds:
        assert len(tasks) <= most * max(directions, plan.TASKS_PER_THREAD if rows >= plan.MANY_ROWS else 1)
        now = set()
        for task in tasks:
            work = set(product(range(*task[0:2]), range(*task[2:4]), range(*task[4:6])))
            assert work
            assert not work & (done | now)
            now |= work
        if directions == 2 and len(rounds) > 1:  # both directions of every row below
            assert {(layer - 1, d, row) for layer, _, row in now if layer for d in (0, 1)} <= done
        done |= now
    assert done == set(product(range(layers), range(directions), range(rows)))


def test_how_it_divides():
    assert plan.divide(2, 1, 7, 8) == [[plan.Task(0, 2, 0, 1, 0, 7)]], "too few rows"
    assert len(plan.divide(2, 1, 12, 8)[0]) == 3
    assert [len(tasks) for tasks in plan.divide(3, 2, 7, 8)] == [2, 2, 2], "directions"
    assert [len(tasks) for tasks in plan.divide(3, 2, 12, 2)] == [2], "rows do not wait for each other"
    assert [task.row for task in plan.divide(1, 1, 250, 3)[0]] == [0, 96, 192], "in sixteens"
    assert len(plan.divide(1, 1, 4000, 2)[0]) == 16, "rows may have unequal lengths"


@pytest.mark.parametrize(
    ("directions", "steps", "rows", "most", "threads", "tasks"),
    [
        (1, 100, 12, 1, 1, []),  # one thread
        (1, 1, 1, 8, 1, []),  # too little work
        (1, 100, 1, 8, 8, []),  # a team: one row is no tasks
        (1, 100, 384, 4, 4, [4]),  # rows
        (1, 100, 512, 4, 4, [8]),  # rows that may have unequal lengths
        (2, 100, 1, 2, 2, [2]),  # directions
    ],
)
def test_the_way_with_the_least_predicted_time(directions, steps, rows, most, threads, tasks):
    sizes = WIDE if steps > 1 else plan.Sizes(20, 20, 20, 4, 8)
    chosen = plan.plan_lstm(1, directions, [sizes] * directions, steps, rows, most)
    assert (chosen.threads, [len(found) for found in chosen.rounds]) == (threads, tasks)


def test_a_team_that_is_larger_than_pays_is_not_asked_for():
    narrow = plan.Sizes(64, 64, 64, 4, 8)  # 8 blocks of units
    assert plan.plan_lstm(1, 1, [narrow], 1000, 1, 64).threads <= 8
    for rows, most, count, by_units in [(64, 1, 1, False), (64, 4, 4, False), (1, 4, 4, True)]:
        chosen, shares_units = plan.plan_training(WIDE, 50, rows, most)
        assert (chosen.threads, shares_units) == (count, by_units)


def test_the_shares_of_a_training_pass():
    found = [
        plan.training_shares(*given) for given in [(1, 9, False), (2, 100, False), (2, 300, False), (2, 9999, False)]
    ]
    assert found == [1, 2, 4, 16]
    assert plan.training_shares(3, 9999, True) == 3  # units
    assert plan.training_shares(64, 99999, False) == board.MOST_THREADS  # no more than the board has places for


# ---------------------------------------------------------------- teams


@jit.internal
def count_blocks(given, of_team):
    """A job: each block of each phase adds one to its count. Now and then, a thread is late."""
    words = pointer(given, int64)
    counts, phases, n, delay = pointer(words[0], int64), words[1], words[2], words[3]
    for phase in range(phases):
        part = team.first_part(of_team, n)
        while part[1] >= 0:
            if delay and (team.rank_of(of_team) * 7 + phase) % 5 == 0:
                for _ in range(delay):
                    atomics.spin(1)
            for block in range(part[0], part[1]):
                counts[phase * n + block] += 1
            part = team.next_part(of_team, n)
        if team.is_over(of_team):
            return


@njit(nogil=True, error_model="numpy")
def run_count_blocks(board, size, shares, counts, phases, n, delay):
    job.run_job(board, size, shares, job.address_of(count_blocks), job.words_of((counts, phases, n, delay)))


@pytest.mark.parametrize("delay", [0, 3000], ids=["in time", "late"])
@pytest.mark.parametrize("n", [1, 3, 40])
def test_each_block_of_each_phase_once(eight_cores, n, delay):
    for size, shares, _ in product((1, 2, 3, 8), (1, 5), range(3)):  # of each thread
        counts, found = np.zeros((20, n), np.int64), threads.called(size)
        run_count_blocks(threads.board_address, found, shares * found, counts.ctypes.data, *counts.shape, delay)
        assert (counts == 1).all(), (size, shares)


def test_the_caller_alone_can_do_all(eight_cores):
    """Where helpers are asked for that do not come, or another call has them."""
    counts = np.zeros((5, 8), np.int64)
    run_count_blocks(threads.board_address, 60, 60, counts.ctypes.data, 5, 8, 0)
    assert (counts == 1).all()
    threads._board[board.TAKEN] = 1
    try:
        run_count_blocks(threads.board_address, 8, 8, counts.ctypes.data, 5, 8, 0)
    finally:
        threads._board[board.TAKEN] = 0
    assert (counts == 2).all()


def test_without_helpers_the_call_runs_here(monkeypatch, eight_cores):
    def refused(function, arguments):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threads, "start_new_thread", refused)
    monkeypatch.setattr(threads, "_started", 0)
    assert threads.called(4) == 1


def test_a_short_call_wakes_helpers_only_in_a_busy_program(eight_cores, monkeypatch):
    monkeypatch.setattr(threads, "_ended", -np.inf)
    assert threads.called(3, is_long=False) == 1
    assert threads.called(3, is_long=True) == 3
    threads.ended()
    monkeypatch.setattr(threads, "BUSY_SECONDS", 60.0)  # however slow this machine is
    assert threads.called(3, is_long=False) == 3


def test_helpers_sleep_after_the_last_job(eight_cores):
    counts, end = np.zeros((5, 8), np.int64), time.monotonic() + 30
    run_count_blocks(threads.board_address, threads.called(3), 3, counts.ctypes.data, 5, 8, 0)
    while threads._awake.any():
        assert time.monotonic() < end
        time.sleep(0.01)


# ---------------------------------------------------------------- signals and forks


class InterruptError(Exception):
    """What a signal handler raises."""


@pytest.fixture
def large():
    """A network for which helpers are called, x, and its answer on one thread."""
    x = normal(np.random.default_rng(0), (20, 3, 150), "float32")
    lstm = lk.LSTM(150, 150, num_threads=4, backend="numba", seed=0)
    return lstm, x, lk.LSTM(150, 150, num_threads=1, backend="numba", seed=0)(x)


def test_interrupts_at_any_moment(eight_cores, large):
    """Signals that come as fast as they can: whenever the call ends, no helper is at work on it any more."""
    lstm, x, expected = large
    interrupted, here, raises = 0, threading.main_thread(), []

    def handler(*_):
        assert threading.current_thread() is here
        if raises:
            raises.pop()
            raise InterruptError

    random = np.random.default_rng(0)
    before = signal.signal(signal.SIGALRM, handler)
    try:
        for _ in range(300):
            raises.append(1)
            try:
                signal.setitimer(signal.ITIMER_REAL, random.uniform(2e-6, 6e-4))
                lstm(x)
                time.sleep(6e-4)
            except InterruptError:
                interrupted += 1
            raises.clear()
            assert not threads._board[board.TAKEN]
            assert not threads._running.any()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert interrupted > 30
    assert_same_answer(lstm(x), expected)


def test_a_handler_that_calls_a_network_in_the_middle_of_a_call(eight_cores, large):
    lstm, x, expected = large
    answers = []
    before = signal.signal(signal.SIGALRM, lambda *_: answers.append(lstm(x)))
    try:
        while len(answers) < 5:
            signal.setitimer(signal.ITIMER_REAL, 1e-4)
            assert_same_answer(lstm(x), expected)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    for answer in answers:
        assert_same_answer(answer, expected)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_of_fork_has_helpers_of_its_own():
    run_python("""
import os, signal
from lstmkernel.host import cores
cores.available = lambda: 4
from lstmkernel.backends.numba.run import threads
assert threads.called(4) == 4
child = os.fork()
if child == 0:
    signal.alarm(60)
    assert threads._started == 0 and not threads._board.any()
    threads.called(4)
    os._exit(3 - threads._started)
assert os.waitpid(child, 0)[1] == 0
""")


@pytest.mark.slow
def test_numbas_own_threads_are_never_started():
    """They break on fork, and a program that has chosen some keeps them."""
    run_python("""
import sys
import numpy as np, lstmkernel as lk
from lstmkernel.backends.numba.run import cost, threads
from lstmkernel.host import cores
cores.available, cost.MIN_SHARED_NS, cost.JOIN_NS, cost.WAKING_NS = lambda: 4, 0, 0, 0
lk.LSTM(3, 20, 2, bidirectional=True, backend="numba", seed=0)(np.zeros((4, 30, 3)))
assert threads._started
layers = ("omppool", "tbbpool", "workqueue")
assert not [name for name in sys.modules if name.startswith("numba.np.ufunc.") and name.endswith(layers)]
""")


def test_no_two_jobs_share_a_name():
    """Symbols are named after functions, and all jobs have the same arguments; code may come from several processes."""
    jobs = [
        *(kernel(real) for kernel in (frames._layer_record, frames._layer_backward) for real in (float32, float64)),
        *(frames._lstm_forward(real, of) for of in (run_chunk, run_variant_chunk) for real in (float32, float64)),
        *(one_row.kernel_of(*sizes, 4) for sizes in ((3, 8), (3, 9), (4, 8))),
    ]
    assert len({job.py_func.__qualname__ for job in jobs}) == len(jobs)
