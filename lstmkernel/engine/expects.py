"""Networks whose files say that they run with a mask, or with lengths: a call without them warns."""

from __future__ import annotations

from typing import Any

from lstmkernel.engine.network import Network
from lstmkernel.host.warning import warn

#: What a call without it is told, by ``NetworkOptions.expects``.
EXPECTS = {
    "mask": "this network was made to skip masked steps, as its file says: give mask=, or lengths= for rows that are "
    "padded at their end",
    "lengths": "this network's file takes the lengths of its rows as an input: give lengths=",
}

#: How to say that no step is to be skipped, in a call and in ``forward``, which takes no mask.
IN_A_CALL = "if no step is to be skipped, give mask=numpy.ones(x.shape[:-1], bool)"
IN_FORWARD = "forward takes only lengths=, for a batched x; if no step is to be skipped, give lengths=[T, ...]"


def warn_without(network: Network, lengths: Any, mask: Any, way_out: str = IN_A_CALL) -> None:
    """Warn of a call in which padded steps would be taken for real ones."""
    if network.options.expects and lengths is None and mask is None:
        warn(f"{EXPECTS[network.options.expects]}; {way_out}")
