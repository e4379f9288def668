"""How long one kernel call may be: a kernel cannot hear Ctrl-C, so long work is cut into calls."""

from __future__ import annotations

from collections.abc import Iterator

#: A kernel call is kept to about this much work, in floating-point operations, so that Ctrl-C is heard within a second.
CALL_WORK = 1_000_000_000


def spans(total: int, most: int) -> Iterator[slice]:
    """0..total in consecutive slices of at most ``most``, and at least 1."""
    most = max(1, most)
    for start in range(0, total, most):
        yield slice(start, min(start + most, total))
