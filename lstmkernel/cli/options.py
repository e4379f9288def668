"""Arguments that several commands have, and checks of arguments before the long work."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from typing import Any, BinaryIO

import numpy as np

from lstmkernel import backends
from lstmkernel.host import files
from lstmkernel.workbench import shapes
from lstmkernel.workbench.shapes import Shape

#: What --weights takes.
WEIGHTS = (
    "a file of weights, of any format that lstmkernel info can read: .safetensors, .pt, .keras, .h5, .onnx, .nam, .json"
)


def add_backend(parser: argparse.ArgumentParser) -> None:
    """--backend, for one backend."""
    names = f"auto, c, {', '.join(backends.NAMES)}"
    parser.add_argument("--backend", default="auto", metavar="NAME", help=f"one of {names} (auto)")


class _Parts(argparse.Action):
    """A string where the option is given once, a list where it is given again."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        before = getattr(namespace, self.dest)
        parts = before if isinstance(before, list) else [before]
        setattr(namespace, self.dest, values if before is None else [*parts, values])


def add_prefix(parser: Any, which: str) -> None:
    """--prefix, for one part of a file or, given several times, for parts one after the other."""
    parser.add_argument("--prefix", metavar="P", action=_Parts, help=f"{which}; repeat it for the part that follows")


def to_write(stack: ExitStack, path: str | None) -> BinaryIO | None:
    """Open a file for writing before the long work, so that a wrong path fails at once."""
    return stack.enter_context(files.replacing(path)) if path else None


def require_matplotlib(option: str = "--png") -> None:
    """Fail before the long work where matplotlib is missing."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise ValueError(f"{option}: needs matplotlib; pip install 'lstmkernel[plot]'") from None


def _shape(text: str) -> Shape:
    """A type for argparse."""
    try:
        return shapes.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def add_shape(parser: Any) -> None:
    """--shape, which may be repeated."""
    what = "batch, steps, input size, hidden size, layers (1), directions (1); or a named shape; may be repeated"
    parser.add_argument("--shape", action="append", type=_shape, metavar="B,T,I,H[,L[,D]]", help=what)


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


def rate(text: str) -> float:
    """A type for argparse: a number above 0 of events a second."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number of steps a second, got {text!r}")
    return value


def gigabytes(text: str) -> float:
    """A type for argparse: bytes."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.3 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected gigabytes, at least 0.3, got {text!r}")
    return value * 1e9


def raw_array(text: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """A type for argparse: the shape and dtype of an array without a header."""
    name, *sizes = text.split(",")
    try:
        dtype = np.dtype(name)
    except (TypeError, ValueError):
        dtype = np.dtype(object)
    if dtype.kind not in "fiub" or not sizes or not all(size.isdecimal() for size in sizes):
        raise argparse.ArgumentTypeError(f"expected a dtype and sizes, such as float32,50,3,40, got {text!r}")
    return tuple(map(int, sizes)), dtype
