"""A progress bar on stderr for long work, if stderr is a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from time import monotonic
from typing import Any

from lstmkernel.host.plain_text import plain
from lstmkernel.host.spinner import PATIENCE, is_wanted


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Give a function that takes how much more is done. The bar appears once the block has taken PATIENCE seconds."""
    bar, begin, done = None, monotonic(), 0
    wanted = is_wanted()

    def advance(more: int) -> None:
        nonlocal bar, done
        done += more
        if bar is None and wanted and monotonic() - begin > PATIENCE:
            bar = _bar()
            bar.add_task(plain(what), total=total)
            with suppress(OSError, ValueError):
                bar.start()
        if bar is not None:
            with suppress(OSError, ValueError):  # stderr may be closed meanwhile
                bar.update(bar.task_ids[0], completed=done)

    try:
        yield advance
    finally:
        if bar is not None:
            with suppress(OSError, ValueError):
                bar.stop()


def _bar() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn()
    return Progress(*columns, console=Console(stderr=True), transient=True)
