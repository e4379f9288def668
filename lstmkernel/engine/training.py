"""forward and backward of one network, and of a chain: its layers' tapes, one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike

from lstmkernel.backends.packing import Array
from lstmkernel.engine import arguments, gradients, head_tape, inputs, tape
from lstmkernel.engine.chain import Chain
from lstmkernel.engine.expects import IN_FORWARD, warn_without
from lstmkernel.engine.head_tape import HeadTape
from lstmkernel.engine.inputs import GivenState
from lstmkernel.engine.network import Network, State
from lstmkernel.engine.parameters import with_places
from lstmkernel.engine.tape import Tape


def forward(
    network: Network,
    x: ArrayLike,
    state: GivenState | None,
    lengths: ArrayLike | None,
    checkpoint_every: SupportsIndex | None,
) -> tuple[Array, State, Tape]:
    """As ``LSTM.forward`` says."""
    network.require_trainable()
    x_steps, batched = inputs.steps_of(network, x)
    T, B, _ = x_steps.shape
    first = inputs.states_of(network, state, B, batched)
    row_lengths = inputs.lengths_of(lengths, T, B, batched)
    every = None if checkpoint_every is None else arguments.size("checkpoint_every", checkpoint_every)
    out, last, recorded = tape.record(network, x_steps, row_lengths, first, batched, every)
    recorded.from_parameters = network.shape.initial_state and state is None
    return inputs.as_given(network, out, batched), inputs.states_as_given(last, batched), recorded


class ChainTape:
    """What ``Stack.forward`` kept of one call, for ``Stack.backward``."""

    def __init__(self, chain: Chain, tapes: list[Tape | HeadTape], shape: tuple[int, ...], past: Array | None) -> None:
        self.chain, self.tapes, self.out_shape = chain, tapes, shape
        #: Of the steps past each row's end, in the order of out: bool, True there. None where there are none.
        self.past = past

    @property
    def nbytes(self) -> int:
        """Bytes that the layers' tapes hold, without x."""
        return sum(each.nbytes for each in self.tapes)

    def is_of(self, chain: Chain) -> bool:
        """Whether the chain has the same layers, perhaps with other weights."""
        own, others = ([layer.kind for layer in each.layers] for each in (self.chain, chain))
        return own == others and self.chain.skip == chain.skip

    def __repr__(self) -> str:
        return f"ChainTape(of {len(self.tapes)} layers, out {self.out_shape}, {self.nbytes} bytes)"


def forward_chain(
    chain: Chain,
    x: ArrayLike,
    states: Sequence[GivenState | None],
    lengths: ArrayLike | None,
    checkpoint_every: SupportsIndex | None,
) -> tuple[Array, tuple[State, ...], ChainTape]:
    """As ``Stack.forward`` says, with one (h, c) or None in ``states`` for each network."""
    for network in chain.networks:
        network.require_trainable()
        warn_without(network, lengths, None, IN_FORWARD)
    out = given = arguments.real("x", x, chain.dtype)
    x_steps, batched = inputs.steps_of(chain, given)
    T, B, _ = x_steps.shape
    row_lengths = inputs.lengths_of(lengths, T, B, batched)
    tapes: list[Tape | HeadTape] = []
    last: list[State] = []
    for layer in chain.layers:
        if isinstance(layer, Network):
            out, state, recorded = forward(layer, out, states[len(last)], row_lengths, checkpoint_every)
            tapes.append(recorded)
            last.append(state)
        else:
            out, of_head = head_tape.record(layer, out)
            tapes.append(of_head)
    if chain.skip:
        out += given[..., : chain.out_features] * chain.dtype.type(chain.skip)
    past = None if row_lengths is None else _past_ends(chain, T, row_lengths)
    if past is not None:
        out[past] = 0
    return out, tuple(last), ChainTape(chain, tapes, out.shape, past)


def _past_ends(chain: Chain, T: int, lengths: Array) -> Array:
    """(T, B) or (B, T), as x: True past each row's end."""
    by_row: Array = np.arange(T) >= lengths[:, None]
    return by_row if chain.batch_first else by_row.T


def backward_chain(recorded: ChainTape, d_out: ArrayLike | None, d_states: Sequence[Any] | None) -> dict[str, Array]:
    """As ``Stack.backward`` says."""
    chain = recorded.chain
    if d_out is None:
        d = np.zeros(recorded.out_shape, chain.dtype)
    else:
        d = arguments.real("d_out", d_out, chain.dtype)
        arguments.shape("d_out", d, recorded.out_shape, "of out")
    if recorded.past is not None:
        d = d.copy()
        d[recorded.past] = 0
    skipped = d
    left = list(inputs.states_given(chain, d_states, "d_state"))
    found: list[dict[str, Array]] = []
    for each in reversed(recorded.tapes):
        of_layer = (
            head_tape.backward(each, d) if isinstance(each, HeadTape) else gradients.backward(each, d, left.pop())
        )
        d = of_layer.pop("x")
        found.append(of_layer)
    if chain.skip:
        d[..., : chain.out_features] += skipped * chain.dtype.type(chain.skip)
    return {**with_places(reversed(found)), "x": d}
