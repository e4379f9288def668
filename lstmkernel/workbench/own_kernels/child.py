"""The process in which a user's own kernels run: it does what process.py asks for, and answers through a pipe.

Whatever a kernel does to this process, the comparison goes on. The operating system ends it when a call takes too long.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from time import perf_counter
from timeit import Timer
from typing import Any

import numpy as np

from lstmkernel.backends import BackendError
from lstmkernel.host import compile_c
from lstmkernel.tuning.accuracy import Answer
from lstmkernel.workbench import workloads
from lstmkernel.workbench.cases import Case
from lstmkernel.workbench.own_kernels import check, faults, load
from lstmkernel.workbench.own_kernels.fence import Fence, OverrunError
from lstmkernel.workbench.own_kernels.load import KernelError

#: What an answer is. AT: what is called now, and the seconds that it may take; more answers follow. OVERRUN, FAULT,
#: FAILED and WRONG: what a kernel did. ERROR: the file cannot be used.
AT, DONE, OVERRUN, FAULT, FAILED, WRONG, ERROR = "at", "done", "overrun", "fault", "failed", "wrong", "error"

#: Seconds that loading a file may take, and operations a second of a kernel that is far too slow.
LOADING, SLOWEST = 120, 1e8


def main(pipe: int) -> None:
    """Answer until the other end is closed."""
    with suppress(OSError):  # stdout is the table's, or JSON
        os.dup2(2, 1)
    connection = Connection(pipe)
    child = _Child(connection)
    with suppress(EOFError, ConnectionError):
        while True:
            name, arguments = connection.recv()
            connection.send(_answer(getattr(child, name), arguments))
            child.rest()


def _answer(do: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[str, Any]:
    try:
        return DONE, do(*arguments)
    except _WrongError as error:
        return WRONG, str(error)
    except OverrunError as error:
        return OVERRUN, str(error)
    except KernelError as error:
        return FAILED, str(error)
    except (BackendError, compile_c.CompileError) as error:
        return ERROR, str(error)


def assembled(text: str) -> bytes:
    """The object file of a program in assembly language."""
    with compile_c.as_file(b"") as path:
        subprocess.run(["as", "-o", str(path)], input=text, text=True, check=True)
        return path.read_bytes()


class _WrongError(Exception):
    """A kernel gave a wrong number."""


class _Child:
    """Each public method is something that process.py asks for."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._fence = Fence(self._announce)
        self._seconds = 0.0
        self._limit = 0.0
        faults.report(self._touched)

    def load(self, path: str, code: bytes | None, seconds: float) -> list[str]:
        """The kernels of a file. seconds: that a call may take, beside what its operations may."""
        self._seconds = seconds
        self._allow(LOADING)
        self._own = load.load(path, code, self._fence.scratch)
        if "numba" in sys.modules:
            self._watch_numba()
        self._fenced = self._fence.backend(self._own)
        return self._own.kernels

    def check(self, kernel: str, dtype: np.dtype[Any], small: Case) -> float:
        """Raises where a kernel is wrong. The seconds of the first call, which compiles it."""
        start = perf_counter()
        workloads.ALONE[kernel](small, self._fenced).call()
        first = perf_counter() - start
        for self._fence.at_end in (True, False):
            if failure := check.failure(kernel, self._fenced, dtype):
                raise _WrongError(failure)
        return first

    def answer(self, kernel: str, case: Case) -> Answer:
        """One call of a workload, between guard pages. ``time`` times the same, in plain memory."""
        for self._fence.at_end in (False, True):
            answer = workloads.ALONE[kernel](case, self._fenced).answer()
        self._timer = Timer(workloads.ALONE[kernel](case, self._own.backend).call)
        return answer

    def time(self, number: int) -> float:
        """Seconds of so many calls, after one more: other processes have used the caches since."""
        self._allow((number + 1) * self._limit)
        self._timer.timeit(1)
        return self._timer.timeit(number)

    def machine_code(self, kernel: str) -> bytes:
        """The object file of a kernel that Numba compiled; empty where it did not."""
        text = self._own.assembly(kernel)
        return assembled(text) if text else b""

    def rest(self) -> None:
        """No kernel is being called."""
        self._allow(0)

    def _touched(self, address: int, verb: str, elsewhere: str) -> None:
        """The system has stopped a kernel."""
        beside = self._fence.touched(address, verb)
        self._connection.send((OVERRUN, beside) if beside else (FAULT, elsewhere))

    def _announce(self, what: str, operations: float) -> None:
        self._limit = self._seconds + operations / SLOWEST
        self._connection.send((AT, (what, self._limit)))
        self._allow(self._limit)

    def _allow(self, seconds: float) -> None:
        """From now on; then the system sends SIGALRM, which ends the process. 0: without end."""
        signal.setitimer(signal.ITIMER_REAL, seconds)

    def _watch_numba(self) -> None:
        """Compiling a kernel does not count: it takes as long as it takes."""
        from numba.core import event

        class Listener(event.Listener):
            def __init__(self, start: Callable[[], None], end: Callable[[], None]) -> None:
                self._start, self._end = start, end

            def on_start(self, event: object) -> None:
                self._start()

            def on_end(self, event: object) -> None:
                self._end()

        listener = Listener(lambda: self._allow(0), lambda: self._allow(self._limit))
        event.register("numba:compile", listener)  # type: ignore[no-untyped-call]
