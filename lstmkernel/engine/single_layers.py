"""A network as networks of one layer each, which run one after the other; and their parameters as one network's."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from lstmkernel.backends.contract import Batch
from lstmkernel.backends.packing import Array
from lstmkernel.engine.chain import Chain
from lstmkernel.engine.head import Head
from lstmkernel.engine.network import Network, State

#: A parameter of a layer: its name, the layer, and what follows.
_OF_LAYER = re.compile(r"(\w+)_l(\d+)((?:_reverse)?(?:_scale)?)")


class Single(NamedTuple):
    """A layer of a chain: a network of one layer, or a dense layer."""

    engine: Network | Head
    place: int  # of the network or the dense layer in the chain
    layer: int = 0  # of the network

    @property
    def width(self) -> int:
        """About how many numbers are computed at a step."""
        engine = self.engine
        inside = 6 * engine.shape.directions * engine.shape.hidden_size if isinstance(engine, Network) else 0
        return engine.input_size + engine.out_features + inside


def of_chain(chain: Chain) -> list[Single]:
    """All layers, the first one first."""
    found = []
    for place, engine in enumerate(chain.layers):
        if isinstance(engine, Network):
            found += [Single(of_network(engine, layer), place, layer) for layer in range(engine.shape.num_layers)]
        else:
            found.append(Single(engine, place))
    return found


def of_network(network: Network, layer: int) -> Network:
    """One layer alone."""
    shape, D = network.shape, network.shape.directions
    named = {}
    for name, value in network.parameters.items():
        found = _OF_LAYER.fullmatch(name)
        if found is None:  # h_0 and c_0
            named[name] = value[D * layer : D * layer + D]
        elif int(found[2]) == layer:
            named[f"{found[1]}_l0{found[3]}"] = value
    alone = shape._replace(input_size=shape.layer_input_size(layer), num_layers=1)
    own = (network.precisions[layer],)
    return Network(alone, named, network.dtype, network.backend, network.options, own)


def joined(layers: Iterable[Mapping[str, Array]]) -> dict[str, Array]:
    """The parameters of networks of one layer, as those of one network. Those of no layer are left out."""
    named = {}
    for layer, parameters in enumerate(layers):
        for name, value in parameters.items():
            if found := _OF_LAYER.fullmatch(name):
                named[f"{found[1]}_l{layer}{found[3]}"] = value
    return named


def needs_whole(singles: Sequence[Single]) -> bool:
    """Whether a layer has a backward direction, which needs whole sequences."""
    return any(isinstance(each.engine, Network) and any(each.engine.shape.backwards) for each in singles)


def first_states(singles: Sequence[Single], B: int) -> list[State | None]:
    """New states of B rows; None for dense layers."""
    return [each.engine.first_states(B) if isinstance(each.engine, Network) else None for each in singles]


def run(single: Single, x: Array, state: State | None) -> Array:
    """out (T, B, width) of x (T, B, I); the state (h, c) is written to."""
    engine = single.engine
    if not isinstance(engine, Network):
        return engine(x)
    assert state is not None
    out = np.empty((*x.shape[:2], engine.out_features), engine.dtype)
    engine.run(Batch(x, None, None, *state, out))
    return out
