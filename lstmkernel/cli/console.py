"""Where output goes."""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.measure import Measurement
from rich.table import Table


class _PipedConsole(Console):
    def on_broken_pipe(self) -> None:
        """Pass the exception on: ``main`` decides what happens when the reader of the output has gone."""
        raise


def output() -> Console:
    """For results, on stdout."""
    return _PipedConsole(highlight=False)


def print_whole(out: Console, shown: RenderableType) -> None:
    """Print tables in their own width where the terminal is narrower, so that no number is cut: lines run over."""
    if isinstance(shown, Group):
        for part in shown.renderables:
            print_whole(out, part)
    elif isinstance(shown, Table):
        terminal = out.width
        out.width = max(terminal, width_of(shown, out))
        out.print(shown)
        out.width = terminal
    else:
        out.print(shown)


def width_of(table: Table, out: Console) -> int:
    """The width in which no cell is cut."""
    return Measurement.get(out, out.options.update(max_width=1000), table).maximum


def printable(text: str) -> str:
    """The text with control characters escaped: names in files may hold anything, and terminals obey some."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
