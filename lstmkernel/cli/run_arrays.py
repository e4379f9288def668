"""``lstmkernel run`` over an array: a grid of steps and rows, or rows of unequal length one after the other."""

from __future__ import annotations

import argparse
from contextlib import AbstractContextManager, ExitStack

import numpy as np

from lstmkernel.backends.packing import Array
from lstmkernel.cli import run_output
from lstmkernel.workbench.blockwise import arrays, cut, grid, kinds, ragged
from lstmkernel.workbench.blockwise.arrays import Shape, Stored
from lstmkernel.workbench.blockwise.cut import Grid
from lstmkernel.workbench.blockwise.grid import Job
from lstmkernel.workbench.networks import Net


def run(arguments: argparse.Namespace, kind: str, net: Net, stack: ExitStack) -> list[str]:
    """Open the files and run; lines to print when the stack has closed the files, and has written them with that."""
    stored = stack.enter_context(_opened(arguments, kind))
    if arguments.ragged:
        return _run_ragged(arguments, net, stored, stack)
    return _run_grid(arguments, net, stored, stack)


def _opened(arguments: argparse.Namespace, kind: str) -> AbstractContextManager[Stored]:
    if kind == kinds.RAW:
        return arrays.raw(arguments.input, *arguments.raw)
    return arrays.opened(arguments.input, arguments.array, run_output.scratch(arguments.output))


# ---------------------------------------------------------------- rows of equal length


def _run_grid(arguments: argparse.Namespace, net: Net, stored: Stored, stack: ExitStack) -> list[str]:
    path, shape, I = arguments.input, stored.shape, net.input_size
    if len(shape) not in (2, 3) or shape[-1] != I:
        way_out = "; save x[:, None]" if len(shape) == I == 1 else ""
        if arguments.weights is None:
            way_out += f"; without --weights the network is {run_output.OWN_NETWORK}"
        raise ValueError(f"{path}: expected shape (T, {I}) or ({_axes(net.batch_first)}, {I}), got {shape}{way_out}")
    of = Grid.of(shape, net.batch_first)
    itemsize = stored.dtype.itemsize
    lengths = _lengths(arguments, of) if arguments.lengths else None
    job = Job(net, of, cut.cut(net, of, itemsize, arguments.memory), lengths, arguments.last)
    outputs = run_output.opened(arguments, net, stack, job.out_shape(), (of.B,) if of.batched else ())
    run_output.say(f"{path} {shape} {stored.dtype}: {_in_words(of, shape, arguments)}")
    run_output.warm_up(net)
    with run_output.advancing(of.T * of.B) as advance:
        seconds = grid.run(job, stored, outputs.out, outputs.states, advance)
    return [outputs.done, run_output.speed(net, seconds, of.T * of.B)]


def _lengths(arguments: argparse.Namespace, of: Grid) -> Array:
    if not of.batched:
        raise ValueError(f"--lengths: {arguments.input} is one row, (T, I); lengths are for a batch")
    what = f"B = {of.B} whole numbers, the lengths of the rows"
    lengths = arrays.read_whole(arguments.lengths, what, run_output.scratch(arguments.output)).astype(np.int64)
    if len(lengths) != of.B:
        raise ValueError(f"{arguments.lengths}: expected {what}, got {len(lengths)}")
    if of.B and (lengths.min() < 0 or lengths.max() > of.T):
        odd = lengths[(lengths < 0) | (lengths > of.T)][0]
        raise ValueError(f"{arguments.lengths}: expected lengths from 0 to T = {of.T}, got {odd}")
    return lengths


def _axes(rows_first: bool) -> str:
    return "B, T" if rows_first else "T, B"


def _in_words(of: Grid, shape: Shape, arguments: argparse.Namespace) -> str:
    if not of.batched:
        return f"T = {of.T} steps of I = {shape[-1]} numbers"
    first = "rows first" if of.rows_first else "time first"
    if arguments.batch_first is None:
        first += "; if time comes first: --no-batch-first" if of.rows_first else "; if rows come first: --batch-first"
    lengths = ", of the lengths that were given" if arguments.lengths else ""
    return f"T = {of.T} steps x B = {of.B} rows of I = {shape[-1]} numbers ({first}){lengths}"


# ---------------------------------------------------------------- rows of unequal length


def _run_ragged(arguments: argparse.Namespace, net: Net, stored: Stored, stack: ExitStack) -> list[str]:
    path, shape, I = arguments.input, stored.shape, net.input_size
    if len(shape) != 2 or shape[1] != I:
        raise ValueError(f"{path}: expected shape (N, {I}), the steps of all rows one after the other, got {shape}")
    what = "offsets, B + 1 whole numbers"
    found = arrays.read_whole(arguments.offsets, what, run_output.scratch(arguments.output))
    offsets = ragged.checked_offsets(arguments.offsets, found, shape[0])
    B, steps, whole = len(offsets) - 1, cut.steps_a_block(net, stored.dtype.itemsize), cut.needs_whole_rows(net)
    if whole and B:
        longest = int(np.diff(offsets).max())
        cut.require_memory(net, longest, stored.dtype.itemsize, arguments.memory, cut.BACKWARDS)
    out_shape = (B if arguments.last else shape[0], net.out_features)
    outputs = run_output.opened(arguments, net, stack, out_shape, (B,))
    run_output.say(f"{path} {shape} {stored.dtype}: N = {shape[0]} steps of I = {I} numbers, in B = {B} rows")
    run_output.warm_up(net)
    rows = ragged.of_array(stored, offsets, steps, whole)
    with run_output.advancing(shape[0]) as advance:
        out = ragged.Flat(outputs.out)
        seconds = ragged.run(net, rows, out, outputs.states, arguments.last, lambda _, steps: advance(steps))
    return [outputs.done, run_output.speed(net, seconds, shape[0])]
