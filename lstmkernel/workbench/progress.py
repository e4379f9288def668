"""A progress bar for long measurements."""

from __future__ import annotations

from contextlib import ExitStack
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from lstmkernel.host import progress_lines
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
    """A bar that says what is done now and for how long all has run; what is left, once that can be told.

    Where stderr is not a terminal, a line says it every ten seconds.
    """

    def __init__(self, of: str) -> None:
        """of: what all of it is, for lines."""
        self._bar, self._of = bar(TimeElapsedColumn()), of
        self._task = self._bar.add_task("", total=None)
        self._now, self._left = "", 0.0
        self._open = ExitStack()

    def __enter__(self) -> Steps:
        if on_a_terminal():
            self._bar.start()
            self._open.callback(self._bar.stop)
        else:
            self._open.enter_context(progress_lines.lines(self._line))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._open.close()

    def begin(self, what: str) -> None:
        """Say what is done now."""
        self._now = what
        self._bar.update(self._task, description=what)

    def expect(self, seconds: float) -> None:
        """From now on, about so many seconds are left."""
        self._left = seconds
        self._bar.update(self._task, total=seconds)

    def done(self, seconds: float) -> None:
        """So many of them have passed."""
        self._left -= seconds
        self._bar.advance(self._task, seconds)

    def _line(self) -> str:
        left = f"; about {self._left:.0f} s are left" if self._left > 0 else ""
        return f"{self._of}: {self._now}{left}"
