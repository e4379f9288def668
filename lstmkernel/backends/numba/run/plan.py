"""How a call is best run, by what each way is predicted to take: csrc/run/plan.c, in a simpler form.

A call runs alone, as tasks of rows and directions, or with a team whose threads share the units of a layer. Every way
gives the same bits.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from lstmkernel.backends.numba.run import cost
from lstmkernel.backends.numba.run.board import MOST_THREADS

#: A task has at least MIN_ROWS_PER_TASK rows. Where there are many, each thread has 2 to TASKS_PER_THREAD tasks of
#: MANY_ROWS or more: rows may have unequal lengths, and mostly come sorted by them, so tasks take unequal times.
#: From ROUND_ROWS_FROM rows on, they are a multiple of ROUND_ROWS, because rows may be lanes of vectors
#: (kernels/transposed.py).
MIN_ROWS_PER_TASK, MANY_ROWS, TASKS_PER_THREAD, ROUND_ROWS_FROM, ROUND_ROWS = 4, 64, 8, 64, 16


class Task(NamedTuple):
    """Some of a network's layers, directions and rows: of each the first, and the last + 1."""

    layer: int
    layers: int
    direction: int
    directions: int
    row: int
    rows: int


class Sizes(NamedTuple):
    """Of one layer and direction, and of its dtype."""

    input_size: int
    hidden_size: int
    output_size: int
    item_size: int
    lanes: int

    def step_ns(self, rows: int) -> float:
        return cost.step_ns(rows, self.input_size, self.hidden_size, self.output_size, self.item_size)

    def team_step_ns(self, rows: int, threads: int) -> float:
        """The largest share is whole blocks."""
        blocks = -(-self.hidden_size // self.lanes)
        phases = 1 if self.output_size == self.hidden_size else 2
        return self.step_ns(rows) * -(-blocks // threads) / blocks + phases * cost.meeting_ns(threads)


class Plan(NamedTuple):
    """Tasks run round by round, those of a round at once. Without rounds, several threads are a team."""

    ns: float
    threads: int
    rounds: list[list[Task]]

    @property
    def is_long(self) -> bool:
        """Whether helpers that sleep are woken for it."""
        return self.ns >= cost.WAKING_NS


def plan_lstm(num_layers: int, directions: int, layers: list[Sizes], steps: int, rows: int, most: int) -> Plan:
    """layers: of each layer and direction. most: threads."""
    alone = best = Plan(steps * sum(layer.step_ns(rows) for layer in layers), 1, [])
    if alone.ns < cost.MIN_SHARED_NS:
        return best
    for threads in _doubling(most):
        rounds = divide(num_layers, directions, rows, threads)
        ns = cost.JOIN_NS + steps * sum(_round_ns(tasks, directions, layers, threads) for tasks in rounds)
        best = _better(best, Plan(ns, threads, rounds))
        ns = cost.JOIN_NS + steps * sum(layer.team_step_ns(rows, threads) for layer in layers)
        best = _better(best, Plan(ns, threads, []))
    return best


def plan_training(layer: Sizes, steps: int, rows: int, most: int) -> tuple[Plan, bool]:
    """A plan without rounds, and whether its threads share units instead of rows."""
    best, by_units = Plan(cost.TRAINING_PARTS * steps * layer.step_ns(rows), 1, []), False
    if best.ns < cost.MIN_SHARED_NS:
        return best, False
    for threads in _doubling(most):
        of_rows = layer.step_ns(-(-rows // threads))
        of_units = layer.team_step_ns(rows, threads)
        ns = cost.JOIN_NS + cost.TRAINING_PARTS * steps * min(of_rows, of_units)
        other = _better(best, Plan(ns, threads, []))
        if other is not best:
            best, by_units = other, of_units < of_rows
    return best, by_units


def training_shares(threads: int, rows: int, by_units: bool) -> int:
    """Of how many shares a phase is. Rows are more shares than threads, as in ``divide``."""
    pieces = 1 if by_units else min(rows // MANY_ROWS // threads, TASKS_PER_THREAD, MOST_THREADS // threads)
    return threads * max(1, pieces)


def divide(layers: int, directions: int, rows: int, threads: int) -> list[list[Task]]:
    """The tasks of a call, for so many threads."""
    of_many_rows = min(rows // MANY_ROWS // threads, TASKS_PER_THREAD) * threads
    shares = _shares(rows, max(of_many_rows, min(threads, rows // MIN_ROWS_PER_TASK)))
    if directions == 1 or len(shares) >= threads:
        return [[Task(0, layers, 0, directions, *share) for share in shares]]
    # A layer needs both directions of the one below.
    sides = range(directions)
    return [
        [Task(layer, layer + 1, side, side + 1, *share) for share in shares for side in sides]
        for layer in range(layers)
    ]


def _shares(rows: int, count: int) -> list[tuple[int, int]]:
    if count <= 1:
        return [(0, rows)]
    size = -(-rows // count)
    if size >= ROUND_ROWS_FROM:
        size = -(-size // ROUND_ROWS) * ROUND_ROWS
    return [(first, min(first + size, rows)) for first in range(0, rows, size)]


def _round_ns(tasks: list[Task], directions: int, layers: list[Sizes], threads: int) -> float:
    """Of one step of the round's tasks, which are alike."""
    first = tasks[0]
    of_task = [
        layers[layer * directions + side].step_ns(first.rows - first.row)
        for layer in range(first.layer, first.layers)
        for side in range(first.direction, first.directions)
    ]
    return sum(of_task) * -(-len(tasks) // threads)


def _better(best: Plan, other: Plan) -> Plan:
    """More threads must save one part in GAIN."""
    saved = best.ns / cost.GAIN if other.threads > best.threads else 0
    return other if other.ns < best.ns - saved else best


def _doubling(most: int) -> Iterable[int]:
    """Numbers of threads that are tried: 2, 4, 8, ... and the most."""
    threads = 1
    while threads < most:
        threads = min(2 * threads, most)
        yield threads
