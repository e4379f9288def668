"""The contest: every backend compiles, is checked against the float64 reference, and is timed. Prints nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter

from numpy.typing import DTypeLike

from lstmkernel import accuracy, backends, timing
from lstmkernel.accuracy import Answer
from lstmkernel.cli import problem, work
from lstmkernel.cli.problem import Problem
from lstmkernel.cli.shapes import Shape

#: The baseline, and in float64 the reference.
BASELINE = "numpy"

#: The share of a shape's time that the whole network gets; its kernels share the rest.
NETWORK_SHARE = 0.5

#: Every path of the kernels in a moment: two layers, two directions, sizes that fill no vector.
SMALL = Shape("small", B=2, T=2, I=3, H=5, L=2, D=2, origin="")


@dataclass(frozen=True)
class Result:
    """One kernel, or the network, of one problem on one backend."""

    problem: str
    work: str
    backend: str
    error: float  # in multiples of the tolerance
    equal_bits: bool | None  # to the first backend of backends.ONE_ANSWER; None where that is not promised
    seconds: float  # median of one call
    rows: int
    flops: int | None
    times_numpy: float

    @property
    def agrees(self) -> bool:
        return accuracy.agrees(self.error)

    @property
    def steps_per_second(self) -> float:
        """Time steps of all batch rows."""
        return self.rows / self.seconds

    @property
    def gflops(self) -> float | None:
        """GFLOP/s of the matrix products."""
        return None if self.flops is None else self.flops / self.seconds / 1e9


def compile_all(backend: str, dtype: DTypeLike) -> dict[str, float]:
    """Seconds until each kernel, and then a network, has run for the first time, on next to no work."""
    backends.get(backend)
    small = problem.of_shape(SMALL, dtype)
    seconds = {}
    for name in work.NAMES:
        start = perf_counter()
        work.prepare(name, small, backend).call()
        seconds[name] = perf_counter() - start
    return seconds


def hold(subject: Problem, names: Sequence[str], seconds: float, on_progress: Callable[[], object]) -> list[Result]:
    """Check and time all work of a problem on each backend, in about ``seconds``; names must hold BASELINE."""
    reference = subject.reference()
    results = []
    for what in work.NAMES:
        share = NETWORK_SHARE if what == work.NETWORK else (1 - NETWORK_SHARE) / len(backends.KERNELS)
        results += _one_work(subject, reference, what, names, share * seconds)
        on_progress()
    return results


def _one_work(subject: Problem, reference: Problem, what: str, names: Sequence[str], seconds: float) -> list[Result]:
    works = {name: work.prepare(what, subject, name) for name in names}
    right = work.prepare(what, reference, BASELINE).answer()
    answers = {name: contender.answer() for name, contender in works.items()}
    medians = timing.medians({name: contender.call for name, contender in works.items()}, seconds)
    return [
        Result(
            problem=subject.name,
            work=what,
            backend=name,
            error=accuracy.error(answers[name], right, subject.dtype),
            equal_bits=_equal_bits(name, answers),
            seconds=medians[name],
            rows=contender.rows,
            flops=contender.flops,
            times_numpy=medians[BASELINE] / medians[name],
        )
        for name, contender in works.items()
    ]


def _equal_bits(name: str, answers: dict[str, Answer]) -> bool | None:
    if name not in backends.ONE_ANSWER:
        return None
    first = next(other for other in answers if other in backends.ONE_ANSWER)
    return accuracy.same_bits(answers[name], answers[first])
