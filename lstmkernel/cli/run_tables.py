"""``lstmkernel run`` over a table: each row is a step, or a sequence of steps."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from contextlib import ExitStack

from lstmkernel.cli import run_output
from lstmkernel.workbench.blockwise import cut, grid, ragged, tables
from lstmkernel.workbench.blockwise.cut import Grid
from lstmkernel.workbench.blockwise.grid import Job
from lstmkernel.workbench.blockwise.ragged import Rows
from lstmkernel.workbench.blockwise.tables import Table
from lstmkernel.workbench.networks import Net

#: Of a table's numbers, at most.
ITEMSIZE = 8


def run(arguments: argparse.Namespace, kind: str, net: Net, stack: ExitStack) -> list[str]:
    """Open the files and run; lines to print when the stack has closed the files, and has written them with that."""
    table = stack.enter_context(tables.opened(arguments.input, kind, arguments.column, net.input_size))
    named = f"{arguments.input}, {'column' if len(table.columns) == 1 else 'columns'} {', '.join(table.columns)}"
    if table.sequences:
        return _run_sequences(arguments, net, table, named, stack)
    return _run_steps(arguments, net, table, named, stack)


def _run_steps(arguments: argparse.Namespace, net: Net, table: Table, named: str, stack: ExitStack) -> list[str]:
    of = Grid(table.rows, 1, False, net.batch_first)
    job = Job(net, of, cut.cut(net, of, ITEMSIZE, arguments.memory), None, arguments.last)
    outputs = run_output.opened(arguments, net, stack, job.out_shape(), ())
    run_output.say(f"{named}: T = {of.T} steps of I = {net.input_size} numbers; each row of the table is a step")
    run_output.warm_up(net)
    with run_output.advancing(of.T) as advance:
        seconds = grid.run(job, table.steps(), outputs.out, outputs.states, advance)
    return [outputs.done, run_output.speed(net, seconds, of.T)]


def _run_sequences(arguments: argparse.Namespace, net: Net, table: Table, named: str, stack: ExitStack) -> list[str]:
    I, B, last = net.input_size, table.rows, arguments.last
    outputs = run_output.opened(arguments, net, stack, (B, net.out_features), (B,), sequences=not last)
    run_output.say(f"{named}: B = {B} rows of steps of I = {I} numbers; each row of the table is a sequence")
    run_output.warm_up(net)
    every = _that_fit(table.all_sequences(cut.steps_a_block(net, ITEMSIZE)), net, arguments.memory)
    out, done = ragged.Flat(outputs.out) if last else outputs.out, 0
    with run_output.advancing(B) as advance:

        def tick(rows: int, steps: int) -> None:
            nonlocal done
            done += steps
            advance(rows)

        seconds = ragged.run(net, every, out, outputs.states, last, tick)
    return [outputs.done, run_output.speed(net, seconds, done)]


def _that_fit(every: Iterable[Rows], net: Net, memory: float) -> Iterator[Rows]:
    for rows in every:
        cut.require_memory(net, len(rows.x), ITEMSIZE, memory, "a row of a table is taken whole")
        yield rows
