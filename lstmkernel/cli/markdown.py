"""What ``compare`` found, as Markdown: one table, a line for every result."""

from __future__ import annotations

from lstmkernel.cli.report import Report, verdicts
from lstmkernel.host import numbers_text
from lstmkernel.workbench.compare import Result

_HEADS = ("what", "shape", "backend", "error", "time", "GFLOP/s", "xNumPy")
_RULES = (*("---",) * 3, *("---:",) * 4)


def of(report: Report) -> str:
    """The text of a file."""
    sizes = {problem.name: problem.sizes for problem in report.problems}
    roof = bool(report.least)
    lines = [(*_HEADS, "roof"), (*_RULES, "---:")] if roof else [_HEADS, _RULES]
    for result in report.results:
        part = report.reached(result)
        reached = ("" if part is None else f"{part:.0%}",)
        lines.append((*_cells(result, sizes[result.problem]), *(reached if roof else ())))
    remarks = "\n".join(f"- {line.plain}" for line in verdicts(report))
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    return f"{table}\n\n{remarks}\n"


def _cells(result: Result, sizes: str) -> tuple[str, ...]:
    shape = result.problem if sizes == result.problem else f"{result.problem} {sizes}"
    gflops = "" if result.gflops is None else numbers_text.digits(result.gflops)
    speed = (numbers_text.duration(result.seconds), gflops, numbers_text.digits(result.times_numpy))
    return (result.work, shape, result.backend, f"{result.error:.3f}", *speed)
