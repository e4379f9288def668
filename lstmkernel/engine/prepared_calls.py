"""Kernel calls that were prepared for a shape of x: the next call of that shape only looks at the arrays."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from lstmkernel.backends.contract import Prepared
from lstmkernel.backends.packing import Array
from lstmkernel.engine.parameters import LSTMShape

_share = np.may_share_memory

#: How many shapes of x a network remembers. Each takes about a kilobyte.
MAX_SHAPES = 64


class _Call(NamedTuple):
    """A kernel call, and the arrays that it takes."""

    h_shape: tuple[int, ...]
    c_shape: tuple[int, ...]
    out_shape: tuple[int, ...]
    learned: tuple[Array, Array] | None  # the first h and c, of these shapes; None: zeros
    run: Prepared


class PreparedCalls:
    """The prepared calls of one network."""

    def __init__(
        self,
        shape: LSTMShape,
        dtype: np.dtype[Any],
        batch_first: bool,
        weights: Iterable[Array],
        learned: tuple[Array, Array] | None,
    ) -> None:
        """weights: the network's parameters. They must live longer than this. learned: ``Network.first``, if it is."""
        self._weights = frozenset(map(id, weights))
        self._shape, self._dtype, self._batch_first, self._learned = shape, dtype, batch_first, learned
        #: By the shape of x.
        self._calls: dict[tuple[int, ...], _Call] = {}

    def __len__(self) -> int:
        return len(self._calls)

    def add(self, T: int, B: int, batched: bool, run: Prepared) -> None:
        """Remember the call for inputs of (T, B) or, unbatched, T."""
        if batched and self._batch_first and B > 1:  # not contiguous in the order of time
            return
        if len(self._calls) >= MAX_SHAPES:
            self._calls.clear()
        s = self._shape
        states = (s.num_layers * s.directions, *((B,) if batched else ()))
        outer = (T,) if not batched else (B, T) if self._batch_first else (T, B)
        h, c = (*states, s.output_size), (*states, s.hidden_size)
        out = (*outer, s.directions * s.output_size)
        self._calls[(*outer, s.input_size)] = _Call(h, c, out, self._first(h, c, batched), run)

    def _first(self, h: tuple[int, ...], c: tuple[int, ...], batched: bool) -> tuple[Array, Array] | None:
        """The learned states in every row, as views: they take no memory."""
        if self._learned is None:
            return None
        first_h, first_c = self._learned if batched else (part[:, 0] for part in self._learned)
        return np.broadcast_to(first_h, h), np.broadcast_to(first_c, c)

    def run(self, x: Any, state: Any, out: Any) -> tuple[Array, tuple[Array, Array]] | None:
        """The result; None where no call is prepared, or the kernels cannot take x, the state or out as they are."""
        dtype = self._dtype
        if type(x) is not np.ndarray or x.dtype is not dtype:
            return None
        call = self._calls.get(x.shape)
        if call is None or not x.flags.carray:
            return None
        h_shape, c_shape, out_shape, learned, run = call
        if state is None:
            if learned is None:
                h, c = np.zeros(h_shape, dtype), np.zeros(c_shape, dtype)
            else:
                h, c = learned[0].copy(), learned[1].copy()
        else:
            if type(state) is not tuple or len(state) != 2:
                return None
            h, c = state
            if not (type(h) is type(c) is np.ndarray and h.dtype is c.dtype is dtype):
                return None
            if h.shape != h_shape or c.shape != c_shape:
                return None
            if out is not None and (_share(out, h) or _share(out, c)):
                return None
            h, c = h.copy(), c.copy()
        if out is None:
            out = np.empty(out_shape, dtype)
        elif not self._is_ready(out, out_shape) or _share(out, x):
            return None
        run(x, h, c, out)
        return out, (h, c)

    def _is_ready(self, out: Any, shape: tuple[int, ...]) -> bool:
        """Whether the kernels can write to it. An array that owns its memory is no view of a weight."""
        if type(out) is not np.ndarray or out.dtype is not self._dtype or out.shape != shape:
            return False
        flags = out.flags
        return bool(flags.owndata and flags.carray) and id(out) not in self._weights
