"""Compare backends: compile each, check it against the float64 reference, and time it, case by case."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from lstmkernel import backends
from lstmkernel.backends import Backend, BackendError
from lstmkernel.backends.c import specialised
from lstmkernel.backends.packing import Array
from lstmkernel.host import spinner
from lstmkernel.tuning import contest
from lstmkernel.tuning.accuracy import Answer
from lstmkernel.workbench import cases, inputs, progress, rounding, workloads
from lstmkernel.workbench.cases import Case
from lstmkernel.workbench.networks import lstms
from lstmkernel.workbench.own_kernels import check, load
from lstmkernel.workbench.results import BASELINE, Comparison, Result
from lstmkernel.workbench.roofline.roofline import Roofline
from lstmkernel.workbench.shapes import Shape

#: The part of a case's time that goes to the whole network. Its kernels share the rest.
NETWORK_SHARE = 0.5

#: Runs through all code of the kernels in a moment: two layers, two directions, sizes that fill no vector.
SMALL = Shape("small", B=2, T=2, I=3, H=5, L=2, D=2, origin="")

#: The workloads that kernels with sizes as constants change.
SPECIALISED_WORKLOADS = ("layer_forward", workloads.NETWORK)


@dataclass(frozen=True)
class Request:
    """What is compared, and for how long."""

    cases: Sequence[Case]
    dtype: np.dtype[Any]
    workloads: Sequence[str]
    backends: Sequence[str]  # BASELINE among them
    seconds: float
    unusable: dict[str, str] = field(default_factory=dict)  # backends that cannot run here, and why
    own: Sequence[Backend] = ()  # of a user's own kernels
    inputs: Mapping[str, Array] = field(default_factory=dict)  # of the one network: where errors are measured, too
    specialise: bool = False
    roofline: bool = False


def run(request: Request) -> Comparison:
    """Everything that was asked for, with a progress bar on a terminal."""
    with spinner.silenced(), progress.bar() as bar:
        task = bar.add_task("", total=None)

        def begin(what: str) -> None:
            bar.update(task, description=what)

        chosen = {workload: list(request.backends) for workload in request.workloads}
        if request.specialise:
            begin("compile for these sizes")
            _add_specialised(chosen, request)
        wrong = _add_own(chosen, request, begin)
        everybody = dict.fromkeys(name for names in chosen.values() for name in names)
        bar.update(task, total=len(everybody) + len(request.cases) * len(chosen) + len(request.inputs))
        compile_seconds = {}
        for name in everybody:
            begin(f"compile {name}")
            its = [workload for workload, names in chosen.items() if name in names]
            compile_seconds[name] = first_calls(name, request.dtype, its)
            bar.advance(task)
        bounds = {}
        if request.roofline:
            begin("measure what a core can do")
            bounds = Roofline(request.cases, request.dtype).bounds(request.cases, chosen)
        results = []
        for case in request.cases:
            begin(case.name)
            results += compare(case, chosen, request.seconds / len(request.cases), lambda: bar.advance(task))
        on_inputs = []
        for name, x in request.inputs.items():
            begin(f"errors on {name}")
            on_inputs += inputs.measure(request.cases[0].net, name, x, chosen[workloads.NETWORK])
            bar.advance(task)
    return Comparison(
        request.dtype.name, chosen, compile_seconds, request.cases, results, request.unusable, wrong, bounds, on_inputs
    )


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


def _add_own(chosen: dict[str, list[str]], request: Request, begin: Callable[[str], None]) -> list[tuple[str, str]]:
    """Check a user's own kernels, and let the right ones take part. The wrong ones are returned, with the reason."""
    wrong = []
    for backend in request.own:
        backends.register(backend)
        for kernel in (kernel for kernel in load.kernels_of(backend) if kernel in chosen):
            begin(f"check {backend.name}")
            if failure := check.failure(kernel, backend, request.dtype):
                wrong.append((backend.name, failure))
            else:
                chosen[kernel].append(backend.name)
    return wrong


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


def compare(case: Case, chosen: dict[str, list[str]], seconds: float, advance: Callable[[], object]) -> list[Result]:
    """Check and time a case's workloads on their backends, in about ``seconds``. advance: called after each."""
    reference = case.reference()
    network = NETWORK_SHARE if workloads.NETWORK in chosen else 0
    kernels = len([name for name in chosen if name != workloads.NETWORK])
    results = []
    for workload, names in chosen.items():
        share = network if workload == workloads.NETWORK else (1 - network) / kernels
        results += _compare_workload(case, reference, workload, names, share * seconds)
        advance()
    return results


def _compare_workload(case: Case, reference: Case, workload: str, names: Sequence[str], seconds: float) -> list[Result]:
    prepared = {name: workloads.prepare(workload, case, name) for name in names}
    right = workloads.prepare(workload, reference, BASELINE).answer()
    candidates = {name: contest.Candidate(each.answer(), each.call) for name, each in prepared.items()}
    found = contest.run(candidates, right, case.dtype, seconds)
    limit = _limit(workload, reference, right, case.dtype) if any(one.error > 1 for one in found.values()) else 1.0
    medians = {name: result.seconds for name, result in found.items() if result.seconds is not None}
    return [
        Result(
            case=case.name,
            workload=workload,
            backend=name,
            error=found[name].error,
            limit=limit,
            equal_bits=found[name].same_bits,
            seconds=medians[name],
            rows=prepared[name].rows,
            flops=prepared[name].flops,
            times_numpy=medians[BASELINE] / medians[name],
        )
        for name in names
    ]


def _limit(workload: str, reference: Case, right: Answer, dtype: np.dtype[Any]) -> float:
    """The error up to which a workload agrees, which is above 1 where the network magnifies rounding."""

    def moved(seed: int) -> Answer:
        return workloads.prepare(workload, reference.moved(seed, dtype), BASELINE).answer()

    return rounding.limit(moved, right, dtype)
