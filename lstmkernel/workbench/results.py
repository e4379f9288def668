"""The results of a comparison, apart from how they are shown. They convert to JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from statistics import geometric_mean
from typing import Any, NamedTuple

import lstmkernel
from lstmkernel.tuning import accuracy
from lstmkernel.workbench import narrow, workloads
from lstmkernel.workbench.cases import Case
from lstmkernel.workbench.roofline.bounds import Peaks

#: The backend that all are compared with.
BASELINE = "numpy"


@dataclass(frozen=True)
class Result:
    """One workload of one case on one backend."""

    case: str
    workload: str
    backend: str
    error: float  # in multiples of the tolerance
    limit: float  # the error up to which it agrees: above 1 where the network magnifies rounding
    equal_bits: bool | None  # as the first backend that promises its bits; None where that is not promised
    seconds: float  # median of one call
    rows: int
    flops: int | None
    times_numpy: float
    precision: str  # of its weights: the dtype, or one of narrow.CHOICES

    @property
    def is_narrow(self) -> bool:
        """Whether its weights have fewer bits. Its error then is what it is."""
        return self.precision in narrow.CHOICES

    @property
    def agrees(self) -> bool:
        return isfinite(self.error) if self.is_narrow else accuracy.agrees(self.error, self.limit)

    @property
    def steps_per_second(self) -> float:
        """Time steps of all batch rows."""
        return self.rows / self.seconds

    @property
    def gflops(self) -> float | None:
        """GFLOP/s of the matrix products."""
        return None if self.flops is None else self.flops / self.seconds / 1e9

    def as_json(self) -> dict[str, Any]:
        """Plain values. The keys are public and stay as they are."""
        names = ("backend", "precision", "limit", "equal_bits", "seconds", "rows", "flops", "times_numpy")
        return {
            "problem": self.case,
            "work": self.workload,
            "error": self.error if self.error < float("inf") else None,  # JSON has no NaN
            **{name: getattr(self, name) for name in (*names, "steps_per_second", "gflops", "agrees")},
        }


@dataclass(frozen=True)
class InputResult:
    """Errors of one backend on one input of a network, in multiples of the tolerance."""

    input: str
    backend: str
    step: float  # the largest of all steps, each from the state that float64 has there
    sequence: float
    limit: float  # the error up to which a sequence agrees: above 1 where the network magnifies rounding

    @property
    def agrees(self) -> bool:
        return accuracy.agrees(self.step) and accuracy.agrees(self.sequence, self.limit)

    def as_json(self) -> dict[str, Any]:
        """Plain values. The keys are public and stay as they are."""
        errors = {name: getattr(self, name) for name in ("step", "sequence")}
        return {
            "input": self.input,
            "backend": self.backend,
            **{name: error if error < float("inf") else None for name, error in errors.items()},  # JSON has no NaN
            "limit": self.limit,
            "agrees": self.agrees,
        }


class Wrong(NamedTuple):
    """A kernel of a user's own file that was not timed."""

    backend: str
    workload: str
    case: str | None  # None: in all cases, because a check before them failed
    word: str  # "WRONG", "OVERRUN", "CRASH", "HANGS", "FAILED"
    why: str


@dataclass(frozen=True)
class Comparison:
    """Everything that one ``compare`` measured."""

    dtype: str
    backends: Mapping[str, Sequence[str]]  # of each workload, those that ran, BASELINE among them
    compile_seconds: Mapping[str, Mapping[str, float]]  # of each backend and workload
    cases: Sequence[Case]
    results: Sequence[Result]
    unusable: Mapping[str, str]  # backends that cannot run here, and why
    wrong: Sequence[Wrong]
    #: Of a precision, case and workload: the least seconds. Empty if not asked for.
    bounds: Mapping[tuple[str, str, str], float | None]
    #: Of one core, by precision, that of the dtype first. Empty as well.
    peaks: Mapping[str, Peaks] = field(default_factory=dict)
    on_inputs: Sequence[InputResult] = ()  # with a network of the user's own
    timing_seconds: float = 0.0
    check_seconds: float = 0.0  # that the calls before took, each backend's and the float64 reference's

    @property
    def names(self) -> list[str]:
        """The backends that ran."""
        return list(dict.fromkeys(name for names in self.backends.values() for name in names))

    @property
    def disagreeing(self) -> list[Result]:
        """Results whose error is above the limit."""
        return [result for result in self.results if not result.agrees]

    @property
    def disagreeing_inputs(self) -> list[InputResult]:
        """The same, of those on inputs."""
        return [result for result in self.on_inputs if not result.agrees]

    @property
    def other_bits(self) -> list[Result]:
        """Results that are not bit-identical to the others, although their backend promises that."""
        return [result for result in self.results if result.equal_bits is False]

    @property
    def all_right(self) -> bool:
        """Whether every result is right and every promise is kept."""
        return not (self.disagreeing or self.disagreeing_inputs or self.other_bits or self.wrong)

    def reached(self, result: Result) -> float | None:
        """The part of the bound that was reached: 1 is the least time. None where there is no bound."""
        bound = self.bound(result)
        return None if bound is None else bound / result.seconds

    def bound(self, result: Result) -> float | None:
        """The least seconds; None where there is no bound."""
        return self.bounds.get((result.precision, result.case, result.workload))

    def of(self, workload: str, *, backend: str | None = None, case: str | None = None) -> list[Result]:
        """The results of a workload; on one backend, or of one case."""
        return [
            result
            for result in self.results
            if result.workload == workload and backend in (None, result.backend) and case in (None, result.case)
        ]

    def wrong_in(self, workload: str, case: str) -> list[Wrong]:
        """The kernels that were not timed there."""
        return [one for one in self.wrong if one.workload == workload and one.case in (None, case)]

    def mean_times_numpy(self, workload: str, backend: str) -> float:
        """Geometric mean over the cases."""
        return geometric_mean(result.times_numpy for result in self.of(workload, backend=backend))

    def as_json(self) -> dict[str, Any]:
        """Plain values. The keys are public and stay as they are."""
        networks = self.backends.get(workloads.NETWORK, ())
        return {
            "machine": lstmkernel.info(),
            "dtype": self.dtype,
            "threads": 1,
            "tolerance": accuracy.tolerance_text(self.dtype),
            "compile_seconds": self.compile_seconds,
            "unusable": self.unusable,
            "shapes": [{"name": case.name, "sizes": case.sizes, "origin": case.origin} for case in self.cases],
            "results": [{**result.as_json(), "reached": self.reached(result)} for result in self.results],
            "times_numpy": {name: self.mean_times_numpy(workloads.NETWORK, name) for name in networks},
            "peaks": self._peaks_as_json(),
            "wrong": [
                {"file": one.backend, "work": one.workload, "problem": one.case, "what": one.word, "why": one.why}
                for one in self.wrong
            ],
            "inputs": [result.as_json() for result in self.on_inputs],
            "agree": not (self.disagreeing or self.disagreeing_inputs),
            "one_answer": not self.other_bits,
        }

    def _peaks_as_json(self) -> dict[str, Any] | None:
        if not self.peaks:
            return None
        wide, *others = self.peaks
        narrower = {
            name: {"operations_per_second": self.peaks[name].flops, "weight_bytes": self.peaks[name].itemsize}
            for name in others
        }
        return {**self.peaks[wide].as_json(), "precisions": narrower}
