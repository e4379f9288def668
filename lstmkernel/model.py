"""Model: what an LSTM and a Stack have in common, every way to run over a sequence but the call itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np

from lstmkernel.engine.chain import Chain
from lstmkernel.engine.fixed_attributes import FixedAttributes
from lstmkernel.engine.network import Network

if TYPE_CHECKING:
    from lstmkernel.pool import Pool
    from lstmkernel.stream import Stream


class Model(FixedAttributes):
    """The base of ``LSTM`` and ``Stack``."""

    @property
    def engine(self) -> Network | Chain:
        """What runs: packed, with the current parameters. Its interface may change."""
        raise NotImplementedError

    @property
    def input_size(self) -> int:
        """I: how many numbers x has at each time step."""
        return self.engine.input_size

    @property
    def out_features(self) -> int:
        """The width of ``out``: D * R, or that of the last layer."""
        return self.engine.out_features

    @property
    def batch_first(self) -> bool:
        """Whether batched x and out are (B, T, ...)."""
        return self.engine.batch_first

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32 or float64: the type of weights, inputs, states and outputs."""
        return self.engine.dtype

    def stream(self, batch_size: int = 1) -> Stream:
        """The same model as a ``Stream`` of ``batch_size`` rows, which keeps its states from call to call.

        Raises ValueError for a model that is bidirectional or reverse: a backward direction needs the whole sequence
        first.
        """
        from lstmkernel.stream import Stream

        return Stream(self, batch_size)

    def pool(self, capacity: SupportsIndex) -> Pool:
        """A ``Pool`` of at most ``capacity`` streams, which take steps together. Raises as ``stream``."""
        from lstmkernel.pool import Pool

        return Pool(self, capacity)
