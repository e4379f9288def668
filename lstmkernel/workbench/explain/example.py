"""The example of ``explain``: a telegram, its words as vectors, a small LSTM, and an experiment with gradients."""

from __future__ import annotations

import re
import zlib

import numpy as np

from lstmkernel.backends.packing import Array
from lstmkernel.gradient_flow import GradientFlow, gradient_flow
from lstmkernel.lstm import LSTM

SENTENCE = "Enemy forces will attack at dawn."
#: Of the example's network, which is so small that every number can be shown.
WIDTH, LAYERS, FORGET_BIAS, SEED = 4, 3, 1, 0

#: Of the experiment: steps, units, inputs, and the forget biases that are compared.
STEPS, UNITS, INPUTS, BIASES = 200, 32, 8, (0, 1, 3)
#: With its recurrent weights times this, the plain RNN's gradient explodes instead of vanishing.
LOUDER = 4

#: Sizes of gradients by their names; each array starts at the last step and goes back step by step.
Curves = dict[str, Array]


def words(sentence: str) -> list[str]:
    """Words and punctuation marks, in order."""
    return re.findall(r"\w+|[^\w\s]", sentence)


def embedded(word: str, size: int) -> Array:
    """A random vector of length 1, seeded by the CRC-32 of the word's letters in lower case."""
    drawn = np.random.default_rng(zlib.crc32(word.lower().encode())).standard_normal(size)
    return drawn / np.linalg.norm(drawn)


def network(input_size: int, hidden_size: int, layers: int, forget_bias: float, recurrent: float = 1) -> LSTM:
    """An untrained LSTM with PyTorch's initial weights from SEED; the recurrent ones are multiplied by ``recurrent``.

    The two biases of gate f sum to forget_bias.
    """
    lstm = LSTM(input_size, hidden_size, layers, seed=SEED)
    named = {name: value.copy() for name, value in lstm.state_dict().items()}
    forget = slice(hidden_size, 2 * hidden_size)
    for layer in range(layers):
        named[f"bias_ih_l{layer}"][forget] = forget_bias
        named[f"bias_hh_l{layer}"][forget] = 0
        named[f"weight_hh_l{layer}"] *= recurrent
    lstm.load_state_dict(named)
    return lstm


def experiment() -> dict[str, Curves]:
    """Gradient flow over STEPS steps of noise for each forget bias, and the same plain RNN beside each."""
    x = np.random.default_rng(SEED).standard_normal((STEPS + 1, INPUTS))
    louder = gradient_flow(network(INPUTS, UNITS, 1, 0, LOUDER), x)
    panels = {}
    for bias in BIASES:
        found = curves(gradient_flow(network(INPUTS, UNITS, 1, bias), x), 0, reverse=False)
        found[f"plain RNN, recurrent weights \N{MULTIPLICATION SIGN} {LOUDER}"] = louder.rnn[0, ::-1]
        panels[f"forget bias {bias}"] = found
    return panels


def curves(flow: GradientFlow, k: int, reverse: bool) -> Curves:
    """The curves of layer and direction k. flow: unbatched, from the last step back."""
    back = slice(None, None, 1 if reverse else -1)
    return {
        "LSTM, in total": flow.total[k, back],
        "straight road: product of forget gates": flow.straight[k, back],
        "other ways, through h": flow.other[k, back],
        "plain RNN, the weights of gate g": flow.rnn[k, back],
    }
