"""How long a call takes: the median over rounds in which all calls take turns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import median, quantiles
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
    """Median seconds of each call; see ``rounds``."""
    return {name: median(taken) for name, taken in rounds(calls, seconds).items()}


def rounds(calls: Mapping[str, Callable[[], object] | Timed], seconds: float) -> dict[str, list[float]]:
    """Seconds of each call in every round, measured for about ``seconds`` in all.

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
    return samples


def spread(samples: Sequence[float], beside: Sequence[float]) -> float:
    """How much the ratio of two calls differed from round to round: the middle half of the ratios, by their median.

    1 where there is one round only, so that no difference counts. A long call may have one sample more, from before
    the first round.
    """
    count = min(len(samples), len(beside))
    if count < 2:
        return 1.0
    ratios = [a / b for a, b in zip(samples[-count:], beside[-count:], strict=True)]
    lower, middle, upper = quantiles(ratios, n=4, method="inclusive")
    return (upper - lower) / middle


def _first(timer: Timed) -> float:
    """Seconds of a warmed-up call."""
    first = timer.timeit(1)
    return first if first > SAMPLE_SECONDS else timer.timeit(1)


def _enough(samples: Mapping[str, list[float]], spent: float, seconds: float) -> bool:
    done = min((len(taken) for taken in samples.values()), default=LEAST_ROUNDS)
    return spent >= seconds and done >= (LEAST_ROUNDS if spent < PATIENCE else 1)
