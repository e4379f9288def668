"""Bags of sequences: arrays of unequal length, one partition to a task."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import numpy as np
from dask.bag import Bag
from dask.delayed import Delayed

from lstmkernel.backends.packing import Array
from lstmkernel.dask import ragged_rows
from lstmkernel.dask.worker_network import WorkerNetwork
from lstmkernel.engine import arguments


def score(node: Delayed, bag: Bag, last: bool) -> Bag:
    """As ``lstmkernel.dask.score`` says of bags."""
    return bag.map_partitions(lstm_score, network=node, last=last)


def lstm_score(sequences: Iterable[Any], *, network: WorkerNetwork, last: bool) -> list[Array]:
    """One partition. Dask takes the task's name from this function's."""
    flat, offsets = joined(network, sequences)
    if last:
        return list(ragged_rows.last_step(network.net, flat, offsets))
    out = ragged_rows.every_step(network.net, flat, offsets)
    return [out[start:stop] for start, stop in pairwise(offsets)]


def joined(network: WorkerNetwork, sequences: Iterable[Any]) -> tuple[Array, Array]:
    """Sequences (T_i, I) as one array (N, I), and offsets (B + 1,)."""
    rows = [_steps(network, place, sequence) for place, sequence in enumerate(sequences)]
    offsets = np.cumsum([0, *map(len, rows)])
    return np.concatenate([np.empty((0, network.net.input_size), network.net.dtype), *rows]), offsets


def _steps(network: WorkerNetwork, place: int, sequence: Any) -> Array:
    I = network.net.input_size
    steps = arguments.real(f"sequence {place} of its partition", sequence, network.net.dtype)
    if steps.ndim == 1 and (I == 1 or not len(steps)):
        return steps.reshape(-1, I)
    if steps.ndim != 2 or steps.shape[1] != I:
        also = " or (T,)" if I == 1 else ""
        raise ValueError(
            f"sequence {place} of its partition: expected shape (T, I){also} with I = {I}, got {steps.shape}"
        )
    return steps
