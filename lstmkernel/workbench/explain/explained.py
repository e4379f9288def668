"""An LSTM that has run over one sequence, with every gate and state: the subject of ``explain``."""

from __future__ import annotations

from typing import NamedTuple

from lstmkernel.backends.packing import Array
from lstmkernel.lstm import LSTM
from lstmkernel.trace import Trace, trace

#: Steps and numbers that fit a line of the terminal, or a picture's width.
MOST_STEPS, MOST_NUMBERS = 7, 4


class Explained(NamedTuple):
    """k counts layers and directions: layer 0 forwards, layer 0 backwards if there are two directions, layer 1 ..."""

    lstm: LSTM
    x: Array  # (T, I)
    steps: list[str]  # a word, or a number, for each step
    trace: Trace  # (L*D, T, ...)

    @property
    def directions(self) -> int:
        return self.lstm.shape.directions

    def label(self, k: int) -> str:
        """The name of layer and direction k."""
        return f"layer {k // self.directions}" + (" reverse" if self.reverse(k) else "")

    def reverse(self, k: int) -> bool:
        """Whether k runs backwards."""
        return k % self.directions == 1

    def last(self, k: int) -> int:
        """The step that layer and direction k computes last. Its states are h_n and c_n."""
        return 0 if self.reverse(k) else len(self.steps) - 1

    def window(self, step: int) -> range:
        """At most MOST_STEPS steps around ``step``."""
        first = max(0, min(step - MOST_STEPS // 2, len(self.steps) - MOST_STEPS))
        return range(first, min(first + MOST_STEPS, len(self.steps)))


def explained(lstm: LSTM, x: Array, steps: list[str]) -> Explained:
    """Run the LSTM over x."""
    return Explained(lstm, x, steps, trace(lstm, x))
