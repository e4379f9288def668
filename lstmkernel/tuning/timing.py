"""How long a call takes: the median over rounds in which all calls take turns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from statistics import median
from time import perf_counter
from timeit import Timer
from typing import Protocol

LEAST_ROUNDS = 3
#: A sample repeats a short call until it lasts about this long. The clock's own cost then does not show.
SAMPLE_SECONDS = 0.002
#: Seconds of a call that needs no warming up beyond its check, and seconds after which one round is enough.
LONG, PATIENCE = 0.1, 1.0


class Timed(Protocol):
    """Calls that are timed elsewhere, as timeit.Timer does it here."""

    def timeit(self, number: int, /) -> float:
        """Seconds of so many calls."""


def medians(calls: Mapping[str, Callable[[], object] | Timed], seconds: float) -> dict[str, float]:
    """Median seconds of each call, measured for about ``seconds`` in all.

    The calls take turns, so a slow phase of the machine slows all of them. Each call is warmed up before the first
    round. A short call is warmed up again before every sample, because the others have used the caches since. A long
    call's warm-up is its first sample, and where rounds take longer than PATIENCE, one has to do.
    """
    start = perf_counter()
    timers = {name: Timer(call) if callable(call) else call for name, call in calls.items()}
    firsts = {name: _first(timer) for name, timer in timers.items()}
    repeats = {name: max(1, round(SAMPLE_SECONDS / max(first, 1e-7))) for name, first in firsts.items()}
    samples = {name: [first] if first > LONG else [] for name, first in firsts.items()}
    while not _enough(samples, perf_counter() - start, seconds):
        for name, timer in timers.items():
            if repeats[name] > 1:
                timer.timeit(1)
            samples[name].append(timer.timeit(repeats[name]) / repeats[name])
    return {name: median(taken) for name, taken in samples.items()}


def _first(timer: Timed) -> float:
    """Seconds of a warmed-up call."""
    first = timer.timeit(1)
    return first if first > SAMPLE_SECONDS else timer.timeit(1)


def _enough(samples: Mapping[str, list[float]], spent: float, seconds: float) -> bool:
    rounds = min((len(taken) for taken in samples.values()), default=LEAST_ROUNDS)
    return spent >= seconds and rounds >= (LEAST_ROUNDS if spent < PATIENCE else 1)
