"""A quantized chain beside the float64 one, on data: the numbers of a certificate."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from itertools import zip_longest
from math import sqrt
from typing import Any

import numpy as np

from lstmkernel.backends.packing import Array
from lstmkernel.certificate import TENTHS, Certificate, Error, LayerError
from lstmkernel.engine import single_layers
from lstmkernel.engine.calibration_data import Data, Item
from lstmkernel.engine.chain import Chain
from lstmkernel.engine.head import Head
from lstmkernel.engine.network import Network
from lstmkernel.engine.precision import Precision, Precisions
from lstmkernel.engine.single_layers import Single


class Difference:
    """Differences of many numbers from what they should be."""

    def __init__(self) -> None:
        self._squares, self._largest, self._count = 0.0, 0.0, 0

    def add(self, got: Array, exact: Array) -> None:
        """Of one shape."""
        if not got.size:
            return
        error = np.abs(got - exact)
        if not np.isfinite(error).all():
            raise ValueError(
                "calibrate: expected data on which the network stays finite, got NaN or infinity in its output; scale "
                "the data as for training"
            )
        self._squares += float(np.sum(error * error))
        self._largest = max(self._largest, float(error.max()))
        self._count += error.size

    def found_any(self) -> Error | None:
        """What they were; None if there were no numbers."""
        return self.found() if self._count else None

    def found(self) -> Error:
        """What they were; 0 if there were no numbers."""
        return Error(sqrt(self._squares / max(1, self._count)), self._largest)


class _Differences:
    """All that a certificate names."""

    def __init__(self, singles: list[Single]) -> None:
        self.singles = singles
        self.out, self.h_n, self.c_n = Difference(), Difference(), Difference()
        self.layers = [Difference() for _ in singles]
        self.tenths = [Difference() for _ in range(TENTHS)]


def certificate(
    name: str, chain: Chain, narrow: Chain, data: Data, held_back: bool, advance: Callable[[int], None]
) -> Certificate:
    """How far ``narrow`` is off ``chain`` in float64. name: of the network, for the reader.

    held_back: weights were fitted to all other steps, so out and the layers are measured on the steps that are held
    back; on all if there are none. advance(steps): called for the steps that were run.
    """
    exact = single_layers.of_chain(_in_float64(chain))
    found = _Differences(single_layers.of_chain(narrow))
    only_held_back = held_back and data.held_back > 0
    for item in data.items:
        _measure(item, found, exact, chain.skip, only_held_back, advance)
    fitted = data.steps - data.held_back if any(network.is_int8 for network in narrow.networks) else 0
    return Certificate(
        network=name,
        weights=weights_digest(narrow),
        data=data.digest,
        rows=data.rows,
        steps=data.steps,
        fitted=fitted,
        measured=data.held_back if only_held_back else data.steps,
        out=found.out.found(),
        h_n=found.h_n.found(),
        c_n=found.c_n.found(),
        layers=tuple(_layer_errors(found, len(narrow.layers))),
        over_time=tuple(each.found_any() for each in found.tenths),
        bytes_before=_bytes(chain),
        bytes_after=_bytes(narrow),
    )


def _measure(
    item: Item,
    found: _Differences,
    exact: list[Single],
    skip: float,
    only_held_back: bool,
    advance: Callable[[int], None],
) -> None:
    B = item.x.shape[1]
    states, exact_states = (single_layers.first_states(each, B) for each in (found.singles, exact))
    whole = single_layers.needs_whole(exact)
    for times in item.chunks(max(each.width for each in exact), whole):
        y, right = np.ascontiguousarray(item.x[times]), np.asarray(item.x[times], np.float64, order="C")
        x, exact_x = y, right
        counted = item.held_back(times) if only_held_back else np.ones(x.shape[:2], np.bool_)
        for place, (single, other) in enumerate(zip(found.singles, exact, strict=True)):
            y = single_layers.run(single, y, states[place])
            right = single_layers.run(other, right, exact_states[place])
            found.layers[place].add(y[counted], right[counted])
        if skip:
            width = y.shape[2]
            y, right = y + x[:, :, :width] * x.dtype.type(skip), right + exact_x[:, :, :width] * skip
        found.out.add(y[counted], right[counted])
        tenths = item.tenths(times)
        for tenth in np.unique(tenths):
            found.tenths[tenth].add(y[tenths == tenth], right[tenths == tenth])
        advance(x.shape[0] * B)
    for state, exact_state in zip_longest(states, exact_states):
        if state is not None and exact_state is not None:
            found.h_n.add(state[0], exact_state[0])
            found.c_n.add(state[1], exact_state[1])


def _in_float64(chain: Chain) -> Chain:
    return Chain([_engine_in_float64(engine) for engine in chain.layers], chain.skip)


def _engine_in_float64(engine: Network | Head) -> Network | Head:
    dtype = np.dtype(np.float64)
    if isinstance(engine, Network):
        return engine.on(engine.backend, engine.options.num_threads, dtype)
    parameters = {name: value.astype(dtype) for name, value in engine.parameters.items()}
    return Head(parameters, engine.activation, dtype, engine.backend)


def _layer_errors(found: _Differences, engines: int) -> list[LayerError]:
    """Of the LSTM layers."""
    errors = []
    for single, difference in zip(found.singles, found.layers, strict=True):
        if isinstance(single.engine, Network):
            place = f"layers[{single.place}], " if engines > 1 else ""
            errors.append(LayerError(f"{place}layer {single.layer}", _in_words(single.engine), difference.found()))
    return errors


def _in_words(network: Network) -> str:
    (precision,) = network.precisions
    return f"{precision.weights}, {precision.activations} activations" if precision.is_int8 else precision.weights


def _bytes(chain: Chain) -> int:
    return sum(value.nbytes for engine in chain.layers for value in engine.parameters.values())


def weights_digest(chain: Chain) -> str:
    """A digest of all that decides the chain's numbers."""
    found = hashlib.sha256(repr(chain.skip).encode())
    for engine in chain.layers:
        kind: Any = (tuple(engine.shape), _one_or_all(engine)) if isinstance(engine, Network) else engine.activation
        found.update(repr(kind).encode())
        for name, value in sorted(engine.parameters.items()):
            found.update(f"{name} {value.dtype} {value.shape}".encode())
            found.update(np.ascontiguousarray(value).data)
    return found.hexdigest()[:16]


def _one_or_all(network: Network) -> Precision | Precisions:
    """One precision for all layers, as digests had it when layers could not differ; or that of each."""
    precisions = network.precisions
    return precisions[0] if len(set(precisions)) == 1 else precisions
