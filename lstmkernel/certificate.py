"""Certificate: how far a quantized network is off the float64 one, on which data. ``quantize(calibrate=)`` makes it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from io import StringIO
from typing import Any

from lstmkernel.host.numbers_text import size
from lstmkernel.host.plain_text import plain

#: Into how many parts the time of each sequence is cut, for ``Certificate.over_time``.
TENTHS = 10


@dataclass(frozen=True)
class Error:
    """Differences from the float64 network."""

    rms: float  # the root of their mean square
    largest: float


@dataclass(frozen=True)
class LayerError:
    """Differences of one LSTM layer's h, with all that the layers below it add."""

    name: str  # "layer 0"; in a Stack "layers[0], layer 0"
    precision: str  # "float16"; "int8, int16 activations"
    error: Error


@dataclass(frozen=True, repr=False)
class Certificate:
    """What a network was measured to be off, on which data. Prints as a table; docs/smaller_weights.md reads one."""

    network: str
    weights: str  # a digest of the weights that were measured: a network with others does not have this certificate
    data: str  # a digest of the data
    rows: int  # how many sequences the data has
    steps: int  # of all sequences together
    fitted: int  # steps to which 8-bit weights were fitted; 0: none were
    measured: int  # steps on which out and the layers were measured
    out: Error
    h_n: Error  # of the last states of all sequences and layers
    c_n: Error
    layers: tuple[LayerError, ...]  # the lowest one first
    over_time: tuple[Error | None, ...]  # of out, by tenths of each sequence, all steps; None for a tenth without any
    bytes_before: int  # of the parameters
    bytes_after: int

    @property
    def is_held_back(self) -> bool:
        """Whether no weight was fitted to a step that was measured."""
        return self.fitted == 0 or self.fitted + self.measured <= self.steps

    @property
    def drift(self) -> float | None:
        """rms of out in the last tenth of the sequences / that in the first; None where one of them is not known, or 0.

        Well above 1, the error grows with time.
        """
        first, last = self.over_time[0], self.over_time[-1]
        return last.rms / first.rms if first and last and first.rms else None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, given: Any) -> Certificate:
        """The certificate of a ``to_dict()``. Raises ValueError, which names the entry, for anything else."""
        names = [field.name for field in fields(cls)]
        if not isinstance(given, Mapping) or set(given) != set(names):
            raise ValueError(f"certificate: expected the entries {', '.join(names)}, got {repr(given)[:100]}")
        return cls(**{name: _READERS[name](name, given[name]) for name in names})

    def __rich__(self) -> Any:
        """For rich: the table that ``str`` gives."""
        from rich import box
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        table = Table(box=box.SIMPLE, padding=0, show_edge=False)
        table.add_column("Error against float64", no_wrap=True)
        for heading in ("rms", "largest"):
            table.add_column(heading, justify="right", no_wrap=True)
        for name, error in self._lines():
            table.add_row(Text(name), f"{error.rms:.2e}", f"{error.largest:.2e}")
        return Group(Text(self._title()), table, Text(self._end()))

    def _title(self) -> str:
        sequences = "1 sequence" if self.rows == 1 else f"{self.rows} sequences"
        if not self.fitted:
            use = f"measured on {self.measured} steps"
        elif self.is_held_back:
            use = f"8-bit weights fitted to {self.fitted} steps, measured on {self.measured} others"
        else:
            use = f"8-bit weights fitted to {self.fitted} steps, and measured on the same: expect more on other data"
        return f"{self.network}\ndata: {sequences}, {self.steps} steps, digest {self.data}\n{use}"

    def _lines(self) -> list[tuple[str, Error]]:
        lines = [("out", self.out), ("h_n", self.h_n), ("c_n", self.c_n)]
        lines += [(f"{layer.name} ({layer.precision})", layer.error) for layer in self.layers]
        percent = 100 // len(self.over_time)
        over_time = [(i * percent, error) for i, error in enumerate(self.over_time) if error]
        return lines + [(f"out, {begin} to {begin + percent} % of time", error) for begin, error in over_time]

    def _end(self) -> str:
        drift = "" if self.drift is None else f"; rms of the last tenth / the first: {self.drift:.2f}"
        return f"parameters: {size(self.bytes_before)} -> {size(self.bytes_after)}{drift}"

    def __str__(self) -> str:
        from rich.console import Console

        text = StringIO()
        Console(file=text, width=110).print(self)
        return plain("\n".join(line.rstrip() for line in text.getvalue().rstrip().splitlines()))

    def __repr__(self) -> str:
        found = f"out rms {self.out.rms:.2g}, largest {self.out.largest:.2g}"
        return f"Certificate({found}, on {self.measured} steps, for {self.network}; print it for the table)"


# ---------------------------------------------------------------- from plain values, which may be anything


def _wrong(name: str, expected: str, value: Any) -> ValueError:
    return ValueError(f"certificate: {name}: expected {expected}, got {repr(value)[:100]}")


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise _wrong(name, "a string", value)
    return value


def _count(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= sys.maxsize:
        raise _wrong(name, "a whole number of at least 0", value)
    return value


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= sys.float_info.max:
        raise _wrong(name, "a finite number of at least 0", value)
    return float(value)


def _error(name: str, value: Any) -> Error:
    if not isinstance(value, Mapping) or set(value) != {"rms", "largest"}:
        raise _wrong(name, "rms and largest", value)
    return Error(*(_number(f"{name}: {part}", value[part]) for part in ("rms", "largest")))


def _layers(name: str, value: Any) -> tuple[LayerError, ...]:
    if not isinstance(value, list | tuple):
        raise _wrong(name, "a list", value)
    found = []
    for each in value:
        if not isinstance(each, Mapping) or set(each) != {"name", "precision", "error"}:
            raise _wrong(name, "name, precision and error of each", each)
        layer, precision = (_text(f"{name}: {part}", each[part]) for part in ("name", "precision"))
        found.append(LayerError(layer, precision, _error(name, each["error"])))
    return tuple(found)


def _over_time(name: str, value: Any) -> tuple[Error | None, ...]:
    if not isinstance(value, list | tuple) or len(value) != TENTHS:
        raise _wrong(name, f"{TENTHS} errors", value)
    return tuple(None if each is None else _error(name, each) for each in value)


_READERS: dict[str, Callable[[str, Any], Any]] = {
    **dict.fromkeys(("network", "weights", "data"), _text),
    **dict.fromkeys(("rows", "steps", "fitted", "measured", "bytes_before", "bytes_after"), _count),
    **dict.fromkeys(("out", "h_n", "c_n"), _error),
    "layers": _layers,
    "over_time": _over_time,
}
