"""Which format a file has: its content decides. What is no format of lstmkernel's is named, with a way out."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Any

from lstmkernel.formats.contract import Format
from lstmkernel.formats.errors import FormatError
from lstmkernel.formats.others import files, folders
from lstmkernel.formats.others.files import Other

HEAD_BYTES = 1 << 16


def path_of(given: Any) -> str:
    """A path as text; TypeError for what is no path, such as an open file."""
    if isinstance(given, str | bytes | os.PathLike):
        path = os.fsdecode(given)
        if _is_content(path):
            raise TypeError(f"path: expected a path, got what a file holds, {path[:20]!r}...; give the file's name")
        return path
    hint = "; give its name" if hasattr(given, "read") else ""
    raise TypeError(f"path: expected a path, a str or an os.PathLike, got {type(given).__name__}{hint}")


def _is_content(path: str) -> bool:
    """Whether this is no file's name, but what a file holds."""
    return len(path) > 4096 or "\0" in path or re.match(r'\s*{\s*"', path) is not None


def format_of(path: str, known: Sequence[Format]) -> Format:
    """The format that reads a file. The file's name only decides which format's error is shown."""
    if not os.path.exists(path):
        raise FileNotFoundError(f"{path}: no such file")
    if os.path.isdir(path):
        raise _of_folder(path, known)
    if not os.path.isfile(path):  # a device or a pipe may have no end
        raise FormatError(f"{path}: expected a regular file, got a device, a pipe or a socket")
    with open(path, "rb") as file:
        head = file.read(HEAD_BYTES)
    other = files.recognised(path, head)
    if other:
        raise _no_weights(path, other, known)
    found = next((each for each in known if each.recognises(path, head)), None)
    if found:
        return found
    text = files.text(head)
    if text:
        raise _no_weights(path, text, known)
    by_name = next((each for each in known if path.lower().endswith(each.SUFFIXES)), None)
    if by_name is None:
        raise FormatError(f"{path}: expected one of {_names(known)}, got a file that begins with {head[:16]!r}")
    return by_name


def _names(known: Sequence[Format]) -> str:
    return ", ".join(each.NAME for each in known)


def _no_weights(path: str, other: Other, known: Sequence[Format]) -> FormatError:
    return FormatError(f"{path}: expected one of {_names(known)}, got {other.what}; {other.way_out}")


def _of_folder(path: str, known: Sequence[Format]) -> Exception:
    other = folders.recognised(path)
    if other:
        return _no_weights(path, other, known)
    inside = folders.loadable(path, tuple(suffix for each in known for suffix in each.SUFFIXES))
    names = f"; files in it that may be models: {', '.join(inside)}" if inside else ""
    return IsADirectoryError(f"{path}: is a directory{names}")
