"""The short way of a call whose shape has been seen before: nothing is left to check or to work out but the arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from lstmkernel.backends.packing import Array
from lstmkernel.engine.parameters import LSTMShape

Run = Callable[[Array, Array, Array, Array], None]

_share = np.may_share_memory

#: Shapes of x that a model remembers. Each costs about a kilobyte.
MOST_ROUTES = 64


class Routes:
    """Of one model with one set of weights."""

    def __init__(self, shape: LSTMShape, dtype: np.dtype[Any], batch_first: bool, weights: Iterable[Array]) -> None:
        """weights: the model's parameters, which must outlive this."""
        self._weights = frozenset(map(id, weights))
        self._shape, self._dtype, self._batch_first = shape, dtype, batch_first
        #: By the shape of x: the shapes of h, c and out, and the kernels' call.
        self._routes: dict[tuple[int, ...], tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], Run]] = {}

    def add(self, T: int, B: int, batched: bool, run: Run) -> None:
        """The way for inputs of (T, B) or, unbatched, T."""
        if batched and self._batch_first and B > 1:  # not contiguous in the order of time
            return
        if len(self._routes) >= MOST_ROUTES:
            self._routes.clear()
        s = self._shape
        states = (s.num_layers * s.directions, *((B,) if batched else ()))
        outer = (T,) if not batched else (B, T) if self._batch_first else (T, B)
        shapes = (*states, s.output_size), (*states, s.hidden_size), (*outer, s.directions * s.output_size)
        self._routes[(*outer, s.input_size)] = (*shapes, run)

    def run(self, x: Any, state: Any, out: Any) -> tuple[Array, tuple[Array, Array]] | None:
        """The call's result, or None where x, the state or out is not one that kernels can take as it is."""
        dtype = self._dtype
        if type(x) is not np.ndarray or x.dtype is not dtype:
            return None
        route = self._routes.get(x.shape)
        if route is None or not x.flags.carray:
            return None
        h_shape, c_shape, out_shape, run = route
        if state is None:
            h, c = np.zeros(h_shape, dtype), np.zeros(c_shape, dtype)
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
        """Whether kernels can write to it. Memory of its own is no weight's, unless it is that weight."""
        if type(out) is not np.ndarray or out.dtype is not self._dtype or out.shape != shape:
            return False
        flags = out.flags
        return bool(flags.owndata and flags.carray) and id(out) not in self._weights
