"""FormatError: what is wrong with a file of weights."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from typing import Any


class FormatError(ValueError):
    """A file that cannot be loaded: the message names the file, the key, what was expected and what came."""


@contextlib.contextmanager
def naming(path: str) -> Iterator[None]:
    """What a format's reader finds wrong becomes a FormatError that begins with the file's name.

    So readers raise plain ValueErrors about keys; TypeErrors come from the layers, about a parameter's dtype, and
    RecursionErrors from whatever nests without end.
    """
    try:
        yield
    except FormatError:
        raise
    except (ValueError, TypeError, RecursionError) as error:
        raise FormatError(f"{path}: {error}") from error


def needed(package: str, extra: str, what: str) -> Any:
    """An optional package, imported; ModuleNotFoundError says what needs it and how to get it."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ModuleNotFoundError(
            f"{what}: needs {package}; pip install 'lstmkernel[{extra}]'", name=package
        ) from error
