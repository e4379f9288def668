"""A contender in a process of its own: what it does for each line that it reads, and the driver's end of the pipe."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from typing import Any

import numpy as np
from contenders import CONTENDERS, Call
from samples import last_cores, timed
from trainers import TRAINERS, bytes_at_most

import lstmkernel as lk
from lstmkernel.tuning import accuracy
from lstmkernel.workbench import one_thread

EVERYONE = CONTENDERS | TRAINERS

#: A contender whose error is more than so many tolerances computes something else; its time would say nothing.
WRONG = 100


class Process:
    """A contender of that name, with so many threads on as many cores."""

    def __init__(self, contender: str, threads: int) -> None:
        command = [sys.executable, __file__, contender, str(threads)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.contender = contender
        with last_cores(threads):
            self._process = subprocess.Popen(command, text=True, env=environment(threads), **pipes)

    def prepare(self, problem: str) -> float:
        """Read a problem's file, and answer it once: the error, in multiples of the tolerance. ValueError: cannot."""
        answer = self._ask({"problem": problem})
        if "failed" in answer:
            raise ValueError(answer["failed"])
        return float(answer["error"])

    def time(self, seconds: float) -> list[float]:
        """Seconds of each call of the prepared problem."""
        return list(self._ask({"seconds": seconds})["times"])

    def weigh(self, problem: str) -> int:
        """Bytes that a first call of that problem takes at its peak: of a process that has done nothing else."""
        return int(self._ask({"weigh": problem})["bytes"])

    def close(self) -> None:
        self._process.communicate()

    def _ask(self, order: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.contender}: its process died; the message is above")
        return dict(json.loads(line))


def environment(threads: int) -> dict[str, str]:
    """What every BLAS, OpenMP and XLA read when they are loaded."""
    variables = os.environ | dict.fromkeys(one_thread.VARIABLES, str(threads)) | {"JAX_PLATFORMS": "cpu"}
    if threads == 1:
        variables["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    return variables


def serve(contender: str, threads: int) -> None:
    """For every line: {"problem": file} prepares a call, {"seconds": s} times it, {"weigh": file} weighs one."""
    call: Call | None = None
    for line in sys.stdin:
        order, answer = json.loads(line), {}
        if "problem" in order:
            call = None  # two networks need not fit into memory
            try:
                call, answer["error"] = prepared(contender, threads, order["problem"])
            except Exception as error:  # any library's own kind
                answer["failed"] = f"{type(error).__name__}: {error}"
        elif "weigh" in order:
            answer["bytes"] = weighed(contender, threads, order["weigh"])
        elif call:
            answer["times"] = timed(call, order["seconds"])
        print(json.dumps(answer), flush=True)


def read(problem: str) -> tuple[lk.LSTM, np.ndarray, np.ndarray]:
    """The network, x and what is expected."""
    with np.load(problem) as file:
        weights = {name: file[name] for name in file if name.startswith(("weight", "bias"))}
        return lk.LSTM.from_config(json.loads(str(file["config"])), weights), file["x"], file["expected"]


def weighed(contender: str, threads: int, problem: str) -> int:
    """Bytes of a first call, once a tiny one has loaded what every call needs."""
    prepare = EVERYONE[contender].prepare
    prepare(lk.LSTM(1, 1), np.zeros((2, 1, 1), "float32"), threads)()
    lstm, x, _ = read(problem)
    return bytes_at_most(prepare(lstm, x, threads))


def prepared(contender: str, threads: int, problem: str) -> tuple[Call, float]:
    """The call, and how wrong its answer is."""
    lstm, x, expected = read(problem)
    call = EVERYONE[contender].prepare(lstm, x, threads)
    error = accuracy.error((call(),), (expected,), x.dtype)
    if not error <= WRONG:
        raise ValueError(f"wrong: {error:.3g} times the tolerance away from the reference")
    return call, error


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("contender", choices=EVERYONE)
    parser.add_argument("threads", type=int)
    serve(**vars(parser.parse_args()))
