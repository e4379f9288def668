"""Rows of unequal length where they lie: kernels read a network's input, and write its output, in one flat array.

Some neighbouring rows are a **segment** of the array. What a layer makes of a segment lies as the segment does, one row
after the other. So the next layer takes it as it is, nothing is padded, and only the last output is stored.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lstmkernel.backends.contract import Ragged
from lstmkernel.backends.large import slices
from lstmkernel.backends.packing import Array, empty
from lstmkernel.engine.call_length import Cut
from lstmkernel.engine.chain import Chain
from lstmkernel.engine.network import Network, State

#: Rows of a thread that are sorted at once. They lie near each other in memory: caches then hold what they read and
#: write. Of 60,000 rows of 4 to 60 steps, more at once made the kernels slower.
SORTED_ROWS = 1 << 10
#: Bytes of a thread for what the layers hand on.
SEGMENT_BYTES = 1 << 21
#: Where that holds fewer rows of a thread, they run as blocks instead: a part of their steps at a time.
LEAST_ROWS = 32


def longest_first(lengths: Array) -> Array:
    """The places of all rows that have steps, the longest first."""
    shorter = lengths.max(initial=0) - lengths
    if shorter.max(initial=0) < 1 << 16:
        shorter = shorter.astype(np.uint16)  # NumPy sorts these by radix
    return np.argsort(shorter, kind="stable")[: np.count_nonzero(lengths)]


class Segments:
    """Runs segments of x (N, I) through a chain whose backend takes rows where they lie. One thread uses it.

    Row r has the steps offsets[r] .. offsets[r + 1] - 1 of x and of out (N, O). With ``last``, out (B, O) has row r's
    output at its last step in place r.
    """

    def __init__(self, chain: Chain, x: Array, offsets: Array, last: bool, out: Array) -> None:
        self._chain, self._x, self._offsets, self._last, self._out = chain, x, offsets, last, out
        self._lengths = np.diff(offsets)
        #: Up to the last LSTM.
        self._body = chain.layers[: len(chain.layers) - len(chain.heads)]
        self._as_it_is = x.dtype is chain.dtype and x.flags.aligned
        #: Whether the last LSTM stores the output of the last step alone.
        self._top_is_last = last and _gives_last(chain.networks[-1])
        handed_on = chain.layers[:-1]
        if last:
            handed_on = self._body[:-1] if self._top_is_last else self._body
        self._width = sum(layer.out_features for layer in handed_on) + (0 if self._as_it_is else chain.input_size)
        self._memory = [empty((0,), chain.dtype) for _ in handed_on]
        self._threads = max((network.threads() for network in chain.networks), default=1)

    def stop(self, first: int) -> int:
        """The end of the segment that begins with row ``first``: ``first`` itself, if its rows cannot be in one."""
        rows = len(self._lengths)
        most = min(rows, first + self._threads * SORTED_ROWS)
        if self._width:
            steps = self._threads * SEGMENT_BYTES // (self._width * self._chain.dtype.itemsize)
            fitting = int(np.searchsorted(self._offsets, self._offsets[first] + steps, "right")) - 1
            if fitting < min(most, first + self._threads * LEAST_ROWS):
                return first
            most = min(most, fitting)
        longest = int(self._lengths[first:most].max(initial=0))
        both_ways = [network for network in self._chain.networks if network.shape.bidirectional]
        return first if any(network.call_rows(1) < longest for network in both_ways) else most

    def run(self, rows: slice, order: Array, states: list[State]) -> None:
        """All steps of these rows: out is written. order: their places in the slice, the longest first, without those
        that have no step. ``states``, in that order, go on."""
        first, left = self._offsets[rows.start], iter(states)
        steps = slice(int(first), int(self._offsets[rows.stop]))
        begins, lengths = self._offsets[rows][order] - first, self._lengths[rows][order]
        x = y = self._x[steps] if self._as_it_is else self._x[steps].astype(self._chain.dtype)
        for place, layer in enumerate(self._body):
            if isinstance(layer, Network):
                out = self._output_of(place, steps, len(order))
                _run_network(layer, Ragged(y, begins, lengths, *next(left), out, self._stores_last(place)))
                y = out
            else:
                y = layer(y, out=self._output_of(place, steps, len(order)))
        if self._last:
            ends = begins + lengths - 1
            self._out[rows.start + order] = self._finish(y if self._top_is_last else y[ends], x[ends])
            return
        for place, head in enumerate(self._chain.heads, len(self._body)):
            y = head(y, out=self._output_of(place, steps, len(order)))
        if self._chain.skip:
            y += self._skipped(x)

    def _stores_last(self, place: int) -> bool:
        """Whether the layer at that place stores the output of each row's last step alone."""
        return self._top_is_last and place == len(self._body) - 1

    def _output_of(self, place: int, steps: slice, rows: int) -> Array:
        """Where the layer at that place writes what it makes of the segment."""
        width, count = self._chain.layers[place].out_features, steps.stop - steps.start
        if self._stores_last(place):
            return empty((rows, width), self._chain.dtype)
        if place == len(self._memory):
            return self._out[steps]
        if len(self._memory[place]) < count * width:
            self._memory[place] = empty((count * width,), self._chain.dtype)
        return self._memory[place][: count * width].reshape(count, width)

    def _finish(self, y: Array, x: Array) -> Array:
        """What the heads make of y, and the skipped part of x added."""
        for head in self._chain.heads:
            y = head(y)
        return y + self._skipped(x) if self._chain.skip else y

    def _skipped(self, x: Array) -> Array:
        skipped: Array = x[:, : self._chain.out_features] * self._chain.dtype.type(self._chain.skip)
        return skipped


def _gives_last(network: Network) -> bool:
    """Whether the step that it takes last is the last one, and no layer above needs the others."""
    return network.shape.num_layers == 1 and network.shape.backwards == (False,)


def _run_network(network: Network, rows: Ragged) -> None:
    assert network.backend.lstm_ragged is not None
    for part in _calls(network, rows):
        network.backend.lstm_ragged(network.weights, part, network.threads())


def _calls(network: Network, rows: Ragged) -> Iterator[Ragged]:
    """A network's work in kernel calls that are short enough for Ctrl-C. Two directions take all steps at once."""
    for group in _groups(network, rows.lengths):
        own = _some(rows, group)
        if network.shape.bidirectional:
            yield own
            continue
        longest, count = int(own.lengths[0]), len(own.lengths)
        for times in slices(longest, Cut.of(count, network.call_rows(count)).steps):
            if network.shape.reverse:
                times = slice(longest - times.stop, longest - times.start)
            part = _some(own, slice(np.count_nonzero(own.lengths > times.start)))
            steps = np.minimum(part.lengths, times.stop) - times.start
            yield part._replace(begins=part.begins + times.start, lengths=steps)


def _some(rows: Ragged, some: slice) -> Ragged:
    """Some of the rows."""
    begins, lengths, h, c = rows.begins[some], rows.lengths[some], rows.h[:, some], rows.c[:, some]
    return Ragged(rows.x, begins, lengths, h, c, rows.out[some] if rows.last else rows.out, rows.last)


def _groups(network: Network, lengths: Array) -> Iterator[slice]:
    """Rows of one call. lengths: the longest first."""
    first = 0
    while first < len(lengths):
        left, longest = len(lengths) - first, int(lengths[first])
        rows = Cut.of(left, network.call_rows(left)).rows
        if network.shape.bidirectional:  # what its layers hand on is padded, so rows are of about the same length
            alike = int(np.count_nonzero(2 * lengths[first:] >= longest))
            rows = max(1, min(alike, network.call_rows(left) // longest))
        yield slice(first, first + rows)
        first += rows
