"""Write blocks by a thread of its own: the next block is computed meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

from lstmkernel.backends.packing import Array
from lstmkernel.workbench.blockwise.arrays import Index
from lstmkernel.workbench.blockwise.grid import Sink


class _Behind:
    """It holds one block. An error of writing comes with the next block, or at the end."""

    def __init__(self, sink: Sink, thread: ThreadPoolExecutor) -> None:
        self._sink, self._thread = sink, thread
        self._last: Future[None] | None = None

    def write(self, index: Index, block: Array) -> None:
        """The caller changes the block no more."""
        self.finish()
        self._last = self._thread.submit(self._sink.write, index, block)

    def finish(self) -> None:
        if self._last is not None:
            self._last.result()


@contextmanager
def written_behind(sink: Sink) -> Iterator[Sink]:
    """A sink for the block. When it ends, all is written to ``sink``."""
    with ThreadPoolExecutor(1, "lstmkernel-write") as thread:
        behind = _Behind(sink, thread)
        yield behind
        behind.finish()
