"""What a format is: the functions that ``lstmkernel.load``, ``inspect`` and ``save`` call.

To add a format, write a module with the names of ``Format`` and put it into ``formats()`` of ``formats/__init__.py``;
mypy checks it there. Readers raise plain ValueErrors that name the key, what was expected and what came. The caller
turns each into a FormatError that names the file.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from numpy.typing import DTypeLike

from lstmkernel.cell import LSTMCell
from lstmkernel.dense import Dense
from lstmkernel.engine.notes import Notes
from lstmkernel.engine.parameters import LSTMShape
from lstmkernel.formats.inspection import Contents
from lstmkernel.lstm import LSTM
from lstmkernel.stack import Stack
from lstmkernel.variant import Variant

#: Whatever a file can hold.
AnyNetwork = LSTM | LSTMCell | Dense | Stack

#: What ``prefix=`` can be: a part of a file, several one after the other, or all of it.
Prefix = str | Sequence[str] | None


class Options(NamedTuple):
    """The arguments of ``load`` that say how the network will run. None leaves the choice to the file."""

    backend: str = "auto"
    num_threads: int | None = None
    dtype: DTypeLike | None = None
    batch_first: bool | None = None
    variant: Variant | None = None
    reverse: bool | None = None
    recurrent_activation: str | None = None
    notes: Notes = Notes()  # what the file says of its network's use
    prefixes: tuple[str, ...] = ()  # all of a list, while its parts are loaded one by one

    def applied(self, shape: LSTMShape) -> LSTMShape:
        """The shape with what the caller has said, for files that do not say it themselves."""
        variant = shape.variant if self.variant is None else Variant.of(self.variant)
        return shape._replace(variant=variant, reverse=shape.reverse if self.reverse is None else self.reverse)

    def checked(self, shape: LSTMShape) -> LSTMShape:
        """The same shape, of a file that says all of it; ValueError where the caller has said something else."""
        asked = self.applied(shape)
        if asked.variant != shape.variant:
            raise ValueError(f"variant: expected {shape.variant or Variant()}, as the file says, got {self.variant}")
        if asked.reverse != shape.reverse:
            raise ValueError(f"reverse: expected {shape.reverse}, as the file says, got {asked.reverse}")
        return shape

    def or_else(self, dtype: str, batch_first: bool = False) -> Options:
        """The same, with these values where the caller has given none."""
        return self._replace(
            dtype=dtype if self.dtype is None else self.dtype,
            batch_first=batch_first if self.batch_first is None else self.batch_first,
        )

    def of_dense(self) -> dict[str, Any]:
        """What the caller has given, as entries of the ``config()`` of a Dense or an LSTMCell."""
        return {"backend": self.backend} | ({} if self.dtype is None else {"dtype": self.dtype})

    def of_lstm(self) -> dict[str, Any]:
        """What the caller has given, as entries of an LSTM's ``config()``."""
        order = {} if self.batch_first is None else {"batch_first": self.batch_first}
        return {**self.of_dense(), "num_threads": self.num_threads, **order, **self.notes.given()}


class Format(Protocol):
    """A format that lstmkernel reads."""

    NAME: str  #: stands in messages and in what ``inspect`` returns
    SUFFIXES: tuple[str, ...]  #: only choose whose error is shown when no format recognises the content

    def recognises(self, path: str, head: bytes) -> bool:
        """Whether the file is of this format, by its content; ``head`` is its first 64 KiB."""

    def inspect(self, path: str) -> Contents:
        """What is in the file; numbers are not read where the format allows that."""

    def load(self, path: str, prefix: str | None, options: Options) -> AnyNetwork:
        """The whole file's network, or the one that ``prefix`` picks."""


class SavingFormat(Format, Protocol):
    """A format that lstmkernel writes as well."""

    def save(self, net: AnyNetwork, path: str, state_inputs: bool, dynamic: bool) -> None:
        """Write the whole file or leave what was there; ValueError for what the format cannot express."""
