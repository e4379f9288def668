"""``lstmkernel run``: a trained network over a recorded input, .npy to .npy or sound to sound."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from time import perf_counter
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from lstmkernel import backends
from lstmkernel.backends.packing import Array
from lstmkernel.cli import console, sound
from lstmkernel.host import files, numbers_text
from lstmkernel.models import SUNSPOTS
from lstmkernel.workbench.networks import Net, load_sequence, lstms, read_input

DESCRIPTION = """\
Run the LSTM of a weights file over an input and save what it says at every
step.

INPUT is (T, I), or (T, B, I) for a batch: T time steps, B sequences, I numbers
each. OUTPUT gets (T, H) or (T, B, H), twice as wide where the network runs in
both directions. It is written whole or not at all.

A sound file (.wav, .flac, ...; pip install 'lstmkernel[audio]') goes through
a network of one input and one output, such as an amplifier model of RTNeural,
AIDA-X, GuitarML or Neural Amp Modeler. Each channel is played by itself; the
sample rate stays, and so does the way in which numbers are kept.

Without --weights, the network is a small one that comes with lstmkernel: of
yearly sunspot numbers (T, 1), from 1700 on, it forecasts each next year's.
"""

EXAMPLES = """\
examples:
  lstmkernel run sunspots.npy -o forecasts.npy
  lstmkernel run --weights model.safetensors input.npy -o output.npy
  lstmkernel run --weights vad.safetensors --prefix lstm_cell features.npy \\
      -o hidden.npy --state-out last.npz
  lstmkernel run --weights amp.nam guitar.wav -o amplified.wav
"""

#: The input is run in about this many chunks, of at least so many steps that the calls' own cost does not show.
CHUNKS = 100
LEAST_CHUNK = 1024


class _Pass(NamedTuple):
    """What one run over the input left."""

    out: Array
    states: Any  # as the network gives them
    seconds: float


def add_to(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "run",
        help="run a trained network over an input file",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("input", metavar="INPUT", help="an array (.npy) of shape (T, I) or (T, B, I), or sound")
    parser.add_argument("-o", "--output", metavar="OUTPUT", required=True, help="where the output goes")
    parser.add_argument("--weights", metavar="W", help="a file of weights: lstmkernel info W")
    parser.add_argument("--prefix", metavar="P", help="which LSTM of a larger model: its tensors' names begin with P")
    parser.add_argument("--state-out", metavar="FILE.npz", help="also save the last states, as h_n and c_n")
    names = f"auto, c, {', '.join(backends.NAMES)}"
    parser.add_argument("--backend", default="auto", metavar="NAME", help=f"one of {names} (auto)")
    parser.add_argument("--dtype", choices=("float32", "float64"), help="default: that of the weights")
    parser.set_defaults(command=command, one_thread=False)


def command(arguments: argparse.Namespace) -> int:
    """Do ``run``."""
    backends.get(arguments.backend)  # a wrong name is an error of its own, not of the file
    options = {"backend": arguments.backend} | ({"dtype": arguments.dtype} if arguments.dtype else {})
    if not sound.is_array(arguments.input):
        if arguments.weights is None:
            raise ValueError(
                f"{arguments.input}: expected --weights beside sound: the network that comes along knows sunspots only"
            )
        net = load_sequence(arguments.weights, arguments.prefix, batch_first=False, **options)
        return sound.run(arguments, net, _save_states)
    net = load_sequence(arguments.weights or str(SUNSPOTS), arguments.prefix, **options)
    x = read_input(arguments.input, net)
    with ExitStack() as stack:
        output = stack.enter_context(files.replacing(arguments.output))
        state_output = stack.enter_context(files.replacing(arguments.state_out)) if arguments.state_out else None
        with console.progress() as bar:
            task = bar.add_task("run", total=None)
            done = _run(net, x, lambda share: bar.update(task, total=1, completed=share))
        np.save(output, done.out, allow_pickle=False)
        if state_output:
            _save_states(state_output, done.states)
    steps_per_second = x.size / net.input_size / done.seconds
    print(f"{arguments.input} {x.shape} -> {arguments.output} {done.out.shape} {done.out.dtype}")
    print(f"{net.backend}: {numbers_text.duration(done.seconds)}, {numbers_text.count(steps_per_second)} steps/s")
    return 0


def _run(net: Net, x: Array, on_progress: Callable[[float], object]) -> _Pass:
    """The network over x, in chunks that hand their states on: the same bits, and progress to show."""
    before_time = (slice(None),) if net.batch_first and x.ndim == 3 else ()
    T = x.shape[len(before_time)]
    out = np.empty((*x.shape[:-1], net.out_features), net.dtype)
    net(x[(*before_time, slice(0, 1))])  # Numba compiles now, out of the time
    start = perf_counter()
    state: Any = None
    for times in _chunks(T, forward=not any(lstm.bidirectional for lstm in lstms(net))):
        out[(*before_time, times)], state = net(x[(*before_time, times)], state)
        on_progress(times.stop / max(1, T))
    return _Pass(out, state, perf_counter() - start)


def _chunks(T: int, forward: bool) -> Iterator[slice]:
    """0..T in stretches of time; in one where a layer needs the whole sequence."""
    most = max(LEAST_CHUNK, -(-T // CHUNKS)) if forward else T
    for start in range(0, T, most) if T else [0]:
        yield slice(start, min(start + most, T))


def _save_states(file: BinaryIO, states: Any) -> None:
    np.savez(file, allow_pickle=False, **_named(states))


def _named(states: Any) -> dict[str, Array]:
    """h_n and c_n, with the LSTM's number behind them where there are several."""
    if not isinstance(states[0], tuple):  # an LSTM's, not those of a Stack
        states = (states,)
    if len(states) == 1:
        return {"h_n": states[0][0], "c_n": states[0][1]}
    named = {f"h_n_{i}": h for i, (h, _) in enumerate(states)}
    return named | {f"c_n_{i}": c for i, (_, c) in enumerate(states)}
