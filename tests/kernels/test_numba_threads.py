"""How the Numba backend divides a call between threads, and the threads themselves."""

from __future__ import annotations

import threading
import time
from itertools import product

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


def test_an_error_waits_for_the_others():
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


def test_what_no_thread_has_begun_runs_here(monkeypatch):
    monkeypatch.setattr(threads, "_submit", lambda call: None)
    ran = []
    threads.run([lambda: ran.append(1), lambda: ran.append(2), lambda: ran.append(3)])
    assert ran == [1, 2, 3]


def test_an_interrupt_while_it_waits(monkeypatch):
    """Ctrl-C comes when the calling thread has run its own task."""
    finish, finished = threading.Event(), threading.Event()
    right = threads.wait

    def interrupted(futures):
        monkeypatch.setattr(threads, "wait", right)
        threading.Timer(0.05, finish.set).start()
        raise KeyboardInterrupt

    def other():
        finish.wait(10)
        finished.set()

    monkeypatch.setattr(threads, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        threads.run([lambda: time.sleep(0.05), other])
    assert finished.is_set()


@pytest.mark.slow
def test_numbas_own_threads_are_never_started():
    """They break on fork, and a program that has chosen some keeps them."""
    run_python("""
import sys
import numpy as np, lstmkernel as lk
from lstmkernel.backends.numba.run import cost, threads
from lstmkernel.host import cores
cores.available, cost.MIN_SHARED_NS = lambda: 4, 0
began = []
threads._submit, right = lambda call: began.append(call) or right(call), threads._submit
lk.LSTM(3, 20, 2, bidirectional=True, backend="numba", seed=0)(np.zeros((4, 30, 3)))
assert began
layers = ("omppool", "tbbpool", "workqueue")
assert not [name for name in sys.modules if name.startswith("numba.np.ufunc.") and name.endswith(layers)]
""")
