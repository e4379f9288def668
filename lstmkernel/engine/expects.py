"""Networks whose files say that they run with a mask, or with lengths: a call without them warns."""

from __future__ import annotations

from typing import Any

from lstmkernel.engine.network import Network
from lstmkernel.host.warning import warn

#: What a call without it is told, by ``NetworkOptions.expects``.
EXPECTS = {
    "mask": "this network was made to skip masked steps, as its file says: give mask=, or lengths= for rows that are "
    "padded at their end (lengths=[T, ...] if no step is to be skipped)",
    "lengths": "this network's file takes the lengths of its rows as an input: give lengths= (lengths=[T, ...] if all "
    "rows are whole)",
}


def warn_without(network: Network, lengths: Any, mask: Any) -> None:
    """Warn of a call in which padded steps would be taken for real ones."""
    if network.options.expects and lengths is None and mask is None:
        warn(EXPECTS[network.options.expects])
