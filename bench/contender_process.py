"""A contender in its own process: the driver's end of the pipe, and what the process does for each line it reads."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from contenders import CONTENDERS, Call
from narrow_contenders import NARROW
from samples import last_cores, timed
from trainers import TRAINERS, bytes_at_most

import lstmkernel as lk
from lstmkernel.tuning import accuracy
from lstmkernel.workbench import one_thread
from lstmkernel.workbench.networks import on
from lstmkernel.workbench.shapes import Shape

EVERYONE = CONTENDERS | TRAINERS | NARROW

#: A contender with a larger error, in multiples of the tolerance, computes something else. It is not timed.
WRONG = 100
#: The largest root mean square of the error of a network of fewer bits.
WRONG_RMS = 0.1


class Died(SystemExit):
    """A contender's process ended by itself: a crash, mostly."""


class Process:
    """A process that runs a contender, with so many threads on as many cores."""

    def __init__(self, contender: str, threads: int) -> None:
        command = [sys.executable, __file__, contender, str(threads)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.contender = contender
        #: Error of the last case's answer: root mean square, largest.
        self.rms = self.largest = float("nan")
        with last_cores(threads):
            self._process = subprocess.Popen(command, text=True, env=environment(threads), **pipes)

    def prepare(self, case: str) -> float:
        """Read a case's file and compute it once; the error, in multiples of the tolerance. ValueError: it cannot."""
        answer = self._ask({"case": case})
        if "failed" in answer:
            raise ValueError(answer["failed"])
        self.rms, self.largest = answer["rms"], answer["largest"]
        return float(answer["error"])

    def time(self, seconds: float) -> list[float]:
        """Seconds of each call of the prepared case."""
        return list(self._ask({"seconds": seconds})["times"])

    def weigh(self, case: str) -> int:
        """Bytes that the first call of a case takes at its peak. The process must not have done anything else."""
        return int(self._ask({"weigh": case})["bytes"])

    def close(self) -> None:
        with suppress(BrokenPipeError):
            self._process.communicate()

    def _ask(self, order: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin
        assert self._process.stdout
        try:
            print(json.dumps(order), file=self._process.stdin, flush=True)
        except BrokenPipeError:
            raise Died(f"{self.contender}: its process died before") from None
        line = self._process.stdout.readline()
        if not line:
            raise Died(f"{self.contender}: its process died, status {self._process.wait()}; it may say more above")
        return dict(json.loads(line))


def environment(threads: int) -> dict[str, str]:
    """The variables that BLAS, OpenMP and XLA read when they are loaded."""
    variables = os.environ | dict.fromkeys(one_thread.VARIABLES, str(threads)) | {"JAX_PLATFORMS": "cpu"}
    if threads == 1:
        variables["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    return variables


def serve(contender: str, threads: int) -> None:
    """For every line: {"case": file} prepares a call, {"seconds": s} times it, {"weigh": file} weighs one."""
    call: Call | None = None
    for line in sys.stdin:
        order, answer = json.loads(line), {}
        if "case" in order:
            call = None  # frees the last network: two may not fit into memory
            try:
                call, found = prepared(contender, threads, order["case"])
                answer |= found
            except Exception as error:  # every library has its own exceptions
                answer["failed"] = f"{type(error).__name__}: {error}"
        elif "weigh" in order:
            answer["bytes"] = weighed(contender, threads, order["weigh"])
        elif call:
            answer["times"] = timed(call, order["seconds"])
        print(json.dumps(answer), flush=True)


def write(shape: Shape, folder: str, answer: Callable[[lk.LSTM, np.ndarray], np.ndarray]) -> str:
    """A case's file: weights, x, and the answer of the float64 definition."""
    lstm = lk.LSTM(shape.I, shape.H, shape.L, bidirectional=shape.D == 2, seed=0)
    x = np.random.default_rng(1).standard_normal((shape.T, shape.B, shape.I), dtype="float32")
    return write_case(lstm, x, folder, answer)


def write_case(lstm: lk.LSTM, x: np.ndarray, folder: str, answer: Callable[[lk.LSTM, np.ndarray], np.ndarray]) -> str:
    """The same for any network of float32 and x (T, B, I)."""
    file = str(Path(folder) / "case.npz")
    expected = answer(on(lstm, "numpy", "float64"), x)
    np.savez(file, config=json.dumps(lstm.config()), x=x, expected=expected, **lstm.state_dict())
    return file


def read(case: str) -> tuple[lk.LSTM, np.ndarray, np.ndarray]:
    """The network, x and the expected answer."""
    with np.load(case) as file:
        weights = {name: file[name] for name in file if name.startswith(("weight", "bias"))}
        return lk.LSTM.from_config(json.loads(str(file["config"])), weights), file["x"], file["expected"]


def weighed(contender: str, threads: int, case: str) -> int:
    """Bytes of the first call, after a tiny one has loaded everything that calls need."""
    prepare = EVERYONE[contender].prepare
    prepare(lk.LSTM(1, 1), np.zeros((2, 1, 1), "float32"), threads)()
    lstm, x, _ = read(case)
    return bytes_at_most(prepare(lstm, x, threads))


def prepared(contender: str, threads: int, case: str) -> tuple[Call, dict[str, float]]:
    """The call, and the error of its answer: in multiples of the tolerance, root mean square, largest."""
    lstm, x, expected = read(case)
    call = EVERYONE[contender].prepare(lstm, x, threads)
    got = call()
    error, difference = accuracy.error((got,), (expected,), x.dtype), np.abs(got - expected)
    rms = float(np.sqrt(np.mean(difference**2)))
    if contender in CONTENDERS | TRAINERS and not error <= WRONG:
        raise ValueError(f"wrong: {error:.3g} times the tolerance away from the reference")
    if not rms <= WRONG_RMS:
        raise ValueError(f"wrong: an rms error of {rms:.3g}")
    return call, {"error": error, "rms": rms, "largest": float(difference.max())}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("contender", choices=EVERYONE)
    parser.add_argument("threads", type=int)
    serve(**vars(parser.parse_args()))
