"""A progress bar for long measurements."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from lstmkernel.host.spinner import on_a_terminal


def bar() -> Progress:
    """On stderr; it disappears at the end. Where stderr is not a terminal, it shows nothing."""
    shown = on_a_terminal()
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True, quiet=not shown),  # rich 13.0 ends a disabled bar, too, with a line
        transient=True,
        disable=not shown,
    )
