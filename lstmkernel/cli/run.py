"""``lstmkernel run``: run a trained network over an input file: an array (.npy) or sound."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from time import perf_counter
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from lstmkernel import backends
from lstmkernel.backends.packing import Array
from lstmkernel.cli import options, sound
from lstmkernel.host import files, numbers_text
from lstmkernel.models import SUNSPOTS
from lstmkernel.workbench import progress
from lstmkernel.workbench.networks import Net, load_sequence, lstms, read_input

SUMMARY = "run a trained network over an input file"

DESCRIPTION = """\
Run the LSTM of a weights file over an input, and save its output at every step.

INPUT is (T, I), or (T, B, I) for a batch: T time steps, B sequences, I numbers
each. OUTPUT gets (T, H) or (T, B, H), twice as wide if the network runs in both
directions. It is written completely or not at all.

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
  lstmkernel run --weights vad.safetensors --prefix lstm_cell features.npy \\
      -o hidden.npy --state-out last.npz
  lstmkernel run --weights amp.nam guitar.wav -o amplified.wav
"""

#: The input is run in about this many chunks. A chunk has at least so many steps that the cost of a call does not show.
CHUNKS = 100
LEAST_CHUNK = 1024


class _Finished(NamedTuple):
    """The results of one run over the input."""

    out: Array
    states: Any  # as the network returns them
    seconds: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("input", metavar="INPUT", help="an array (.npy) of shape (T, I) or (T, B, I), or sound")
    parser.add_argument("-o", "--output", metavar="OUTPUT", required=True, help="the file to write")
    parser.add_argument("--weights", metavar="W", help="a file of weights, of any format that lstmkernel info can read")
    options.add_prefix(parser, "which LSTM of a larger model: the names of its tensors begin with P")
    parser.add_argument("--state-out", metavar="FILE.npz", help="also save the last states h_n and c_n")
    options.add_backend(parser)
    parser.add_argument("--dtype", choices=("float32", "float64"), help="default: that of the weights")


def command(arguments: argparse.Namespace) -> int:
    """Do ``run``."""
    backends.get(arguments.backend)  # so that a wrong name is not reported as an error of the file
    how = {"backend": arguments.backend} | ({"dtype": arguments.dtype} if arguments.dtype else {})
    if not sound.is_array(arguments.input):
        if arguments.weights is None:
            raise ValueError(
                f"{arguments.input}: sound needs --weights: the network that comes with lstmkernel is for sunspots"
            )
        net = load_sequence(arguments.weights, arguments.prefix, batch_first=False, **how)
        return sound.run(arguments, net, _save_states)
    net = load_sequence(arguments.weights or str(SUNSPOTS), arguments.prefix, **how)
    x = read_input(arguments.input, net)
    with ExitStack() as stack:
        output = stack.enter_context(files.replacing(arguments.output))
        state_output = stack.enter_context(files.replacing(arguments.state_out)) if arguments.state_out else None
        with progress.bar() as bar:
            task = bar.add_task("run", total=None)
            done = _run(net, x, lambda share: bar.update(task, total=1, completed=share))
        np.save(output, done.out, allow_pickle=False)
        if state_output:
            _save_states(state_output, done.states)
    steps_per_second = x.size / net.input_size / done.seconds
    print(f"{arguments.input} {x.shape} -> {arguments.output} {done.out.shape} {done.out.dtype}")
    print(f"{net.backend}: {numbers_text.duration(done.seconds)}, {numbers_text.count(steps_per_second)} steps/s")
    return 0


def _run(net: Net, x: Array, on_progress: Callable[[float], object]) -> _Finished:
    """Run the network over x in chunks, so that there is progress to show. The result is bit-identical to one call."""
    before_time = (slice(None),) if net.batch_first and x.ndim == 3 else ()
    T = x.shape[len(before_time)]
    out = np.empty((*x.shape[:-1], net.out_features), net.dtype)
    net(x[(*before_time, slice(0, 1))])  # Numba compiles now, before the time is taken
    start = perf_counter()
    state: Any = None
    for times in _chunks(T, forward=not any(any(lstm.shape.backwards) for lstm in lstms(net))):
        out[(*before_time, times)], state = net(x[(*before_time, times)], state)
        on_progress(times.stop / max(1, T))
    return _Finished(out, state, perf_counter() - start)


def _chunks(T: int, forward: bool) -> Iterator[slice]:
    """Chunks of 0..T; a single one if a layer runs backwards, because it needs the whole sequence."""
    most = max(LEAST_CHUNK, -(-T // CHUNKS)) if forward else T
    for start in range(0, T, most) if T else [0]:
        yield slice(start, min(start + most, T))


def _save_states(file: BinaryIO, states: Any) -> None:
    np.savez(file, allow_pickle=False, **_named(states))


def _named(states: Any) -> dict[str, Array]:
    """h_n and c_n; h_n_0, c_n_0, h_n_1 ... if there are several LSTMs."""
    if not isinstance(states[0], tuple):  # an LSTM's, not those of a Stack
        states = (states,)
    if len(states) == 1:
        return {"h_n": states[0][0], "c_n": states[0][1]}
    named = {f"h_n_{i}": h for i, (h, _) in enumerate(states)}
    return named | {f"c_n_{i}": c for i, (_, c) in enumerate(states)}
