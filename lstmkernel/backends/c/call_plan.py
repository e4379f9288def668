"""How the C kernels run a call on several threads, and what each way is predicted to take: csrc/run/plan.c."""

from __future__ import annotations

from typing import NamedTuple

from lstmkernel.backends.c._kernels import ffi, lib
from lstmkernel.backends.c.calls import instruction_sets
from lstmkernel.backends.contract import BackendError

#: In the order of lstmkernel.h. tasks: each layer, direction and group of rows is a task, and any thread takes its next
#: steps. teams: threads share the units of a layer, and each direction has a team.
WAYS = ("one thread", "tasks", "teams")


class Caches(NamedTuple):
    """Bytes of weights that stay in the cache of one core, and in the one that cores share."""

    own: int
    shared: int


class CallPlan(NamedTuple):
    """The way of a call."""

    way: str
    threads: int  # at most
    rows: int  # of a task
    steps: int  # of a task, at once
    seconds: float  # predicted
    alone_seconds: float  # predicted, on one thread


def call_plan(
    sizes: tuple[int, int, int, int, int, int],
    threads: int,
    isa: str,
    itemsize: int = 4,
    caches: Caches | None = None,
) -> CallPlan:
    """The way of a call of ``sizes`` (B, T, I, H, L, D) on at most so many threads.

    caches: those of another machine; None: this one's.
    """
    B, T, I, H, L, D = sizes
    kernels = lib.lk_find(instruction_sets().index(isa), itemsize)
    if kernels == ffi.NULL:
        raise BackendError(f"backend 'c:{isa}': this CPU does not have it")
    layers = ffi.new("lk_layer[]", L * D)
    for index in range(L * D):
        layers[index].input_size, layers[index].hidden_size = (I if index < D else D * H), H
    call = ffi.new("lk_call *", (kernels, layers, L, D, T, B, B * I, I, B * D * H, D * H, B, 0, T, threads, False))
    plan = ffi.new("lk_plan *")
    lib.lk_lstm_plan(call, ffi.NULL if caches is None else ffi.new("lk_caches *", caches), plan)
    return CallPlan(WAYS[plan.way], plan.threads, plan.rows, plan.steps, plan.ns / 1e9, plan.alone_ns / 1e9)
