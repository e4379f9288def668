"""score: run a network over a Dask collection."""

from __future__ import annotations

from typing import Any

from dask.array import Array as DaskArray
from dask.bag import Bag
from dask.base import is_dask_collection
from dask.utils import is_dataframe_like, is_series_like

from lstmkernel.dask import arrays, bags, frames
from lstmkernel.dask.worker_network import Net, on_workers


def score(
    net: Net,
    collection: Any,
    *,
    last: bool = False,
    column: str | None = None,
    lengths: Any = None,
    num_threads: int = 1,
) -> Any:
    """The network's output for every row of a Dask collection, lazily, in order, with the bits of one machine.

    I numbers come at each time step, and O = ``net.out_features`` come out. Every row starts from the state that it has
    without ``state``.

    Parameters
    ----------
    net
        An LSTM or a Stack, as it is now: weights that are loaded later change nothing. Each worker fetches it once.
    collection
        - A dask.array (T, B, I), or (B, T, I) if ``net`` is batch_first. Tasks are its chunks of rows. Where time or
          features lie in several chunks they are put together; rows are then cut so that no chunk grows.
        - A dask.dataframe, or one column of it as a Series. The column has a list of I numbers for each step in each
          row (or a number for each step, if I is 1): Arrow lists, as Parquet gives them, or Python lists and arrays.
        - A dask.bag of arrays (T_i, I), or of (T_i,) if I is 1.
    last
        Only the output at each row's last step; zeros for a row of no steps.
    column
        The column's name in a DataFrame.
    lengths
        For an array: (B,) integers, a NumPy or Dask array, as in a call of ``net``.
    num_threads
        How many threads one task takes. Dask keeps the cores busy with tasks side by side, so it is 1. Where workers
        have more cores than Dask threads, give cores / threads. The bits are the same.

    Returns
    -------
    Of an array
        A dask.array like x with O in the place of I; (B, O) with ``last``.
    Of a DataFrame or Series
        A Series "out" of Arrow lists of lists of O numbers. With ``last``, a DataFrame of the columns "out_0", ... of
        the network's dtype. Index and divisions are kept.
    Of a bag
        A bag of arrays (T_i, O); (O,) with ``last``.

    Raises ValueError and TypeError at once for what the collection's dtype and shape tell, and inside the task, when it
    is computed, for what its content tells.
    """
    kind = _kind(collection)
    if column is not None and kind != "DataFrame":
        raise ValueError(f"column: expected None for a {kind}, got {column!r}; only a DataFrame has columns")
    if lengths is not None and kind != "array":
        raise ValueError(f"lengths: expected None for a {kind}, whose rows have lengths of their own")
    node = on_workers(net, num_threads)
    if kind == "array":
        return arrays.score(net, node, collection, last, lengths)
    if kind == "bag":
        return bags.score(node, collection, last)
    return frames.score(net, node, frames.ragged_column(collection, column, kind), last)


def _kind(collection: Any) -> str:
    if isinstance(collection, DaskArray):
        return "array"
    if isinstance(collection, Bag):
        return "bag"
    if is_dask_collection(collection) and is_series_like(collection):
        return "Series"
    if is_dask_collection(collection) and is_dataframe_like(collection):
        return "DataFrame"
    raise TypeError(
        f"collection: expected a dask.array, dask.dataframe or dask.bag, got {type(collection).__name__}; make one by "
        "dask.array.from_array, dask.dataframe.from_pandas or dask.bag.from_sequence, or call net itself"
    )
