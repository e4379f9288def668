"""Say what a kernel touched when the system stops it: a handler of SIGSEGV and SIGBUS."""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import sys
from collections.abc import Callable

#: In siginfo_t, the place of the address; in Linux's, si_code that comes without an address.
_ADDRESS = 24 if sys.platform == "darwin" else 16
_CODE, _SI_KERNEL = 8, 128
#: On x86-64 Linux, the place in ucontext_t of the page fault's error code, and its bit for writing.
_ERROR, _WRITING = 40 + 8 * 19, 2
_SA_SIGINFO = 0x40 if sys.platform == "darwin" else 4

_HANDLER = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
#: The C library keeps only the address of the handler.
_kept: list[object] = []


class _Action(ctypes.Structure):
    """struct sigaction. Linux's mask is larger than macOS's, and its flags come after it."""

    _fields_ = (
        [("handler", _HANDLER), ("mask", ctypes.c_uint32), ("flags", ctypes.c_int)]
        if sys.platform == "darwin"
        else [("handler", _HANDLER), ("mask", ctypes.c_byte * 128), ("flags", ctypes.c_int), ("rest", ctypes.c_void_p)]
    )


def report(tell: Callable[[int, str, str], None]) -> None:
    """From now on, ``tell`` what was touched, and end the process.

    tell: takes the address; "read", "wrote" or, where the CPU does not say which, "read or wrote"; and what to say if
    nothing is known about the address.
    """

    def handle(number: int, info: int, context: int) -> None:
        address = ctypes.c_size_t.from_address(info + _ADDRESS).value
        tell(address, _verb(context), _unknown(address, _code(info)))
        os._exit(128 + number)

    handler = _HANDLER(handle)
    _kept.append(handler)
    action = _Action(handler=handler, flags=_SA_SIGINFO)
    for number in (signal.SIGSEGV, signal.SIGBUS):
        ctypes.CDLL(None).sigaction(int(number), ctypes.byref(action), None)


def _code(info: int) -> int:
    return ctypes.c_int.from_address(info + _CODE).value


def _verb(context: int) -> str:
    if sys.platform == "linux" and platform.machine() == "x86_64":
        return "wrote" if ctypes.c_uint64.from_address(context + _ERROR).value & _WRITING else "read"
    return "read or wrote"


def _unknown(address: int, code: int) -> str:
    if sys.platform == "linux" and code == _SI_KERNEL:
        return "used an address that cannot exist, or one that is not aligned in an instruction that needs it aligned"
    if address < 4096:
        return "used a NULL pointer"
    return f"used memory that is not its own, at address {address:#x}"
