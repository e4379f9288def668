"""Options that several commands have."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from typing import BinaryIO

from lstmkernel.host import files


def to_write(stack: ExitStack, path: str | None) -> BinaryIO | None:
    """Opened before the long work, which it might otherwise be for nothing."""
    return stack.enter_context(files.replacing(path)) if path else None


def seconds(text: str) -> float:
    """For argparse."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected seconds, got {text!r}")
    return value
