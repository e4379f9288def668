"""Arguments that several commands have, and checks of arguments before the long work."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from typing import BinaryIO

from lstmkernel import backends
from lstmkernel.host import files


def add_backend(parser: argparse.ArgumentParser) -> None:
    """--backend, for one backend."""
    names = f"auto, c, {', '.join(backends.NAMES)}"
    parser.add_argument("--backend", default="auto", metavar="NAME", help=f"one of {names} (auto)")


def to_write(stack: ExitStack, path: str | None) -> BinaryIO | None:
    """Open a file for writing before the long work, so that a wrong path fails at once."""
    return stack.enter_context(files.replacing(path)) if path else None


def require_matplotlib(option: str = "--png") -> None:
    """Fail before the long work where matplotlib is missing."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise ValueError(f"{option}: needs matplotlib; pip install 'lstmkernel[plot]'") from None


def seconds(text: str) -> float:
    """A type for argparse."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected seconds, got {text!r}")
    return value


def positive(text: str) -> int:
    """A type for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return int(text)
