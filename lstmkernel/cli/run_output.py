"""What ``lstmkernel run`` writes and says, whatever it read."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import numpy as np

from lstmkernel.cli import console
from lstmkernel.formats.errors import needed
from lstmkernel.host import files, numbers_text, spinner
from lstmkernel.workbench import progress
from lstmkernel.workbench.blockwise import arrays, kinds, tables
from lstmkernel.workbench.blockwise.arrays import Shape
from lstmkernel.workbench.blockwise.behind import written_behind
from lstmkernel.workbench.blockwise.grid import Sink, state_shapes
from lstmkernel.workbench.networks import Net, lstms

#: The one that runs without --weights.
OWN_NETWORK = "the one that comes with lstmkernel, which forecasts yearly sunspot numbers"


class Outputs(NamedTuple):
    """The open files. They get their names when the stack with which they were opened closes."""

    out: Any  # a Sink; a NewTable where the output is a table
    states: Sequence[Sink]
    done: str  # what the output is, to be said when it is written


def opened(
    arguments: argparse.Namespace, net: Net, stack: ExitStack, shape: Shape, rows: Shape, sequences: bool = False
) -> Outputs:
    """Open the output and ``--state-out``.

    shape: of the output; rows: (B,), or () for states without that axis. sequences: the rows of a table with the
    outputs of several steps each, for which ``shape`` has the number of rows and the width.
    """
    path, what = arguments.output, f"an output of shape {shape}"
    fitting = (kinds.NPY, kinds.NPZ) if len(shape) == 3 else (kinds.NPY, kinds.NPZ, *kinds.TABLES)
    if sequences:
        fitting, what = kinds.TABLES, "rows of unequal length (with --last, .npy and .npz fit, too)"
    kind = kinds.of_output(path, what, fitting)
    if kind in kinds.TABLES:
        needed("pyarrow", "arrow", path)
    file = stack.enter_context(files.replacing(path))
    states: Sequence[Sink] = ()
    if arguments.state_out:
        state_file = stack.enter_context(files.replacing(arguments.state_out))
        named = state_shapes(net, rows)
        states = stack.enter_context(arrays.new_npz(state_file, named, net.dtype, arguments.state_out))
    out: Any
    if kind in kinds.TABLES:
        out = stack.enter_context(tables.new(file, kind, net.out_features, net.dtype, sequences))
    elif kind == kinds.NPZ:
        (out,) = stack.enter_context(arrays.new_npz(file, {"out": shape}, net.dtype, path))
        out = stack.enter_context(written_behind(out))
    else:
        out = stack.enter_context(written_behind(arrays.new(file, shape, net.dtype)))
    form = f"{shape[0]} rows of steps of {shape[1]} numbers" if sequences else str(shape)
    return Outputs(out, states, f"{path} {form} {net.dtype}")


def scratch(path: str) -> str:
    """The folder for files without a name beside ``path``: there is room for large ones, if there is for the output."""
    return os.path.dirname(path) or "."


def warm_up(net: Net) -> None:
    """Numba compiles now, before the time is taken."""
    lengths = [1] if any(lstm.expects for lstm in lstms(net)) else None
    net(np.zeros((1, 1, net.input_size), net.dtype), lengths=lengths)


@contextmanager
def advancing(total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar; what comes is called with how much more is done."""
    with spinner.silenced(), progress.bar() as bar:
        task = bar.add_task("run", total=total)
        yield lambda more: bar.update(task, advance=more)


def say(line: str) -> None:
    """Print a line at once: what follows may take long."""
    print(console.printable(line), flush=True)


def speed(net: Net, seconds: float, steps: int) -> str:
    """How long the network took for so many steps of rows."""
    each = f", {numbers_text.count(steps / seconds)} steps/s" if seconds and steps else ""
    return f"{net.backend}: {numbers_text.duration(seconds)}{each}"
