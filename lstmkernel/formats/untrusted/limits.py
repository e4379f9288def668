"""How much memory a file may ask for: a small file that unpacks to a huge one is refused before memory is taken."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

_max_bytes: ContextVar[int | None] = ContextVar("max_bytes", default=None)


@contextlib.contextmanager
def at_most(max_bytes: int | None) -> Iterator[None]:
    """Within the block, the limit is ``max_bytes``. With None it is the default of ``check``."""
    token = _max_bytes.set(max_bytes)
    try:
        yield
    finally:
        _max_bytes.reset(token)


def check(what: str, needed: int, given: int) -> None:
    """Raise ValueError where ``given`` bytes of a file would become too many bytes of memory, ``needed``.

    The limit is ``max_bytes``, by default 2 * given + 32 MiB.
    """
    most = _max_bytes.get()
    if most is None:
        most = 2 * given + (32 << 20)
    if needed > most:
        raise ValueError(
            f"{what}: expected at most {most} bytes when unpacked, got {needed}; if you trust the file, give max_bytes="
        )
