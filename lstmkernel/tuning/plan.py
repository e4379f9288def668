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
from lstmkernel.engine.call import call
from lstmkernel.host import cores, cpu, disk_cache
from lstmkernel.host.spinner import spinning
from lstmkernel.info import version_of
from lstmkernel.tuning import accuracy, timing

if TYPE_CHECKING:
    from lstmkernel.engine.network import Network

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


def make(network: Network, batch_size: int, steps: int | None, num_threads: int | None) -> tuple[Backend, Plan]:
    """The backend that wins, and the plan: remembered, or from a contest now."""
    threads = min(num_threads or cores.available(), cores.available())
    name = f"{_label(network)}-{_key(network, batch_size, steps, threads)}.json"
    if plan := _recall(name):
        try:
            return _backend(plan.winner, network)[0], plan
        except BackendError:  # its code is gone, and so is the compiler
            pass
    with spinning(f"lstmkernel: compiling and comparing kernels for {network!r}"):
        backend, plan = _contest(network, batch_size, steps, num_threads, threads)
    disk_cache.keep("plans", name, json.dumps(plan.to_dict(), indent=2, allow_nan=False).encode())
    return backend, plan


def _label(network: Network) -> str:
    s = network.shape
    return f"{network.dtype.name}-{s.input_size}-{s.hidden_size}-{s.num_layers}-{s.directions}-{s.proj_size}"


def _key(network: Network, batch_size: int, steps: int | None, threads: int) -> str:
    """Of all that decides a contest."""
    machine = (cpu.model(), cpu.features(), backends.usable())
    software = (__version__, version_of("numba"), np.__version__, _build_key())
    model = (tuple(network.shape), network.batch_first, network.dtype.name, network.backend.name)
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


def _names(network: Network) -> list[str]:
    """All candidates, the one that the model has first."""
    fused = [name for name in backends.ONE_ANSWER if backends.unavailable(name) is None]
    special = [name + SPECIALISED for name in fused]
    return list(dict.fromkeys([network.backend.name, *fused, *special]))


def _backend(name: str, network: Network) -> tuple[Backend, float]:
    """A candidate's kernels for the model's sizes, and the seconds that compilers took."""
    if not name.endswith(SPECIALISED):
        return backends.get(name), 0.0
    if network.shape.variant is not None:
        raise BackendError("kernels with constants are for the plain LSTM")
    if name == "numba" + SPECIALISED:
        from lstmkernel.backends.numba import specialised as special

        return special.backend(network.shape.layer_sizes(), network.shape.backwards, network.dtype), 0.0
    from lstmkernel.backends.c import calls as c
    from lstmkernel.backends.c import specialised

    isa = name.removeprefix("c:").removesuffix(SPECIALISED)
    made = {of: specialised.get(isa, network.dtype, of) for of in network.shape.layer_sizes()}
    kernels = {of: found.kernels for of, found in made.items()}
    return c.backend(isa, kernels)._replace(name=name), sum(found.seconds for found in made.values())


def _contest(
    network: Network, batch_size: int, steps: int | None, num_threads: int | None, threads: int
) -> tuple[Backend, Plan]:
    random = np.random.default_rng(0)
    shape = (steps or UNKNOWN_STEPS, batch_size, network.input_size)
    x = random.standard_normal(shape).astype(network.dtype)
    if network.batch_first:
        x = np.ascontiguousarray(x.swapaxes(0, 1))
    models, contenders = {}, {}
    for contender, model in _checked(network, x, num_threads):
        contenders[contender.name] = contender
        if model is not None:
            models[contender.name] = model
    state = call(models[network.backend.name], x)[1]
    medians = timing.medians({name: partial(call, model, x, state) for name, model in models.items()}, SECONDS)
    fastest = min(medians, key=lambda name: medians[name])
    winner = fastest if medians[fastest] < WORTH * medians[network.backend.name] else network.backend.name
    timed = [replace(contenders[name], seconds=medians[name]) for name in sorted(medians, key=lambda n: medians[n])]
    others = [contender for name, contender in contenders.items() if name not in medians]
    plan = Plan(repr(network), batch_size, steps, threads, cpu.model(), network.backend.name, winner, (*timed, *others))
    return models[winner].backend, plan


def _checked(network: Network, x: Any, num_threads: int | None) -> Iterator[tuple[Contender, Network | None]]:
    """Every candidate, and its model where it was built and is right."""
    part = x[:, :CHECKED_STEPS] if network.batch_first else x[:CHECKED_STEPS]
    definition = network.on(backends.get("numpy"), 1, np.dtype(np.float64))
    right, first = _answer(definition, part), None
    for name in _names(network):
        start = perf_counter()
        try:
            backend, build_seconds = _backend(name, network)
            model = network.on(backend, num_threads)
            answer = _answer(model, part)
        except BackendError as reason:
            yield Contender(name, perf_counter() - start, note=str(reason)), None
            continue
        if name.startswith("numba"):
            build_seconds = perf_counter() - start
        error = accuracy.error(answer, right, network.dtype)
        promised = name.removesuffix(SPECIALISED) in backends.ONE_ANSWER
        if promised:
            first = first or answer
        same = accuracy.same_bits(answer, first) if promised and first else None
        told = error if error < np.inf else None  # JSON has no NaN
        if same or name == network.backend.name:  # what the model has is no worse than it was
            yield Contender(name, build_seconds, None, told, same), model
        elif not accuracy.agrees(error):
            yield Contender(name, build_seconds, None, told, same, "its answer is wrong"), None
        elif same is False:
            yield Contender(name, build_seconds, None, told, same, "its bits are not the others'"), None
        else:
            yield Contender(name, build_seconds, None, told, same), model


def _answer(network: Network, x: Any) -> accuracy.Answer:
    out, (h, c) = call(network, x)
    return out, h, c
