"""Text for terminals and files that take no more than ASCII."""

from __future__ import annotations

import codecs
from typing import TextIO

#: Of the same width, so that columns stay columns.
PLAIN = str.maketrans("─━│┃…→←↑↓\xd7\xb7\u2018\u2019\u201c\u201d\u2013\u2014", "--||.><^vx.''\"\"--")

#: The name of an error handler of codecs: what cannot be encoded becomes its nearest ASCII, or an escape.
HANDLER = "lstmkernel.plain"


def plain(text: str) -> str:
    """In ASCII."""
    return text.encode("ascii", HANDLER).decode()


def make_safe(stream: TextIO | None) -> None:
    """Let the stream take any text, whatever its encoding."""
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors=HANDLER)


def _replaced(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letters = error.object[error.start : error.end].translate(PLAIN)
    return letters.encode("ascii", "backslashreplace").decode(), error.end


codecs.register_error(HANDLER, _replaced)
