"""Write a file whole, or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import BinaryIO
from uuid import uuid4


@contextlib.contextmanager
def replacing(path: str) -> Iterator[BinaryIO]:
    """A file to write. It gets the name ``path`` when the block ends without an exception.

    Entering the block fails if the directory cannot be written, so enter it before the long work.
    """
    if os.path.isdir(path):
        raise IsADirectoryError(f"{path}: is a directory")
    unfinished = f"{path}.{uuid4().hex}.unfinished"
    try:
        try:
            file = open(unfinished, "xb")  # noqa: SIM115 - closed below
        except OSError as error:
            error.filename = path  # the user does not know the other name
            raise
        with file:
            yield file
        os.replace(unfinished, path)
    except BaseException:  # also one that comes between open and its result
        with contextlib.suppress(OSError):
            os.unlink(unfinished)
        raise
