"""Which precision each layer of a chain gets: the fewest bits with which the chain stays within a bound."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from lstmkernel.backends.contract import BackendError
from lstmkernel.certificate import Certificate
from lstmkernel.engine import single_layers
from lstmkernel.engine.chain import Chain
from lstmkernel.engine.network import Network
from lstmkernel.engine.precision import FLOAT16, FLOAT32, INT8, PLAIN, Precision, Precisions

#: From the fewest bits on.
LADDER = (Precision(INT8, "int8"), Precision(INT8, "int16"), Precision(FLOAT16, FLOAT32), PLAIN)


class Trial(NamedTuple):
    """A chain in some precisions, and what it is off."""

    chain: Chain
    certificate: Certificate


def fewest_bits(chain: Chain, max_error: float, attempt: Callable[[Precisions], Trial]) -> Trial:
    """The trial whose layers have the fewest bits such that the largest error of out is at most ``max_error``.

    attempt: quantizes the chain so, with a precision for each layer of its networks, and measures it. First all layers
    get the same: the fewest bits with which the bound is kept. Then each layer, the one with the most weights first,
    gets fewer bits than that, if the bound is kept with them. So the result has never more bits than the best one in
    which all layers have the same. Raises ValueError with the figures if float32 is not enough.
    """
    layers = [single.engine for single in single_layers.of_chain(chain) if isinstance(single.engine, Network)]
    ladders = [_ladder(layer) for layer in layers]
    trials = _Trials(attempt, max_error)
    choice = _same_in_all(ladders, trials)
    for place in sorted(range(len(layers)), key=lambda place: -_weights(layers[place])):
        own = ladders[place]
        for precision in own[: own.index(choice[place])]:
            fewer = (*choice[:place], precision, *choice[place + 1 :])
            if trials.keeps(fewer):
                choice = fewer
                break
    return trials.best


class _Trials:
    """Trials so far. No choice is tried twice, for a trial may take minutes."""

    best: Trial  # the last one that kept the bound

    def __init__(self, attempt: Callable[[Precisions], Trial], max_error: float) -> None:
        self._attempt, self._max_error = attempt, max_error
        self._largest: dict[Precisions, float] = {}

    def keeps(self, choice: Precisions) -> bool:
        """Whether the chain stays within the bound."""
        if choice not in self._largest:
            trial = self._attempt(choice)
            self._largest[choice] = trial.certificate.out.largest
            if self._largest[choice] <= self._max_error:
                self.best = trial
        return self._largest[choice] <= self._max_error

    def require(self, choice: Precisions) -> None:
        """Raises ValueError if that is not enough, which no other choice can be then."""
        if not self.keeps(choice):
            raise ValueError(
                f"max_error: expected at least {self._largest[choice]:.3g}, by which the float32 network itself is "
                f"off the float64 one on this data, got {self._max_error:g}"
            )


def _same_in_all(ladders: Sequence[Sequence[Precision]], trials: _Trials) -> Precisions:
    """The fewest bits with which the bound is kept if all have the same, or the next more that a layer can have."""
    choices = [tuple(_at_least(rung, ladder) for ladder in ladders) for rung in range(len(LADDER))]
    if not trials.keeps(choices[0]):
        trials.require(choices[-1])  # float32: without it, the others cost time for nothing
    return next(choice for choice in choices if trials.keeps(choice))


def _at_least(rung: int, ladder: Sequence[Precision]) -> Precision:
    return next(precision for precision in ladder if precision in LADDER[rung:])


def _ladder(layer: Network) -> list[Precision]:
    """What the layer can have: a variant has no 8-bit weights, for one."""
    return [precision for precision in LADDER if precision == PLAIN or _can_have(layer, precision)]


def _can_have(layer: Network, precision: Precision) -> bool:
    try:
        layer.quantized(precision, layer.backend)
    except (BackendError, ValueError):  # no kernels; a variant; a weight above float16's largest
        return False
    return True


def _weights(layer: Network) -> int:
    return sum(value.size for value in layer.parameters.values())
