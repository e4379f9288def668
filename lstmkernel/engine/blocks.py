"""Many rows through all layers of a chain: some rows and some steps at a time, in memory that the cache holds.

A block is (B, T, width): rows, steps, and the input or what one layer makes of it. Blocks are used again for the next
rows, so nothing as large as the data is ever made.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from lstmkernel.backends.contract import Batch
from lstmkernel.backends.large import slices
from lstmkernel.backends.memory import CACHE_LINE
from lstmkernel.backends.packing import Array, empty
from lstmkernel.engine.chain import Chain
from lstmkernel.engine.network import Network, State

#: A thread takes so many rows at a time: as many as the kernels run through time together (csrc/kernels/layout.h).
THREAD_ROWS = 96
#: Bytes of a thread's blocks, of all layers together.
THREAD_BYTES = 1 << 19
#: But blocks have at least so many steps, and of networks that need whole rows at least so many rows.
LEAST_STEPS, LEAST_ROWS = 16, 32


class Cut(NamedTuple):
    """How many rows and steps are taken at once."""

    rows: int
    steps: int


class Blocks:
    """Runs blocks of rows through a chain. One thread uses it."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        count = 1 + max((place for place, layer in enumerate(chain.layers) if isinstance(layer, Network)), default=-1)
        #: Up to the last LSTM; and the heads above it, which take each step by itself.
        self._body, self._heads = chain.layers[:count], chain.layers[count:]
        self._memory = [_Memory(chain.dtype) for _ in range(1 + count)]
        self._width = chain.input_size + sum(layer.out_features for layer in chain.layers)
        self._threads = max((network.threads() for network in chain.networks), default=1)
        backwards = {backward for network in chain.networks for backward in network.shape.backwards}
        #: Whether the last step of a row comes first, and whether a block has all steps of its rows.
        self._from_the_end, self.whole_rows = backwards == {True}, len(backwards) == 2

    def cut(self, longest: int) -> Cut:
        """For rows of at most so many steps."""
        numbers, rows = self._threads * THREAD_BYTES // self._chain.dtype.itemsize, self._threads * THREAD_ROWS
        if not self.whole_rows:
            return Cut(rows, max(LEAST_STEPS, numbers // (rows * self._width)))
        fitting = numbers // (self._width * max(1, longest))
        return Cut(min(rows, max(self._threads * LEAST_ROWS, fitting)), max(1, longest))

    def parts(self, longest: int, steps: int) -> Iterator[slice]:
        """The times of rows of at most ``longest`` steps, in the order in which the network takes them."""
        for times in slices(longest, steps):
            yield slice(longest - times.stop, longest - times.start) if self._from_the_end else times

    def first_states(self, rows: int) -> list[State]:
        """Of every LSTM."""
        return [network.first_states(rows) for network in self._chain.networks]

    def input(self, rows: int, steps: int) -> Array:
        """Where to put x: (rows, steps, I)."""
        return self._memory[0].block(rows, steps, self._chain.input_size)

    def run(self, x: Array, lengths: Array | None, states: Sequence[State]) -> Array:
        """The output of the last LSTM for x (B, T, I), any strides along B and T. ``states`` go on.

        The result is valid until the next call.
        """
        left, (B, T, _) = iter(states), x.shape
        for layer, memory in zip(self._body, self._memory[1:], strict=True):
            if isinstance(layer, Network):
                out = memory.block(B, T, layer.out_features)
                layer.run(Batch(x.swapaxes(0, 1), lengths, None, *next(left), out.swapaxes(0, 1)))
                x = out
            else:
                x = layer(x)
        return x

    def finish(self, out: Array, x: Array) -> Array:
        """What the heads make of ``out``, and the skipped part of x (..., I) added."""
        for head in self._heads:
            assert not isinstance(head, Network)
            out = head(out)
        if self._chain.skip:
            out += x[..., : self._chain.out_features] * self._chain.dtype.type(self._chain.skip)
        return out


class _Memory:
    """Memory for one block after the other."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self._dtype, self._numbers = dtype, empty((0,), dtype)

    def block(self, rows: int, steps: int, width: int) -> Array:
        """(rows, steps, width). Rows begin an odd number of cache lines apart.

        Else, with a power of two, the same step of all rows would compete for the same few places of the cache.
        """
        size = self._dtype.itemsize
        row_bytes = (-(-steps * width * size // CACHE_LINE) | 1) * CACHE_LINE
        if self._numbers.nbytes < rows * row_bytes:
            self._numbers = empty((rows * row_bytes // size,), self._dtype)
            self._numbers[...] = 0  # what no row has written is computed with, too, and must not warn
        return np.ndarray((rows, steps, width), self._dtype, self._numbers, 0, (row_bytes, width * size, size))
