"""``lstmkernel run``: run a trained network over an input file: an array, a table or sound."""

from __future__ import annotations

import argparse
import errno
import os
from contextlib import ExitStack
from typing import Any, BinaryIO

import numpy as np

from lstmkernel import backends
from lstmkernel.cli import options, run_arrays, run_output, run_tables, sound
from lstmkernel.models import SUNSPOTS
from lstmkernel.workbench.blockwise import kinds
from lstmkernel.workbench.blockwise.grid import flat_states, state_shapes
from lstmkernel.workbench.networks import Net, load_sequence

SUMMARY = "run a trained network over an input file"

DESCRIPTION = """\
Run the LSTM of a weights file over an input, and save its output at every step.
First the command says how it reads the input, such as "T = 50 steps x B = 3
rows of I = 40 numbers". The input may be larger than memory: it is read in
blocks, with a progress bar. The output is written completely or not at all.

An array (.npy, .npz) is (T, I), or (T, B, I) for a batch: T time steps, B rows,
I numbers each. It is (B, T, I) with --batch-first, or if the file of weights
says so (Keras's files do). For padded rows of unequal length, use --lengths. If
such rows lie one after the other in one (N, I) array, use --ragged --offsets.
The output, .npy or .npz, has the axes of the input.

A table (.parquet, .arrow, .feather; pip install 'lstmkernel[arrow]') may have
one row for each step: I columns of numbers, or a column of lists of I numbers.
Or it has one row for each sequence: a column of lists of steps. The output is a
table with the column "out" in the same order, or an array if the rows are
steps.

A sound file (.wav, .flac, ...; pip install 'lstmkernel[audio]') needs a network
of one input and one output, such as an amplifier model of RTNeural, AIDA-X,
GuitarML or Neural Amp Modeler. Channels are independent of each other. The
output has the sample rate and, if its format allows it, the sample format of
the input.

Without --weights, the network is a small one that comes with lstmkernel. Its
input is the yearly sunspot numbers from 1700 on, (T, 1), and its output is a
forecast of the next year at every step.
"""

EXAMPLES = """\
examples:
  lstmkernel run sunspots.npy -o forecasts.npy
  lstmkernel run --weights model.safetensors input.npy -o output.npy
  lstmkernel run --weights model.pt --batch-first --lengths lengths.npy \\
      padded.npy --last -o scores.npy
  lstmkernel run --weights model.pt --ragged --offsets offsets.npy \\
      steps.npy -o hidden.npy
  lstmkernel run --weights model.pt events.parquet -o hidden.parquet
  lstmkernel run --weights vad.safetensors --prefix lstm_cell features.npy \\
      -o hidden.npy --state-out last.npz
  lstmkernel run --weights amp.nam guitar.wav -o amplified.wav
"""

#: Options that only some kinds of input have, and these kinds.
ONLY = {
    "batch_first": kinds.ARRAYS,
    "lengths": kinds.ARRAYS,
    "ragged": kinds.ARRAYS,
    "offsets": kinds.ARRAYS,
    "array": (kinds.NPZ,),
    "column": kinds.TABLES,
    "last": (*kinds.ARRAYS, *kinds.TABLES),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("input", metavar="INPUT", help="an array, a table or a sound file")
    parser.add_argument("-o", "--output", metavar="OUTPUT", required=True, help="the file to write")
    parser.add_argument("--weights", metavar="W", help=options.WEIGHTS)
    options.add_prefix(parser, "which LSTM of a larger model: the names of its tensors begin with P")
    parser.add_argument(
        "--last", action="store_true", default=None, help="save only the output at each row's last step: (B, width)"
    )
    parser.add_argument("--state-out", metavar="FILE.npz", help="also save the last states h_n and c_n")
    options.add_backend(parser)
    parser.add_argument("--dtype", choices=("float32", "float64"), help="default: that of the weights")
    parser.add_argument(
        "--memory", type=options.gigabytes, default=1e9, metavar="GB", help="take no more memory than this (1)"
    )
    _add_reading(parser.add_argument_group("how INPUT is read"))


def _add_reading(group: Any) -> None:
    group.add_argument(
        "--batch-first",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="read 3 axes as (B, T, I), or with --no-batch-first as (T, B, I); default: as the file of weights says",
    )
    group.add_argument("--lengths", metavar="FILE", help="how many steps each row has: B whole numbers (.npy)")
    group.add_argument(
        "--ragged", action="store_true", default=None, help="the rows lie one after the other in one array (N, I)"
    )
    group.add_argument(
        "--offsets", metavar="FILE", help="with --ragged: B + 1 numbers, where each row begins, and N at the end (.npy)"
    )
    group.add_argument("--array", metavar="NAME", help="which array of a .npz file that has several")
    group.add_argument(
        "--column", metavar="NAME", action="append", help="which column of a table; repeat it for the next one"
    )
    group.add_argument(
        "--raw", type=options.raw_array, metavar="DTYPE,SHAPE", help="a file without a header: float32,50,3,40"
    )


def command(arguments: argparse.Namespace) -> int:
    """Do ``run``."""
    backends.get(arguments.backend)  # so that a wrong name is not reported as an error of the file
    kind = kinds.RAW if arguments.raw else kinds.of_input(arguments.input)
    _check_options(arguments, kind)
    if kind == kinds.SOUND:
        return sound.run(arguments, _load(arguments, batch_first=False), _save_states)
    with ExitStack() as stack:
        if kind in kinds.TABLES:
            lines = run_tables.run(arguments, kind, _load(arguments), stack)
        else:
            lines = run_arrays.run(arguments, kind, _load(arguments, arguments.batch_first), stack)
    for line in lines:
        run_output.say(line)
    if arguments.weights is None:
        run_output.say(f"the network was {run_output.OWN_NETWORK}; --weights gives another")
    return 0


def _check_options(arguments: argparse.Namespace, kind: str) -> None:
    """ValueError for options that mean nothing for this input, and for names that cannot be written."""
    for option, fitting in ONLY.items():
        if getattr(arguments, option) is not None and kind not in fitting:
            raise ValueError(f"--{option.replace('_', '-')}: not for {arguments.input}, which is read as {kind}")
    if bool(arguments.ragged) != bool(arguments.offsets):
        raise ValueError(
            "--ragged, --offsets: expected both or none; offsets are where each row begins, and N at the end"
        )
    if arguments.ragged and arguments.lengths:
        raise ValueError("--lengths: not with --ragged, whose offsets say how long each row is")
    if kind == kinds.SOUND and arguments.weights is None:
        raise ValueError(
            f"{arguments.input}: sound needs --weights: the network that comes with lstmkernel is for sunspots"
        )
    if arguments.state_out:
        kinds.of_output(arguments.state_out, "states", (kinds.NPZ,))
        if os.path.realpath(arguments.state_out) == os.path.realpath(arguments.output):
            raise ValueError("--state-out: expected another file than the output")
    if not os.path.isdir(run_output.scratch(arguments.output)):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), arguments.output)


def _load(arguments: argparse.Namespace, batch_first: bool | None = None) -> Net:
    how: dict[str, Any] = {"backend": arguments.backend}
    how |= {"dtype": arguments.dtype} if arguments.dtype else {}
    how |= {} if batch_first is None else {"batch_first": batch_first}
    return load_sequence(arguments.weights or str(SUNSPOTS), arguments.prefix, **how)


def _save_states(file: BinaryIO, net: Net, states: Any) -> None:
    named = zip(state_shapes(net, ()), flat_states(states), strict=True)
    np.savez(file, allow_pickle=False, **dict(named))
