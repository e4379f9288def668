"""What ``compare`` found, as tables and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from statistics import geometric_mean
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

import lstmkernel
from lstmkernel import backends
from lstmkernel.host import numbers_text
from lstmkernel.tuning.accuracy import TOLERANCE
from lstmkernel.tuning.plan import SPECIALISED
from lstmkernel.workbench import workloads
from lstmkernel.workbench.cases import Problem
from lstmkernel.workbench.compare import BASELINE, Entrants, Result, promised


@dataclass(frozen=True)
class Report:
    """Everything that one ``compare`` measured."""

    dtype: str
    entrants: Entrants
    compile_seconds: dict[str, dict[str, float]]  # of each backend and work
    problems: Sequence[Problem]
    results: Sequence[Result]
    unusable: dict[str, str]
    wrong: list[tuple[str, str]]  # files of a user's own kernels that were not timed, and why
    least: dict[tuple[str, str], float | None]  # seconds, of a problem's work, that one core needs; empty if not asked

    @property
    def names(self) -> list[str]:
        """The backends that ran, fastest first."""
        return list(dict.fromkeys(name for names in self.entrants.values() for name in names))

    @property
    def disagreeing(self) -> list[Result]:
        """Results beyond the tolerance."""
        return [result for result in self.results if not result.agrees]

    @property
    def other_bits(self) -> list[Result]:
        """Results that break the promise of one answer."""
        return [result for result in self.results if result.equal_bits is False]

    def reached(self, result: Result) -> float | None:
        """The part of the least time in the time taken: 1 is the roof."""
        least = self.least.get((result.problem, result.work))
        return None if least is None else least / result.seconds

    def chosen(self, work_name: str, backend: str) -> list[Result]:
        """The results of one kernel, or the network, on one backend."""
        return [result for result in self.results if (result.work, result.backend) == (work_name, backend)]

    def mean_times_numpy(self, work_name: str, backend: str) -> float:
        """Geometric mean over the problems."""
        return geometric_mean(result.times_numpy for result in self.chosen(work_name, backend))

    def _times_numpy(self) -> dict[str, float]:
        """Of whole networks."""
        names = self.entrants.get(workloads.NETWORK, ())
        return {name: self.mean_times_numpy(workloads.NETWORK, name) for name in names}

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "machine": lstmkernel.info(),
            "dtype": self.dtype,
            "threads": 1,
            "tolerance": tolerance(self.dtype),
            "compile_seconds": self.compile_seconds,
            "unusable": self.unusable,
            "shapes": [{"name": p.name, "sizes": p.sizes, "origin": p.origin} for p in self.problems],
            "results": [{**_plain(result), "reached": self.reached(result)} for result in self.results],
            "times_numpy": self._times_numpy(),
            "wrong": [{"file": name, "why": failure} for name, failure in self.wrong],
            "agree": not self.disagreeing,
            "one_answer": not self.other_bits,
        }


def _plain(result: Result) -> dict[str, Any]:
    derived = {"steps_per_second": result.steps_per_second, "gflops": result.gflops, "agrees": result.agrees}
    # JSON has no NaN
    return {**asdict(result), "error": result.error if result.error < float("inf") else None, **derived}


def tolerance(dtype: str) -> str:
    """ "1e-05 + 1e-05 |reference|"."""
    return f"{TOLERANCE[dtype]:g} + {TOLERANCE[dtype]:g} |reference|"


def show(report: Report, out: Console) -> None:
    """The networks, the kernels, who could not run, and the verdicts."""
    if workloads.NETWORK in report.entrants:
        _show_all(report, out)
    else:
        out.print(kernels_by_shape(report))
        out.print(f"\n{_legend(report)}\n", style="dim", markup=False)
    for name, reason in report.unusable.items():
        out.print(Text(f"Not here: {name}: {reason.removeprefix(f'backend {name!r}: ')}", "dim"))
    for line in verdicts(report):
        out.print(line)


def _show_all(report: Report, out: Console) -> None:
    out.print(Text("Whole networks", "bold"))
    out.print(networks(report))
    out.print(f"\n{_legend(report)}\n", style="dim", markup=False)
    out.print(Text("Kernels alone", "bold"))
    out.print(_kernels(report))
    out.print(
        "\nThe first layer of every shape above: the largest error; times as fast as NumPy, as the geometric mean "
        "and where it is least.\n",
        style="dim",
    )


def _legend(report: Report) -> str:
    return (
        f"1 thread each, {report.dtype}. Shape: B,T,I,H[,L[,D]]. Compile: all kernels, or loading those kept from "
        f"before. Error: the largest, in multiples of {tolerance(report.dtype)}, the float64 reference; "
        "up to 1 agrees. Time: median of one call. Steps/s: time steps of all batch rows. GFLOP/s: of the matrix "
        "products. xNumPy: times as fast as NumPy."
        + (" Roof: the least time that one core needs over the time taken." if report.least else "")
    )


def networks(report: Report) -> Table:
    roof = ("Roof",) if report.least else ()
    table = _table("Shape", "Backend", right=("Compile", "Error", "Time", "Steps/s", "GFLOP/s", "xNumPy", *roof))
    for problem in report.problems:
        results = [r for r in report.results if (r.problem, r.work) == (problem.name, workloads.NETWORK)]
        label = dict.fromkeys((problem.name, problem.sizes, problem.origin))  # sizes may be the name
        compiled = [sum(report.compile_seconds[result.backend].values()) for result in results]
        table.add_row(
            _lines(Text(line, "dim" if line == problem.origin else "") for line in label),
            _lines(result.backend for result in results),
            _lines(_compile(r.backend, seconds) for r, seconds in zip(results, compiled, strict=True)),
            _lines(_error(result.error) for result in results),
            _lines(numbers_text.duration(result.seconds) for result in results),
            _lines(numbers_text.count(result.steps_per_second) for result in results),
            _lines(numbers_text.digits(result.gflops or 0) for result in results),
            _lines(_ratio(result.times_numpy, result.backend) for result in results),
            *(_lines(_percent(report.reached(result)) for result in results) for _ in roof),
        )
        table.add_section()
    return table


def _kernels(report: Report) -> Table:
    table = _table("Kernel", "Backend", right=("Compile", "Error", "xNumPy", "least"))
    table.add_column("at shape", no_wrap=True)
    for kernel in backends.KERNELS:
        found = {name: report.chosen(kernel, name) for name in report.entrants[kernel]}
        least = [min(results, key=lambda result: result.times_numpy) for results in found.values()]
        table.add_row(
            kernel,
            _lines(found),
            _lines(_compile(name, report.compile_seconds[name][kernel]) for name in found),
            _lines(_error(_largest(results)) for results in found.values()),
            _lines(_ratio(report.mean_times_numpy(kernel, name), name) for name in found),
            _lines(_ratio(result.times_numpy, result.backend) for result in least),
            _lines("" if result.backend == BASELINE else result.problem for result in least),
        )
        table.add_section()
    return table


def kernels_by_shape(report: Report) -> Table:
    """Every kernel that was asked for at every shape."""
    roof = ("Roof",) if report.least else ()
    table = _table("Kernel", "Shape", "Backend", right=("Error", "Time", "GFLOP/s", "xNumPy", *roof))
    for kernel in report.entrants:
        for problem in report.problems:
            results = [r for r in report.results if (r.problem, r.work) == (problem.name, kernel)]
            results.sort(key=lambda result: result.seconds)
            table.add_row(
                kernel,
                _lines(dict.fromkeys((problem.name, problem.sizes))),
                _lines(result.backend for result in results),
                _lines(_error(result.error) for result in results),
                _lines(numbers_text.duration(result.seconds) for result in results),
                _lines("" if result.gflops is None else numbers_text.digits(result.gflops) for result in results),
                _lines(_ratio(result.times_numpy, result.backend) for result in results),
                *(_lines(_percent(report.reached(result)) for result in results) for _ in roof),
            )
            table.add_section()
    return table


def _table(*left: str, right: Iterable[str]) -> Table:
    """A table with the headings of text to the left and of numbers to the right, that fits 80 columns."""
    table = Table(box=box.SIMPLE, padding=0, show_edge=False)
    for heading in left:
        table.add_column(heading, overflow="fold")
    for heading in right:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def verdicts(report: Report) -> Iterable[Text]:
    if not backends.c_is_built():
        yield Text(f"NO C BACKEND, the fastest one. To get it, {backends.HOW_TO_GET_C}", "bold red")
    if report.disagreeing:
        yield Text(f"DISAGREE with the float64 reference: {_where(report.disagreeing)}", style="bold red")
    else:
        yield Text("Every kernel and network agrees with the float64 reference.", style="green")
    for name, failure in report.wrong:
        yield Text(f"WRONG, and not timed: {name}: {failure}", style="bold red")
    same = [name for name in report.names if promised(name)]
    if report.other_bits:
        yield Text(f"NOT ONE ANSWER: other bits than {same[0]}: {_where(report.other_bits)}", style="bold red")
    elif len(same) > 1:
        yield Text(f"One answer: {', '.join(same)} gave the same bits everywhere.", style="green")
    if workloads.NETWORK in report.entrants:
        others = [name for name in report.entrants[workloads.NETWORK] if name != BASELINE]
        means = [f"{name} {numbers_text.digits(report.mean_times_numpy(workloads.NETWORK, name))}" for name in others]
        yield Text(f"Times NumPy, geometric mean over the networks: {', '.join(means)}")


def _where(results: Iterable[Result]) -> str:
    return "; ".join(f"{result.backend} in {result.work} of {result.problem}" for result in results)


def _lines(cells: Iterable[str | Text]) -> Text:
    return Text("\n").join(cell if isinstance(cell, Text) else Text(cell) for cell in cells)


def _compile(backend: str, seconds: float) -> str:
    if backend.startswith("c:"):
        return "just now" if backend.endswith(SPECIALISED) else "prebuilt"
    return "none" if backend == BASELINE else numbers_text.duration(seconds)


def _largest(results: Iterable[Result]) -> float:
    """The largest error; a NaN is larger than all."""
    return max((result.error for result in results), key=lambda error: error if error == error else float("inf"))


def _error(multiple: float) -> Text:
    return Text(f"{multiple:.3f}" if multiple < 10 else f"{multiple:.0e}", "" if multiple <= 1 else "bold red")


def _percent(part: float | None) -> str:
    return "" if part is None else f"{part:.0%}"


def _ratio(times_numpy: float, backend: str) -> Text:
    lost = times_numpy < 1 and backend != BASELINE
    return Text(numbers_text.digits(times_numpy), "red" if lost else "")
