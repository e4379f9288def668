"""Ctrl-C while the command line is still being imported: it ends, with the status of an interrupt and no traceback.

Imported first of all modules. Where lstmkernel is imported by another program, nothing happens here.
"""

import os
import signal
import sys
from contextlib import suppress
from types import FrameType

INTERRUPTED = 130


def _is_the_command_line() -> bool:
    """Whether this process is ``lstmkernel ...`` or ``python -m lstmkernel ...``."""
    argv = getattr(sys, "argv", [])  # Python within another program may have none
    if argv[:1] == ["-m"]:  # as long as packages are imported
        place = sys.orig_argv.index("-m") if "-m" in sys.orig_argv else len(sys.orig_argv)
        return sys.orig_argv[place + 1 : place + 2] == ["lstmkernel"]
    name = os.path.basename(argv[0] if argv else "")
    return name.removesuffix(".exe").removesuffix("-script.py") == "lstmkernel"


def _end(number: int, frame: FrameType | None) -> None:
    os._exit(INTERRUPTED)  # an exception would be printed, or caught by what is being imported


def done() -> None:
    """From now on Ctrl-C raises KeyboardInterrupt again."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


if _is_the_command_line() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    with suppress(ValueError):  # in another thread than the first one
        signal.signal(signal.SIGINT, _end)
