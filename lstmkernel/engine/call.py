"""One call of a network: check the arguments, run, and give the result as the caller expects it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from lstmkernel.backends.contract import Batch
from lstmkernel.backends.packing import Array
from lstmkernel.engine import arguments, inputs
from lstmkernel.engine.inputs import GivenState
from lstmkernel.engine.network import Network, State


def call(
    network: Network,
    x: ArrayLike,
    state: GivenState | None = None,
    lengths: ArrayLike | None = None,
    reset: ArrayLike | None = None,
    out: Array | None = None,
) -> tuple[Array, State]:
    """As ``LSTM.__call__`` says."""
    if lengths is None and reset is None:
        done = network.prepared.run(x, state, out)
        if done is not None:
            return done
    return checked_call(network, x, state, lengths, reset, out)


def checked_call(
    network: Network,
    x: ArrayLike,
    state: GivenState | None,
    lengths: ArrayLike | None,
    reset: ArrayLike | None,
    out: Array | None,
) -> tuple[Array, State]:
    """A call that is not prepared. If one kernel call does it, it is prepared for the next x of this shape."""
    x_steps, batched = inputs.steps_of(network, x)
    T, B, _ = x_steps.shape
    h, c = inputs.states_of(network, state, B, batched)
    row_lengths = inputs.lengths_of(lengths, T, B, batched)
    marks = None if reset is None else _marks(network, reset, T, B, batched, row_lengths)
    shape = inputs.out_shape(network, T, B, batched)
    if out is None:
        out = np.empty(shape, network.dtype)
    else:
        # The arrays as they were given: a copy that was made above shares no memory with out.
        given: list[tuple[str, Any]] = [("x", x), ("lengths", lengths), ("reset", reset), *network.parameters.items()]
        given += [(f"state[{i}]", part) for i, part in enumerate(state or ())]
        out = arguments.output(out, shape, network.dtype, given)
    if T and B:
        network.run(Batch(x_steps, row_lengths, marks, h, c, inputs.as_steps(network, out, batched)))
        if prepared := network.prepare(T, B):
            network.prepared.add(T, B, batched, prepared)
    return out, inputs.states_as_given((h, c), batched)


def _marks(network: Network, reset: ArrayLike, T: int, B: int, batched: bool, row_lengths: Array | None) -> Array:
    """reset as (D, T, B)."""
    shape = network.shape
    if shape.initial_state and shape.bidirectional:
        raise ValueError("reset: expected None for a model with two directions and an initial_state")
    marks = reset if batched else np.asarray(reset)[:, None]
    return arguments.reset(marks, T, B, network.batch_first and batched, row_lengths, shape.backwards)
