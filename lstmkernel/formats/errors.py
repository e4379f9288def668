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
    """Within the block, errors about the file's content become FormatErrors that begin with the file's name.

    Readers raise ValueErrors about keys. TypeErrors come from the layers, about a parameter's dtype. RecursionErrors
    come from values that are nested too deeply, OverflowErrors from numbers that are too large.
    """
    try:
        yield
    except FormatError:
        raise
    except (ValueError, TypeError, RecursionError, OverflowError) as error:
        raise FormatError(f"{path}: {error}") from error


def needed(package: str, extra: str, what: str) -> Any:
    """Import an optional package. ModuleNotFoundError says what needs it and how to install it."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ModuleNotFoundError(
            f"{what}: needs {package}; pip install 'lstmkernel[{extra}]'", name=package
        ) from error
