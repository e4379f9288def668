"""Work: what the candidates of ``LSTM.compile`` do, and are timed at: calls, or steps or chunks of a stream."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Protocol

import numpy as np

from lstmkernel.backends.packing import Array
from lstmkernel.engine.call import call
from lstmkernel.engine.network import Network
from lstmkernel.tuning.accuracy import Answer

#: Steps that are timed in a call where the length of the input is unknown.
UNKNOWN_STEPS = 100
#: Steps that are checked against the definition, which is slow.
CHECKED_STEPS = 16


class StreamOfNetwork(Protocol):
    """As ``lstmkernel.Stream``, of one network."""

    @property
    def state(self) -> Any: ...

    def step(self, x_t: Array, out: Array) -> object: ...

    def __call__(self, chunk: Array, out: Array) -> object: ...


class Work(NamedTuple):
    """Inputs of so many rows and steps."""

    batch_size: int
    steps: int | None  # None: unknown; in a stream, single steps
    open_stream: Callable[[Network], StreamOfNetwork] | None  # None: calls

    def __str__(self) -> str:
        if self.open_stream is None:
            return "steps unknown" if self.steps is None else f"{self.steps} steps"
        return "single steps of a stream" if self.steps is None else f"chunks of {self.steps} steps of a stream"

    def answer(self, network: Network) -> Answer:
        """For the first steps: out, h and c."""
        x = self._input(network, CHECKED_STEPS)
        if self.open_stream is None:
            out, (h, c) = call(network, x)
            return out, h, c
        stream, axis = self.open_stream(network), int(network.batch_first)
        # Two chunks: the first one of its size goes another way.
        parts = np.split(x, CHECKED_STEPS if self.steps is None else 2, axis)
        outs = [np.empty((*part.shape[:2], network.out_features), network.dtype) for part in parts]
        for part, out in zip(parts, outs, strict=True):
            if self.steps is None:
                stream.step(part.squeeze(axis), out.squeeze(axis))
            else:
                stream(np.ascontiguousarray(part), out)
        return np.concatenate(outs, axis), *stream.state

    def reference(self, network: Network) -> Answer:
        """The right answer, from the definition: a call."""
        return self._replace(open_stream=None).answer(network)

    def call(self, network: Network) -> Callable[[], object]:
        """What is timed."""
        if self.open_stream is None:
            x = self._input(network, self.steps or UNKNOWN_STEPS)
            return partial(call, network, x, call(network, x)[1])
        stream, x = self.open_stream(network), self._input(network, self.steps or 1)
        out = np.empty((*x.shape[:2], network.out_features), network.dtype)
        if self.steps is not None:
            return partial(stream, x, out)
        axis = int(network.batch_first)
        return partial(stream.step, x.squeeze(axis), out.squeeze(axis))

    def _input(self, network: Network, T: int) -> Array:
        shape = (T, self.batch_size, network.input_size)
        x = np.random.default_rng(0).standard_normal(shape).astype(network.dtype)
        return np.ascontiguousarray(x.swapaxes(0, 1)) if network.batch_first else x
