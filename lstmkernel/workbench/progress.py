"""A progress bar for long measurements."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from lstmkernel.host.spinner import on_a_terminal


def bar(*more: TimeElapsedColumn) -> Progress:
    """On stderr; it disappears at the end. Where stderr is not a terminal, it shows nothing."""
    shown = on_a_terminal()
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        *more,
        TimeRemainingColumn(),
        console=Console(stderr=True, quiet=not shown),  # rich 13.0 ends a disabled bar, too, with a line
        transient=True,
        disable=not shown,
    )


class Steps:
    """A bar that says what is done now and for how long all has run; what is left, once that can be told."""

    def __init__(self) -> None:
        self._bar = bar(TimeElapsedColumn())
        self._task = self._bar.add_task("", total=None)

    def __enter__(self) -> Steps:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._bar.stop()

    def begin(self, what: str) -> None:
        """Say what is done now."""
        self._bar.update(self._task, description=what)

    def expect(self, seconds: float) -> None:
        """From now on, about so many seconds are left."""
        self._bar.update(self._task, total=seconds)

    def done(self, seconds: float) -> None:
        """So many of them have passed."""
        self._bar.advance(self._task, seconds)
