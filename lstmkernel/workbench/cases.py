"""A case: a network, its input, and inputs for the kernels of its first layer. Every backend gets the same numbers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from lstmkernel.backends.packing import Array
from lstmkernel.lstm import LSTM
from lstmkernel.workbench import rounding
from lstmkernel.workbench.networks import Net, lstms, on
from lstmkernel.workbench.shapes import Shape

#: Kernels of independent rows get at most this many. More rows would only take longer.
MOST_ROWS = 2048


#: The arrays of a case.
_ARRAYS = ("x", "x_rows", "x_steps", "gates", "cells", "h", "c")


@dataclass(frozen=True, eq=False)
class Case:
    """N is the number of independent rows: B x T, but at most MOST_ROWS."""

    name: str
    sizes: str
    origin: str
    net: Net
    x: Array  # (T, B, width of the network's input)
    x_rows: Array  # (N, I)
    x_steps: Array  # (T, B, I)
    gates: Array  # (N, 4, H), before activation
    cells: Array  # (N, H)
    h: Array  # (B, R)
    c: Array  # (B, H)

    @property
    def lstm(self) -> LSTM:
        """The first LSTM of the network. Kernels are given its first layer."""
        return lstms(self.net)[0]

    @property
    def dtype(self) -> np.dtype[Any]:
        dtype: np.dtype[Any] = self.x.dtype
        return dtype

    def reference(self) -> Case:
        """The same numbers in float64."""
        wide = {name: getattr(self, name).astype(np.float64) for name in _ARRAYS}
        return replace(self, net=on(self.net, "numpy", "float64"), **wide)

    def moved(self, seed: int, dtype: np.dtype[Any]) -> Case:
        """The same, with every number a rounding of ``dtype`` away."""
        random = np.random.default_rng(seed)
        arrays: dict[str, Any] = {name: rounding.moved(getattr(self, name), random, dtype) for name in _ARRAYS}
        return replace(self, net=rounding.moved_net(self.net, random, dtype), **arrays)


def of_shape(shape: Shape, dtype: DTypeLike) -> Case:
    """A network of that shape with random weights."""
    net = LSTM(shape.I, shape.H, shape.L, bidirectional=shape.D == 2, dtype=dtype, backend="numpy", seed=0)
    return of_net(shape.name, shape.sizes(), shape.origin, net, shape.B, shape.T)


def of_net(name: str, sizes: str, origin: str, net: Net, B: int, T: int) -> Case:
    """A given network, on random input."""
    random = np.random.default_rng(0)
    lstm = lstms(net)[0]
    I, H, N = lstm.input_size, lstm.hidden_size, min(B * T, MOST_ROWS)

    def normal(*shape: int) -> Array:
        values: Array = random.standard_normal(shape).astype(net.dtype)
        return values

    return Case(
        name=name,
        sizes=sizes,
        origin=origin,
        net=net,
        x=normal(T, B, net.input_size),
        x_rows=normal(N, I),
        x_steps=normal(T, B, I),
        gates=normal(N, 4, H),
        cells=normal(N, H),
        h=np.tanh(normal(B, lstm.shape.output_size)),
        c=normal(B, H),
    )
