"""The output at each row's last step alone: no output of all steps is stored, and heads run once a row.

A direction that runs forwards has that output as its last state. So its layers run over chunks of time, one after the
other, and each chunk's output takes the place of the one before. A direction that runs backwards begins with a row's
last step. So one step has its output.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from lstmkernel.backends.contract import Batch, within
from lstmkernel.backends.large import slices
from lstmkernel.backends.packing import Array
from lstmkernel.engine import arguments, inputs, masks
from lstmkernel.engine.call import call
from lstmkernel.engine.chain import Chain
from lstmkernel.engine.head import Head
from lstmkernel.engine.inputs import GivenState
from lstmkernel.engine.network import Network, State
from lstmkernel.engine.sound import warn_of_whole_numbers

Layers = Sequence[Network | Head]

#: The output of a layer over one chunk of time has about this many bytes. It stays in the cache.
CHUNK_BYTES = 1 << 21
#: A chunk has at least so many steps. Rows that do not fit then wait for their turn, but for so many.
LEAST_STEPS, LEAST_ROWS = 32, 1024


def last(
    chain: Chain,
    x: ArrayLike,
    states: Sequence[GivenState | None],
    lengths: ArrayLike | None = None,
    mask: ArrayLike | None = None,
) -> Array:
    """As ``Model.last`` says, with one (h, c) or None in ``states`` for each network."""
    warn_of_whole_numbers("x", x, chain)
    x = arguments.real("x", x, chain.dtype)
    x_steps, batched = inputs.steps_of(chain, x)
    T, B, _ = x_steps.shape
    row_lengths = inputs.lengths_of(lengths, T, B, batched)
    taken = None if mask is None else arguments.of_steps("mask", mask, T, B if batched else None, chain.batch_first)
    if taken is None and 0 < T * B * _row_bytes(chain.layers) <= CHUNK_BYTES:
        y = _by_calls(chain, x, batched, states, row_lengths)
        return y if batched else y[0]
    both = zip(chain.networks, states, strict=True)
    first = [inputs.states_of(network, state, B, batched) for network, state in both]
    answer = np.zeros((B, chain.out_features), chain.dtype)
    for rows in slices(B if T else 0, max(LEAST_ROWS, CHUNK_BYTES // (LEAST_STEPS * _row_bytes(chain.layers)))):
        own = [(h[:, rows], c[:, rows]) for h, c in first]
        some, own_lengths = x_steps[:, rows], None if row_lengths is None else row_lengths[rows]
        if taken is None:
            answer[rows] = of_rows(chain, some, own, own_lengths)
        else:
            answer[rows] = _of_masked_rows(chain, some, own, own_lengths, taken[:, rows])
    return answer if batched else answer[0]


def _row_bytes(layers: Layers) -> int:
    """Of one row's output at one step, where it is widest."""
    return max(layer.out_features * layer.dtype.itemsize for layer in layers)


def _by_calls(
    chain: Chain, x: Array, batched: bool, states: Sequence[GivenState | None], lengths: Array | None
) -> Array:
    """The answer (B, n) where the output of all steps takes little memory: calls may be prepared."""
    y, left = x, iter(states)
    for layer in chain.layers[: len(chain.layers) - len(chain.heads)]:
        y = layer(y) if isinstance(layer, Head) else call(layer, y, next(left), lengths)[0]
    y = _last_step(inputs.as_steps(chain, y, batched), lengths).copy()
    for head in chain.heads:
        y = head(y)
    return _finished(chain, y, inputs.as_steps(chain, x, batched), lengths)


def of_rows(chain: Chain, x: Array, states: list[State], lengths: Array | None) -> Array:
    """The answer (B, n) for x (T, B, I). ``states`` are written to."""
    if lengths is not None:
        x = x[: max(1, lengths.max())]
    return _finished(chain, _at_last(chain.layers, states, x, lengths), x, lengths)


def _of_masked_rows(chain: Chain, x: Array, states: list[State], lengths: Array | None, mask: Array) -> Array:
    """As ``of_rows``, of the steps that ``mask`` (T, B) does not skip. Without any, a row has what a call gives it."""
    shorter, counts = masks.without_skipped(x, lengths, mask)
    x_last = _last_step(x, lengths)
    if len(shorter):
        x_last = np.where((counts > 0)[:, None], _last_step(shorter, counts), x_last)
    y = x_last
    if chain.networks:
        y = np.zeros((len(counts), chain.layers[-1 - len(chain.heads)].out_features), chain.dtype)
        if len(shorter):
            y[...] = _at_last(chain.layers[: len(chain.layers) - len(chain.heads)], states, shorter, counts)
        y[counts == 0] = 0
    for head in chain.heads:
        y = head(y)
    return _finished(chain, y, x_last[None], None if lengths is None else np.minimum(lengths, 1))


def _finished(chain: Chain, y: Array, x: Array, lengths: Array | None) -> Array:
    """The answer from what the layers gave (B, n), for x (T, B, I): with the skip, and 0 for a row without steps."""
    if chain.skip:
        y += _last_step(x, lengths)[:, : chain.out_features] * chain.dtype.type(chain.skip)
    if lengths is not None:
        y[lengths == 0] = 0
    return y


def _last_step(x: Array, lengths: Array | None) -> Array:
    """x at each row's last step, (B, n); for a row without steps, x at any step."""
    step: Array = x[-1] if lengths is None else x[np.maximum(lengths, 1) - 1, np.arange(len(lengths))]
    return step


def _at_last(layers: Layers, states: list[State], x: Array, lengths: Array | None) -> Array:
    """The output of ``layers``, the first one first, at each row's last step: (B, n)."""
    if not layers:
        return _last_step(x, lengths)
    *below, top = layers
    if isinstance(top, Head):
        return top(_at_last(below, states, x, lengths))
    *states, own = states
    if top.shape.reverse:
        return _first_step(top, _at_last(below, states, x, lengths), own)
    if top.shape.bidirectional:
        return _of_two_directions(top, own, _every_step(below, states, x, lengths), lengths)
    start = next((i for i in range(len(below), 0, -1) if _reads_the_future(below[i - 1])), 0)
    known = sum(isinstance(layer, Network) for layer in below[:start])
    x = _every_step(below[:start], states[:known], x, lengths)
    _run_in_chunks([*below[start:], top], [*states[known:], own], x, lengths)
    h, _ = own
    y: Array = h[-1]
    return y


def _reads_the_future(layer: Network | Head) -> bool:
    return isinstance(layer, Network) and any(layer.shape.backwards)


def _first_step(network: Network, x: Array, state: State) -> Array:
    """The output of a network in reverse at the step that it takes first, x (B, I)."""
    y = np.empty((len(x), network.out_features), network.dtype)
    network.run(Batch(x[None], None, None, *state, y[None]))
    return y


def _run_in_chunks(layers: Layers, states: list[State], x: Array, lengths: Array | None) -> None:
    """Layers that run forwards, over all of time. ``states`` become the last ones."""
    T, B, _ = x.shape
    steps = min(T, max(LEAST_STEPS, CHUNK_BYTES // (B * _row_bytes(layers))))
    room = [np.empty((steps, B, layer.out_features), layer.dtype) for layer in layers if isinstance(layer, Network)]
    for times in slices(T, steps):
        _run_forward(layers, states, x[times], within(lengths, times), room)


def _run_forward(layers: Layers, states: list[State], x: Array, lengths: Array | None, room: list[Array]) -> None:
    """Layers that run forwards, over some steps. ``room`` is for the output of each network."""
    runs = zip(states, room, strict=True)
    for layer in layers:
        if isinstance(layer, Head):
            x = layer(x)
            continue
        state, out = next(runs)
        layer.run(Batch(x, lengths, None, *state, out[: len(x)]))
        x = out[: len(x)]


def _of_two_directions(network: Network, state: State, x: Array, lengths: Array | None) -> Array:
    """The output of a network of two directions at each row's last step."""
    (T, B, _), width, top = x.shape, network.shape.output_size, network.shape.num_layers - 1
    for layer in range(top):
        above = np.empty((T, B, network.out_features), network.dtype)
        network.run_layer(layer, network.of_layer(Batch(x, lengths, None, *state, above), layer))
        x = above
    (h, h_back), (c, c_back) = ((part[2 * top : 2 * top + 1], part[2 * top + 1 :]) for part in state)
    steps = min(T, max(LEAST_STEPS, CHUNK_BYTES // (B * width * x.itemsize)))
    out = np.empty((steps, B, width), network.dtype)
    for times in slices(T, steps):
        part = Batch(x[times], within(lengths, times), None, h, c, out[: times.stop - times.start])
        network.run_direction(top, 0, part)
    network.run_direction(top, 1, Batch(_last_step(x, lengths)[None], None, None, h_back, c_back, out[:1]))
    return np.concatenate([h[0], out[0]], axis=1)


def _every_step(layers: Layers, states: list[State], x: Array, lengths: Array | None) -> Array:
    """The output of ``layers`` at every step: what a backward direction above or among them needs."""
    left = iter(states)
    for layer in layers:
        if isinstance(layer, Head):
            x = layer(x)
            continue
        out = np.empty((*x.shape[:2], layer.out_features), layer.dtype)
        layer.run(Batch(x, lengths, None, *next(left), out))
        x = out
    return x
