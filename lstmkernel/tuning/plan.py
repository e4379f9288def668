"""Compile and compare: which kernels are fastest for one network, batch and number of steps, on this machine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from io import StringIO
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from lstmkernel import backends
from lstmkernel._version import __version__
from lstmkernel.backends import Backend, BackendError
from lstmkernel.host import cores, cpu, disk_cache
from lstmkernel.host.spinner import spinning
from lstmkernel.info import version_of
from lstmkernel.tuning import accuracy, timing

if TYPE_CHECKING:
    from lstmkernel.lstm import LSTM

#: Steps of a stream of unknown length.
UNKNOWN_STEPS = 100
#: Steps that are checked against the definition, which is slow; and seconds for all contenders' calls.
CHECKED_STEPS, SECONDS = 16, 1.0
#: What the model has stays where nothing is faster by more than this.
WORTH = 0.99
#: Behind an instruction set's name: kernels with the model's sizes as constants.
SPECIALISED = " special"


@dataclass(frozen=True)
class Contender:
    """One candidate's result."""

    name: str
    build_seconds: float = 0.0
    seconds: float | None = None  # median of a call; None where it was not timed
    error: float | None = None  # the largest, in multiples of the tolerance
    same_bits: bool | None = None  # as the first fused backend's; None where that is not promised
    note: str = ""  # why it was not timed


@dataclass(frozen=True)
class Plan:
    """The contest that ``LSTM.compile`` held."""

    network: str
    batch_size: int
    steps: int | None
    threads: int  # at most
    cpu: str
    before: str  # the backend that the model had
    winner: str
    contenders: tuple[Contender, ...]  # fastest first
    remembered: bool = False  # from an earlier contest on this machine

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    def __rich__(self) -> Any:
        from lstmkernel.tuning import plan_table

        return plan_table.table(self)

    def __str__(self) -> str:
        from rich.console import Console

        text = StringIO()
        Console(file=text, width=110).print(self)
        return "\n".join(line.rstrip() for line in text.getvalue().rstrip().splitlines())


def make(lstm: LSTM, batch_size: int, steps: int | None, num_threads: int | None) -> tuple[Backend, Plan]:
    """The backend that wins, and the plan: remembered, or from a contest now."""
    threads = min(num_threads or cores.available(), cores.available())
    name = f"{_label(lstm)}-{_key(lstm, batch_size, steps, threads)}.json"
    if plan := _recall(name):
        try:
            return _backend(plan.winner, lstm)[0], plan
        except BackendError:  # its code is gone, and so is the compiler
            pass
    with spinning(f"lstmkernel: compiling and comparing kernels for {lstm!r}"):
        backend, plan = _contest(lstm, batch_size, steps, num_threads, threads)
    disk_cache.keep("plans", name, json.dumps(plan.to_dict(), indent=2, allow_nan=False).encode())
    return backend, plan


def _label(lstm: LSTM) -> str:
    s = lstm.shape
    return f"{lstm.dtype.name}-{s.input_size}-{s.hidden_size}-{s.num_layers}-{s.directions}-{s.proj_size}"


def _key(lstm: LSTM, batch_size: int, steps: int | None, threads: int) -> str:
    """Of all that decides a contest."""
    machine = (cpu.model(), cpu.features(), backends.usable())
    software = (__version__, version_of("numba"), np.__version__, _build_key())
    model = (tuple(lstm.shape), lstm.batch_first, lstm.dtype.name, lstm.backend)
    return disk_cache.digest(machine, software, model, batch_size, steps, threads)


def _build_key() -> tuple[Any, ...]:
    try:
        from lstmkernel.backends.c import specialised

        return specialised.sources_key(), specialised.compiler_key()
    except (ImportError, BackendError):  # no C kernels, no sources, no compiler
        return ()


def _recall(name: str) -> Plan | None:
    found = disk_cache.find("plans", name)
    if found is None:
        return None
    try:
        fields = json.loads(found.content)
        contenders = tuple(Contender(**contender) for contender in fields.pop("contenders"))
        return replace(Plan(**fields, contenders=contenders), remembered=True)
    except (KeyError, TypeError, ValueError):  # of another version
        return None


def _names(lstm: LSTM) -> list[str]:
    """All candidates, the one that the model has first."""
    fused = [name for name in backends.ONE_ANSWER if backends.unavailable(name) is None]
    special = [name + SPECIALISED for name in fused]
    return list(dict.fromkeys([lstm.backend, *fused, *special]))


def _backend(name: str, lstm: LSTM) -> tuple[Backend, float]:
    """A candidate's kernels for the model's sizes, and the seconds that compilers took."""
    if not name.endswith(SPECIALISED):
        return backends.get(name), 0.0
    if lstm.variant is not None:
        raise BackendError("kernels with constants are for the plain LSTM")
    if name == "numba" + SPECIALISED:
        from lstmkernel.backends.numba import specialised as special

        return special.backend(lstm.shape.layer_sizes(), lstm.shape.backwards, lstm.dtype), 0.0
    from lstmkernel.backends.c import calls as c
    from lstmkernel.backends.c import specialised

    isa = name.removeprefix("c:").removesuffix(SPECIALISED)
    made = {of: specialised.get(isa, lstm.dtype, of) for of in lstm.shape.layer_sizes()}
    kernels = {of: found.kernels for of, found in made.items()}
    return c.backend(isa, kernels)._replace(name=name), sum(found.seconds for found in made.values())


def _contest(
    lstm: LSTM, batch_size: int, steps: int | None, num_threads: int | None, threads: int
) -> tuple[Backend, Plan]:
    random = np.random.default_rng(0)
    shape = (steps or UNKNOWN_STEPS, batch_size, lstm.input_size)
    x = random.standard_normal(shape).astype(lstm.dtype)
    if lstm.batch_first:
        x = np.ascontiguousarray(x.swapaxes(0, 1))
    models, contenders = {}, {}
    for contender, model in _checked(lstm, x, num_threads):
        contenders[contender.name] = contender
        if model is not None:
            models[contender.name] = model
    state = models[lstm.backend](x)[1]
    medians = timing.medians({name: partial(model, x, state) for name, model in models.items()}, SECONDS)
    fastest = min(medians, key=lambda name: medians[name])
    winner = fastest if medians[fastest] < WORTH * medians[lstm.backend] else lstm.backend
    timed = [replace(contenders[name], seconds=medians[name]) for name in sorted(medians, key=lambda n: medians[n])]
    others = [contender for name, contender in contenders.items() if name not in medians]
    plan = Plan(repr(lstm), batch_size, steps, threads, cpu.model(), lstm.backend, winner, (*timed, *others))
    return models[winner]._backend, plan


def _checked(lstm: LSTM, x: Any, num_threads: int | None) -> Iterator[tuple[Contender, LSTM | None]]:
    """Every candidate, and its model where it was built and is right."""
    part = x[:, :CHECKED_STEPS] if lstm.batch_first else x[:CHECKED_STEPS]
    definition = type(lstm).from_config({**lstm.config(), "dtype": "float64", "backend": "numpy"}, lstm.state_dict())
    right, first = _answer(definition, part), None
    for name in _names(lstm):
        start = perf_counter()
        try:
            backend, build_seconds = _backend(name, lstm)
            model = lstm._on(backend, num_threads)
            answer = _answer(model, part)
        except BackendError as reason:
            yield Contender(name, perf_counter() - start, note=str(reason)), None
            continue
        if name.startswith("numba"):
            build_seconds = perf_counter() - start
        error = accuracy.error(answer, right, lstm.dtype)
        promised = name.removesuffix(SPECIALISED) in backends.ONE_ANSWER
        if promised:
            first = first or answer
        same = accuracy.same_bits(answer, first) if promised and first else None
        told = error if error < np.inf else None  # JSON has no NaN
        if same or name == lstm.backend:  # what the model has is no worse than it was
            yield Contender(name, build_seconds, None, told, same), model
        elif not accuracy.agrees(error):
            yield Contender(name, build_seconds, None, told, same, "its answer is wrong"), None
        elif same is False:
            yield Contender(name, build_seconds, None, told, same, "its bits are not the others'"), None
        else:
            yield Contender(name, build_seconds, None, told, same), model


def _answer(lstm: LSTM, x: Any) -> accuracy.Answer:
    out, (h, c) = lstm(x)
    return out, h, c
