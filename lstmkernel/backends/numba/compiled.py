"""Compile a function that Python calls, or take its machine code from disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from numba import int64
from numba.core.compiler_lock import global_compiler_lock

from lstmkernel.backends.contract import BackendError
from lstmkernel.backends.numba.jit import Entry
from lstmkernel.backends.numba.jit_cache import DiskCache
from lstmkernel.backends.numba.places import NAMES, PLACE
from lstmkernel.host.spinner import spinning


def compiled(name: str, function: Any, of: str = "") -> Callable[..., None]:
    """The machine code of a function of integers and places. name: on disk. of: for people, what it is for.

    It is the compiled function itself: Numba's dispatcher would look at every argument's type at every call.
    """
    function.__qualname__ = name  # symbols are named after functions
    cache = DiskCache(name)
    if _held() and cache.content() is None:
        raise BackendError(
            f"a signal handler needs Numba to compile {of or name}, in the middle of another kernel: call "
            "lstmkernel.warmup() before signals can come"
        )
    dispatcher = Entry(function, cache)
    with spinning(f"lstmkernel: compiling {of or name}, the first time only"), _numbas_lock_given_back():
        arguments = function.__code__.co_varnames[: function.__code__.co_argcount]
        types = tuple(PLACE if argument in NAMES else int64 for argument in arguments)
        result: Callable[..., None] = dispatcher.compile(types)
    return result


@contextmanager
def _numbas_lock_given_back() -> Iterator[None]:
    """Ctrl-C just after Numba has taken its lock would leave it taken: other threads would wait for ever."""
    held = _held()
    try:
        yield
    finally:
        while not held and _held():
            global_compiler_lock.release()  # type: ignore[no-untyped-call]


def _held() -> bool:
    """Whether this thread has Numba's lock."""
    return bool(global_compiler_lock.is_locked())  # type: ignore[no-untyped-call]
