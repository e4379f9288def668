"""One call of a network, or of a chain: check the arguments, run, and give the result as the caller expects it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from lstmkernel.backends.contract import Batch
from lstmkernel.backends.packing import Array
from lstmkernel.engine import arguments, inputs, masks
from lstmkernel.engine.chain import Chain
from lstmkernel.engine.inputs import GivenState
from lstmkernel.engine.network import Network, State
from lstmkernel.engine.sound import warn_of_whole_numbers


def call(
    network: Network,
    x: ArrayLike,
    state: GivenState | None = None,
    lengths: ArrayLike | None = None,
    reset: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    out: Array | None = None,
) -> tuple[Array, State]:
    """As ``LSTM.__call__`` says."""
    if lengths is None and reset is None and mask is None:
        done = network.prepared.run(x, state, out)
        if done is not None:
            return done
    return checked_call(network, x, state, lengths, reset, mask, out)


def call_chain(
    chain: Chain,
    x: ArrayLike,
    states: Sequence[GivenState | None],
    lengths: Array | None = None,
    reset: Array | None = None,
    mask: Array | None = None,
    out: Array | None = None,
) -> tuple[Array, list[State]]:
    """As ``Stack.__call__`` says, with one (h, c) or None in ``states`` for each network; out, and the last states."""
    last_states: list[State] = []
    given: Any = x
    if chain.skip or out is not None:
        warn_of_whole_numbers("x", x, chain)
        given = arguments.real("x", x, chain.dtype)
    if out is not None:
        _check_out(out, chain, given, [("x", x), ("lengths", lengths), ("reset", reset), ("mask", mask)], states)
    y, top = given, len(chain.layers) - 1
    for place, layer in enumerate(chain.layers):
        into = out if place == top else None
        if isinstance(layer, Network):
            y, last = call(layer, y, states[len(last_states)], lengths, reset, mask, into)
            last_states.append(last)
        else:
            y = layer(y, into)
    if chain.skip:
        y += given[..., : chain.out_features] * chain.dtype.type(chain.skip)
    if lengths is not None and (chain.skip or chain.heads):
        _clear_past_ends(y, lengths, chain)
    return y, last_states


def _check_out(
    out: Any, chain: Chain, x: Array, given: list[tuple[str, Any]], states: Sequence[GivenState | None]
) -> None:
    """Refuse an ``out`` of another shape or dtype, or one that overlaps an input or a weight of any layer."""
    inputs.steps_of(chain, x)
    parts = [(f"state[{i}]", part) for i, state in enumerate(states) for part in state or ()]
    weights = [item for layer in chain.layers for item in layer.parameters.items()]
    arguments.output(out, (*x.shape[:-1], chain.out_features), chain.dtype, [*given, ("x", x), *parts, *weights])


def _clear_past_ends(out: Array, lengths: Array, chain: Chain) -> None:
    """Set out to 0 past each row's end, where a head's bias or the skipped input has been added."""
    if out.ndim != 3:
        raise ValueError("lengths: expected a batched x of 3 dimensions, got an unbatched one of 2")
    by_row = out if chain.batch_first else out.swapaxes(0, 1)
    B, T, _ = by_row.shape
    by_row[np.arange(T) >= arguments.lengths(lengths, T, B)[:, None]] = 0


def checked_call(
    network: Network,
    x: ArrayLike,
    state: GivenState | None,
    lengths: ArrayLike | None,
    reset: ArrayLike | None,
    mask: ArrayLike | None,
    out: Array | None,
) -> tuple[Array, State]:
    """A call that is not prepared. If one kernel call does it, it is prepared for the next x of this shape."""
    x_steps, batched = inputs.steps_of(network, x)
    T, B, _ = x_steps.shape
    h, c = inputs.states_of(network, state, B, batched)
    row_lengths = inputs.lengths_of(lengths, T, B, batched)
    first_steps = _of_steps(network, "reset", reset, T, B, batched)
    taken = _of_steps(network, "mask", mask, T, B, batched)
    if first_steps is not None and network.shape.initial_state and network.shape.bidirectional:
        raise ValueError("reset: expected None for a model with two directions and an initial_state")
    shape = inputs.out_shape(network, T, B, batched)
    if out is None:
        written = out = np.empty(shape, network.dtype)
    else:
        # The arrays as they were given, too: a copy that was made above shares no memory with out.
        given: list[tuple[str, Any]] = [
            ("x", x),
            ("x", x_steps),
            ("lengths", lengths),
            ("reset", reset),
            ("mask", mask),
            *network.parameters.items(),
        ]
        given += [(f"state[{i}]", part) for i, part in enumerate(state or ())]
        written = arguments.output(out, shape, network.dtype, given)
    if T and B:
        batch = Batch(x_steps, row_lengths, None, h, c, inputs.as_steps(network, written, batched))
        if taken is not None:
            masks.run(network, batch, taken, first_steps)
        else:
            if first_steps is not None:
                batch = batch._replace(reset=arguments.resets(first_steps, row_lengths, network.shape.backwards))
            network.run(batch)
        # A network that expects lengths or a mask has none prepared: each call without them warns.
        if not network.options.expects and (prepared := network.prepare(T, B)):
            network.prepared.add(T, B, batched, prepared)
    return out, inputs.states_as_given((h, c), batched)


def _of_steps(network: Network, name: str, value: ArrayLike | None, T: int, B: int, batched: bool) -> Array | None:
    """reset or mask as (T, B)."""
    if value is None:
        return None
    return arguments.of_steps(name, value, T, B if batched else None, network.batch_first)
