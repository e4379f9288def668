"""How much memory a file may ask for: a small file that unpacks to a large one is refused before it does."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

_max_bytes: ContextVar[int | None] = ContextVar("max_bytes", default=None)


@contextlib.contextmanager
def raised(max_bytes: int | None) -> Iterator[None]:
    """Within the block, the limit is ``max_bytes``; None leaves it to ``check``."""
    token = _max_bytes.set(max_bytes)
    try:
        yield
    finally:
        _max_bytes.reset(token)


def check(what: str, needed: int, given: int) -> None:
    """Refuse what makes ``needed`` bytes of a file's ``given``, if that is beyond 2 * given + 32 MiB or max_bytes."""
    most = _max_bytes.get()
    if most is None:
        most = 2 * given + (32 << 20)
    if needed > most:
        raise ValueError(
            f"{what}: expected at most {most} bytes when unpacked, got {needed}; if you trust the file, give max_bytes="
        )
