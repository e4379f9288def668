"""Where output goes."""

from __future__ import annotations

from rich.console import Console


class _PipedConsole(Console):
    def on_broken_pipe(self) -> None:
        """Pass the exception on: ``main`` decides what happens when the reader of the output has gone."""
        raise


def output() -> Console:
    """For results, on stdout."""
    return _PipedConsole(highlight=False)


def printable(text: str) -> str:
    """The text with control characters escaped: names in files may hold anything, and terminals obey some."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
