"""The command line: ``lstmkernel info``, ``compare``, ``run``, ``explain``, ``bench`` and ``cache``.

One file a command; what they share, or is much by itself, has a file for each idea.

Exit status: 0 done, 1 a backend disagrees with the reference, 2 the request cannot be met (one line on stderr says
why), 130 interrupted, 141 whoever read the output went away.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Sequence
from typing import TextIO

from lstmkernel._version import __version__
from lstmkernel.backends import BackendError
from lstmkernel.cli import bench, cache, compare, console, convert, explain, info, run
from lstmkernel.workbench import one_thread

__all__ = ["main"]

UNMET, INTERRUPTED, NO_READER = 2, 130, 141

EXAMPLES = """\
examples:
  lstmkernel info
  lstmkernel info model.pt
  lstmkernel compare
  lstmkernel compare --shape 1,512,128,128 --backend c --backend numba
  lstmkernel run --weights model.safetensors input.npy -o output.npy
  lstmkernel explain
  lstmkernel convert model.pt model.safetensors
  lstmkernel bench stream
  lstmkernel cache --clear
"""


def parser() -> argparse.ArgumentParser:
    """The whole command line; each command adds its own arguments and the function that does it."""
    top = argparse.ArgumentParser(
        prog="lstmkernel",
        description="Run LSTM networks on CPUs, and compare the kernels that run them.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"lstmkernel {__version__}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in (info, compare, run, convert, explain, bench, cache):
        command.add_to(commands)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Do what ``argv`` asks (None: the process's own arguments); return the exit status."""
    try:
        try:
            return _do(argv)
        finally:
            sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # What is still buffered goes nowhere, instead of failing again when the interpreter closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return NO_READER
    except (BackendError, MemoryError, ModuleNotFoundError, OSError, TypeError, ValueError) as error:
        print(f"lstmkernel: error: {_message(error)}", file=sys.stderr)
        return UNMET


def _do(argv: Sequence[str] | None) -> int:
    arguments = parser().parse_args(argv)
    if argv is None and arguments.one_thread:
        one_thread.ensure()
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        status: int = arguments.command(arguments)
        return status


def _message(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    message = str(error) or type(error).__name__
    return "\n".join(console.printable(line) for line in message.split("\n"))  # names from files are in there


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """A warning as a user of a command wants it: without the place in the source."""
    print(f"lstmkernel: warning: {message}", file=sys.stderr)
