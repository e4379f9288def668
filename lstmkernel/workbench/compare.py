"""Compare backends: compile each, check it against the float64 reference, and time it, case by case."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from lstmkernel import backends
from lstmkernel.backends import BackendError
from lstmkernel.backends.c import specialised
from lstmkernel.backends.packing import Array
from lstmkernel.host import spinner
from lstmkernel.tuning import contest
from lstmkernel.tuning.accuracy import Answer
from lstmkernel.workbench import cases, inputs, narrow, progress, rounding, workloads
from lstmkernel.workbench.cases import Case
from lstmkernel.workbench.networks import lstms
from lstmkernel.workbench.own_kernels.process import KernelFailed, OwnKernels, RemoteTimer
from lstmkernel.workbench.results import BASELINE, Comparison, Result, Wrong
from lstmkernel.workbench.roofline.roofline import Roofline
from lstmkernel.workbench.shapes import Shape
from lstmkernel.workbench.workloads import Workload

#: The part of a case's time that goes to the whole network. Its kernels share the rest.
NETWORK_SHARE = 0.5
#: Of a slow backend; only to say how long the checks will take.
OPERATIONS_A_SECOND = 2e10

#: Runs through all code of the kernels in a moment: two layers, two directions, sizes that fill no vector.
SMALL = Shape("small", B=2, T=2, I=3, H=5, L=2, D=2, origin="")

#: The workloads that kernels with sizes as constants change, and kernels of fewer bits.
SPECIALISED_WORKLOADS = ("layer_forward", workloads.NETWORK)


@dataclass(frozen=True)
class _Own:
    """A user's own kernels, and what was found about them so far."""

    files: Mapping[str, OwnKernels] = field(default_factory=dict)
    wrong: list[Wrong] = field(default_factory=list)
    compile_seconds: dict[str, dict[str, float]] = field(default_factory=dict)

    def failed(self, name: str, kernel: str, case: Case | None, failed: KernelFailed) -> None:
        """Keep that a kernel failed: in a case, or with None in the checks before all cases."""
        self.wrong.append(Wrong(name, kernel, case.name if case else None, failed.word, failed.why))


@dataclass(frozen=True)
class Request:
    """What is compared, and for how long."""

    cases: Sequence[Case]
    dtype: np.dtype[Any]
    workloads: Sequence[str]
    backends: Sequence[str]  # BASELINE among them
    seconds: float
    unusable: dict[str, str] = field(default_factory=dict)  # backends that cannot run here, and why
    own: Sequence[OwnKernels] = ()
    inputs: Mapping[str, Array] = field(default_factory=dict)  # of the one network: where errors are measured, too
    specialise: bool = False
    precisions: Sequence[str] = ()  # of narrow.CHOICES: kernels of fewer bits beside the others
    roofline: bool = False


def run(request: Request) -> Comparison:
    """Everything that was asked for, with a progress bar on a terminal. The files of ``request.own`` stay open."""
    with spinner.silenced(), progress.Steps("lstmkernel compare") as steps:
        chosen = {workload: list(request.backends) for workload in request.workloads}
        if request.specialise:
            steps.begin("compile for these sizes")
            _add_specialised(chosen, request)
        _add_narrow(chosen, request)
        own = _check_own(chosen, request, steps)
        compile_seconds = {**_compile(chosen, request, steps), **own.compile_seconds}
        roofline = None
        if request.roofline:
            steps.begin("measure what a core can do")
            precisions = {choice: narrow.CHOICES[choice] for choice in request.precisions}
            roofline = Roofline(request.cases, request.dtype, precisions)
        run = _Run(chosen, own, steps)
        seconds = request.seconds / len(request.cases)
        steps.expect(sum(run.expected(case, seconds) for case in request.cases))
        start = perf_counter()
        results = [result for case in request.cases for result in run.case(case, seconds)]
        check_seconds = perf_counter() - start - run.timing_seconds
        on_inputs = []
        for name, x in request.inputs.items():
            steps.begin(f"errors on {name}")
            names = [each for each in chosen[workloads.NETWORK] if narrow.parts_of(each)[1] is None]
            on_inputs += inputs.measure(request.cases[0].net, name, x, names)
    return Comparison(
        dtype=request.dtype.name,
        backends=chosen,
        compile_seconds=compile_seconds,
        cases=request.cases,
        results=results,
        unusable=request.unusable,
        wrong=own.wrong,
        bounds=roofline.bounds(request.cases, list(chosen)) if roofline else {},
        peaks=roofline.peaks if roofline else {},
        timing_seconds=run.timing_seconds,
        check_seconds=check_seconds,
        on_inputs=on_inputs,
    )


def _compile(chosen: dict[str, list[str]], request: Request, steps: progress.Steps) -> dict[str, dict[str, float]]:
    """Seconds of the first call of each workload on each backend of the package."""
    seconds = {}
    for name in dict.fromkeys(name for names in chosen.values() for name in names):
        if name not in {own.name for own in request.own}:
            steps.begin(f"compile {name}")
            its = [workload for workload, names in chosen.items() if name in names]
            seconds[name] = first_calls(name, request.dtype, its)
    return seconds


def _add_specialised(chosen: dict[str, list[str]], request: Request) -> None:
    """Compile C kernels for the sizes of all layers, and let them take part."""
    found = [isa for isa in specialised.TARGETS if f"c:{isa}" in request.backends]
    if not found:
        needed = ", ".join(f"c:{isa}" for isa in specialised.TARGETS)
        raise BackendError(f"--specialise: needs one of the backends {needed}")
    shapes = [lstm.shape for case in request.cases for lstm in lstms(case.net)]
    layers = dict.fromkeys(sizes for shape in shapes for sizes in shape.layer_sizes())
    for isa in reversed(found):
        backend, _ = specialised.backend(isa, request.dtype, layers)
        backends.register(backend)
        for workload in chosen.keys() & {*SPECIALISED_WORKLOADS}:
            chosen[workload].insert(0, backend.name)


def _add_narrow(chosen: dict[str, list[str]], request: Request) -> None:
    """Let kernels of fewer bits take part, after those of the same backend."""
    for workload in chosen.keys() & {*SPECIALISED_WORKLOADS}:
        for name in [name for name in request.backends if name != BASELINE]:
            for choice in reversed(request.precisions):
                made = narrow.backend(name, choice)
                backends.register(made)
                chosen[workload].insert(chosen[workload].index(name) + 1, made.name)


def _check_own(chosen: dict[str, list[str]], request: Request, steps: progress.Steps) -> _Own:
    """Check a user's own kernels, and let the right ones take part."""
    small = cases.of_shape(SMALL, request.dtype)
    checked = _Own({own.name: own for own in request.own})
    for own in request.own:
        compile_seconds = checked.compile_seconds.setdefault(own.name, {})
        for kernel in (kernel for kernel in own.kernels if kernel in chosen):
            steps.begin(f"check {kernel} of {own.name}")
            try:
                compile_seconds[kernel] = own.check(kernel, small)
            except KernelFailed as failed:
                checked.failed(own.name, kernel, None, failed)
            else:
                chosen[kernel].append(own.name)
    return checked


def first_calls(backend: str, dtype: DTypeLike, names: Iterable[str]) -> dict[str, float]:
    """Seconds of the first call of each workload, which compiles it. The case is tiny."""
    backends.get(backend)
    small = cases.of_shape(SMALL, dtype)
    seconds = {}
    for name in names:
        start = perf_counter()
        workloads.prepare(name, small, backend).call()
        seconds[name] = perf_counter() - start
    return seconds


class _Run:
    """Checks and times case after case."""

    def __init__(self, chosen: Mapping[str, Sequence[str]], own: _Own, steps: progress.Steps) -> None:
        self._chosen, self._own, self._steps = chosen, own, steps
        self.timing_seconds = 0.0  # so far

    def expected(self, case: Case, seconds: float) -> float:
        """About the seconds that ``case`` will take, timing for ``seconds``."""
        return sum(self._checking(case, name) for name in self._chosen) + seconds

    def case(self, case: Case, seconds: float) -> list[Result]:
        """Check and time a case's workloads on their backends, in about ``seconds`` beside the checks."""
        network = NETWORK_SHARE if workloads.NETWORK in self._chosen else 0
        kernels = len([name for name in self._chosen if name != workloads.NETWORK])
        reference = case.reference()
        results = []
        for workload in self._chosen:
            share = network if workload == workloads.NETWORK else (1 - network) / kernels
            results += self._workload(case, reference, workload, share * seconds)
            self._steps.done(self._checking(case, workload) + share * seconds)
        return results

    def _checking(self, case: Case, workload: str) -> float:
        """About the seconds of one call on each backend, and of the reference's, which takes two."""
        return workloads.operations(workload, case) * (len(self._chosen[workload]) + 2) / OPERATIONS_A_SECOND

    def _workload(self, case: Case, reference: Case, workload: str, seconds: float) -> list[Result]:
        self._steps.begin(f"{case.name}: {workload}, the float64 reference")
        right = workloads.prepare(workload, reference, BASELINE).answer()
        baseline, candidates = self._candidates(case, workload)
        self._steps.begin(f"{case.name}: time {workload}")
        start = perf_counter()
        found = contest.run(candidates, right, case.dtype, seconds)
        self.timing_seconds += perf_counter() - start
        self._drop_failed(candidates, found, case, workload)
        far = any(one.error > 1 for name, one in found.items() if narrow.parts_of(name)[1] is None)
        limit = _limit(workload, reference, right, case.dtype) if far else 1.0
        medians = {name: result.seconds for name, result in found.items() if result.seconds is not None}
        return [
            Result(
                case=case.name,
                workload=workload,
                backend=name,
                error=result.error,
                limit=limit,
                equal_bits=result.same_bits,
                seconds=medians[name],
                rows=baseline.rows,
                flops=baseline.flops,
                times_numpy=medians[BASELINE] / medians[name],
                precision=narrow.parts_of(name)[1] or case.dtype.name,
            )
            for name, result in found.items()
        ]

    def _candidates(self, case: Case, workload: str) -> tuple[Workload, dict[str, contest.Candidate]]:
        """The baseline's workload, and the candidates with their answers."""
        prepared, candidates = {}, {}
        for name in self._chosen[workload]:
            self._steps.begin(f"{case.name}: check {workload} of {name}")
            try:
                if own := self._own.files.get(name):
                    candidates[name] = contest.Candidate(own.answer(workload, case), own.timer())
                else:
                    prepared[name] = workloads.prepare(workload, case, name)
                    candidates[name] = contest.Candidate(prepared[name].answer(), prepared[name].call)
            except KernelFailed as failed:
                self._own.failed(name, workload, case, failed)
        return prepared[BASELINE], candidates

    def _drop_failed(
        self, candidates: dict[str, contest.Candidate], found: dict[str, contest.Result], case: Case, workload: str
    ) -> None:
        """A user's own kernels that failed while they were timed."""
        for name, candidate in candidates.items():
            if isinstance(candidate.call, RemoteTimer) and candidate.call.failed:
                del found[name]
                self._own.failed(name, workload, case, candidate.call.failed)


def _limit(workload: str, reference: Case, right: Answer, dtype: np.dtype[Any]) -> float:
    """The error up to which a workload agrees, which is above 1 where the network magnifies rounding."""

    def moved(seed: int) -> Answer:
        return workloads.prepare(workload, reference.moved(seed, dtype), BASELINE).answer()

    return rounding.limit(moved, right, dtype)
