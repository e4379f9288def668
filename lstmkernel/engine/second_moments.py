"""Second moments of what a layer's weights are multiplied by: mean of u u^T over steps, u = [x, h] or o * tanh(c).

They are those of the numbers as kernels for 8-bit weights see them, rounded to 16 or 8 bits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lstmkernel.backends.numpy.int8 import quantize_rows
from lstmkernel.backends.packing import Array
from lstmkernel.engine import single_layers
from lstmkernel.engine.calibration_data import Data
from lstmkernel.engine.network import Network
from lstmkernel.engine.parameters import LayerParameters, layer_parameters
from lstmkernel.engine.single_layers import Single


class Moments:
    """The sums of one matrix's inputs, over chunks."""

    def __init__(self, width: int) -> None:
        self._sum, self._count = np.zeros((width, width)), 0

    def add(self, *parts: Array) -> None:
        """The parts (N, width of each) lie side by side."""
        u = np.hstack(parts)
        self._sum += u.T @ u
        self._count += len(u)

    def mean(self) -> Array:
        """(width, width), float64. ValueError if a number is too large for it."""
        found: Array = self._sum / max(1, self._count)
        if not np.isfinite(found).all():
            raise ValueError(
                "calibrate: expected data on which the network stays finite, got an infinite sum of squares; scale the "
                "data as for training, or leave calibrate out"
            )
        return found


def of_layer(
    below: Sequence[Single], layer: Single, data: Data, levels: int, advance: Callable[[int], None]
) -> list[tuple[Array, Array | None]]:
    """For each direction the moments of [x, h] and, with a projection, of o * tanh(c), over steps not held back.

    below: the layers below, quantized: their output is this layer's x. layer: in float32, its own h. levels: the
    largest activation. All is run chunk by chunk, so that the memory does not grow with the steps.
    """
    network = layer.engine
    assert isinstance(network, Network)
    shape, directions = network.shape, range(network.shape.directions)
    both = [Moments(network.input_size + shape.output_size) for _ in directions]
    hidden = [Moments(shape.hidden_size) if shape.proj_size else None for _ in directions]
    singles = [*below, layer]
    width, whole = max(each.width for each in singles), single_layers.needs_whole(singles)
    for item in data.items:
        states: list[Any] = single_layers.first_states(singles, item.x.shape[1])
        for times in item.chunks(width, whole):
            x = np.ascontiguousarray(item.x[times])
            for each, state in zip(below, states, strict=False):
                x = single_layers.run(each, x, state)
            h_0, c_0 = (part.copy() for part in states[-1])
            out = single_layers.run(layer, x, states[-1])
            kept = ~item.held_back(times)
            for d in directions:
                ran = _Direction(network, d, x, h_0[d], c_0[d], out)
                _add(ran, kept[::-1] if ran.reverse else kept, levels, both[d], hidden[d])
            advance(x.shape[0] * x.shape[1])
    return [(own.mean(), None if other is None else other.mean()) for own, other in zip(both, hidden, strict=True)]


class _Direction:
    """One direction of a layer that ran over x: its inputs, in the order in which it takes the steps."""

    def __init__(self, network: Network, direction: int, x: Array, h_0: Array, c_0: Array, out: Array) -> None:
        shape, R = network.shape, network.shape.output_size
        self.reverse, self.c_0 = shape.backwards[direction], c_0
        own = out[:, :, R * direction : R * direction + R]
        if self.reverse:
            x, own = x[::-1], own[::-1]
        self.x, self.before = x, np.concatenate([h_0[None], own[:-1]])
        self.weights = layer_parameters(network.parameters, shape.suffix(0, direction))


def _add(ran: _Direction, kept: Array, levels: int, both: Moments, hidden: Moments | None) -> None:
    both.add(_seen(ran.x[kept], levels, False), _seen(ran.before[kept], levels, bounded=hidden is None))
    if hidden is not None:
        hidden.add(_seen(_reports(ran.weights, ran.x, ran.before, ran.c_0)[kept], levels, bounded=True))


def _seen(rows: Array, levels: int, bounded: bool) -> Array:
    """The rows (N, K) as kernels see them: integers of at most ``levels``, times what one of them stands for."""
    values, amplitude = quantize_rows(rows, levels, bounded)
    seen: Array = values * (amplitude.astype(np.float64)[:, None] / levels)
    return seen


def _reports(weights: LayerParameters, x: Array, before: Array, c: Array) -> Array:
    """o * tanh(c) of every step (T, B, H), which a projection takes. before: h of the step before (T, B, R)."""
    z = x @ weights.w_ih.T + weights.bias + before @ weights.w_hh.T
    i, f, g, o = np.split(z, 4, axis=2)
    with np.errstate(over="ignore"):
        i, f, o = (1 / (1 + np.exp(-gate)) for gate in (i, f, o))
    written, reported = i * np.tanh(g), np.empty_like(o)
    for t in range(len(z)):
        c = f[t] * c + written[t]
        reported[t] = o[t] * np.tanh(c)
    return np.asarray(reported)
