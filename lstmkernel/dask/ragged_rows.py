"""Rows of unequal length, one after the other in one array, in groups of about the same length."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from lstmkernel.backends.packing import Array
from lstmkernel.dask.worker_network import Net
from lstmkernel.host.spinner import silenced

#: Rows of about the same length that are padded together.
GROUP = 256


def every_step(net: Net, flat: Array, offsets: Array) -> Array:
    """flat (N, I), offsets (B + 1,) as in Arrow -> (N, O). Dask has a progress bar of its own."""
    with silenced():
        out, _ = net.ragged(flat, offsets)
    return out


def last_step(net: Net, flat: Array, offsets: Array) -> Array:
    """flat (N, I), offsets (B + 1,) -> (B, O), the output at each row's last step; zeros for a row of none."""
    with silenced():
        out, _ = net.ragged(flat, offsets, last=True)
    return out


def rows_first(net: Net, batched: Array) -> Array:
    """A view of (B, T, ...) in the order of the network's x, or the other way round."""
    return batched if net.batch_first else batched.swapaxes(0, 1)


class Padded(NamedTuple):
    """Rows padded to the longest of them."""

    rows: Array  # (n,) which ones
    x: Array  # (T, n, I), or (n, T, I) if the network is batch_first
    lengths: Array  # (n,)
    real: Array  # (n, T): False where x is padding
    at: Array  # where the real steps are in flat, in the order of ``real``


def padded(net: Net, flat: Array, offsets: Array) -> Iterator[Padded]:
    """All rows in groups, the shortest first, so that little is padded."""
    lengths = np.diff(offsets)
    order = np.argsort(lengths, kind="stable")
    for start in range(0, len(order), GROUP):
        rows = order[start : start + GROUP]
        steps = np.arange(lengths[rows].max())
        real = steps < lengths[rows, None]
        at = (offsets[rows, None] + steps)[real]
        x = np.zeros((*real.shape, flat.shape[1]), flat.dtype)
        x[real] = flat[at]
        yield Padded(rows, rows_first(net, x), lengths[rows], real, at)
