"""How long one kernel call may be: a kernel cannot hear Ctrl-C, so long work is cut into calls."""

from __future__ import annotations

from collections.abc import Iterator

from lstmkernel.backends import Backend

#: A kernel call is kept to about so long, so that Ctrl-C is heard within a second.
CALL_SECONDS = 0.4


def call_work(backend: Backend, rows: int, itemsize: int) -> int:
    """Floating-point operations of a call. A few rows are slower: they wait for weights from memory."""
    return int(CALL_SECONDS * backend.gflops * 1e9 * min(rows, 8) / 8 * 4 / itemsize)


def spans(total: int, most: int) -> Iterator[slice]:
    """0..total in consecutive slices of at most ``most``, and at least 1."""
    most = max(1, most)
    for start in range(0, total, most):
        yield slice(start, min(start + most, total))
