"""How long a call takes: the median over rounds in which all calls take turns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import median, quantiles
from time import perf_counter
from timeit import Timer

LEAST_ROUNDS = 3
#: A sample repeats a short call until it lasts about this long. The clock's own cost then does not show.
SAMPLE_SECONDS = 0.002


def medians(calls: Mapping[str, Callable[[], object]], seconds: float) -> dict[str, float]:
    """Median seconds of each call; see ``rounds``."""
    return {name: median(taken) for name, taken in rounds(calls, seconds).items()}


def rounds(calls: Mapping[str, Callable[[], object]], seconds: float) -> dict[str, list[float]]:
    """Seconds of each call in every round, measured for about ``seconds`` in all.

    The calls take turns, so a slow phase of the machine slows all of them. Each call is warmed up before the first
    round. A short call is warmed up again before every sample, because the others have used the caches since.
    """
    timers = {name: Timer(call) for name, call in calls.items()}
    repeats = {name: _repeats(timer) for name, timer in timers.items()}
    samples: dict[str, list[float]] = {name: [] for name in calls}
    end = perf_counter() + seconds
    done = 0
    while done < LEAST_ROUNDS or perf_counter() < end:
        for name, timer in timers.items():
            if repeats[name] > 1:
                timer.timeit(1)
            samples[name].append(timer.timeit(repeats[name]) / repeats[name])
        done += 1
    return samples


def spread(samples: Sequence[float], beside: Sequence[float]) -> float:
    """How much the ratio of two calls differed from round to round: the middle half of the ratios, by their median."""
    lower, middle, upper = quantiles([a / b for a, b in zip(samples, beside, strict=True)], n=4, method="inclusive")
    return (upper - lower) / middle


def _repeats(timer: Timer) -> int:
    first = timer.timeit(1)
    again = first if first > SAMPLE_SECONDS else timer.timeit(1)
    return max(1, round(SAMPLE_SECONDS / max(again, 1e-7)))
