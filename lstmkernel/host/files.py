"""Write a file whole, or not at all. Errors of writing, such as a full disk, name the file."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from tempfile import TemporaryFile
from typing import IO, Any, BinaryIO
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
            file = io.BufferedWriter(_Named(path, unfinished, "xb"))
        except OSError as error:
            error.filename = path  # the user does not know the other name
            raise
        with file:
            yield file
        try:
            os.replace(unfinished, path)
        except OSError as error:  # on Windows: another program has the file open
            error.filename, error.filename2 = path, None
            raise
    except BaseException:  # also one that comes between open and its result
        with contextlib.suppress(OSError):
            os.unlink(unfinished)
        raise


@contextlib.contextmanager
def without_name(folder: str, of: str) -> Iterator[IO[bytes]]:
    """A file to write and read, in ``folder``, which nobody else sees. Errors of writing name the file ``of``."""
    with (
        TemporaryFile(dir=folder) as temporary,
        io.BufferedRandom(_Named(of, os.dup(temporary.fileno()), "r+b")) as file,
    ):
        yield file


class _Named(io.FileIO):
    """A file whose errors of writing have the name that the user knows. Buffers call these methods."""

    def __init__(self, known_as: str, file: str | int, mode: str) -> None:
        self._known_as = known_as
        super().__init__(file, mode)

    def write(self, data: Any) -> Any:
        with self._naming():
            return super().write(data)

    def close(self) -> None:
        with self._naming():
            super().close()

    @contextlib.contextmanager
    def _naming(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            error.filename = self._known_as
            raise
