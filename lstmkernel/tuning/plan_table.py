"""A plan as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from lstmkernel.host.numbers_text import digits, duration

if TYPE_CHECKING:
    from lstmkernel.tuning.plan import Contender, Plan


def table(plan: Plan) -> Group:
    """Fastest first; times as fast as what the model had before."""
    before = next((c.seconds for c in plan.contenders if c.name == plan.before), None)
    steps = "steps unknown" if plan.steps is None else f"{plan.steps} steps"
    threads = "1 thread" if plan.threads == 1 else f"at most {plan.threads} threads"
    title = f"{plan.network}\nbatch {plan.batch_size}, {steps}, {threads}, {plan.cpu}"
    title += ", remembered" if plan.remembered else ""
    shown = Table(box=box.SIMPLE, padding=0, show_edge=False)
    shown.add_column("Kernels", no_wrap=True)
    for heading in ("Time", "Faster", "Error", "Build"):
        shown.add_column(heading, justify="right", no_wrap=True)
    shown.add_column("", overflow="fold")
    for contender in plan.contenders:
        shown.add_row(*_row(contender, before, contender.name == plan.winner))
    return Group(Text(title), shown)  # a table's own title is folded to its width


def _row(contender: Contender, before: float | None, won: bool) -> list[Text]:
    seconds, style = contender.seconds, "bold green" if won else "dim" if contender.seconds is None else ""
    cells = [
        contender.name,
        "" if seconds is None else duration(seconds),
        "" if seconds is None or before is None else f"{digits(before / seconds)}x",
        "" if contender.error is None else f"{contender.error:.3f}",
        duration(contender.build_seconds) if contender.build_seconds else "",
        "taken" if won else contender.note,
    ]
    return [Text(cell, style) for cell in cells]
