"""A user's own kernels, each file in a process of its own: see child.py, which is the other end of the pipe."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from lstmkernel.backends import BackendError
from lstmkernel.lstm import LSTM
from lstmkernel.tuning.accuracy import Answer
from lstmkernel.workbench.cases import Case
from lstmkernel.workbench.own_kernels import child, load

#: The program of the process. It finds modules where this one does.
_PROGRAM = "import sys; sys.path[:] = sys.argv[2:]; from lstmkernel.workbench.own_kernels import child; "
_PROGRAM += "child.main(int(sys.argv[1]))"

#: What a row of a table says of a kernel that failed.
WORDS = {child.WRONG: "WRONG", child.OVERRUN: "OVERRUN", child.FAULT: "CRASH", child.FAILED: "FAILED"}
HANGS = "HANGS"

#: What signals mean, where they are not what they are called. By name: Windows lacks some.
_SIGNALS = {
    "SIGABRT": "a library found its memory destroyed, or an assertion failed",
    "SIGSEGV": "memory is destroyed, or the stack is full",
    "SIGILL": "an instruction that this CPU does not have",
    "SIGFPE": "a division of integers by zero",
    "SIGKILL": "the system ended it, which it does when memory runs out",
}


class KernelFailed(Exception):  # noqa: N818
    """A kernel is wrong, crashed, or did not return."""

    def __init__(self, word: str, why: str) -> None:
        super().__init__(why)
        self.word, self.why = word, why


class RemoteTimer:
    """As timeit.Timer, of calls in another process."""

    def __init__(self, time: Callable[[int], float]) -> None:
        self._time = time
        self.failed: KernelFailed | None = None

    def timeit(self, number: int) -> float:
        """Seconds of so many calls; infinite from the first one that fails."""
        if self.failed is None:
            try:
                return self._time(number)
            except KernelFailed as failed:
                self.failed = failed
        return float("inf")


class OwnKernels:
    """A file of kernels. Where one fails, its process ends, and the next question starts another."""

    def __init__(self, path: str, dtype: np.dtype[Any], seconds: float) -> None:
        """seconds: that a call may take; large ones may take more. Raises as ``load.library`` and ``load.load``."""
        if not hasattr(signal, "setitimer"):
            raise BackendError(
                f"{path}: kernels of your own need POSIX signals, which Windows lacks; run this on Linux or macOS"
            )
        self.name = os.path.basename(path)
        self._path, self._dtype, self._seconds = path, dtype, seconds
        self.code = load.library(path, dtype)
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection
        self._start()

    def check(self, kernel: str, small: Case) -> float:
        """Compare a kernel with the definition. Returns seconds of the first call. Raises KernelFailed."""
        return float(self._ask("check", kernel, self._dtype, _first_layer(small)))

    def answer(self, kernel: str, case: Case) -> Answer:
        """Of one call of a workload, which ``timer`` times from then on. Raises KernelFailed."""
        answer: Answer = self._ask("answer", kernel, _first_layer(case))
        return answer

    def timer(self) -> RemoteTimer:
        """Times the workload of the last ``answer``, in its process."""
        return RemoteTimer(lambda number: float(self._ask("time", number)))

    def machine_code(self, kernel: str) -> bytes:
        """The library, or the object file of a kernel that Numba compiled last; empty where there is none."""
        return self.code if self.code is not None else bytes(self._ask("machine_code", kernel))

    def close(self) -> None:
        """End the process, whatever it does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._connection.close()
            self._process = None

    def _start(self) -> None:
        ours, theirs = Pipe()
        command = [sys.executable, "-c", _PROGRAM, str(theirs.fileno()), *(os.path.abspath(p) for p in sys.path)]
        # In a session of its own: Ctrl-C is for this process, which then ends the other.
        with theirs:
            self._process = subprocess.Popen(
                command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, start_new_session=True
            )
        self._connection, self._at, self._allowed = ours, "loading it", float(child.LOADING)
        try:
            self.kernels: list[str] = self._ask("load", self._path, self.code, self._seconds)
        except KernelFailed as failed:
            raise BackendError(f"{self._path}: {failed}") from None

    def _ask(self, what: str, *arguments: Any) -> Any:
        if self._process is None:
            self._start()
        try:
            self._connection.send((what, arguments))
            while (answer := self._connection.recv())[0] == child.AT:
                self._at, self._allowed = answer[1]
        except (EOFError, OSError):
            raise self._ended() from None
        except BaseException:  # Ctrl-C
            self.close()
            raise
        kind, value = answer
        if kind == child.DONE:
            return value
        self.close()  # memory may be destroyed
        if kind == child.ERROR:
            raise BackendError(value)
        raise KernelFailed(WORDS[kind], value if kind == child.WRONG else f"{self._at} {value}")

    def _ended(self) -> KernelFailed:
        """Why the process has ended."""
        assert self._process is not None
        status = self._process.wait()
        self.close()
        if status == -signal.SIGALRM:
            way_out = f"If it is only slow, give each call more time: --limit {2 * self._seconds:g}"
            why = f"{self._at} did not return within {self._allowed:.3g} s: an endless loop? {way_out}"
            return KernelFailed(HANGS, why)
        if status >= 0:
            return KernelFailed(WORDS[child.FAULT], f"{self._at} ended the process, with status {status}")
        name = signal.Signals(-status).name
        hint = _SIGNALS.get(name)
        return KernelFailed(WORDS[child.FAULT], f"{self._at} was ended by {name}{f': {hint}' if hint else ''}")


def _first_layer(case: Case) -> Case:
    """The case with all that kernels are given: the first layer and direction of its network."""
    lstm = case.lstm
    named = {name: value for name, value in lstm.state_dict().items() if name.endswith(lstm.shape.suffix(0, 0))}
    one = {"num_layers": 1, "bidirectional": False, "initial_state": False}
    return replace(case, net=LSTM.from_config({**lstm.config(), **one}, named), x=case.x[:0])
