"""What ``compare`` found, as Markdown: one table, a line for every result."""

from __future__ import annotations

from collections.abc import Iterable

from lstmkernel import figures
from lstmkernel.cli.contest import Result
from lstmkernel.cli.report import Report, verdicts

_HEAD = """\
| what | shape | backend | error | time | GFLOP/s | xNumPy |
| --- | --- | --- | ---: | ---: | ---: | ---: |
"""


def of(report: Report) -> str:
    """The text of a file."""
    sizes = {problem.name: problem.sizes for problem in report.problems}
    rows = "\n".join(_row(_cells(result, sizes[result.problem])) for result in report.results)
    remarks = "\n".join(f"- {line.plain}" for line in verdicts(report))
    return f"{_HEAD}{rows}\n\n{remarks}\n"


def _cells(result: Result, sizes: str) -> Iterable[str]:
    shape = result.problem if sizes == result.problem else f"{result.problem} {sizes}"
    gflops = "" if result.gflops is None else figures.digits(result.gflops)
    speed = (figures.duration(result.seconds), gflops, figures.digits(result.times_numpy))
    return (result.work, shape, result.backend, f"{result.error:.3f}", *speed)


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
