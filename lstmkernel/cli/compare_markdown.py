"""The results of ``compare`` as Markdown: one table with a line for every result, then the verdicts."""

from __future__ import annotations

from lstmkernel.cli.compare_table import verdicts
from lstmkernel.host import numbers_text
from lstmkernel.workbench.results import Comparison, Result

_HEADS = ("what", "shape", "backend", "error", "time", "GFLOP/s", "xNumPy")
_RULES = (*("---",) * 3, *("---:",) * 4)


def table(found: Comparison) -> str:
    """The text of a file."""
    sizes = {case.name: case.sizes for case in found.cases}
    lines = [_HEADS, _RULES, *(_cells(result, sizes[result.case]) for result in found.results)]
    if found.bounds:
        parts = [found.reached(result) for result in found.results]
        more = ["reached", "---:", *("" if part is None else f"{part:.0%}" for part in parts)]
        lines = [(*line, cell) for line, cell in zip(lines, more, strict=True)]
    rows = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    remarks = "\n".join(f"- {line.plain}" for line in verdicts(found))
    return f"{rows}\n\n{remarks}\n"


def _cells(result: Result, sizes: str) -> tuple[str, ...]:
    shape = result.case if sizes == result.case else f"{result.case} {sizes}"
    gflops = "" if result.gflops is None else numbers_text.digits(result.gflops)
    speed = (numbers_text.duration(result.seconds), gflops, numbers_text.digits(result.times_numpy))
    return (result.workload, shape, result.backend, f"{result.error:.3f}", *speed)
