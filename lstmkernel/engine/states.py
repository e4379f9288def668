"""Streams and pools share this: rows of states, steps that read some rows and write others, one thread at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lstmkernel.backends.contract import Advance
from lstmkernel.backends.large import slices
from lstmkernel.backends.packing import Array, empty
from lstmkernel.engine import inputs
from lstmkernel.engine.call_length import FULL_ROWS
from lstmkernel.engine.chain import Chain
from lstmkernel.engine.head import Head
from lstmkernel.engine.network import Network, State

Rows = slice | Array


class States:
    """The states of ``count`` rows of a chain's networks, and calls that read some rows and write others."""

    def __init__(self, chain: Chain, count: int) -> None:
        chain.require_forward()
        self._chain = chain
        self._states = [_empty(network, count) for network in chain.networks]
        self.clear(slice(0, count))
        #: Whether a step is one kernel call of one network and nothing else. At most half of the rows take a step.
        self._direct = chain.layers == tuple(chain.networks[:1]) and not chain.skip and self.in_one_call(1, count // 2)
        #: A step takes each of its arrays as this function gives it.
        self.address: Callable[[Array], Any] = chain.networks[0].backend.address if self._direct else itself

    def in_one_call(self, steps: int, rows: int) -> bool:
        """Whether so many steps of so many rows are short enough for one kernel call of each layer."""
        return all(steps * rows <= layer.call_rows(rows) for layer in self._chain.layers)

    def advance(self, steps: int, read: Array, write: Array) -> Advance:
        """All layers over some steps, as ``Backend.prepare_advance``. A step of very many rows is cut into calls."""
        rows = len(read)
        if self._direct or steps > 1 or rows == 1 or self.in_one_call(1, rows):
            return self._in_one_call(steps, read, write)
        cuts = list(slices(rows, max(FULL_ROWS, min(layer.call_rows(rows) for layer in self._chain.layers))))
        calls = [self._in_one_call(1, read[cut], write[cut]) for cut in cuts]

        def run(x: Array, out: Array) -> int:
            if np.may_share_memory(x, out):
                return 1
            for cut, call in zip(cuts, calls, strict=True):
                call(x[cut], out[cut])
            return 0

        return run

    def _in_one_call(self, steps: int, read: Array, write: Array) -> Advance:
        both = zip(self._chain.networks, self._states, strict=True)
        calls = [network.prepare_advance(steps, state, read, write) for network, state in both]
        if self._direct:
            return calls[0]
        rows = steps * len(read)
        run = _in_turn(self._chain.layers, calls, rows)
        return _with_skip(run, self._chain, rows) if self._chain.skip else run

    def read(self, rows: Rows) -> list[State]:
        """(h, c) of every LSTM: views for a slice, copies for an array of places."""
        return [(h[:, rows], c[:, rows]) for h, c in self._states]

    def write(self, rows: Rows, new: Sequence[State]) -> None:
        for (h, c), (new_h, new_c) in zip(self._states, new, strict=True):
            h[:, rows], c[:, rows] = new_h, new_c

    def clear(self, rows: Rows) -> None:
        """Set the states of these rows to the first ones: zeros, or what the network has learned."""
        for network, (h, c) in zip(self._chain.networks, self._states, strict=True):
            h[:, rows], c[:, rows] = network.first


def checked_states(engine: Network | Chain, given: Any, rows: int) -> list[State]:
    """Copies of a caller's states of so many rows, for each network; None: the first ones.

    Raises ValueError and TypeError as a call.
    """
    chain = Chain.of(engine)
    parts = [given] if isinstance(engine, Network) else inputs.states_given(chain, given)
    return [inputs.states_of(network, part, rows, True) for network, part in zip(chain.networks, parts, strict=True)]


def as_given(engine: Network | Chain, states: Sequence[State]) -> Any:
    """The states as the caller gives and gets them: of a network (h, c), of a chain one such pair for each network."""
    return states[0] if isinstance(engine, Network) else tuple(states)


def _empty(network: Network, count: int) -> State:
    s = network.shape
    h = empty((s.num_layers, count, s.output_size), network.dtype)
    c = empty((s.num_layers, count, s.hidden_size), network.dtype)
    return h, c


def itself(array: Array) -> Array:
    """The array, for calls that take it and no address."""
    return array


def _in_turn(layers: Sequence[Network | Head], calls: Sequence[Advance], rows: int) -> Advance:
    """All layers in turn, for arrays of so many rows, batch times steps. calls: of the networks among them."""
    left = iter(calls)
    *lower, top = [
        layer.run if isinstance(layer, Head) else _for_arrays(next(left), layer.backend.address) for layer in layers
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


def _with_skip(run: Advance, chain: Chain, rows: int) -> Advance:
    """``run``, and the input's first numbers, times skip, added to its output.

    All arrays have one shape and no gaps: otherwise NumPy would allocate, which a step must not.
    """
    width = chain.out_features
    share, factor = empty((rows, width), chain.dtype), np.full((rows, width), chain.skip, chain.dtype)

    def run_with_skip(x: Array, out: Array) -> int:
        if run(x, out):
            return 1
        share[...] = x.reshape(rows, -1)[:, :width]
        np.multiply(share, factor, share)
        flat = out.reshape(rows, -1)
        np.add(flat, share, flat)
        return 0

    return run_with_skip


def _for_arrays(call: Advance, address: Callable[[Array], Any]) -> Callable[[Array, Array], Any]:
    return lambda x, out: call(address(x), address(out))


def rows_first(run: Advance, address: Callable[[Array], Any], steps: int, rows: int, chain: Chain) -> Advance:
    """``run``, for arrays (B, T, ...) in place of (T, B, ...): by copies in memory that is made now."""
    x_steps = empty((steps, rows, chain.input_size), chain.dtype)
    out_steps = empty((steps, rows, chain.out_features), chain.dtype)
    x_rows, out_rows = x_steps.swapaxes(0, 1), out_steps.swapaxes(0, 1)

    def run_in_order(x: Array, out: Array) -> int:
        if np.may_share_memory(x, out):
            return 1
        x_rows[...] = x
        failed = run(address(x_steps), address(out_steps))
        out[...] = out_rows
        return failed

    return run_in_order


class Turn:
    """Who holds it may use a stream or a pool. ``free`` is there while nobody holds it."""

    def __init__(self) -> None:
        self.free = True


class OneAtATime:
    """Refuses a call while another one runs: RuntimeError. Each method that reads or writes states begins and ends so:

        turn = self._turn
        try:
            del turn.free
        except AttributeError:
            raise self._in_use() from None
        try:
            ...
            self._side = side  # what the call changes, in one assignment, after all that can fail
        finally:
            turn.free = True

    Of two threads that delete the attribute, one gets the AttributeError: with a GIL, because Python switches threads
    only between instructions; without one, because an object's attributes have a lock. Nobody ever waits for it.

    A ``threading.Lock`` would not do. Python handles signals after calls, and ``acquire`` and ``release`` are calls: an
    exception after the one would leave the lock taken, and one after the other would come from a call that was done. A
    ``with`` block makes such calls, too. So it is written out everywhere.
    """

    #: What to do about it.
    _way_out: str

    def __init__(self) -> None:
        self._turn = Turn()

    def _in_use(self) -> RuntimeError:
        kind = type(self).__name__.lower()
        return RuntimeError(
            f"this {kind} is in use by another thread: {self._way_out} (a signal handler cannot use the {kind} that it "
            "interrupts)"
        )
