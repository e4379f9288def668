"""Where output goes."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from lstmkernel.host.spinner import on_a_terminal


class _PipedConsole(Console):
    def on_broken_pipe(self) -> None:
        """Let ``main`` decide what a reader that went away means."""
        raise


def output() -> Console:
    """Results, on stdout."""
    return _PipedConsole(highlight=False)


def printable(text: str) -> str:
    """The same without what a terminal would obey: names in files may hold anything."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def progress() -> Progress:
    """A progress bar on stderr that leaves nothing behind, and is not there where stderr is no terminal."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not on_a_terminal(),
    )
