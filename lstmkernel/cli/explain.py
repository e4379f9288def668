"""``lstmkernel explain``: show the numbers of an LSTM at work, and draw pictures of them."""

from __future__ import annotations

import argparse
import os
from contextlib import ExitStack

import numpy as np

from lstmkernel.cli import console, explain_text, options
from lstmkernel.gradient_flow import gradient_flow
from lstmkernel.host import files
from lstmkernel.lstm import LSTM
from lstmkernel.stack import Stack
from lstmkernel.workbench.explain import example
from lstmkernel.workbench.explain.example import FORGET_BIAS, LAYERS, SEED, SENTENCE, WIDTH
from lstmkernel.workbench.explain.explained import Explained, explained
from lstmkernel.workbench.networks import load_sequence, read_input

SUMMARY = "see how an LSTM remembers: its numbers, step by step, and pictures"

DESCRIPTION = f"""\
Show an LSTM at work: the four moves of its cell with their numbers at one step;
h, which goes from layer to layer at every step; and the results out, h_n and
c_n. docs/how_an_lstm_remembers.md explains what the numbers mean.

Without --weights, an untrained LSTM reads a sentence. It has {LAYERS} layers of {WIDTH}
units, PyTorch's initial weights from seed {SEED}, and forget bias {FORGET_BIAS}. Each word is a
vector of {WIDTH} normal random numbers, seeded by the CRC-32 of its letters in lower
case and scaled to length 1.
"""

EXAMPLES = """\
examples:
  lstmkernel explain
  lstmkernel explain "The meeting is at noon." --layer 2 --word noon
  lstmkernel explain --weights model.safetensors input.npy --step 40
  lstmkernel explain --png-dir pictures
"""

#: What the pictures of --png-dir show.
PICTURES = {
    "gates": "every gate and state over time",
    "grid": "h and c from step to step and from layer to layer",
    "gradient": "how much of the gradient is left, step by step back",
}

#: Gradients are followed back through at most so many steps.
FLOW_STEPS = 200


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "input",
        nargs="?",
        metavar="SENTENCE",
        help=f"words to read ({SENTENCE}); with --weights, a .npy file with an array (T, I)",
    )
    parser.add_argument(
        "--weights",
        metavar="W",
        help=f"show the first LSTM of {options.WEIGHTS}",
    )
    options.add_prefix(parser, "which LSTM of a larger model: the names of its tensors begin with P")
    parser.add_argument(
        "--layer", type=int, default=0, metavar="N", help="the layer whose four moves are shown; 0 is the lowest (0)"
    )
    parser.add_argument(
        "--reverse", action="store_true", help="show the layer's reverse direction, of a bidirectional model"
    )
    at = parser.add_mutually_exclusive_group()
    at.add_argument("--step", type=int, metavar="T", help="the step that is shown, from 0 (the middle one)")
    at.add_argument("--word", metavar="WORD", help="or the word of the sentence; if it occurs twice, the first one")
    parser.add_argument("--png-dir", metavar="DIR", help="draw gates.png, grid.png and gradient.png; needs matplotlib")


def command(arguments: argparse.Namespace) -> int:
    """Do ``explain``."""
    if arguments.png_dir:
        options.require_matplotlib("--png-dir")
    about, shown = _subject(arguments)
    k, step = _state(arguments, shown), _step(arguments, shown)
    written = _draw(arguments, shown, step) if arguments.png_dir else []
    out = console.output()
    out.print(about, markup=False)
    for part in (explain_text.moves(shown, k, step), explain_text.grid(shown, step), explain_text.results(shown)):
        out.print()
        console.print_whole(out, part)
    if written:
        out.print()
    for path in written:
        out.print(f"written: {path}", soft_wrap=True, markup=False)
    return 0


def _subject(arguments: argparse.Namespace) -> tuple[str, Explained]:
    """A line about the network, and the network with its input."""
    if arguments.weights:
        return _recorded(arguments)
    if arguments.prefix:
        raise ValueError("--prefix: needs --weights")
    sentence = SENTENCE if arguments.input is None else arguments.input
    if os.path.isfile(sentence):
        raise ValueError(f"{sentence}: expected --weights with a file; without it, the argument is a sentence to read")
    words = example.words(sentence)
    if not words:
        raise ValueError(f"SENTENCE: expected words, got {sentence!r}")
    lstm = example.network(WIDTH, WIDTH, LAYERS, FORGET_BIAS)
    x = np.stack([example.embedded(word, WIDTH) for word in words])
    about = f"{_named(lstm)}, untrained: seed {SEED}, forget bias {FORGET_BIAS}"
    return f"{about}\n{len(words)} words, each a vector of length 1 from its letters", explained(lstm, x, words)


def _recorded(arguments: argparse.Namespace) -> tuple[str, Explained]:
    if arguments.input is None:
        raise ValueError("--weights: needs INPUT.npy as well, an array (T, I)")
    net = load_sequence(arguments.weights, arguments.prefix)
    lstm = net.layers[0] if isinstance(net, Stack) else net
    if not isinstance(lstm, LSTM):
        raise ValueError(f"{arguments.weights}: expected a network that begins with an LSTM, got {net!r}")
    x = read_input(arguments.input, net)
    if x.ndim != 2 or not len(x):
        raise ValueError(f"{arguments.input}: expected one sequence, shape (T, {lstm.input_size}), got {x.shape}")
    about = f"{_named(lstm)} of {arguments.weights}; {len(x)} steps of {arguments.input}"
    return about, explained(lstm, x, [str(t) for t in range(len(x))])


def _named(lstm: LSTM) -> str:
    layers = f"{lstm.num_layers} layer{'s' if lstm.num_layers > 1 else ''}"
    directions = ", both directions" if lstm.bidirectional else ""
    return f"LSTM {lstm.input_size} -> {lstm.hidden_size}, {layers}{directions}"


def _state(arguments: argparse.Namespace, shown: Explained) -> int:
    """The index of the layer and direction that was asked for."""
    layer: int = arguments.layer
    if not 0 <= layer < shown.lstm.num_layers:
        raise ValueError(f"--layer: expected 0..{shown.lstm.num_layers - 1}, got {layer}")
    if arguments.reverse and not shown.lstm.bidirectional:
        raise ValueError("--reverse: this model has one direction")
    return shown.directions * layer + int(arguments.reverse)


def _step(arguments: argparse.Namespace, shown: Explained) -> int:
    """The step that was asked for."""
    T = len(shown.steps)
    if arguments.word is not None:
        folded = [word.lower() for word in shown.steps]
        if arguments.weights or arguments.word.lower() not in folded:
            raise ValueError(f"--word: expected a word of the sentence, got {arguments.word!r}")
        return folded.index(arguments.word.lower())
    if arguments.step is None:
        return T // 2
    if not 0 <= arguments.step < T:
        raise ValueError(f"--step: expected 0..{T - 1}, got {arguments.step}")
    return int(arguments.step)


def _draw(arguments: argparse.Namespace, shown: Explained, step: int) -> list[str]:
    """Draw the pictures; their paths, with what each of them shows."""
    from lstmkernel.workbench.explain import flow, gates, grid

    panels = _flows(shown) if arguments.weights else example.experiment()
    pictures = {
        "gates": gates.draw_gates(shown),
        "grid": grid.draw_grid(shown, step),
        "gradient": flow.draw_flow(panels),
    }
    os.makedirs(arguments.png_dir, exist_ok=True)
    paths = {name: os.path.join(arguments.png_dir, f"{name}.png") for name in pictures}
    with ExitStack() as stack:
        for name, figure in pictures.items():
            figure.savefig(stack.enter_context(files.replacing(paths[name])), format="png", dpi=110, facecolor="white")
    return [f"{path} ({PICTURES[name]})" for name, path in paths.items()]


def _flows(shown: Explained) -> dict[str, example.Curves]:
    """Gradients of the model itself, over the last steps of its own input."""
    x, state = shown.x[-FLOW_STEPS:], None
    if len(x) < len(shown.x) and not shown.lstm.bidirectional:
        _, state = shown.lstm(shown.x[:-FLOW_STEPS])
    flow = gradient_flow(shown.lstm, x, state=state)
    return {shown.label(k): example.curves(flow, k, shown.reverse(k)) for k in range(len(flow.total))}
