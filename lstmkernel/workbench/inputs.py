"""How far the backends are from float64 on a network of one's own: on silence, quiet noise, noise and one's own input.

A sequence hands its rounding on from step to step. One step, which starts from the state that float64 has there,
does not: its error is the kernels' own, whatever the network does with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from lstmkernel.backends.packing import Array
from lstmkernel.engine.network import State
from lstmkernel.lstm import LSTM
from lstmkernel.tuning import accuracy
from lstmkernel.tuning.accuracy import Answer
from lstmkernel.workbench import rounding
from lstmkernel.workbench.networks import Net, layers, on
from lstmkernel.workbench.results import BASELINE, InputResult

#: Amplitude of the quiet input. Networks that magnify rounding show it best there.
QUIET = 1e-4
#: So many steps of the user's input, because float64 takes each of them alone.
MOST = 2000


def inputs(net: Net, T: int, B: int, own: Array | None) -> dict[str, Array]:
    """What a network is measured on, (T, B, I) each. own: the user's, (T, I) or batched as the network has it."""
    noise = np.random.default_rng(1).standard_normal((T, B, net.input_size))
    found = {"silence": 0 * noise, "quiet noise": QUIET * noise, "noise": noise}
    if own is not None:
        steps = own[:, None] if own.ndim == 2 else own.swapaxes(0, 1) if net.batch_first else own
        found["your input" if len(steps) <= MOST else f"your input's first {MOST} steps"] = steps[:MOST]
    return {name: np.ascontiguousarray(x, net.dtype) for name, x in found.items()}


def measure(net: Net, name: str, x: Array, backends: Sequence[str]) -> list[InputResult]:
    """Each backend on x (T, B, I), an input of that name."""
    double, wide = on(net, BASELINE, np.float64), x.astype(np.float64)
    right, steps = _answer(double, wide), list(_steps(double, wide, net.dtype))
    errors = {
        backend: accuracy.error(_answer(on(net, backend, net.dtype), x), right, net.dtype) for backend in backends
    }

    def moved(seed: int) -> Answer:
        random = np.random.default_rng(seed)
        return _answer(rounding.moved_net(double, random, net.dtype), rounding.moved(wide, random, net.dtype))

    limit = 1.0 if all(error <= 1 for error in errors.values()) else rounding.limit(moved, right, net.dtype)
    return [
        InputResult(name, backend, float(np.max([step.error(backend) for step in steps])), error, limit)
        for backend, error in errors.items()
    ]


def _answer(net: Net, x: Array) -> Answer:
    out, states = net(x)
    pairs: Any = [states] if isinstance(net, LSTM) else states
    return (out, *(array for pair in pairs for array in pair))


# ---------------------------------------------------------------- one step


class _Steps(NamedTuple):
    """All steps of one layer, side by side as rows. Each starts from the state that float64 has there, rounded."""

    layer: LSTM  # in float64
    x: Array  # (1, T*B, I), in the dtype that is measured
    h: Array  # (D, T*B, R)
    c: Array  # (D, T*B, H)

    def error(self, backend: str) -> float:
        x, h, c = (array.astype(np.float64) for array in self[1:])
        _, right = self.layer(x, (h, c))
        _, got = self._on(backend)(self.x, (self.h, self.c))
        return accuracy.error(got, right, self.x.dtype)

    def _on(self, backend: str) -> LSTM:
        config = {**self.layer.config(), "backend": backend, "dtype": self.x.dtype}
        return LSTM.from_config(config, self.layer.state_dict())


def _steps(net: Net, x: Array, dtype: np.dtype[Any]) -> Iterator[_Steps]:
    """Of every layer of every LSTM. net, x (T, B, I): in float64."""
    for part in layers(net):
        if not isinstance(part, LSTM):
            x = part(x)
            continue
        for layer, state in _layers(part, x.shape[1]):
            h, c = _states_before(layer, x, state)
            yield _Steps(layer, *(array.astype(dtype) for array in (x.reshape(1, -1, x.shape[-1]), h, c)))
            x, _ = layer(x, state)


def _layers(lstm: LSTM, B: int) -> Iterator[tuple[LSTM, State]]:
    """Each layer as an LSTM of its own, and its first state, (D, B, R) and (D, B, H)."""
    named, D, R = lstm.state_dict(), lstm.shape.directions, lstm.shape.output_size
    learned = [named.pop(name, None) for name in ("h_0", "c_0")]
    for at in range(lstm.num_layers):
        size = {"input_size": lstm.input_size if at == 0 else D * R, "num_layers": 1, "initial_state": False}
        ends = f"_l{at}", f"_l{at}_reverse"
        own = {name.replace(f"_l{at}", "_l0"): value for name, value in named.items() if name.endswith(ends)}
        h, c = (
            np.zeros((D, B, width)) if start is None else np.repeat(start[at * D : at * D + D, None], B, axis=1)
            for start, width in zip(learned, (R, lstm.hidden_size), strict=True)
        )
        yield LSTM.from_config({**lstm.config(), **size}, own), (h, c)


def _states_before(layer: LSTM, x: Array, state: State) -> State:
    """The state of each direction before it takes each step of x (T, B, I): (D, T*B, R) and (D, T*B, H)."""
    T, B, _ = x.shape
    all_h, all_c = (np.empty((len(part), T, *part.shape[1:])) for part in state)
    for direction, backwards in enumerate(layer.shape.backwards):
        h, c = state
        for t in reversed(range(T)) if backwards else range(T):
            all_h[direction, t], all_c[direction, t] = h[direction], c[direction]
            _, (h, c) = layer(x[t : t + 1], (h, c))
    return all_h.reshape(len(all_h), T * B, -1), all_c.reshape(len(all_c), T * B, -1)
