"""Seconds of single calls, and their percentiles."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import ceil
from time import perf_counter


def each(call: Callable[[], object], count: int) -> list[float]:
    """The seconds of each of so many calls."""
    times = []
    for _ in range(count):
        start = perf_counter()
        call()
        times.append(perf_counter() - start)
    return times


def timed(call: Callable[[], object], seconds: float) -> list[float]:
    """The seconds of each call; calls are made for about ``seconds``.

    The first call does not count, because the caches and thread pools are in the state that others left. If it took all
    of the time, it is the only sample.
    """
    end = perf_counter() + seconds
    times = each(call, 1)
    while perf_counter() < end:
        times += each(call, 1)
    return times[1:] or times


def percentile(times: Sequence[float], percent: float) -> float:
    """The smallest time that at least so many percent of the calls did not exceed."""
    return sorted(times)[ceil(len(times) * percent / 100) - 1]


@contextmanager
def last_cores(count: int) -> Iterator[None]:
    """Bind this thread, and processes that it starts, to the last cores that it may use, if the system can do that."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(allowed)[-count:])
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)
