"""The results of ``compare`` as Markdown: one table with a line for every result, then the verdicts."""

from __future__ import annotations

from lstmkernel.cli.compare_table import verdicts
from lstmkernel.host import numbers_text
from lstmkernel.workbench.cases import Case
from lstmkernel.workbench.results import Comparison, Result

_HEADS = ("what", "shape", "backend", "error", "time", "GFLOP/s", "xNumPy")
_RULES = (*("---",) * 3, *("---:",) * 4)


def table(found: Comparison) -> str:
    """The text of a file."""
    lines: list[tuple[str, ...]] = [_HEADS, _RULES]
    parts = ["reached", "---:"]
    for workload in found.backends:
        for case in found.cases:
            for result in found.of(workload, case=case.name):
                lines.append(_cells(result, _shape(case)))
                parts.append(_percent(found.reached(result)))
            for one in found.wrong_in(workload, case.name):
                lines.append((workload, _shape(case), one.backend, one.word, "", "", ""))
                parts.append("")
    if found.bounds:
        lines = [(*line, part) for line, part in zip(lines, parts, strict=True)]
    rows = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    remarks = "\n".join(f"- {line.plain}" for line in verdicts(found))
    return f"{rows}\n\n{remarks}\n"


def _shape(case: Case) -> str:
    return case.name if case.sizes == case.name else f"{case.name} {case.sizes}"


def _percent(part: float | None) -> str:
    return "" if part is None else f"{part:.0%}"


def _cells(result: Result, shape: str) -> tuple[str, ...]:
    gflops = "" if result.gflops is None else numbers_text.digits(result.gflops)
    speed = (numbers_text.duration(result.seconds), gflops, numbers_text.digits(result.times_numpy))
    return (result.workload, shape, result.backend, f"{result.error:.3f}", *speed)
