"""Which precision each network of a chain gets: the fewest bits with which the chain stays within a bound."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from lstmkernel.backends.contract import BackendError
from lstmkernel.certificate import Certificate
from lstmkernel.engine.chain import Chain
from lstmkernel.engine.network import Network
from lstmkernel.engine.precision import FLOAT16, FLOAT32, INT8, Precision

#: From the fewest bits on; None is float32.
LADDER = (Precision(INT8, "int8"), Precision(INT8, "int16"), Precision(FLOAT16, FLOAT32), None)

Choice = tuple[Precision | None, ...]


class Trial(NamedTuple):
    """A chain in some precisions, and what it is off."""

    chain: Chain
    certificate: Certificate


def fewest_bits(chain: Chain, max_error: float, attempt: Callable[[Choice], Trial]) -> Trial:
    """The trial whose networks have the fewest bits such that the largest error of out is at most ``max_error``.

    attempt: quantizes the chain so, and measures it. First all networks are tried with their fewest bits. If those do
    not suffice, each network, the one with the most weights first, gets the fewest bits with which the bound is kept,
    while those to come are float32. Raises ValueError with the figures if float32 is not enough.
    """
    ladders = [_ladder(network) for network in chain.networks]
    least = attempt(tuple(ladder[0] for ladder in ladders))
    if _keeps(least, max_error):
        return least
    choice: list[Precision | None] = [None] * len(ladders)
    best = attempt(tuple(choice))
    if not _keeps(best, max_error):
        raise ValueError(
            f"max_error: expected at least {best.certificate.out.largest:.3g}, by which the float32 network itself is "
            f"off the float64 one on this data, got {max_error:g}"
        )
    for place in sorted(range(len(ladders)), key=lambda place: -_weights(chain.networks[place])):
        for precision in ladders[place][:-1]:
            trial = attempt((*choice[:place], precision, *choice[place + 1 :]))
            if _keeps(trial, max_error):
                choice[place], best = precision, trial
                break
    return best


def _keeps(trial: Trial, max_error: float) -> bool:
    return trial.certificate.out.largest <= max_error


def _ladder(network: Network) -> Sequence[Precision | None]:
    """What the network can have: a variant has no 8-bit weights, for one."""
    return [precision for precision in LADDER if precision is None or _can_have(network, precision)]


def _can_have(network: Network, precision: Precision) -> bool:
    try:
        network.quantized(precision, network.backend)
    except (BackendError, ValueError):  # no kernels; a variant; a weight above float16's largest
        return False
    return True


def _weights(network: Network) -> int:
    return sum(value.size for value in network.parameters.values())
