"""Check a caller's arrays once, and give them as the kernels take them: (T, B, I), and new states to write to."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from lstmkernel.backends.packing import Array
from lstmkernel.engine import arguments
from lstmkernel.engine.chain import Chain
from lstmkernel.engine.network import Network, State
from lstmkernel.engine.sound import warn_of_whole_numbers

GivenState = tuple[ArrayLike, ArrayLike]


def steps_of(network: Network | Chain, x: ArrayLike) -> tuple[Array, bool]:
    """x as (T, B, I), and whether it was batched."""
    warn_of_whole_numbers("x", x, network)
    array = arguments.real("x", x, network.dtype)
    I, batch_first = network.input_size, network.batch_first
    if array.ndim not in (2, 3) or array.shape[-1] != I:
        batched = "(B, T, I)" if batch_first else "(T, B, I)"
        raise ValueError(
            f"x: expected shape {batched} or (T, I) with I = {I}, got {array.shape}{_way_out(array.shape, I)}"
        )
    if array.ndim == 2:
        return array[:, None], False
    return (array.swapaxes(0, 1) if batch_first else array), True


def _way_out(shape: tuple[int, ...], I: int) -> str:
    """What to give instead, where the shape tells."""
    if len(shape) == 1 and I == 1:
        return "; for one sequence, give x[:, None]"
    if len(shape) == 2 and shape[0] == I:
        return "; if that is (I, T), give x.T"
    return ""


def states_of(network: Network, state: GivenState | None, B: int, batched: bool) -> State:
    """A new (h, c) of shapes (L*D, B, R) and (L*D, B, H), for the kernels to write to."""
    if state is None:
        return network.first_states(B)
    h, c = arguments.pair("state", state, "(h_0, c_0)")
    R, H = network.shape.output_size, network.shape.hidden_size
    return state_of(network, "h_0", h, B, R, batched), state_of(network, "c_0", c, B, H, batched)


def states_given(chain: Chain, states: Any, name: str = "state") -> list[Any]:
    """One (h, c) or None for each network of a chain: first states, or gradients of the last ones."""
    count = len(chain.networks)
    given = [None] * count if states is None else list(states)
    if len(given) != count:
        raise ValueError(f"{name}: expected one (h, c) for each of {count} LSTMs, got {len(given)}")
    return given


def state_of(network: Network, name: str, value: ArrayLike, B: int, width: int, batched: bool) -> Array:
    """A copy of one state, or of its gradient, as (L*D, B, width)."""
    array = arguments.real(name, value, network.dtype)
    rows = (B,) if batched else ()
    expected = (network.num_states, *rows, width)
    if array.shape != expected:
        letter = "R" if "h_" in name else "H"
        arguments.shape(name, array, expected, f"(L*D, B, {letter})" if batched else f"(L*D, {letter})")
    return array.reshape(network.num_states, B, width).copy()


def lengths_of(lengths: ArrayLike | None, T: int, B: int, batched: bool) -> Array | None:
    """Row lengths (B,), int64, or None."""
    if lengths is None:
        return None
    if not batched:
        raise ValueError("lengths: expected a batched x of 3 dimensions, got an unbatched one of 2")
    return arguments.lengths(lengths, T, B)


def out_shape(network: Network, T: int, B: int, batched: bool) -> tuple[int, ...]:
    """The shape of the output as the caller gets it."""
    order = ((B, T) if network.batch_first else (T, B)) if batched else (T,)
    return (*order, network.out_features)


def as_steps(network: Network | Chain, out: Array, batched: bool) -> Array:
    """A view of an output, or of its gradient, as (T, B, D*R)."""
    if not batched:
        return out[:, None]
    return out.swapaxes(0, 1) if network.batch_first else out


def as_given(network: Network, steps: Array, batched: bool) -> Array:
    """(T, B, n) in the order of the caller's x, contiguous."""
    if not batched:
        return steps[:, 0]
    return np.ascontiguousarray(steps.swapaxes(0, 1)) if network.batch_first else steps


def states_as_given(state: State, batched: bool) -> State:
    """(h, c) without B where x had none."""
    h, c = state
    return (h, c) if batched else (h[:, 0], c[:, 0])
