"""How long a call takes: the median over rounds in which all calls take turns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from statistics import median
from time import perf_counter
from timeit import Timer

LEAST_ROUNDS = 3
#: A sample repeats a short call until it lasts about this long. The clock's own cost then does not show.
SAMPLE_SECONDS = 0.002


def medians(calls: Mapping[str, Callable[[], object]], seconds: float) -> dict[str, float]:
    """Median seconds of each call, measured for about ``seconds`` in all.

    The calls take turns, so a slow phase of the machine slows all of them. Each call is warmed up before the first
    round. A short call is warmed up again before every sample, because the others have used the caches since.
    """
    timers = {name: Timer(call) for name, call in calls.items()}
    repeats = {name: _repeats(timer) for name, timer in timers.items()}
    samples: dict[str, list[float]] = {name: [] for name in calls}
    end = perf_counter() + seconds
    rounds = 0
    while rounds < LEAST_ROUNDS or perf_counter() < end:
        for name, timer in timers.items():
            if repeats[name] > 1:
                timer.timeit(1)
            samples[name].append(timer.timeit(repeats[name]) / repeats[name])
        rounds += 1
    return {name: median(taken) for name, taken in samples.items()}


def _repeats(timer: Timer) -> int:
    first = timer.timeit(1)
    again = first if first > SAMPLE_SECONDS else timer.timeit(1)
    return max(1, round(SAMPLE_SECONDS / max(again, 1e-7)))
