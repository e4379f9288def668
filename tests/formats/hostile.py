"""Files that are broken, and what must come of them: for every format's tests and for the fuzzer.

A ``Target`` is a small good file of one format. Mutations happen in its ``payload``; ``wrap`` makes the file of it, so
that what is behind a checksum (a pickle in a zip, say) is reached too.
"""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from helpers import run_python

import lstmkernel as lk


class Target(NamedTuple):
    name: str
    suffix: str
    payload: bytes
    wrap: Callable[[bytes], bytes] = bytes


#: Where in the package a file was refused: the innermost places first. Empty if it loaded.
Outcome = tuple[str, ...]

#: So many places tell outcomes apart.
MOST_PLACES = 4


def outcome(path: Path) -> Outcome:
    """What comes of a file. It may be anything, but what comes out is a network or a FormatError that names it."""
    _refusal(lk.inspect, path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of NaN: a changed weight is still a weight
        return _refusal(lk.load, path)


def refused_or_loaded(path: Path) -> bool:
    """Whether it loads; see ``outcome``."""
    return not outcome(path)


def _refusal(door: Callable[[Path], object], path: Path) -> Outcome:
    try:
        door(path)
    except lk.FormatError as error:
        message, places = str(error), _places(error)
    else:
        return ()
    assert str(path) in message
    assert len(message) < 5000 + len(str(path))  # no megabytes of a hostile name
    return places


def _places(error: BaseException) -> Outcome:
    """Where the first of the errors that led to this one was raised, and who called that."""
    while error.__context__ is not None:
        error = error.__context__
    stack = traceback.extract_tb(error.__traceback__)
    own = [f"{frame.filename}:{frame.lineno}" for frame in stack if "lstmkernel" in frame.filename]
    return tuple(reversed(own))[:MOST_PLACES] or (type(error).__name__,)


def assert_refused_wherever_cut(target: Target, folder: Path, sizes: Iterable[int] | None = None) -> None:
    """Each truncation (or those to ``sizes``) of the payload, and a byte more, is a FormatError; the whole loads."""
    path = folder / f"cut{target.suffix}"
    cuts = [target.payload[:size] for size in (range(len(target.payload)) if sizes is None else sizes)]
    for payload in [*cuts, target.payload + b"\0"]:
        path.write_bytes(target.wrap(payload))
        assert not refused_or_loaded(path), f"{target.name}: {len(payload)} of {len(target.payload)} bytes load"
    path.write_bytes(target.wrap(target.payload))
    assert refused_or_loaded(path)


def assert_survives_changed_bytes(target: Target, folder: Path, places: Iterable[int] | None = None) -> None:
    """Each byte of the payload (or those at ``places``) changed to another: it loads, or is a FormatError."""
    path, random = folder / f"changed{target.suffix}", np.random.default_rng(1)
    for place in range(len(target.payload)) if places is None else places:
        spoiled = bytearray(target.payload)
        spoiled[place] ^= int(random.integers(1, 256))
        path.write_bytes(target.wrap(bytes(spoiled)))
        refused_or_loaded(path)


_MEMORY = """
import resource, sys, lstmkernel as lk
from lstmkernel import formats
formats.formats()
lk.load(sys.argv[2])  # what only the first load needs
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for door in (lk.inspect, lk.load):
    try:
        door(sys.argv[1])
    except lk.FormatError as error:
        message = str(error)
        print(message[:1000])
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << (0 if sys.platform == "darwin" else 10))
"""


def refused_in_little_memory(path: Path, good: Path) -> str:
    """The error's text; memory as below."""
    said = in_little_memory(path, good)
    assert said, f"{path} loads"
    return said


def in_little_memory(path: Path, good: Path) -> str | None:
    """The error's text, None if it loads; memory's peak stays under four times the file and 64 MiB.

    ``good`` is of the same format.
    """
    pytest.importorskip("resource")
    *messages, peak = run_python(_MEMORY, str(path), str(good), timeout=60).stdout.splitlines()
    assert int(peak) <= 4 * path.stat().st_size + (64 << 20), f"{path}: {int(peak) >> 20} MiB"
    return messages[-1] if messages else None


# ---------------------------------------------------------------- mutations


class Edit(NamedTuple):
    """One change of a payload: where (a fraction), how many bytes give way, what comes instead."""

    where: float
    removed: int
    inserted: bytes

    def applied(self, payload: bytes) -> bytes:
        at = int(self.where * len(payload))
        return payload[:at] + self.inserted + payload[at + self.removed :]
