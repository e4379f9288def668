"""Plan: which kernels ``LSTM.compile`` chose, and what it measured. Plans are kept on disk."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from io import StringIO
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lstmkernel import backends
from lstmkernel._version import __version__
from lstmkernel.backends import Backend, BackendError
from lstmkernel.backends.c import specialised
from lstmkernel.backends.c.specialised import SPECIALISED
from lstmkernel.host import cores, cpu, disk_cache
from lstmkernel.host.compile_c import CompileError, NoCompilerError, compiler_key
from lstmkernel.host.numbers_text import digits, duration
from lstmkernel.host.plain_text import plain
from lstmkernel.host.spinner import spinning
from lstmkernel.info import version_of
from lstmkernel.tuning import accuracy, candidates, contest, timing
from lstmkernel.tuning.accuracy import Answer
from lstmkernel.tuning.work import Work

if TYPE_CHECKING:
    from lstmkernel.engine.network import Network

#: Seconds for timing all candidates.
SECONDS = 1.0
#: The model's own backend stays unless another one takes less of its time by this part, and by more than the noise.
LEAST_GAIN = 0.01
#: A plan with more noise than this is made again when it is asked for again.
MOST_NOISE = 0.1


@dataclass(frozen=True)
class Contender:
    """The findings about one candidate."""

    name: str
    build_seconds: float = 0.0
    seconds: float | None = None  # median of a call; None where it was not timed
    noise: float | None = None  # how much its time differed from round to round, beside the own backend's
    error: float | None = None  # the largest, in multiples of the tolerance
    same_bits: bool | None = None  # as the first candidate that promises its bits; None if this one does not promise
    note: str = ""  # why it was not timed


@dataclass(frozen=True, repr=False)
class Plan:
    """The kernels that ``LSTM.compile`` compared, and the winner. Prints as a table."""

    network: str
    batch_size: int
    steps: int | None
    timed: str  # in words
    threads: int  # at most
    cpu: str
    before: str  # the backend that the model had
    winner: str
    contenders: tuple[Contender, ...]  # fastest first
    noise: float  # the median of the contenders'
    remembered: bool = False  # from the cache on disk: measured before on this machine

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    def __rich__(self) -> Any:
        """For rich: the table that ``str`` gives, in colour."""
        from rich import box
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        before = next((each.seconds for each in self.contenders if each.name == self.before), None)
        table = Table(box=box.SIMPLE, padding=0, show_edge=False)
        table.add_column("Kernels", no_wrap=True)
        for heading in ("Time", "Faster", "Noise", "Error", "Build"):
            table.add_column(heading, justify="right", no_wrap=True)
        table.add_column("", overflow="fold")
        for each in self.contenders:
            won = each.name == self.winner
            style = "bold green" if won else "dim" if each.seconds is None else ""
            table.add_row(*(Text(cell, style) for cell in _cells(each, before, won)))
        return Group(Text(self._title()), table)  # a table folds a title of its own to the table's width

    def _title(self) -> str:
        threads = "1 thread" if self.threads == 1 else f"at most {self.threads} threads"
        remembered = ", remembered" if self.remembered else ""
        return f"{self.network}\nbatch {self.batch_size}, {self.timed}, {threads}, {self.cpu}{remembered}"

    def __str__(self) -> str:
        from rich.console import Console

        text = StringIO()
        Console(file=text, width=110).print(self)
        return plain("\n".join(line.rstrip() for line in text.getvalue().rstrip().splitlines()))

    def __repr__(self) -> str:
        found = f"{self.winner!r}, chosen from {len(self.contenders)}"
        return f"Plan({found}, for {self.network}, batch {self.batch_size}, {self.timed}; print it for the table)"


def _cells(contender: Contender, before: float | None, won: bool) -> list[str]:
    """A line of the table. before: seconds of a call on the backend that the model had."""
    seconds = contender.seconds
    return [
        contender.name,
        "" if seconds is None else duration(seconds),
        "" if seconds is None or before is None else f"{digits(before / seconds)}x",
        "" if contender.noise is None else f"{contender.noise:.1%}",
        "" if contender.error is None else f"{contender.error:.3f}",
        duration(contender.build_seconds) if contender.build_seconds else "",
        "taken" if won else contender.note,
    ]


def make(network: Network, work: Work, num_threads: int | None, refresh: bool = False) -> tuple[Backend, Plan]:
    """The fastest backend, and the plan: from the cache on disk, or from a contest now.

    refresh: a contest in any case.
    """
    threads = min(num_threads or cores.available(), cores.available())
    name = f"{_label(network)}-{_key(network, work, threads)}.json"
    plan = None if refresh else _recall(name)
    if plan and plan.noise <= MOST_NOISE:
        try:
            return _backend(plan.winner, network)[0], plan
        except (BackendError, CompileError):  # its code is no longer in the cache, and there is no compiler
            pass
    with spinning(f"lstmkernel: compiling and comparing kernels for {network!r}", lines=True):
        backend, plan, failed = _contest(network, work, num_threads, threads)
    if all(map(_stays, failed)):
        disk_cache.keep("plans", name, json.dumps(plan.to_dict(), indent=2, allow_nan=False).encode())
    return backend, plan


def _stays(failure: Exception) -> bool:
    """Whether a candidate cannot be built next time either, as long as ``_key`` is the same. A full disk may pass."""
    return isinstance(failure, BackendError | NoCompilerError)


# ---------------------------------------------------------------- on disk


def _label(network: Network) -> str:
    s = network.shape
    return f"{_precision(network)}-{s.input_size}-{s.hidden_size}-{s.num_layers}-{s.directions}-{s.proj_size}"


def _precision(network: Network) -> str:
    return "mixed" if len(set(network.precisions)) > 1 else network.precision


def _key(network: Network, work: Work, threads: int) -> str:
    """A key that changes with everything that the result depends on."""
    machine = (cpu.model(), cpu.features(), backends.usable())
    software = (__version__, version_of("numba"), np.__version__, _build_key())
    model = (
        tuple(network.shape),
        network.batch_first,
        network.dtype.name,
        tuple(map(tuple, network.precisions)),
        network.backend.name,
    )
    return disk_cache.digest(machine, software, model, work.batch_size, work.steps, str(work), threads)


def _build_key() -> tuple[Any, ...]:
    try:
        return specialised.sources_key(), compiler_key()
    except (BackendError, CompileError):  # no sources, no compiler
        return ()


def _recall(name: str) -> Plan | None:
    found = disk_cache.find("plans", name)
    if found is None:
        return None
    try:
        fields = json.loads(found.content)
        contenders = tuple(Contender(**contender) for contender in fields.pop("contenders"))
        return replace(Plan(**fields, contenders=contenders), remembered=True)
    except (KeyError, TypeError, ValueError):  # written by another version
        return None


# ---------------------------------------------------------------- the contest


class _Built(NamedTuple):
    """A candidate that could be built."""

    network: Network
    seconds: float  # that compilers took
    answer: Answer


def _reference(network: Network) -> Network:
    """What all candidates are compared with: float64. Kernels for 8-bit weights have all the same bits."""
    return network if network.is_int8 else network.on(backends.get("numpy"), 1, np.dtype(np.float64))


def _contest(
    network: Network, work: Work, num_threads: int | None, threads: int
) -> tuple[Backend, Plan, list[Exception]]:
    """The fastest backend, the plan, and why some candidates could not be built."""
    own = network.backend.name
    built: dict[str, _Built] = {}
    failed: list[Contender] = []
    reasons: list[Exception] = []
    for name in candidates.names(own):
        began = perf_counter()
        try:
            built[name] = _built(name, network, num_threads, work)
        except (BackendError, CompileError) as reason:
            failed.append(Contender(name, perf_counter() - began, note=str(reason)))
            reasons.append(reason)
    results = contest.run(
        {name: contest.Candidate(each.answer, work.call(each.network)) for name, each in built.items()},
        work.reference(_reference(network)),
        network.dtype,
        SECONDS,
        lambda name, result: not _why_not_timed(name, result, own),
    )
    contenders = [_contender(name, built[name].seconds, results, own) for name in results]
    contenders.sort(key=lambda each: np.inf if each.seconds is None else each.seconds)
    winner = _winner(contenders, own)
    noise = median([each.noise for each in contenders if each.noise is not None] or [0.0])
    of = (repr(network), work.batch_size, work.steps, str(work), threads, cpu.model())
    plan = Plan(*of, own, winner, (*contenders, *failed), noise)
    return built[winner].network.backend, plan, reasons


def _built(name: str, network: Network, num_threads: int | None, work: Work) -> _Built:
    """The candidate, and its answer."""
    start = perf_counter()
    backend, seconds = _backend(name, network)
    candidate = network.on(backend, num_threads)
    answer = work.answer(candidate)
    if name.startswith("numba"):  # it compiles when it is first called
        seconds = perf_counter() - start
    return _Built(candidate, seconds, answer)


def _backend(name: str, network: Network) -> tuple[Backend, float]:
    shape = network.shape
    if shape.variant is not None and name.endswith(SPECIALISED):
        raise BackendError("kernels with constants are for the plain LSTM")
    return candidates.build(name, shape.layer_sizes(), shape.backwards, network.dtype)


def _why_not_timed(name: str, result: contest.Result, own: str) -> str:
    """Empty for a candidate that is timed. The model's own backend always is: it is no worse than it was."""
    if result.same_bits or name == own:
        return ""
    if not accuracy.agrees(result.error):
        return "its answer is wrong"
    return "its bits are not the others'" if result.same_bits is False else ""


def _contender(name: str, build_seconds: float, results: Mapping[str, contest.Result], own: str) -> Contender:
    result = results[name]
    error = result.error if result.error < np.inf else None  # JSON has no NaN
    noise = timing.spread(result.rounds, results[own].rounds) if result.rounds and name != own else None
    why = _why_not_timed(name, result, own)
    return Contender(name, build_seconds, result.seconds, noise, error, result.same_bits, why)


def _winner(contenders: Sequence[Contender], own: str) -> str:
    """The fastest one that gains more than it may seem to gain by the noise. contenders: fastest first."""
    before = next(each.seconds for each in contenders if each.name == own)
    assert before is not None  # the model's own backend always is timed
    for each in contenders:
        if each.seconds is None or each.noise is None:
            continue
        if each.seconds < (1 - max(LEAST_GAIN, each.noise)) * before:
            return each.name
    return own
