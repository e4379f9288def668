"""Data frames, as from Parquet: a column whose entries are sequences of unequal length. Every partition is a task."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from dask.delayed import Delayed

from lstmkernel.backends.packing import Array
from lstmkernel.dask import ragged_rows
from lstmkernel.dask.worker_network import Net, WorkerNetwork
from lstmkernel.engine import arguments


def ragged_column(collection: Any, column: str | None, kind: str) -> Any:
    """The Series with the sequences. Raises for a column that cannot hold any."""
    series = collection if kind == "Series" else _named(collection, column)
    if _may_be_lists(series.dtype):
        return series
    if pd.api.types.is_string_dtype(series.dtype):
        way = "Dask turns lists into text unless dask.config.set({'dataframe.convert-string': False}) is called first"
    else:
        way = "if a sequence lies in several rows, frame.groupby('id')['x'].agg(list) gathers it"
    raise TypeError(f"column {series.name!r}: expected a list in each row, got {series.dtype}; {way}")


def _named(frame: Any, column: str | None) -> Any:
    if column in frame.columns:
        return frame[column]
    names = ", ".join(map(repr, frame.columns))
    raise ValueError(f"column: expected the name of the one with the sequences, of {names}; got {column!r}")


def _may_be_lists(dtype: Any) -> bool:
    if isinstance(dtype, pd.ArrowDtype):
        return _is_list(dtype.pyarrow_dtype)
    return bool(dtype == np.dtype(object))


def _is_list(kind: pa.DataType) -> bool:
    return any(is_list(kind) for is_list in (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list))


def score(net: Net, node: Delayed, series: Any, last: bool) -> Any:
    """As ``lstmkernel.dask.score`` says of data frames."""
    task = _last_of_partition if last else _score_partition
    nothing = np.empty((0, net.out_features), net.dtype)
    empty = _numbers(nothing, None) if last else _lists(nothing, np.zeros(1, np.int64), None)
    return series.map_partitions(task, network=node, meta=empty, token="lstm_score")


def _score_partition(series: pd.Series, *, network: WorkerNetwork) -> pd.Series:
    flat, offsets = rows_of(network, series)
    out = ragged_rows.every_step(network.net, flat, offsets)
    return _lists(out, offsets, series.index)


def _last_of_partition(series: pd.Series, *, network: WorkerNetwork) -> pd.DataFrame:
    return _numbers(ragged_rows.last_step(network.net, *rows_of(network, series)), series.index)


def _numbers(out: Array, index: Any) -> pd.DataFrame:
    """(B, O) as O columns."""
    return pd.DataFrame(out, index=index, columns=[f"out_{place}" for place in range(out.shape[1])])


def _lists(out: Array, offsets: Array, index: Any) -> pd.Series:
    """(N, O) as one list of lists a row."""
    if out.size > np.iinfo(np.int32).max:
        raise ValueError(
            f"out: a partition has {out.size} numbers, more than an Arrow list can count; "
            "frame.repartition(partition_size='100MB') makes partitions smaller, last=True keeps one step a row"
        )
    N, O = out.shape
    steps = pa.ListArray.from_arrays(np.arange(0, N * O + 1, O, dtype=np.int32), pa.array(out.reshape(-1)))
    rows = pa.ListArray.from_arrays(offsets.astype(np.int32), steps)
    return pd.Series(pd.arrays.ArrowExtensionArray(rows), index=index, name="out")


# ---------------------------------------------------------------- what comes in


def rows_of(network: WorkerNetwork, series: pd.Series) -> tuple[Array, Array]:
    """The column's steps, one after the other, as (N, I), and the rows' offsets (B + 1,)."""
    name, I, dtype = f"column {series.name!r}", network.net.input_size, network.net.dtype
    rows = _arrow(name, series)
    if not len(rows):
        return np.empty((0, I), dtype), np.zeros(1, np.int64)
    offsets = np.cumsum([0, *_counts(name, rows, "a row")])
    values = rows.flatten()
    if _is_list(values.type):
        counts = _counts(name, values, "a step")
        if (wrong := counts[counts != I]).size:
            raise ValueError(f"{name}: expected I = {I} numbers a step, got {wrong[0]}")
        values = values.flatten()
    elif I != 1 and len(values):
        raise ValueError(
            f"{name}: expected a list of I = {I} numbers for each step, got numbers; where each row is a flat list, "
            f"series.map(lambda row: np.reshape(row, (-1, {I})), meta=(series.name, object)) gives it steps"
        )
    if values.null_count:
        numbers = "numpy.concatenate(list(row))" if _is_list(rows.flatten().type) else "row"
        raise ValueError(
            f"{name}: expected numbers, got {values.null_count} that are missing (NaN is a number); "
            f"{_rows_with(repr(series.name), f'not pandas.isna({numbers}).any()')} leaves out such rows"
        )
    flat = arguments.real(name, values.to_numpy(zero_copy_only=False), dtype) if len(values) else np.empty(0, dtype)
    return flat.reshape(-1, I), offsets


def _rows_with(column: str, condition: str) -> str:
    """Code that keeps the rows of a frame for which a condition on ``row`` holds."""
    return f"frame[frame[{column}].map(lambda row: {condition}, meta=({column}, bool))]"


def _counts(name: str, lists: pa.Array, what: str) -> Array:
    """How long each list is."""
    if lists.null_count:
        column = name.partition(" ")[2]
        all_there = _rows_with(column, "all(step is not None for step in row)")
        way_out = f"frame.dropna(subset=[{column}])" if what == "a row" else all_there
        raise ValueError(
            f"{name}: expected a list for each row and step, got {what} that is missing ({lists.null_count} of "
            f"{len(lists)}); {way_out} leaves out such rows"
        )
    return np.asarray(pc.list_value_length(lists), np.int64)


def _arrow(name: str, series: pd.Series) -> pa.Array:
    """The column as an Arrow array of lists."""
    if isinstance(series.dtype, pd.ArrowDtype):
        rows = pa.chunked_array(series.array.__arrow_array__()).combine_chunks()
    else:
        try:
            rows = pa.array([_as_list(row) for row in series])
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise TypeError(f"{name}: expected a list of numbers, or of lists of them, in each row: {error}") from None
    if len(rows) and not _is_list(rows.type):
        raise TypeError(f"{name}: expected a list in each row, got {rows.type}")
    return rows


def _as_list(row: Any) -> Any:
    """Arrow takes arrays of one dimension, and lists of them."""
    return list(row) if isinstance(row, np.ndarray) and row.ndim > 1 else row
