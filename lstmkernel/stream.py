"""Stream: a network that keeps its states from one call to the next."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from lstmkernel.backends.contract import Advance
from lstmkernel.backends.packing import Array
from lstmkernel.engine import arguments
from lstmkernel.engine.chain import Chain
from lstmkernel.engine.chunk import checked, is_mono
from lstmkernel.engine.sound import warn_of_whole_numbers
from lstmkernel.engine.states import OneAtATime, States, as_given, checked_states, itself, rows_first

if TYPE_CHECKING:
    from lstmkernel.model import Model

_ndarray = np.ndarray
Address = Callable[[Array], Any]

#: How many shapes of chunks a stream remembers. Each needs a workspace of the kernels, some megabytes at most.
MOST_CHUNKS = 4


class Stream(OneAtATime):
    """A network that keeps its states: ``y = stream(chunk)``, or ``y = stream.step(x_t)`` for one step at a time.

    ``LSTM.stream(batch_size)`` and ``Stack.stream(batch_size)`` make one. The first states are zeros, or the learned
    ones (``initial_state``). A sequence in chunks of any lengths gives bit-identical results to one call. The stream
    keeps the weights that the network had when the stream was made. One thread at a time may use it: a call while
    another runs raises RuntimeError. A call that fails or is interrupted changes nothing.
    """

    _way_out = "give each thread a stream of its own"

    def __init__(self, net: Model, batch_size: int = 1) -> None:
        super().__init__()
        self._batch_size = B = arguments.size("batch_size", batch_size)
        self._net: Any = copy(net)  # the weights of now
        self._dtype = net.dtype
        self._chain = Chain.of(self._net.engine)
        # States have two sides. A step reads one and writes the other, so a step that fails has changed nothing.
        self._states = States(self._chain, 2 * B)
        self._sides = slice(0, B), slice(B, 2 * B)
        self._side = 0
        self._rows = np.arange(B), np.arange(B, 2 * B)
        self._steps = self._both_ways(1)
        #: By the shape of a chunk: the shape of its output, the calls, and how they take arrays.
        self._chunks: dict[tuple[int, ...], tuple[tuple[int, ...], tuple[Advance, Advance], Address]] = {}
        self._address = self._states.address
        #: The shapes of the last x_t, and of its output.
        self._shapes: tuple[tuple[int, ...], tuple[int, ...]] = (B, net.input_size), (B, net.out_features)

    @property
    def batch_size(self) -> int:
        """B: how many rows run side by side."""
        return self._batch_size

    # ---------------------------------------------------------------- forward

    def step(self, x_t: ArrayLike, out: Array | None = None) -> Array:
        """One time step: x_t (B, I) -> y (B, out_features); (I,) -> (out_features,) where B is 1.

        Where B is 1, a network of one input and one output also takes a number, and gives an array of no dimensions.

        out: where to write y, C-contiguous, of the right shape and dtype, not overlapping x_t. If it is given, and x_t
        is an array of the network's dtype, a step allocates nothing, takes no lock and makes no system call (unless the
        network is so large that several threads share a step).

        Raises ValueError for a wrong shape and TypeError for a wrong dtype; then nothing has changed.
        """
        # Written for speed: a step may come every 2 us, so everything else is elsewhere.
        dtype, (shape, out_shape) = self._dtype, self._shapes
        if type(x_t) is not _ndarray or x_t.dtype is not dtype or x_t.shape != shape or not x_t.flags.carray:
            x_t, out_shape = self._checked(x_t)
        if out is None:
            out = np.empty(out_shape, dtype)
        elif type(out) is not _ndarray or out.dtype is not dtype or out.shape != out_shape or not out.flags.carray:
            arguments.output(out, out_shape, dtype, ())
        turn = self._turn
        try:
            del turn.free
        except AttributeError:
            raise self._in_use() from None
        try:
            side = self._side
            if self._steps[side](self._address(x_t), self._address(out)):
                raise ValueError("out: overlaps x_t; give an array of its own")
            self._side = 1 - side
        finally:
            turn.free = True
        return out

    def _checked(self, x_t: ArrayLike) -> tuple[Array, tuple[int, ...]]:
        """x_t as the kernels take it, and the shape of its output. The next step expects this shape first."""
        chain, B = self._chain, self._batch_size
        warn_of_whole_numbers("x_t", x_t, chain)
        array = arguments.real("x_t", x_t, self._dtype)
        expected: list[tuple[int, ...]] = [(B, chain.input_size)]
        if B == 1:
            expected.append((chain.input_size,))
        if B == 1 and is_mono(chain):
            expected.append(())
        if array.shape not in expected:
            raise ValueError(f"x_t: expected shape {' or '.join(map(str, expected))}, got {array.shape}")
        shapes = self._shapes = array.shape, (*array.shape[:-1], chain.out_features) if array.ndim else ()
        return array if array.flags.c_contiguous else array.copy(order="C"), shapes[1]

    def __call__(self, chunk: ArrayLike, out: Array | None = None) -> Array:
        """Any number of time steps, even none: (T, B, I) -> (T, B, out_features), or batch first as the network.

        Where B is 1, also (T, I) -> (T, out_features), and (T,) -> (T,) for a network of one input and one output.

        out: where to write the output, as in ``step``. If it is given, and the chunk is a C-contiguous array of the
        network's dtype, the second chunk of a shape allocates nothing, takes no lock and makes no system call. A
        stream remembers 4 shapes. The exceptions are those of ``step``, and chunks that are so long that they are cut
        into kernel calls (about 0.2 s).

        Raises as a call of ``LSTM``; then nothing has changed.
        """
        dtype = self._dtype
        if type(chunk) is not _ndarray or chunk.dtype is not dtype or not chunk.flags.carray:
            return self._first_of_its_shape(chunk, out)
        known = self._chunks.get(chunk.shape)
        if known is None:
            return self._first_of_its_shape(chunk, out)
        out_shape, calls, address = known
        if out is None:
            out = np.empty(out_shape, dtype)
        elif type(out) is not _ndarray or out.dtype is not dtype or out.shape != out_shape or not out.flags.carray:
            arguments.output(out, out_shape, dtype, ())
        turn = self._turn
        try:
            del turn.free
        except AttributeError:
            raise self._in_use() from None
        try:
            side = self._side
            if calls[side](address(chunk), address(out)):
                raise ValueError("out: overlaps chunk; give an array of its own")
            self._side = 1 - side
        finally:
            turn.free = True
        return out

    def _first_of_its_shape(self, given: ArrayLike, out: Array | None) -> Array:
        """Run the chunk through the network, which cuts long work into kernel calls."""
        chunk = checked("chunk", given, self._chain, self._batch_size)
        turn = self._turn
        try:
            del turn.free
        except AttributeError:
            raise self._in_use() from None
        try:
            out, last = chunk.run(self._chain, self._states.read(self._sides[self._side]), out)
            self._prepare(chunk.shape, chunk.out_shape, chunk.steps)
            self._side = self._other_side(last)
        finally:
            turn.free = True
        return out

    def _prepare(self, shape: tuple[int, ...], out_shape: tuple[int, ...], steps: int) -> None:
        """Prepare the kernel calls for the next chunk of that shape, if one call of each layer does it."""
        B, address = self._batch_size, self._address
        if steps and self._states.in_one_call(steps, B):
            calls = self._both_ways(steps)
            if B > 1 and self._net.batch_first:
                there, back = (rows_first(call, address, steps, B, self._chain) for call in calls)
                calls, address = (there, back), itself
            if len(self._chunks) >= MOST_CHUNKS:
                self._chunks = {}
            self._chunks[shape] = out_shape, calls, address

    def _both_ways(self, steps: int) -> tuple[Advance, Advance]:
        """The calls for ``steps`` steps, from side 0 to side 1 and from 1 to 0."""
        first, second = self._rows
        return self._states.advance(steps, first, second), self._states.advance(steps, second, first)

    # ---------------------------------------------------------------- states

    @property
    def state(self) -> Any:
        """Copies of the states: (h, c) of shapes (L, B, R) and (L, B, H). A Stack has one such pair for each LSTM.

        Set it to such states, or to None for the first ones. Wrong states raise as in a call.
        """
        turn = self._turn
        try:
            del turn.free
        except AttributeError:
            raise self._in_use() from None
        try:
            found = [(h.copy(), c.copy()) for h, c in self._states.read(self._sides[self._side])]
        finally:
            turn.free = True
        return as_given(self._net.engine, found)

    @state.setter
    def state(self, new: Any) -> None:
        states = checked_states(self._net.engine, new, self._batch_size)
        turn = self._turn
        try:
            del turn.free
        except AttributeError:
            raise self._in_use() from None
        try:
            self._side = self._other_side(states)
        finally:
            turn.free = True

    def reset(self, mask: ArrayLike | None = None) -> None:
        """Give all rows their first states again, or only the rows where mask (B,), bool, is True."""
        rows = np.ones(self._batch_size, np.bool_) if mask is None else arguments.array_of("mask", mask)
        if rows.dtype != np.bool_:
            raise TypeError(f"mask: expected bool, got {rows.dtype}")
        arguments.shape("mask", rows, (self._batch_size,), "(B,)")
        kept = ~rows[:, None]
        turn = self._turn
        try:
            del turn.free
        except AttributeError:
            raise self._in_use() from None
        try:
            now = zip(self._states.read(self._sides[self._side]), self._chain.networks, strict=True)
            both = ((h, c, *network.first) for (h, c), network in now)
            new = [(np.where(kept, h, h_0), np.where(kept, c, c_0)) for h, c, h_0, c_0 in both]
            self._side = self._other_side(new)
        finally:
            turn.free = True

    def _other_side(self, new: Any) -> int:
        """The side that is not valid now, with these states."""
        side = 1 - self._side
        self._states.write(self._sides[side], new)
        return side

    # ---------------------------------------------------------------- the object itself

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (type(self), self._net, self._batch_size, self.state)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._net!r}, batch_size={self._batch_size})"


def _restored(kind: type[Stream], net: Model, batch_size: int, state: Any) -> Stream:
    stream = kind(net, batch_size)
    stream.state = state
    return stream
