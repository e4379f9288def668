"""Quantizing a chain for data, layer by layer: each is fitted to what the quantized layers below it really give."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from lstmkernel.backends.packing import Array
from lstmkernel.engine import column_rounding, second_moments, single_layers
from lstmkernel.engine import precision as bits
from lstmkernel.engine.calibration_data import Data
from lstmkernel.engine.chain import Chain
from lstmkernel.engine.head import Head
from lstmkernel.engine.network import Network
from lstmkernel.engine.precision import PLAIN, SCALE, Precision, Precisions
from lstmkernel.engine.single_layers import Single


def quantized(chain: Chain, precisions: Precisions, data: Data, advance: Callable[[int], None]) -> Chain:
    """The chain with each layer of its networks in its precision. 8-bit weights are fitted to the data.

    advance(steps): called for the steps that a layer was run over, with all below it.
    """
    wanted = _by_network(chain, precisions)
    _require_all(chain, wanted)
    singles, done = single_layers.of_chain(chain), list[Single]()
    for single in singles:
        engine = single.engine
        precision = wanted[single.place][single.layer] if isinstance(engine, Network) else PLAIN
        if precision == PLAIN or not isinstance(engine, Network):
            done.append(single)
        elif precision.is_int8:
            named = _fitted(done, single, precision, data, advance)
            done.append(single._replace(engine=_narrow(engine, named, (precision,))))
        else:
            done.append(single._replace(engine=engine.quantized(precision, engine.backend)))
    engines = [_whole(engine, wanted.get(place), done, place) for place, engine in enumerate(chain.layers)]
    return Chain(engines, chain.skip)


def steps_to_run(precisions: Precisions, data: Data) -> int:
    """How many steps ``quantized`` will report."""
    return data.steps * sum(precision.is_int8 for precision in precisions)


def _by_network(chain: Chain, precisions: Precisions) -> dict[int, Precisions]:
    """The precisions of each network, by its place in the chain."""
    found, begin = {}, 0
    for place, engine in enumerate(chain.layers):
        if isinstance(engine, Network):
            found[place] = precisions[begin : begin + engine.shape.num_layers]
            begin += engine.shape.num_layers
    return found


def _require_all(chain: Chain, wanted: Mapping[int, Precisions]) -> None:
    """Raises, before the long work, what ``Network.quantized`` raises; of several layers, with the layer's place."""
    for place, precisions in wanted.items():
        network = chain.layers[place]
        assert isinstance(network, Network)
        try:
            if network.is_quantized:
                raise ValueError(
                    f"calibrate: expected a float32 network, to fit weights to data, got {network.precision} "
                    "weights; quantize the network that they were made from"
                )
            network.quantized_by_layer(precisions, network.backend)
        except ValueError as error:
            if len(chain.layers) == 1:
                raise
            raise ValueError(f"layers[{place}]: {error}") from error


# ---------------------------------------------------------------- one layer


def _fitted(
    below: Sequence[Single], single: Single, precision: Precision, data: Data, advance: Callable[[int], None]
) -> dict[str, Array]:
    """The 8-bit matrices of a layer, and their scales."""
    network = single.engine
    assert isinstance(network, Network)
    moments = second_moments.of_layer(below, single, data, precision.levels, advance)
    named: dict[str, Array] = {}
    for direction, (both, hidden) in enumerate(moments):
        suffix = network.shape.suffix(0, direction)
        named |= _rounded(network.parameters, [f"weight_ih{suffix}", f"weight_hh{suffix}"], both)
        if hidden is not None:
            named |= _rounded(network.parameters, [f"weight_hr{suffix}"], hidden)
    return bits.frozen(named)


def _rounded(parameters: Mapping[str, Array], names: Sequence[str], moments: Array) -> dict[str, Array]:
    """Matrices side by side, which one sum multiplies: each with its own scales, those of plain rounding."""
    weights = [parameters[name] for name in names]
    scales = [bits.scale_of(weight) for weight in weights]
    spread = [np.broadcast_to(s[:, None], w.shape) for s, w in zip(scales, weights, strict=True)]
    matrix, steps = (np.hstack(parts).astype(np.float64) for parts in (weights, spread))
    values = column_rounding.rounded(matrix, steps, moments)
    named: dict[str, Array] = {}
    start = 0
    for name, weight, scale in zip(names, weights, scales, strict=True):
        stop = start + weight.shape[1]
        named |= {name: np.ascontiguousarray(values[:, start:stop]), name + SCALE: scale}
        start = stop
    return named


def _narrow(network: Network, named: Mapping[str, Array], precisions: Precisions) -> Network:
    parameters: dict[str, Array] = {}
    for name, value in network.parameters.items():
        parameters[name] = named.get(name, value)
        if name + SCALE in named:
            parameters[name + SCALE] = named[name + SCALE]
    return Network(network.shape, parameters, network.dtype, network.backend, network.options, precisions)


def _whole(engine: Network | Head, precisions: Precisions | None, done: Sequence[Single], place: int) -> Network | Head:
    """The network whose layers are ``done``; itself where no layer has fewer bits."""
    if precisions is None or not isinstance(engine, Network) or {*precisions} == {PLAIN}:
        return engine
    layers = [single.engine.parameters for single in done if single.place == place]
    return _narrow(engine, single_layers.joined(layers), precisions)
