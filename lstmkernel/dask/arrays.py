"""Dask arrays of rows of one length: every chunk of rows is a task."""

from __future__ import annotations

import math
from typing import Any

import dask.array as da
import numpy as np
from dask.base import tokenize
from dask.delayed import Delayed

from lstmkernel.backends.packing import Array
from lstmkernel.dask.worker_network import Net, WorkerNetwork
from lstmkernel.engine import arguments


def score(net: Net, node: Delayed, x: da.Array, last: bool, lengths: Any) -> da.Array:
    """As ``lstmkernel.dask.score`` says of arrays."""
    x = in_rows(net, x)
    order = "bti" if net.batch_first else "tbi"
    row_lengths = () if lengths is None else (lengths_in_rows(net, x, lengths), "b")
    out_order = "bo" if last else order.replace("i", "o")
    return da.blockwise(
        _score_chunk,
        out_order,
        x,
        order,
        *row_lengths,
        new_axes={"o": net.out_features},
        name=f"lstm_score-{tokenize(node.key, x, row_lengths, last)}",
        dtype=net.dtype,
        meta=np.empty((0,) * len(out_order), net.dtype),
        concatenate=True,  # time and features are one chunk each
        align_arrays=False,
        network=node,
        last=last,
    )


def _score_chunk(x: Array, lengths: Array | None = None, *, network: WorkerNetwork, last: bool) -> Array:
    if last:
        return network.net.last(x, lengths=lengths)
    out, _ = network.net(x, lengths=lengths)
    return out


def row_axis(net: Net) -> int:
    """Where the rows of a batched x are."""
    return 0 if net.batch_first else 1


def in_rows(net: Net, x: da.Array) -> da.Array:
    """x with time and features in one chunk each, checked. Its chunks hold no more numbers than before."""
    I, order = net.input_size, "(B, T, I)" if net.batch_first else "(T, B, I)"
    arguments.real("collection", np.empty(0, x.dtype), net.dtype)
    if x.ndim == 2:
        alone = "x[None]" if net.batch_first else "x[:, None]"
        raise ValueError(f"collection: expected shape {order}, got {x.shape}; {alone} is a batch of one row")
    if x.ndim != 3 or (x.shape[2] != I and not math.isnan(x.shape[2])):
        raise ValueError(f"collection: expected shape {order} with I = {I}, got {x.shape}")
    rows = row_axis(net)
    whole = {axis: -1 for axis in (1 - rows, 2) if len(x.chunks[axis]) > 1}
    if any(math.isnan(x.shape[axis]) for axis in (1 - rows, 2)):
        raise ValueError(
            f"collection: expected known numbers of steps and features, got shape {x.shape}; "
            "x.compute_chunk_sizes() finds them"
        )
    if not whole:
        return x
    if math.isnan(x.shape[rows]):
        return x.rechunk(whole)
    largest = math.prod(map(max, x.chunks)) * x.dtype.itemsize
    return x.rechunk({**whole, rows: "auto"}, block_size_limit=max(largest, 1))


def lengths_in_rows(net: Net, x: da.Array, lengths: Any) -> da.Array:
    """Row lengths as a Dask array in the chunks of x's rows."""
    return in_chunks_of(net, x, "lengths", da.asarray(lengths), 1)


def in_chunks_of(net: Net, x: da.Array, name: str, value: da.Array, ndim: int | None = None, axis: int = 0) -> da.Array:
    """An array with one entry for each of x's rows along ``axis``, in the same chunks, whole along the others."""
    B = x.shape[row_axis(net)]
    if ndim is not None and value.ndim != ndim:
        raise ValueError(f"{name}: expected {ndim} dimension, one number for each row, got shape {value.shape}")
    if math.isnan(B) or any(map(math.isnan, value.shape)):
        raise ValueError(
            f"{name}: expected known numbers of rows, got shape {value.shape} beside x of {x.shape}; "
            "compute_chunk_sizes() of each of them finds its own"
        )
    if value.shape[axis] != B:
        raise ValueError(f"{name}: expected {B} along axis {axis}, one for each row of x, got shape {value.shape}")
    return value.rechunk({other: x.chunks[row_axis(net)] if other == axis else -1 for other in range(value.ndim)})
