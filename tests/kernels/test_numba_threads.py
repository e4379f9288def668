"""How the Numba backend divides a call between threads, and the threads themselves."""

from __future__ import annotations

import signal
import threading
import time
from functools import partial
from itertools import product

import numpy as np
import pytest
from helpers import run_python

pytest.importorskip("numba")

from lstmkernel.backends.numba.run import cost, threads

WORK = 10 * cost.MIN_SHARED_NS


@pytest.mark.parametrize("most", [1, 2, 3, 8])
@pytest.mark.parametrize("rows", [1, 5, 12, 13, 200, 1000])
@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("layers", [1, 3])
def test_everything_once_and_layers_in_order(layers, directions, rows, most):
    rounds = threads.divide(layers, directions, rows, WORK, most)
    done = set()
    for tasks in rounds:
        assert len(tasks) <= most * directions
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


def test_when_it_divides():
    whole = [[threads.Task(0, 2, 0, 1, 0, 12)]]
    assert threads.divide(2, 1, 12, cost.MIN_SHARED_NS - 1, 8) == whole, "too little work"
    assert threads.divide(2, 1, 12, WORK, 1) == whole, "one thread"
    assert threads.divide(2, 1, 7, WORK, 8) == [[threads.Task(0, 2, 0, 1, 0, 7)]], "too few rows"
    assert len(threads.divide(2, 1, 12, WORK, 8)[0]) == 3
    assert [len(tasks) for tasks in threads.divide(3, 2, 7, WORK, 8)] == [2, 2, 2], "directions"
    assert [len(tasks) for tasks in threads.divide(3, 2, 12, WORK, 2)] == [2], "rows do not wait for each other"
    assert [task.row for task in threads.divide(1, 1, 250, WORK, 3)[0]] == [0, 96, 192], "in sixteens"


class InterruptError(Exception):
    """What a signal handler raises."""


def test_an_error_waits_for_the_others(eight_cores):
    """An interrupt leaves when no thread writes to the caller's arrays any more."""
    began, finish, finished = threading.Event(), threading.Event(), threading.Event()

    def other():
        began.set()
        finish.wait(10)
        finished.set()

    def interrupted():
        assert began.wait(10)
        threading.Timer(0.05, finish.set).start()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        threads.run([interrupted, other])
    assert finished.is_set()


def test_an_error_of_a_helper_is_the_callers(eight_cores):
    failed, here = threading.Event(), threading.current_thread()

    def task():
        if threading.current_thread() is here:
            assert failed.wait(10)
        else:
            failed.set()
            raise MemoryError("no workspace")

    with pytest.raises(MemoryError, match="no workspace"):
        threads.run([task, task])


def test_without_helpers_the_call_runs_here(monkeypatch):
    def refused(function, arguments):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threads, "start_new_thread", refused)
    monkeypatch.setattr(threads, "_started", 0)
    ran = []
    threads.run([lambda: ran.append(1), lambda: ran.append(2), lambda: ran.append(3)])
    assert ran == [1, 2, 3]


def test_interrupts_at_any_moment(eight_cores):
    """Signals that come as fast as they can: whenever the call ends, no task runs any more, and none begins."""
    here, helping, calls, interrupted = threading.current_thread(), [], 0, 0

    def task():
        if threading.current_thread() is here:
            return
        helping.append(1)
        time.sleep(0.0002)
        helping.pop()

    raises = []  # how many interrupts are left for a call

    def handler(*_):
        if raises:
            raises.pop()
            raise InterruptError

    threads.run([lambda: None, lambda: None])  # compiles the wait
    random = np.random.default_rng(0)
    before = signal.signal(signal.SIGALRM, handler)
    try:
        while calls < 1500:
            calls += 1
            try:
                raises += [1, 1]
                try:
                    signal.setitimer(signal.ITIMER_REAL, random.uniform(2e-6, 6e-4), 5e-5)
                    threads.run([task] * 4)
                except InterruptError:
                    interrupted += 1
                raises.clear()
            except InterruptError:  # the second one
                pass
            for _ in range(3):
                assert not helping, "a helper runs a task after the call"
                time.sleep(0.0001)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert interrupted > calls / 10


def test_a_handler_that_runs_tasks_of_its_own(eight_cores):
    """As a handler that calls a network in the middle of a call."""
    ran = []

    def outer():
        threads.run([partial(ran.append, "inner")] * 3)

    threads.run([outer] * 4)
    assert len(ran) == 12


@pytest.mark.slow
def test_a_child_of_fork_has_helpers_of_its_own():
    run_python("""
import os, signal, sys
from lstmkernel.host import cores
cores.available = lambda: 4
from lstmkernel.backends.numba.run import threads
threads.run([lambda: None] * 4)
assert threads._started == 3
child = os.fork()
if child == 0:
    signal.alarm(60)
    assert threads._started == 0
    threads.run([lambda: None] * 4)
    os._exit(3 - threads._started)
assert os.waitpid(child, 0)[1] == 0
""")


@pytest.mark.slow
def test_a_handler_that_forks_inside_of_a_call():
    """The child has no helper that would finish what one had begun: it says so, and does not wait."""
    run_python("""
import os, signal, sys, threading, time
from lstmkernel.host import cores
cores.available = lambda: 2
from lstmkernel.backends.numba.run import threads
threads.run([lambda: None] * 2)
began, children = threading.Event(), []
def other():
    if threading.current_thread() is threading.main_thread():
        began.wait(10)
        children.append(os.fork())
        if not children[0]:
            signal.alarm(60)
    else:
        began.set()
        time.sleep(0.5)
try:
    threads.run([other, other])
except RuntimeError as error:
    os._exit(0 if children == [0] and "forked" in str(error) else 1)
assert children[0]
assert os.waitpid(children[0], 0)[1] == 0
""")


@pytest.mark.slow
def test_numbas_own_threads_are_never_started():
    """They break on fork, and a program that has chosen some keeps them."""
    run_python("""
import sys
import numpy as np, lstmkernel as lk
from lstmkernel.backends.numba.run import cost, threads
from lstmkernel.host import cores
cores.available, cost.MIN_SHARED_NS = lambda: 4, 0
lk.LSTM(3, 20, 2, bidirectional=True, backend="numba", seed=0)(np.zeros((4, 30, 3)))
assert threads._started
layers = ("omppool", "tbbpool", "workqueue")
assert not [name for name in sys.modules if name.startswith("numba.np.ufunc.") and name.endswith(layers)]
""")
