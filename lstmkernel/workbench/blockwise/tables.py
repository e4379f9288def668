"""Tables on disk, Parquet's and Arrow's, which are read and written some rows at a time.

A row of a table is either a step, of one number in each column or of a list of I numbers; or a whole sequence, a list
of steps. The types of the columns and the network's I decide which: ``layout_of``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO, Any, NamedTuple

import numpy as np

from lstmkernel.backends.packing import Array
from lstmkernel.formats.errors import needed
from lstmkernel.workbench.blockwise import kinds, ragged
from lstmkernel.workbench.blockwise.arrays import Index
from lstmkernel.workbench.blockwise.ragged import Rows

#: Types of a column.
NUMBER, VECTOR, LIST, LISTS, OTHER = "a number", "a vector", "a list", "a list of lists", "other"

#: Of the rows that are read at a time: about so many bytes, and at most so many rows.
READ_BYTES, MOST_ROWS = 1 << 24, 1 << 16


class Table:
    """An open table: the columns of it that are the network's input."""

    def __init__(self, path: str, file: Any, rows: int, columns: Sequence[str], sequences: bool, I: int) -> None:
        self.path, self.rows, self.columns, self.sequences = path, rows, list(columns), sequences
        self._file, self._I = file, I

    def steps(self) -> Steps:
        """All rows as the steps of one sequence, read in order."""
        return Steps((_steps(origin, batch, self._I) for origin, batch in self._batches()), self._I)

    def all_sequences(self, steps: int) -> Iterator[Rows]:
        """All rows as sequences, about so many steps at a time."""
        for origin, batch in self._batches():
            flat, offsets = _sequences(origin, batch, self._I)
            for rows in ragged.together(offsets, steps):
                begin, end = offsets[rows.start], offsets[rows.stop]
                yield Rows(flat[begin:end], offsets[rows.start : rows.stop + 1] - begin)

    def _batches(self) -> Iterator[tuple[Origin, Any]]:
        first = 0
        with naming(self.path):
            at_once = READ_BYTES * self.rows // max(1, self._file.nbytes(self.columns))
            for batch in self._file.batches(self.columns, max(1, min(at_once, MOST_ROWS))):
                yield Origin(self.path, first), batch
                first += len(batch)


class Origin(NamedTuple):
    """Where in the file the entries of some rows come from, for messages."""

    path: str
    first: int  # the number of the first of these rows
    offsets: Array | None = None  # where each row's steps begin, if an entry is a step of a row

    def of(self, column: str, place: int) -> str:
        """Of the entry number ``place``."""
        if self.offsets is None:
            return f"{self.path}: column {column}, row {self.first + place} (the first one is row 0)"
        row = int(np.searchsorted(self.offsets, place, side="right")) - 1
        step = place - int(self.offsets[row])
        return f"{self.path}: column {column}, row {self.first + row}, step {step} (the first ones are 0)"


class Steps:
    """The steps of a table, as an array (T, I) that is read from its start to its end."""

    def __init__(self, blocks: Iterator[Array], I: int) -> None:
        self._blocks, self._rest = blocks, np.empty((0, I))

    def read(self, index: Index) -> Array:
        (times,) = index
        parts: list[Array] = []
        missing = times.stop - times.start
        while missing > 0:
            if not len(self._rest):
                self._rest = self._next()
            parts.append(self._rest[:missing])
            self._rest = self._rest[missing:]
            missing -= len(parts[-1])
        return np.concatenate(parts) if parts else self._rest[:0]

    def _next(self) -> Array:
        for block in self._blocks:
            return block
        raise ValueError("the table has fewer rows than it says")


# ---------------------------------------------------------------- reading


@contextmanager
def opened(path: str, kind: str, columns: Sequence[str] | None, I: int) -> Iterator[Table]:
    """The table. ``columns``: those that were asked for. ValueError if they are not clearly an input of I numbers."""
    needed("pyarrow", "arrow", path)
    with naming(path):
        file: Any = _Parquet(path) if kind == kinds.PARQUET else _Arrow(path)
        types = {field.name: field.type for field in file.schema}
        chosen = _chosen(path, types, columns, I)
        found = Table(path, file, file.rows, chosen, _is_sequences(path, types, chosen, I), I)
    with file.closing:
        yield found


class _Parquet:
    def __init__(self, path: str) -> None:
        import pyarrow.parquet

        self.closing = self._file = pyarrow.parquet.ParquetFile(path, buffer_size=1 << 20)
        self.schema, self.rows = self._file.schema_arrow, self._file.metadata.num_rows

    def nbytes(self, columns: list[str]) -> int:
        """Of all rows in memory, about."""
        all_metadata, within = self._file.metadata, tuple(f"{name}." for name in columns)
        groups = (all_metadata.row_group(number) for number in range(all_metadata.num_row_groups))
        leaves = (group.column(number) for group in groups for number in range(group.num_columns))
        return sum(8 * leaf.num_values for leaf in leaves if f"{leaf.path_in_schema}.".startswith(within))

    def batches(self, columns: list[str], rows: int) -> Iterator[Any]:
        for batch in self._file.iter_batches(batch_size=rows, columns=columns, use_threads=False):
            yield batch.select(columns)


class _Arrow:
    def __init__(self, path: str) -> None:
        import pyarrow.dataset

        self.closing = self._file = pyarrow.memory_map(path)
        self.schema = pyarrow.ipc.open_file(self._file).schema
        self.rows = pyarrow.dataset.dataset(path, format="ipc").count_rows()

    def nbytes(self, columns: list[str]) -> int:
        """Of all rows in memory, about."""
        return int(self._file.size())

    def batches(self, columns: list[str], rows: int) -> Iterator[Any]:
        import pyarrow

        only = pyarrow.ipc.IpcReadOptions(included_fields=[self.schema.get_field_index(name) for name in columns])
        reader = pyarrow.ipc.open_file(self._file, options=only)
        for number in range(reader.num_record_batches):
            batch = reader.get_batch(number).select(columns)
            for start in range(0, len(batch), rows):
                yield batch.slice(start, rows)


def _chosen(path: str, types: dict[str, Any], columns: Sequence[str] | None, I: int) -> list[str]:
    """The columns to read: those asked for, the only one, or all if they are I columns of numbers."""
    for name in columns or ():
        if name not in types:
            raise ValueError(f"{path}: no column {name!r}; it has {_described(types)}")
    if columns:
        return list(columns)
    if len(types) == 1 or (len(types) == I and {_kind(each) for each in types.values()} == {NUMBER}):
        return list(types)
    raise ValueError(
        f"{path}: expected one column of sequences, or {I} of numbers; it has {_described(types)}; choose with --column"
    )


def _described(types: dict[str, Any]) -> str:
    return ", ".join(f"{name} ({each})" for name, each in types.items()) or "no columns"


def _kind(type_: Any) -> str:
    import pyarrow.types as of

    if of.is_integer(type_) or of.is_floating(type_) or of.is_boolean(type_):
        return NUMBER
    is_list = of.is_list(type_) or of.is_large_list(type_)
    if not is_list and not of.is_fixed_size_list(type_):
        return OTHER
    within = _kind(type_.value_type)
    if within == NUMBER:
        return LIST if is_list else VECTOR
    return LISTS if is_list and within in (LIST, VECTOR) else OTHER


def _is_sequences(path: str, types: dict[str, Any], chosen: list[str], I: int) -> bool:
    """Whether each row is a sequence, or a step. ValueError if it can be neither."""
    found = [_kind(types[name]) for name in chosen]
    if found == [NUMBER] * I or (found == [VECTOR] and types[chosen[0]].list_size == I):
        return False
    if found == [LIST]:
        return I == 1
    if found == [LISTS]:
        return True
    raise ValueError(
        f"{path}: expected {I} columns of numbers, or one of lists of steps of {I} numbers, got "
        f"{_described({name: types[name] for name in chosen})}; choose with --column"
    )


def _steps(origin: Origin, batch: Any, I: int) -> Array:
    """The rows of a batch as (n, I)."""
    names = batch.schema.names
    if batch.num_columns == I and _kind(batch.column(0).type) == NUMBER:
        columns = zip(names, batch.columns, strict=True)
        return np.stack([_numbers(origin, name, column) for name, column in columns], axis=1)
    return _vectors(origin, names[0], batch.column(0), I)


def _sequences(origin: Origin, batch: Any, I: int) -> tuple[Array, Array]:
    """The rows of a batch one after the other as (n, I), and where each begins."""
    name, column = batch.schema.names[0], batch.column(0)
    _refuse_nulls(origin, name, column, "a list of steps")
    offsets = column.offsets.to_numpy().astype(np.int64)
    steps = column.values.slice(offsets[0], offsets[-1] - offsets[0])
    offsets -= offsets[0]
    return _vectors(origin._replace(offsets=offsets), name, steps, I), offsets


def _vectors(origin: Origin, name: str, column: Any, I: int) -> Array:
    """Numbers, or lists of I numbers, as (n, I)."""
    if _kind(column.type) == NUMBER:
        return _numbers(origin, name, column)[:, None]
    _refuse_nulls(origin, name, column, f"a list of {I} numbers")
    flat = column.flatten()
    lengths = column.value_lengths().to_numpy(zero_copy_only=False)
    wrong = np.flatnonzero(lengths != I)
    if wrong.size:
        got = lengths[wrong[0]]
        raise ValueError(f"{origin.of(name, int(wrong[0]))}: expected steps of {I} numbers, got one of {got}")
    return _numbers(origin, name, flat, I).reshape(-1, I)


def _numbers(origin: Origin, name: str, column: Any, each: int = 1) -> Array:
    """each: so many numbers belong to one entry."""
    _refuse_nulls(origin, name, column, "a number", each)
    found: Array = column.to_numpy(zero_copy_only=False)
    return found


def _refuse_nulls(origin: Origin, name: str, column: Any, expected: str, each: int = 1) -> None:
    if column.null_count:
        place = int(np.argmax(column.is_null().to_numpy(zero_copy_only=False))) // each
        raise ValueError(
            f"{origin.of(name, place)}: expected {expected}, got a missing value (null); fill in all such values first"
        )


@contextmanager
def naming(path: str) -> Iterator[None]:
    """Turn pyarrow's errors into one line that names the file."""
    import pyarrow

    try:
        yield
    except pyarrow.ArrowException as error:
        raise ValueError(f"{path}: {' '.join(str(error).split())}") from error


# ---------------------------------------------------------------- writing


class NewTable(NamedTuple):
    """A table of one column, "out": of each row the output, or the outputs of all its steps."""

    writer: Any
    schema: Any
    width: int

    def write(self, index: Index, block: Array) -> None:
        """Append steps, (n, width) or (width,). They come in order, so the index is not needed."""
        self._append(self._vectors(block))

    def append(self, block: Array, offsets: Array) -> None:
        """Append sequences, whose steps (n, width) lie one after the other; or only one output of each."""
        import pyarrow

        values = self._vectors(block)
        if values.type != self.schema.field(0).type:
            values = pyarrow.ListArray.from_arrays(pyarrow.array(offsets, pyarrow.int32()), values)
        self._append(values)

    def _vectors(self, block: Array) -> Any:
        """Lists of ``width`` numbers; plain numbers where it is 1."""
        import pyarrow

        values = pyarrow.array(np.ascontiguousarray(block).reshape(-1))
        return values if self.width == 1 else pyarrow.FixedSizeListArray.from_arrays(values, self.width)

    def _append(self, column: Any) -> None:
        import pyarrow

        self.writer.write_batch(pyarrow.RecordBatch.from_arrays([column], schema=self.schema))


@contextmanager
def new(file: IO[bytes], kind: str, width: int, dtype: np.dtype[Any], sequences: bool) -> Iterator[NewTable]:
    """A table that is to be written. sequences: each row has outputs of several steps."""
    import pyarrow
    import pyarrow.parquet

    number = pyarrow.from_numpy_dtype(dtype)
    step = number if width == 1 else pyarrow.list_(number, width)
    schema = pyarrow.schema([("out", pyarrow.list_(step) if sequences else step)])
    make = pyarrow.parquet.ParquetWriter if kind == kinds.PARQUET else pyarrow.ipc.new_file
    with make(file, schema) as writer:
        yield NewTable(writer, schema, width)
