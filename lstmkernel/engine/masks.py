"""Steps that are skipped: the rows run without them, and their outputs are then put to the steps where they belong."""

from __future__ import annotations

import numpy as np

from lstmkernel.backends.contract import Batch
from lstmkernel.backends.packing import Array
from lstmkernel.engine import arguments
from lstmkernel.engine.network import Network


def run(network: Network, batch: Batch, mask: Array, first_steps: Array | None) -> None:
    """As ``network.run``, but a step where ``mask`` (T, B) is False changes no state and repeats the output before it.

    first_steps: (T, B) bool, where episodes begin, in the order of time; None for one episode. ``batch.reset`` is not
    used. An episode that begins with a skipped step has begun all the same: its output is 0 until its first step that
    is taken, as it is at a row's start.
    """
    in_row = _in_row(mask.shape, batch.lengths)
    taken = mask & in_row
    episodes = np.zeros(mask.shape, np.int64) if first_steps is None else np.cumsum(first_steps & in_row, axis=0)
    counts, times = _order(taken)
    steps, B = times.shape
    of_step = np.take_along_axis(episodes, times, axis=0)
    backwards = network.shape.backwards
    marks = None
    if first_steps is not None and steps:
        marks = arguments.resets(np.diff(of_step, axis=0, prepend=of_step[:1]) > 0, counts, backwards)
    out = np.empty((steps, B, network.out_features), network.dtype)
    anew = [_anew(episodes, taken, in_row, backward) for backward in backwards]
    _begin_anew(network, batch, [before for before, _ in anew])
    if steps:
        x = np.take_along_axis(batch.x, times[:, :, None], axis=0)
        network.run(Batch(x, counts, marks, batch.h, batch.c, out))
    _begin_anew(network, batch, [after for _, after in anew])
    width = network.shape.output_size
    batch.out[...] = 0
    for direction, backward in enumerate(backwards if steps else ()):
        source, known = _sources(taken, episodes, of_step, backward)
        features = slice(direction * width, (direction + 1) * width)
        said = np.take_along_axis(out[:, :, features], source[:, :, None], axis=0)
        np.copyto(batch.out[:, :, features], said, where=(known & in_row)[:, :, None])


def without_skipped(x: Array, lengths: Array | None, mask: Array) -> tuple[Array, Array]:
    """The steps of x (T, B, I) that are taken, each row's from step 0 on, and how many each row (B,) has."""
    counts, times = _order(mask & _in_row(mask.shape, lengths))
    return np.take_along_axis(x, times[:, :, None], axis=0), counts


def _in_row(shape: tuple[int, ...], lengths: Array | None) -> Array:
    """(T, B): which steps are before their row's end."""
    T, _ = shape
    return np.ones(shape, np.bool_) if lengths is None else np.arange(T)[:, None] < lengths


def _order(taken: Array) -> tuple[Array, Array]:
    """How many steps of each row (B,) are taken, and when: [k, b] is the time of row b's step k among them."""
    counts: Array = taken.sum(axis=0)
    return counts, np.argsort(~taken, axis=0, kind="stable")[: counts.max(initial=0)]


def _anew(episodes: Array, taken: Array, in_row: Array, backward: bool) -> tuple[Array, Array]:
    """Which rows (B,) begin another episode in one direction before, and after, all the steps that they take."""
    first = np.zeros_like(episodes[0])  # a mark at step 0 begins another one, too
    if backward:
        episodes, taken, in_row = episodes[::-1], taken[::-1], in_row[::-1]
        first = _at(episodes, in_row.argmax(axis=0))
    some = taken.any(axis=0)
    first_taken, last_taken, last = (
        _at(episodes, step) for step in (taken.argmax(axis=0), _last(taken), _last(in_row))
    )
    return some & (first_taken != first), np.where(some, last_taken, first) != last


def _last(where: Array) -> Array:
    return np.asarray(len(where) - 1 - where[::-1].argmax(axis=0))


def _at(values: Array, step: Array) -> Array:
    """Each row's value (B,) at its ``step`` (B,)."""
    return np.asarray(values[step, np.arange(len(step))])


def _begin_anew(network: Network, batch: Batch, rows: list[Array]) -> None:
    """Set the states of those rows, a mask (B,) for each direction, to what they are without ``state``."""
    first = network.first_states(1)
    for direction, chosen in enumerate(rows):
        for states, begun in zip((batch.h, batch.c), first, strict=True):
            states[direction :: len(rows), chosen] = begun[direction :: len(rows)]


def _sources(taken: Array, episodes: Array, of_step: Array, backward: bool) -> tuple[Array, Array]:
    """Of each step (T, B): which of the taken steps has the output to repeat, and whether there is one.

    of_step: the episodes of the taken steps. An output is not repeated in another episode.
    """
    done = np.cumsum(taken, axis=0)
    source = done - taken if backward else done - 1
    known = (source >= 0) & (source < done[-1])
    source = np.where(known, source, 0)
    return source, known & (np.take_along_axis(of_step, source, axis=0) == episodes)
