"""The contest: every backend compiles, is checked against the float64 reference, and is timed. Prints nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter

from numpy.typing import DTypeLike

from lstmkernel import backends
from lstmkernel.tuning import accuracy, timing
from lstmkernel.tuning.accuracy import Answer
from lstmkernel.tuning.plan import SPECIALISED
from lstmkernel.workbench import cases as problem
from lstmkernel.workbench import workloads as work
from lstmkernel.workbench.cases import Problem
from lstmkernel.workbench.shapes import Shape

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


def compile_all(backend: str, dtype: DTypeLike, works: Iterable[str]) -> dict[str, float]:
    """Seconds until each work has run for the first time, on next to nothing."""
    backends.get(backend)
    small = problem.of_shape(SMALL, dtype)
    seconds = {}
    for name in works:
        start = perf_counter()
        work.prepare(name, small, backend).call()
        seconds[name] = perf_counter() - start
    return seconds


#: Of each work that is compared, the backends that take part, BASELINE among them.
Entrants = Mapping[str, Sequence[str]]


def hold(subject: Problem, entrants: Entrants, seconds: float, on_progress: Callable[[], object]) -> list[Result]:
    """Check and time a problem's work on each backend, in about ``seconds``."""
    reference = subject.reference()
    network = NETWORK_SHARE if work.NETWORK in entrants else 0
    kernels = len([what for what in entrants if what != work.NETWORK])
    results = []
    for what, names in entrants.items():
        share = network if what == work.NETWORK else (1 - network) / kernels
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


def promised(name: str) -> bool:
    """Whether a backend promises the bits of the others that do."""
    return name.removesuffix(SPECIALISED) in backends.ONE_ANSWER


def _equal_bits(name: str, answers: dict[str, Answer]) -> bool | None:
    if not promised(name):
        return None
    first = next(other for other in answers if promised(other))
    return accuracy.same_bits(answers[name], answers[first])
