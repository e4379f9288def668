"""How much of an error is rounding that the network itself magnifies, as no kernel of that dtype can help.

Each step hands its rounding to the next one. Most networks forget it; some magnify it, so that after many steps every
library in that dtype is far from float64, and each in another place. What the network does with rounding is measured
by float64 alone: every weight and every input is moved by one rounding of the dtype, and the answer moves.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np

from lstmkernel.backends.packing import Array
from lstmkernel.tuning import accuracy
from lstmkernel.tuning.accuracy import Answer
from lstmkernel.workbench.networks import Net

#: An answer agrees if it is at most this many times as far away as the farthest of so many moved ones.
MULTIPLE, DRAWS = 10, 4


def limit(answer_moved: Callable[[int], Answer], right: Answer, dtype: np.dtype[Any]) -> float:
    """The error up to which an answer agrees, in multiples of the tolerance; 1 where rounding is not magnified.

    answer_moved: the float64 answer where all is moved, for a seed.
    """
    farthest = max(accuracy.error(answer_moved(seed), right, dtype) for seed in range(DRAWS))
    return max(1.0, MULTIPLE * farthest)


def moved(values: Array, random: np.random.Generator, dtype: np.dtype[Any]) -> Array:
    """Each number a rounding of ``dtype`` away; zeros a rounding of numbers around 1, so that silence is moved, too."""
    size = np.where(values == 0, 1.0, np.abs(values))
    away: Array = values + np.finfo(dtype).eps * size * random.uniform(-1, 1, values.shape)
    return away


def moved_net(net: Net, random: np.random.Generator, dtype: np.dtype[Any]) -> Net:
    """The network with such weights."""
    other = copy.deepcopy(net)
    other.load_state_dict({name: moved(value, random, dtype) for name, value in net.state_dict().items()})
    return other
