"""Window: at each new input, what a network says of the last ``length`` inputs."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike

from lstmkernel.backends.contract import Advance
from lstmkernel.backends.packing import Array, empty
from lstmkernel.engine import arguments
from lstmkernel.engine.chain import Chain
from lstmkernel.engine.network import Network
from lstmkernel.engine.sound import warn_of_whole_numbers
from lstmkernel.engine.states import OneAtATime, States

if TYPE_CHECKING:
    from lstmkernel.model import Model

_ndarray = np.ndarray


class Window(OneAtATime):
    """A network that answers for the last ``length`` inputs, at each new input: ``y = window.step(x_t)``.

    ``LSTM.window(length)`` and ``Stack.window(length)`` make one. The answer is bit-identical to the last step of a
    call on the last ``length`` inputs from the first states. While there are fewer inputs, the call has all of them.

    ``length`` windows are in progress at any time, each one input behind the one before, so that no input is computed
    twice for a window. ``step`` gives the new input to the oldest one alone and answers: this takes about one step of a
    ``Stream``. The others still need that input. ``advance()`` gives it to them in one call; if nobody calls it, the
    next ``step`` does it first. So a program that waits for its inputs calls ``advance()`` after each answer.

    The window keeps the weights that the network had when it was made. One thread at a time may use it: a call while
    another runs raises RuntimeError. A call that fails or is interrupted changes nothing.
    """

    _way_out = "give each thread a window of its own"

    def __init__(self, net: Model, length: SupportsIndex, batch_size: SupportsIndex = 1) -> None:
        super().__init__()
        self._length = T = arguments.size("length", length)
        self._batch_size = B = arguments.size("batch_size", batch_size)
        self._net: Any = copy(net)  # the weights of now
        self._dtype = net.dtype
        self._chain = chain = Chain.of(self._net.engine)
        for network in chain.networks:
            if any(network.shape.backwards):
                raise ValueError(
                    f"{network!r} has a backward direction, which begins again with each window's last input; for a "
                    "recording, use net.windows(x, length)"
                )
        # Heads run once a window. A chain of heads alone is a body, too.
        heads = len(chain.heads) if chain.networks else 0
        body = Chain(chain.layers[: len(chain.layers) - heads])
        self._heads = chain.heads[:heads]
        # States have two sides. An advance reads one and writes the other. Each has rows by age: those that have taken
        # 0 inputs, 1 input, ... Nothing is ever written to age 0, so it keeps the first states.
        self._states = States(body, (2 * T + 1) * B)
        self._address = self._states.address
        rows = np.arange(2 * T * B).reshape(2, T, B)
        self._youngest = rows[:, 0]
        nowhere = np.arange(2 * T * B, (2 * T + 1) * B)  # the states after a window's last input
        #: By side: the rows that are answered next, and the call that does it.
        self._due = self._youngest.copy()
        self._answers = [self._states.advance(1, due, nowhere) for due in self._due]
        ends = [(rows[side, :-1].ravel(), rows[1 - side, 1:].ravel()) for side in (0, 1)]
        self._advances = [self._states.advance(1, *both) for both in ends] if T > 1 else []
        self._x = empty((B, chain.input_size), self._dtype)
        self._x_of_all = empty((T - 1, B, chain.input_size), self._dtype)
        self._out_of_all = empty(((T - 1) * B, body.out_features), self._dtype)
        #: The output of the body, and of each head but the last.
        widths = body.out_features, *(head.out_features for head in self._heads[:-1])
        self._between = [empty((B, width), self._dtype) for width in widths]
        self._direct = not (self._heads or chain.skip)
        self._share = empty((B, chain.out_features), self._dtype)  # of the input in the output
        self._factor = np.full((B, chain.out_features), chain.skip, self._dtype)
        #: The shapes of the last x_t, and of its output.
        self._shapes: tuple[tuple[int, ...], tuple[int, ...]] = (B, chain.input_size), (B, chain.out_features)
        #: What a call changes, in one assignment: the side of the states that are valid; how many inputs each row has
        #: had (B,), at most T - 1; and whether the windows in progress have still to take the last one.
        self._now: tuple[int, Array, bool] = 0, np.zeros(B, np.int64), False

    @property
    def length(self) -> int:
        """How many inputs a window has."""
        return self._length

    @property
    def batch_size(self) -> int:
        """B: how many rows run side by side."""
        return self._batch_size

    # ---------------------------------------------------------------- forward

    def step(self, x_t: ArrayLike, out: Array | None = None) -> Array:
        """One input: x_t (B, I) -> y (B, out_features); (I,) -> (out_features,) where B is 1.

        out: where to write y, C-contiguous, of the right shape and dtype, not overlapping x_t.

        Raises ValueError for a wrong shape and TypeError for a wrong dtype; then nothing has changed.
        """
        # Written for speed, as Stream.step.
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
            side, taken, waits = self._now
            if waits:
                side, taken, _ = self._advanced()
            if self._direct:
                if self._answers[side](self._address(x_t), self._address(out)):
                    raise ValueError("out: overlaps x_t; give an array of its own")
            else:
                self._with_heads(self._answers[side], x_t, out)
            self._x[...] = x_t
            self._now = side, taken, True
        finally:
            turn.free = True
        return out

    def _checked(self, x_t: ArrayLike) -> tuple[Array, tuple[int, ...]]:
        """x_t as the kernels take it, and the shape of its output. The next step expects this shape first."""
        warn_of_whole_numbers("x_t", x_t, self._chain)
        array = np.ascontiguousarray(arguments.real("x_t", x_t, self._dtype))
        B, I = self._batch_size, self._chain.input_size
        expected: list[tuple[int, ...]] = [(B, I)] if B > 1 else [(B, I), (I,)]
        if array.shape not in expected:
            raise ValueError(f"x_t: expected shape {' or '.join(map(str, expected))}, got {array.shape}")
        shapes = self._shapes = array.shape, (*array.shape[:-1], self._chain.out_features)
        return array, shapes[1]

    def _with_heads(self, answer: Advance, x_t: Array, out: Array) -> None:
        """The answer of a network with heads, or one that adds its input."""
        if np.may_share_memory(x_t, out):
            raise ValueError("out: overlaps x_t; give an array of its own")
        y = out.reshape(self._batch_size, -1)
        outs = [*self._between[: len(self._heads)], y]
        answer(self._address(x_t), self._address(outs[0]))
        for head, below, above in zip(self._heads, outs, outs[1:], strict=False):
            head.run(below, above)
        if self._chain.skip:
            # As in States: NumPy allocates where shapes differ or arrays have gaps.
            self._share[...] = x_t.reshape(self._batch_size, -1)[:, : self._chain.out_features]
            np.multiply(self._share, self._factor, self._share)
            np.add(y, self._share, y)

    def advance(self) -> None:
        """Give the last input to all windows in progress that do not have it. The next ``step`` would do it first."""
        turn = self._turn
        try:
            del turn.free
        except AttributeError:
            raise self._in_use() from None
        try:
            if self._now[2]:
                self._advanced()
        finally:
            turn.free = True

    def _advanced(self) -> tuple[int, Array, bool]:
        """What is so after all windows have taken the last input: every row is one input older, on the other side."""
        side, taken, _ = self._now
        if self._advances:
            self._x_of_all[...] = self._x
            self._advances[side](self._address(self._x_of_all), self._address(self._out_of_all))
        return self._on_the_other_side(np.minimum(taken + 1, self._length - 1))

    def _on_the_other_side(self, taken: Array) -> tuple[int, Array, bool]:
        """What is so with the states of the side that was not valid until now."""
        side = 1 - self._now[0]
        self._due[side] = self._youngest[side] + self._batch_size * taken
        self._now = now = side, taken, False
        return now

    # ---------------------------------------------------------------- states

    @property
    def state(self) -> tuple[Array, Any]:
        """Copies: (taken, (h, c)), with one (h, c) for each LSTM of a Stack.

        taken: (B,) int64, how many inputs each row has had, at most length - 1. h: (L, length - 1, B, R) and c:
        (L, length - 1, B, H), where [:, k] are the states after the last k + 1 inputs, from the first states.

        Set it to such a state, or to None for the beginning. A wrong one raises as the states of a call.
        """
        turn = self._turn
        try:
            del turn.free
        except AttributeError:
            raise self._in_use() from None
        try:
            side, taken, _ = self._advanced() if self._now[2] else self._now
            read = self._states.read(self._rows(side))
            pairs = [tuple(part.reshape(self._state_shape(part)).copy() for part in pair) for pair in read]
        finally:
            turn.free = True
        return taken.copy(), pairs[0] if isinstance(self._net.engine, Network) else tuple(pairs)

    @state.setter
    def state(self, new: Any) -> None:
        taken, pairs = (np.zeros(self._batch_size, np.int64), []) if new is None else self._checked_state(new)
        turn = self._turn
        try:
            del turn.free
        except AttributeError:
            raise self._in_use() from None
        try:
            if pairs:
                self._states.write(self._rows(1 - self._now[0]), pairs)
            self._on_the_other_side(taken)
        finally:
            turn.free = True

    def reset(self, mask: ArrayLike | None = None) -> None:
        """Start again in all rows, or only in those where mask (B,), bool, is True: as if no input had come."""
        rows = np.ones(self._batch_size, np.bool_) if mask is None else arguments.array_of("mask", mask)
        if rows.dtype != np.bool_:
            raise TypeError(f"mask: expected bool, got {rows.dtype}")
        arguments.shape("mask", rows, (self._batch_size,), "(B,)")
        turn = self._turn
        try:
            del turn.free
        except AttributeError:
            raise self._in_use() from None
        try:
            side, taken, _ = self._advanced() if self._now[2] else self._now
            self._states.write(self._rows(1 - side), self._states.read(self._rows(side)))
            self._on_the_other_side(np.where(rows, 0, taken))
        finally:
            turn.free = True

    def _rows(self, side: int) -> slice:
        """Of the states of one side, but for those of age 0."""
        T, B = self._length, self._batch_size
        return slice((side * T + 1) * B, (side + 1) * T * B)

    def _state_shape(self, part: Array) -> tuple[int, ...]:
        return len(part), self._length - 1, self._batch_size, part.shape[-1]

    def _checked_state(self, new: Any) -> tuple[Array, list[tuple[Array, Array]]]:
        """Checked; (h, c) of each network as its rows are."""
        taken, states = arguments.pair("state", new, "(taken, (h, c))")
        counts, most = arguments.array_of("taken", taken), self._length - 1
        arguments.shape("taken", counts, (self._batch_size,), "(B,)")
        if counts.dtype.kind not in "iu":
            raise TypeError(f"taken: expected integers, got {counts.dtype}")
        if ((counts < 0) | (counts > most)).any():
            raise ValueError(f"taken: expected 0..{most} (length - 1), got {counts}")
        networks = self._chain.networks
        given = [states] if isinstance(self._net.engine, Network) else list(states)
        if len(given) != len(networks):
            raise ValueError(f"state: expected one (h, c) for each of {len(networks)} LSTMs, got {len(given)}")
        pairs = []
        for network, pair in zip(networks, given, strict=True):
            h, c = arguments.pair("state", pair, "(h, c)")
            widths = ("h", h, network.shape.output_size), ("c", c, network.shape.hidden_size)
            parts = [self._checked_part(name, part, network.num_states, width) for name, part, width in widths]
            pairs.append((parts[0], parts[1]))
        return counts.astype(np.int64), pairs

    def _checked_part(self, name: str, value: ArrayLike, L: int, width: int) -> Array:
        array, rows = arguments.real(name, value, self._dtype), (self._length - 1, self._batch_size)
        arguments.shape(name, array, (L, *rows, width), f"(L, length - 1, B, {'R' if name == 'h' else 'H'})")
        return array.reshape(L, rows[0] * rows[1], width)

    # ---------------------------------------------------------------- the object itself

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (type(self), self._net, self._length, self._batch_size, self.state)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._net!r}, length={self._length}, batch_size={self._batch_size})"


def _restored(kind: type[Window], net: Model, length: int, batch_size: int, state: Any) -> Window:
    window = kind(net, length, batch_size)
    window.state = state
    return window
