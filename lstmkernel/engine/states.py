"""What streams and pools have in common: rows of states, a step from some rows to others, and one thread at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from lstmkernel.backends.contract import Advance
from lstmkernel.backends.packing import Array, empty
from lstmkernel.dense import Dense
from lstmkernel.engine.call_length import spans
from lstmkernel.lstm import LSTM, State

if TYPE_CHECKING:
    from lstmkernel.stack import Stack

Rows = slice | Array


class States:
    """The states of ``count`` rows of a network's LSTMs, as they begin, and calls that read some and write others."""

    def __init__(self, net: LSTM | Stack, count: int) -> None:
        self._layers: Sequence[LSTM | Dense] = (net,) if isinstance(net, LSTM) else net.layers
        self.lstms = [layer for layer in self._layers if isinstance(layer, LSTM)]
        for lstm in self.lstms:
            if any(lstm.shape.backwards):
                raise ValueError(f"streams know no future, which the backward direction of {lstm!r} begins with")
        self._skip = 0.0 if isinstance(net, LSTM) else net.skip
        self._states = [_empty(lstm, count) for lstm in self.lstms]
        self.clear(slice(0, count))
        #: Whether steps are calls of one LSTM's kernels and nothing else; at most half of the rows take one.
        self._direct = isinstance(net, LSTM) and self.in_one_call(1, count // 2)
        #: How a step takes its arrays.
        self.address: Callable[[Array], Any] = self.lstms[0]._backend.address if self._direct else _itself

    def in_one_call(self, steps: int, rows: int) -> bool:
        """Whether one call of each layer's kernels does it without being deaf to Ctrl-C for long."""
        return all(steps * rows <= layer._call_rows(rows) for layer in self._layers)

    def advance(self, steps: int, read: Array, write: Array) -> Advance:
        """All layers over so many steps, as ``Backend.prepare_advance``; a step of very many rows is cut into calls."""
        rows = len(read)
        if self._direct or steps > 1 or rows == 1 or self.in_one_call(1, rows):
            return self._in_one_call(steps, read, write)
        cuts = list(spans(rows, min(layer._call_rows(rows) for layer in self._layers)))
        calls = [self._in_one_call(1, read[cut], write[cut]) for cut in cuts]

        def run(x: Array, out: Array) -> int:
            if np.may_share_memory(x, out):
                return 1
            for cut, call in zip(cuts, calls, strict=True):
                call(x[cut], out[cut])
            return 0

        return run

    def _in_one_call(self, steps: int, read: Array, write: Array) -> Advance:
        parts = [
            lstm._backend.prepare_advance(lstm._weights, steps, h, c, read, write, lstm._threads())
            for lstm, (h, c) in zip(self.lstms, self._states, strict=True)
        ]
        if self._direct:
            return parts[0]
        run = _chain(self._layers, parts, steps * len(read))
        return _past(run, self._layers[-1], self._skip, steps * len(read)) if self._skip else run

    def read(self, rows: Rows) -> list[State]:
        """(h, c) of every LSTM: views for a slice, copies for an array of places."""
        return [(h[:, rows], c[:, rows]) for h, c in self._states]

    def write(self, rows: Rows, new: Sequence[State]) -> None:
        for (h, c), (new_h, new_c) in zip(self._states, new, strict=True):
            h[:, rows], c[:, rows] = new_h, new_c

    def clear(self, rows: Rows) -> None:
        """As they begin: zero, or what the network has learned."""
        for lstm, (h, c) in zip(self.lstms, self._states, strict=True):
            h[:, rows], c[:, rows] = lstm._first


def _empty(lstm: LSTM, count: int) -> State:
    s = lstm.shape
    h = empty((s.num_layers, count, s.output_size), lstm.dtype)
    c = empty((s.num_layers, count, s.hidden_size), lstm.dtype)
    return h, c


def _itself(array: Array) -> Array:
    return array


def _chain(layers: Sequence[LSTM | Dense], parts: Sequence[Advance], rows: int) -> Advance:
    """All layers in turn, for arrays of so many rows, batch times steps."""
    left = iter(parts)
    *lower, top = [
        layer._run_rows if isinstance(layer, Dense) else _for_arrays(next(left), layer._backend.address)
        for layer in layers
    ]
    handed_on = [empty((rows, layer.out_features), layer.dtype) for layer in layers[:-1]]

    def run(x: Array, out: Array) -> int:
        if np.may_share_memory(x, out):
            return 1
        if x.ndim != 2:
            x, out = x.reshape(rows, -1), out.reshape(rows, -1)
        for layer, between in zip(lower, handed_on, strict=True):
            layer(x, between)
            x = between
        top(x, out)
        return 0

    return run


def _past(run: Advance, top: LSTM | Dense, skip: float, rows: int) -> Advance:
    """And the input's first numbers, times skip, added to what comes out.

    Between arrays of one shape, each without gaps: otherwise NumPy would allocate, which a step must not.
    """
    width = top.out_features
    share, factor = empty((rows, width), top.dtype), np.full((rows, width), skip, top.dtype)

    def run_past(x: Array, out: Array) -> int:
        if run(x, out):
            return 1
        share[...] = x.reshape(rows, -1)[:, :width]
        np.multiply(share, factor, share)
        flat = out.reshape(rows, -1)
        np.add(flat, share, flat)
        return 0

    return run_past


def _for_arrays(part: Advance, address: Callable[[Array], Any]) -> Callable[[Array, Array], Any]:
    return lambda x, out: part(address(x), address(out))


class OneAtATime:
    """Calls of one thread at a time; a second one raises RuntimeError.

    Without a lock: Python looks for other threads and for signals only after calls and in loops, so nothing gets in
    between asking for ``_busy`` and setting it.
    """

    _busy = False

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if self._busy:
            raise self._in_use()
        self._busy = True
        try:
            yield
        finally:
            self._busy = False

    def _in_use(self) -> RuntimeError:
        kind = type(self).__name__.lower()
        return RuntimeError(f"this {kind} is in use by another thread: give each thread a {kind} of its own")
