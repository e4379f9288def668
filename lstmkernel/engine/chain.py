"""Networks and dense layers, one after the other. Stacks, streams and pools run one; it never changes."""

from __future__ import annotations

from collections.abc import Sequence

from lstmkernel.engine.head import Head
from lstmkernel.engine.network import Network


class Chain:
    """Layers in turn. ``skip`` times the first ``out_features`` numbers of the input is added to the output."""

    def __init__(self, layers: Sequence[Network | Head], skip: float = 0.0) -> None:
        self.layers, self.skip = tuple(layers), skip
        self.networks = [layer for layer in self.layers if isinstance(layer, Network)]
        top = max((place + 1 for place, layer in enumerate(self.layers) if isinstance(layer, Network)), default=0)
        #: The dense layers above the last network.
        self.heads = [layer for layer in self.layers[top:] if isinstance(layer, Head)]
        self.input_size, self.out_features = self.layers[0].input_size, self.layers[-1].out_features
        self.dtype = self.layers[0].dtype
        self.batch_first = any(network.batch_first for network in self.networks)

    @classmethod
    def of(cls, engine: Chain | Network) -> Chain:
        """A chain of one network, or the chain itself."""
        return engine if isinstance(engine, Chain) else cls([engine])

    def require_forward(self) -> None:
        """Raises ValueError for a network with a backward direction, which needs the whole sequence first."""
        for network in self.networks:
            if any(network.shape.backwards):
                raise ValueError(f"{network!r} cannot stream: its backward direction needs the whole sequence first")
