"""Sound as whole numbers, as WAV files hold it, given to a network that was made for sound between -1 and 1."""

from __future__ import annotations

from typing import Any

import numpy as np

from lstmkernel.engine.chain import Chain
from lstmkernel.engine.network import Network
from lstmkernel.host.warning import warn


def warn_of_whole_numbers(name: str, given: Any, of: Network | Chain) -> None:
    """Warn if ``given`` is a NumPy array of integers beyond -1 .. 1, and the network was made for sound."""
    if not isinstance(given, np.ndarray) or given.dtype.kind not in "iu" or not made_for_sound(of):
        return
    if isinstance(given, np.ma.MaskedArray):  # is refused
        return
    samples, dtype = np.asarray(given), given.dtype
    largest = max(int(samples.max(initial=0)), -int(samples.min(initial=0)))
    if largest <= 1:
        return
    way_out = f"divide by {np.iinfo(dtype).max + 1}" if dtype in (np.int16, np.int32) else "give floats"
    warn(f"{name}: expected a sound between -1 and 1, got {dtype} up to {largest}, taken as it is; {way_out}")


def made_for_sound(of: Network | Chain) -> bool:
    networks = of.networks if isinstance(of, Chain) else [of]
    return any(network.options.notes.sample_rate or network.options.notes.sound for network in networks)
