"""One call on several threads, in machine code from beginning to end: csrc/run/threads.c, in a simpler form.

A job is a function of two integers: the address of what it is given, and its team (team.py), ALONE for none. It is run
by the thread that called, which is rank 0 and can do all of the work, and by the helpers that come while it runs. The
board serves one job at a time; where it is taken, the call runs on its own thread.

All of this is machine code, in which no signal handler runs. So there is no moment at which an exception could leave
the board taken, or a helper at work on the caller's arrays.
"""

# mypy: ignore-errors
# Compiled code: its types are Numba's, and inferred.

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from llvmlite import ir
from numba import int64, types
from numba.core import cgutils
from numba.extending import intrinsic

from lstmkernel.backends.numba.compiled import compiled
from lstmkernel.backends.numba.jit import internal, spliced
from lstmkernel.backends.numba.memory import pointer
from lstmkernel.backends.numba.run import board as places
from lstmkernel.backends.numba.run.atomics import load, replace, spin, store
from lstmkernel.backends.numba.run.float_control import enter_kernel, leave_kernel
from lstmkernel.backends.numba.run.team import ALONE, join, thread_of

#: A helper that has looked for a job so many times goes to sleep: after 0.1 to 0.2 ms.
_IDLE_LOOKS = 4096

_ARGUMENTS = (types.int64, types.int64)


@intrinsic
def address_of(typingctx, function):
    """The address of a compiled function of two integers that returns nothing."""
    typingctx.resolve_function_type(function, _ARGUMENTS, {})  # compiles it

    def codegen(context, builder, signature, args):
        found = function.dispatcher.overloads[_ARGUMENTS]
        context.active_code_library.add_linking_library(found.library)
        return builder.ptrtoint(context.declare_function(builder.module, found.fndesc), ir.IntType(64))

    return types.int64(function), codegen


@intrinsic
def call_at(typingctx, address, given, team):
    """Call it there."""

    def codegen(context, builder, signature, args):
        function_type = context.call_conv.get_function_type(types.none, _ARGUMENTS)
        places = [cgutils.alloca_once(builder, kind.pointee) for kind in function_type.args[:2]]  # Numba's own
        builder.call(builder.inttoptr(args[0], function_type.as_pointer()), [*places, *args[1:]])
        return context.get_dummy_value()

    return types.void(address, given, team), codegen


@intrinsic
def words_of(typingctx, values):
    """The address of these integers, on the caller's stack."""

    def codegen(context, builder, signature, args):
        words = cgutils.unpack_tuple(builder, args[0])
        place = cgutils.alloca_once(builder, ir.IntType(64), size=len(words))
        for n, word in enumerate(words):
            builder.store(word, builder.gep(place, [ir.IntType(64)(n)]))
        return builder.ptrtoint(place, ir.IntType(64))

    return types.int64(values), codegen


@spliced
def view_of(board_address, rank):
    """The team as the thread of that rank sees it: the address of its lines."""
    return board_address + 8 * (places.THREADS + places.THREAD_WORDS * rank)


@internal
def run_job(board_address, threads, shares, function, given):
    """On this thread, and on up to threads - 1 helpers. It returns when none of them is at work on it any more."""
    board = pointer(board_address, int64)
    if threads == 1 or not replace(board, places.TAKEN, 0, 1):
        call_at(function, given, ALONE)
        return
    board[places.FUNCTION], board[places.GIVEN], board[places.SIZE] = function, given, threads
    board[places.SHARE_COUNT] = shares
    board[places.BEFORE] = load(board, places.DONE) + 1  # one more: owners count as late until they come
    job = load(board, places.JOB) + 1
    store(board, places.JOB, job)
    join(board, board_address, 0, job)
    call_at(function, given, view_of(board_address, 0))
    store(board, places.JOB, job + 1)
    for rank in range(1, load(board, places.HELPERS) + 1):
        looks = 1
        while load(thread_of(board, rank), places.RUNNING) != 0:
            spin(looks)
            looks += 1
    store(board, places.TAKEN, 0)


@internal
def help_with(board, board_address, rank, job):
    """Take part in this job, if it still runs. Returns whether it did."""
    me = thread_of(board, rank)
    store(me, places.RUNNING, 1)  # from here on the caller waits for this thread
    takes_part = load(board, places.JOB) == job and rank < board[places.SIZE]
    if takes_part:
        join(board, board_address, rank, job)
        call_at(board[places.FUNCTION], board[places.GIVEN], view_of(board_address, rank))
    store(me, places.RUNNING, 0)
    return takes_part


@internal
def count_helper(board, rank):
    most = load(board, places.HELPERS)
    while most < rank and not replace(board, places.HELPERS, most, rank):
        most = load(board, places.HELPERS)


def _serve(board_address, rank):
    """Help with every job that comes, until none has come for a while."""
    callers = enter_kernel()
    board = pointer(board_address, int64)
    me, seen, looks = thread_of(board, rank), 0, 0
    count_helper(board, rank)
    store(me, places.AWAKE, 1)
    while looks < _IDLE_LOOKS:
        job = load(board, places.JOB)
        if job % 2 == 1 and job != seen:
            seen = job
            if help_with(board, board_address, rank, job):
                looks = 0
        looks += 1
        spin(looks)
    store(me, places.AWAKE, 0)
    leave_kernel(callers)


@cache
def serve() -> Callable[[int, int], None]:
    """The machine code of ``_serve``."""
    return compiled("serve", _serve, "the threads")
