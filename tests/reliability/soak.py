"""Many threads share networks while the process forks and one thread loads other weights. Each answer is compared.

Usage: python tests/reliability/soak.py [--threads 32] [--forks 100] [--least-calls 20] [--backend auto]
It prints how much was done. The exit status is 1 for a wrong answer, an exception, or a child that failed or hung.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

import lstmkernel as lk

#: Seconds after which a child of fork hangs. It needs milliseconds.
PATIENCE = 120

#: Input size, units, layers, directions, rows and steps. Threads share the units, rows and directions of some.
SHAPES = [
    (8, 8, 1, 1, 1, 50),
    (20, 100, 2, 2, 1, 30),
    (16, 64, 1, 1, 40, 9),
    (3, 300, 1, 1, 1, 12),
    (30, 33, 3, 1, 7, 20),
]


class Subject:
    """A network, an input, and the answers for two sets of weights, computed before anything else runs."""

    def __init__(self, shape: tuple[int, ...], backend: str, seed: int) -> None:
        I, H, L, D, B, T = shape
        options = {"bidirectional": D == 2, "backend": backend, "num_threads": 4}
        first, second = (lk.LSTM(I, H, L, seed=seed + n, **options) for n in range(2))
        self.x = np.random.default_rng(seed).normal(size=(T, B, I)).astype("float32")
        self.weights = [first.state_dict(), second.state_dict()]
        self.answers = [first(self.x)[0], second(self.x)[0]]
        self.shared = first
        self.can_stream = D == 1

    def call(self) -> None:
        """Whatever weights it has at this moment, it has all of them."""
        self._expect(self.shared(self.x)[0], self.answers)

    def stream(self) -> None:
        """In chunks, by a stream of its own. The weights are those of its beginning."""
        stream, cut = self.shared.stream(self.x.shape[1]), len(self.x) // 3
        self._expect(np.concatenate([stream(self.x[:cut]).copy(), stream(self.x[cut:])]), self.answers)

    def made_anew(self) -> None:
        """As in a child of fork, where no thread of the parent is."""
        net = lk.LSTM.from_config(self.shared.config(), self.weights[1])
        self._expect(net(self.x)[0], self.answers[1:])

    @staticmethod
    def _expect(got: np.ndarray, allowed: list[np.ndarray]) -> None:
        if not any(np.array_equal(got, answer) for answer in allowed):
            raise AssertionError("the answer is that of no set of weights")


class Soak:
    """The threads, and what they counted."""

    def __init__(self, subjects: list[Subject]) -> None:
        self._subjects = subjects
        self._over = threading.Event()
        self.problems: list[str] = []
        self.counts: dict[str, int] = {}

    def work(self, number: int) -> None:
        """One thread: calls and streams until it is over."""
        random, count = np.random.default_rng(number), 0
        while not self._over.is_set():
            subject = self._subjects[random.integers(len(self._subjects))]
            self._try(subject.stream if subject.can_stream and random.random() < 0.3 else subject.call)
            count += 1
            self.counts[f"thread {number}"] = count

    def load(self) -> None:
        """One thread loads the other weights again and again."""
        count = 0
        while not self._over.is_set():
            for subject in self._subjects:
                self._try(partial(subject.shared.load_state_dict, subject.weights[count % 2]))
            count += 1
            self.counts["loads"] = count

    def _try(self, action: Callable[[], Any]) -> None:
        try:
            action()
        except BaseException:
            self.problems.append(traceback.format_exc())
            self._over.set()

    def fork(self, number: int) -> None:
        """A child uses a network that it makes, and one that it was given with the fork."""
        child = os.fork()
        if child == 0:
            status = 1
            try:
                subject = self._subjects[number % len(self._subjects)]
                subject.made_anew()
                subject.call()
                status = 0
            finally:
                if status:
                    traceback.print_exc()
                os._exit(status)
        if self._status_of(child) != 0:
            self.problems.append(f"child {number} of fork failed, or hung for {PATIENCE} s")

    @staticmethod
    def _status_of(child: int) -> int:
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            found, status = os.waitpid(child, os.WNOHANG)
            if found:
                return status
            time.sleep(0.002)
        os.kill(child, signal.SIGKILL)
        return os.waitpid(child, 0)[1]

    def run(self, threads: int, forks: int, least_calls: int) -> None:
        """All of it: it ends when all forks are done and every thread has made its calls."""
        workers = [threading.Thread(target=self.work, args=(number,)) for number in range(threads)]
        workers.append(threading.Thread(target=self.load))
        for worker in workers:
            worker.start()
        try:
            for number in range(forks):
                if not self.problems:
                    self.fork(number)
            while not self.problems and (len(self.counts) <= threads or min(self.counts.values()) < least_calls):
                time.sleep(0.05)
        finally:
            self._over.set()
            for worker in workers:
                worker.join()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=32)
    parser.add_argument("--forks", type=int, default=100)
    parser.add_argument("--least-calls", type=int, default=20, help="of each thread, whatever the forks take")
    parser.add_argument("--backend", default="auto")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)  # that is what is tried
    start = time.monotonic()
    soak = Soak([Subject(shape, arguments.backend, 10 * n) for n, shape in enumerate(SHAPES)])
    soak.run(arguments.threads, arguments.forks, arguments.least_calls)
    loads = soak.counts.pop("loads", 0)
    print(
        f"{arguments.threads} threads, {arguments.forks} forks, {sum(soak.counts.values())} calls and streams, "
        f"{loads} loads of all weights, {time.monotonic() - start:.0f} s: {len(soak.problems)} problems"
    )
    print("\n".join(soak.problems[:3]), file=sys.stderr)
    return 1 if soak.problems else 0


if __name__ == "__main__":
    sys.exit(main())
