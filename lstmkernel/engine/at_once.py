"""Several layers' engines, read and replaced at one moment: another thread never meets old weights beside new ones.

Each layer keeps its own engine, because it can be in several stacks and be called alone. So a stack has no single place
to assign to. Instead, one loop in C does it, in which no Python code runs: Python switches threads, handles signals and
raises MemoryError before or after such a loop, not within.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from itertools import repeat
from operator import attrgetter, setitem
from typing import Any

from lstmkernel.engine.head import Head
from lstmkernel.engine.network import Network

_engine_of = attrgetter("engine")


def engines_of(layers: Iterable[Any]) -> tuple[Network | Head, ...]:
    """Their engines, as all of them were at one moment: found twice, with no change between."""
    found, again = None, tuple(map(_engine_of, layers))
    while found != again:
        found, again = again, tuple(map(_engine_of, layers))
    return again


def replace_engines(layers: Sequence[Any], engines: Sequence[Network | Head]) -> None:
    """Give every layer its new engine: all of them or none."""
    places = [vars(layer) for layer in layers]
    held = [place["_engine"] for place in places]  # else the old engines would end, and run code, within the loop
    stores = map(setitem, places, repeat("_engine"), engines)
    deque(stores, maxlen=0)
    del held
