"""The contest: each candidate's answer is checked, then the candidates are timed in turns.

``LSTM.compile`` and ``lstmkernel compare`` both hold it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from statistics import median
from typing import Any, NamedTuple

import numpy as np

from lstmkernel.tuning import accuracy, timing
from lstmkernel.tuning.accuracy import Answer
from lstmkernel.tuning.candidates import promises_bits
from lstmkernel.tuning.timing import Timed


class Candidate(NamedTuple):
    """One backend at the work that all are given."""

    answer: Answer
    call: Callable[[], object] | Timed  # what is timed


class Result(NamedTuple):
    """The contest's findings about one candidate."""

    error: float  # the largest, in multiples of the tolerance
    same_bits: bool | None  # as the first candidate that promises its bits; None if this one does not promise them
    seconds: float | None = None  # median of a call; None where it was not timed
    rounds: tuple[float, ...] = ()  # seconds of a call in each round


def run(
    candidates: Mapping[str, Candidate],
    reference: Answer,
    dtype: np.dtype[Any],
    seconds: float,
    admit: Callable[[str, Result], bool] = lambda name, result: True,
) -> dict[str, Result]:
    """Check every candidate, and time those that ``admit`` lets pass, in about ``seconds``.

    Names are those of backends. reference: the right answer, in float64.
    """
    first = next((candidate.answer for name, candidate in candidates.items() if promises_bits(name)), None)
    results = {}
    for name, (answer, _) in candidates.items():
        same = accuracy.same_bits(answer, first) if first is not None and promises_bits(name) else None
        results[name] = Result(accuracy.error(answer, reference, dtype), same)
    calls = {name: candidate.call for name, candidate in candidates.items() if admit(name, results[name])}
    for name, taken in timing.rounds(calls, seconds).items():
        results[name] = results[name]._replace(seconds=median(taken), rounds=tuple(taken))
    return results
