"""``lstmkernel run`` over a table: each row is a step, or a sequence of steps."""

from __future__ import annotations

import argparse
from contextlib import ExitStack

from lstmkernel.cli import run_output
from lstmkernel.workbench import progress
from lstmkernel.workbench.blockwise import cut, grid, ragged, tables
from lstmkernel.workbench.blockwise.cut import Grid
from lstmkernel.workbench.blockwise.grid import Job
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
    with progress.bar() as bar:
        task = bar.add_task("run", total=of.T)
        source = table.steps(min(job.cut.times, 1 << 16))
        seconds = grid.run(job, source, outputs.out, outputs.states, lambda steps: bar.update(task, advance=steps))
    return [outputs.done, run_output.speed(net, seconds, of.T)]


def _run_sequences(arguments: argparse.Namespace, net: Net, table: Table, named: str, stack: ExitStack) -> list[str]:
    I, B, last = net.input_size, table.rows, arguments.last
    outputs = run_output.opened(arguments, net, stack, (B, net.out_features), (B,), sequences=not last)
    run_output.say(f"{named}: B = {B} rows of steps of I = {I} numbers; each row of the table is a sequence")
    run_output.warm_up(net)
    done = 0
    with progress.bar() as bar:
        task = bar.add_task("run", total=B)

        def tick(rows: int, steps: int) -> None:
            nonlocal done
            done += steps
            bar.update(task, advance=rows)

        every = table.all_sequences(cut.steps_a_block(net, ITEMSIZE))
        out = ragged.Flat(outputs.out) if last else outputs.out
        seconds = ragged.run(net, every, out, outputs.states, last, tick)
    return [outputs.done, run_output.speed(net, seconds, done)]
