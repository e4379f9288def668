"""Pool: many streams on one set of weights. Any of them take a step together."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike

from lstmkernel.backends.contract import Advance
from lstmkernel.backends.packing import Array
from lstmkernel.engine import arguments
from lstmkernel.engine.chain import Chain
from lstmkernel.engine.chunk import checked as checked_chunk
from lstmkernel.engine.network import State
from lstmkernel.engine.sound import warn_of_whole_numbers
from lstmkernel.engine.states import OneAtATime, States, as_given, checked_states

if TYPE_CHECKING:
    from lstmkernel.model import Model

_ndarray = np.ndarray
_INT64 = np.dtype(np.int64)

#: How many sets of ids a pool remembers, and for how many sizes of sets it keeps a call.
MOST_SETS = 64


class Pool(OneAtATime):
    """Streams of one network. They open and close at any time, and any of them take a step together.

    ``LSTM.pool(capacity)`` and ``Stack.pool(capacity)`` make one. ``ids = pool.open(n)`` opens n streams, which begin
    as a ``Stream`` does. ``y = pool.step(ids, x)`` takes one step of some of them, in one kernel call that reads the
    weights once; ``y = pool(ids, chunk)`` takes several. ``pool.fork(ids)`` opens copies of streams. The results of a
    stream are bit-identical to those of a ``Stream`` of its own, no matter which other streams are in the same call. An
    id is never given twice: a closed one is refused.

    The pool keeps the weights that the network had when the pool was made. One thread at a time may use it: a call
    while another runs raises RuntimeError. A call that fails or is interrupted changes nothing.
    """

    _way_out = "guard it with a lock, or step it from one thread"

    def __init__(self, net: Model, capacity: SupportsIndex) -> None:
        super().__init__()
        self._capacity = arguments.size("capacity", capacity)
        self._net: Any = copy(net)  # the weights of now
        self._dtype = net.dtype
        # Every slot has two rows of states. A step reads one and writes the other, so a failing step changes nothing.
        self._chain = Chain.of(self._net.engine)
        self._states = States(self._chain, 2 * self._capacity)
        self._row = np.arange(self._capacity)  # the valid row of each slot: the slot, or capacity + the slot
        #: By slot: the id of its stream, or -1 - the id of its next stream. The ids of a slot lie capacity apart.
        self._ids = -1 - np.arange(self._capacity)
        self._in_width, self._out_width = net.input_size, net.out_features
        self._address = self._states.address
        self._forget_sets()
        #: By the size of a set of ids: the rows that are read, the rows that are written, and the call.
        self._calls: dict[int, tuple[Array, Array, Advance]] = {}

    def _forget_sets(self) -> None:
        #: By ids as bytes: their slots, and the sum of the two rows of each slot.
        self._sets: dict[bytes, tuple[Array, Array]] = {}

    @property
    def capacity(self) -> int:
        """How many streams can be open at once."""
        return self._capacity

    @property
    def ids(self) -> Array:
        """The ids of all open streams, int64."""
        ids = self._ids
        return ids[ids >= 0]

    def __len__(self) -> int:
        """How many streams are open."""
        return int(np.count_nonzero(self._ids >= 0))

    def open(self, n: SupportsIndex = 1, state: Any = None) -> Array:
        """Open n streams. Returns their ids, int64 (n,). Raises RuntimeError if fewer than n are free.

        state: as ``state`` gives it, one row for each of the n streams; None for the first states.
        """
        count = arguments.size("n", n, 0)
        states = None if state is None else checked_states(self._net.engine, state, count)
        turn = self._turn
        try:
            del turn.free
        except AttributeError:
            raise self._in_use() from None
        try:
            slots = self._free_slots(count)
            rows = self._row[slots]
            if states is None:
                self._states.clear(rows)
            else:
                self._states.write(rows, states)
            ids: Array = -1 - self._ids[slots]
            self._ids = self._with_ids(slots, ids)
        finally:
            turn.free = True
        return ids

    def fork(self, ids: ArrayLike) -> Array:
        """Open a stream for each of ids (n,), with a copy of its state. Returns the new ids, int64 (n,).

        An id may be named more than once: each time there is another stream. Raises ValueError for a closed id, and
        RuntimeError if fewer than n streams are free.
        """
        given = _whole_numbers(ids)
        turn = self._turn
        try:
            del turn.free
        except AttributeError:
            raise self._in_use() from None
        try:
            sources, slots = self._open_slots(given), self._free_slots(len(given))
            self._states.write(self._row[slots], self._states.read(self._row[sources]))
            new: Array = -1 - self._ids[slots]
            self._ids = self._with_ids(slots, new)
        finally:
            turn.free = True
        return new

    def _free_slots(self, count: int) -> Array:
        free = np.flatnonzero(self._ids < 0)
        if len(free) < count:
            raise RuntimeError(
                f"the pool is full: {count} streams asked for, {len(free)} of {self._capacity} are free; close some, "
                "or make a larger pool"
            )
        return free[:count]

    def _with_ids(self, slots: Array, ids: Array) -> Array:
        """The ids of all slots, with these for those slots."""
        new = self._ids.copy()
        new[slots] = ids
        return new

    def close(self, ids: ArrayLike) -> None:
        """Close these streams. Their ids are never given again. Raises ValueError for a closed or repeated id."""
        given = _whole_numbers(ids)
        turn = self._turn
        try:
            del turn.free
        except AttributeError:
            raise self._in_use() from None
        try:
            slots, _ = self._checked_slots(given)
            new = self._with_ids(slots, -1 - (self._ids[slots] + self._capacity))
            self._forget_sets()
            self._ids = new
        finally:
            turn.free = True

    def state(self, ids: ArrayLike) -> Any:
        """Copies of the states of these streams, ids (n,): (h, c) of shapes (L, n, R) and (L, n, H).

        A Stack has one such pair for each LSTM. A ``Stream`` of n rows has states of the same shapes. Raises ValueError
        for a closed id.
        """
        given = _whole_numbers(ids)
        turn = self._turn
        try:
            del turn.free
        except AttributeError:
            raise self._in_use() from None
        try:
            found = self._states.read(self._row[self._open_slots(given)])
        finally:
            turn.free = True
        return as_given(self._net.engine, found)

    def set_state(self, ids: ArrayLike, state: Any) -> None:
        """Give these streams, ids (n,), the states that ``state`` gave, or None for the first ones.

        Raises ValueError for a closed or repeated id, and as a call for wrong states.
        """
        ids = _whole_numbers(ids)
        states = None if state is None else checked_states(self._net.engine, state, len(ids))
        turn = self._turn
        try:
            del turn.free
        except AttributeError:
            raise self._in_use() from None
        try:
            slots, both = self._checked_slots(ids)
            rows = both - self._row[slots]
            if states is None:
                self._states.clear(rows)
            else:
                self._states.write(rows, states)
            self._row[slots] = rows
        finally:
            turn.free = True

    def reset(self, ids: ArrayLike) -> None:
        """Give these streams their first states again. Raises ValueError for a closed or repeated id."""
        self.set_state(ids, None)

    def step(self, ids: ArrayLike, x: ArrayLike, out: Array | None = None) -> Array:
        """One time step of the streams of ids (n,): x (n, I) -> y (n, out_features), row for row.

        out: where to write y, C-contiguous, of the right shape and dtype, not overlapping x.

        Raises ValueError for a closed or repeated id or a wrong shape and TypeError for a wrong dtype; then nothing has
        changed.
        """
        # Written for speed, as Stream.step.
        dtype = self._dtype
        if type(ids) is not _ndarray or ids.dtype is not _INT64 or ids.ndim != 1:
            ids = _whole_numbers(ids)
        n = len(ids)
        if type(x) is not _ndarray or x.dtype is not dtype or not x.flags.carray:
            warn_of_whole_numbers("x", x, self._chain)
            x = np.ascontiguousarray(arguments.real("x", x, dtype))
        if x.shape != (n, self._in_width):
            arguments.shape("x", x, (n, self._in_width), "(n, I)")
        shape = (n, self._out_width)
        if out is None:
            out = np.empty(shape, dtype)
        elif type(out) is not _ndarray or out.dtype is not dtype or out.shape != shape or not out.flags.carray:
            arguments.output(out, shape, dtype, ())
        turn = self._turn
        try:
            del turn.free
        except AttributeError:
            raise self._in_use() from None
        try:
            slots, both = self._sets.get(ids.tobytes()) or self._remembered(ids)
            if n:
                read, write, step = self._calls.get(n) or self._new_call(n)
                self._row.take(slots, out=read, mode="clip")  # with "clip", NumPy does not copy read first
                np.subtract(both, read, out=write)
                if step(self._address(x), self._address(out)):
                    raise ValueError("out: overlaps x; give an array of its own")
                self._row[slots] = write
        finally:
            turn.free = True
        return out

    def __call__(self, ids: ArrayLike, chunk: ArrayLike, out: Array | None = None) -> Array:
        """Any number of time steps of the streams of ids (n,): (T, n, I) -> (T, n, out_features).

        Batch first as the network. One stream may come without its dimension: (T, I) -> (T, out_features), and (T,) ->
        (T,) for a network of one input and one output. out: as in ``step``.

        Raises as ``step``; then nothing has changed.
        """
        given = _whole_numbers(ids)
        checked = checked_chunk("chunk", chunk, self._chain, len(given))
        turn = self._turn
        try:
            del turn.free
        except AttributeError:
            raise self._in_use() from None
        try:
            slots, both = self._checked_slots(given)
            rows = self._row[slots]
            out, last = checked.run(self._chain, self._states.read(rows), out)
            rows = both - rows
            self._states.write(rows, last)
            self._row[slots] = rows
        finally:
            turn.free = True
        return out

    def _remembered(self, ids: Array) -> tuple[Array, Array]:
        """The slots of these ids, checked and remembered, and the sum of the two rows of each slot."""
        key = ids.tobytes()  # a copy: what was checked must be what is remembered
        known = self._checked_slots(np.frombuffer(key, np.int64))
        if len(self._sets) >= MOST_SETS:
            self._forget_sets()
        self._sets[key] = known
        return known

    def _open_slots(self, ids: Array) -> Array:
        """The slots of open streams."""
        slots: Array = ids % self._capacity
        wrong = (ids < 0) | (self._ids[slots] != ids)
        if wrong.any():
            raise ValueError(f"ids: no stream {ids[wrong.argmax()]} is open")
        return slots

    def _checked_slots(self, ids: Array) -> tuple[Array, Array]:
        """The slots of open streams that differ, and the sum of the two rows of each slot."""
        slots = self._open_slots(ids)
        place = np.empty(self._capacity, np.int64)
        place[slots] = np.arange(len(ids))
        repeated = place[slots] != np.arange(len(ids))
        if repeated.any():
            raise ValueError(f"ids: stream {ids[repeated.argmax()]} is named more than once")
        return slots, 2 * slots + self._capacity

    def _new_call(self, n: int) -> tuple[Array, Array, Advance]:
        """The call for n rows. It is kept, because making it takes some microseconds."""
        if len(self._calls) >= MOST_SETS:
            self._calls = {}
        read, write = np.zeros(n, np.int64), np.zeros(n, np.int64)
        call = self._calls[n] = (read, write, self._states.advance(1, read, write))
        return call

    # ---------------------------------------------------------------- the object itself

    def __reduce__(self) -> tuple[Any, ...]:
        turn = self._turn
        try:
            del turn.free
        except AttributeError:
            raise self._in_use() from None
        try:
            ids, states = self._ids.copy(), self._states.read(self._row)
        finally:
            turn.free = True
        return _restored, (type(self), self._net, self._capacity, ids, states)

    def __setstate__(self, open_streams: tuple[Array, list[State]]) -> None:
        """The ids of all slots, and the states of their streams."""
        self._ids, states = open_streams
        self._states.write(self._row, states)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._net!r}, capacity={self._capacity}, open={len(self)})"


def _restored(kind: type[Pool], net: Model, capacity: int, ids: Array, states: Any) -> Pool:
    pool = kind(net, capacity)
    pool.__setstate__((ids, states))
    return pool


def _whole_numbers(ids: ArrayLike) -> Array:
    """ids as int64 (n,)."""
    array = np.atleast_1d(arguments.array_of("ids", ids))
    if array.ndim != 1:
        raise ValueError(f"ids: expected shape (n,), got {array.shape}")
    if array.dtype.kind not in "iu" and array.size:
        raise TypeError(f"ids: expected integers, got {array.dtype}")
    return np.ascontiguousarray(array, np.int64)
