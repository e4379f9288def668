"""The command line: ``lstmkernel info``, ``compare``, ``run``, ``convert``, ``quantize``, ``explain``, ``bench``,
``threads`` and ``cache``.

One module for each command. What several commands share, and what is large, has its own module.

Exit status: 0 done; 1 a result of ``compare`` is wrong; 2 the request cannot be met, and a line on stderr says why;
130 interrupted; 141 the reader of the output has gone.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import warnings
from collections.abc import Sequence
from typing import TextIO

from lstmkernel._version import __version__
from lstmkernel.backends import BackendError
from lstmkernel.cli import bench, cache, compare, console, convert, explain, info, quantize, run, run_order, threads
from lstmkernel.host import starting
from lstmkernel.host.compile_c import CompileError
from lstmkernel.host.plain_text import make_safe
from lstmkernel.workbench import one_thread

__all__ = ["main"]

UNMET, INTERRUPTED, NO_READER = 2, starting.INTERRUPTED, 141

#: Exceptions whose message tells the user what to change.
EXPECTED = (BackendError, CompileError, MemoryError, ModuleNotFoundError, OSError, TypeError, ValueError)

COMMANDS = (info, compare, run, convert, quantize, explain, bench, threads, cache)
#: Commands that hold NumPy's BLAS to one thread.
ONE_THREAD = (compare, bench)

EXAMPLES = """\
examples:
  lstmkernel info
  lstmkernel info model.pt
  lstmkernel compare
  lstmkernel compare --shape 1,512,128,128 --backend c --backend numba
  lstmkernel run --weights model.safetensors input.npy -o output.npy
  lstmkernel explain
  lstmkernel convert model.pt model.safetensors
  lstmkernel quantize model.pt -o small.safetensors --precision float16
  lstmkernel bench stream
  lstmkernel threads --shape pyannote
  lstmkernel cache --clear
"""


def parser() -> argparse.ArgumentParser:
    """The whole command line. A command's module has its texts, its arguments and its function."""
    top = argparse.ArgumentParser(
        prog="lstmkernel",
        description="Run LSTM networks on CPUs, and compare the kernels that run them.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"lstmkernel {__version__}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND")
    for module in COMMANDS:
        command = commands.add_parser(
            module.__name__.rpartition(".")[2],
            help=module.SUMMARY,
            description=module.DESCRIPTION,
            epilog=module.EXAMPLES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.set_defaults(command=module.command, one_thread=module in ONE_THREAD)
        module.add_arguments(command)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Do what ``argv`` asks (None: the process's own arguments), and return the exit status."""
    for stream in (sys.stdout, sys.stderr):
        make_safe(stream)
    try:
        try:
            if argv is None:
                starting.done()
            return _do(argv)
        finally:
            if sys.stdout is not None:  # it was closed before Python began
                _flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        return NO_READER
    except EXPECTED as error:
        with contextlib.suppress(OSError):  # nobody reads stderr either
            print(f"lstmkernel: error: {_message(error)}", file=sys.stderr, flush=True)
        return UNMET


def _flush() -> None:
    """What is left. If that fails, the rest goes to /dev/null, so that closing stdout does not fail again."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise


def _do(argv: Sequence[str] | None) -> int:
    all_commands = parser()
    given = list(sys.argv[1:] if argv is None else argv)
    if given[:1] == ["run"]:
        run_order.check(given[1:])
    arguments = all_commands.parse_args(argv)
    if not hasattr(arguments, "command"):
        all_commands.print_help()
        return 0
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
    return "\n".join(console.printable(line) for line in message.split("\n"))  # messages quote names from files


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Without the place in the source, which the user of a command does not need."""
    print(f"lstmkernel: warning: {message}", file=sys.stderr)
