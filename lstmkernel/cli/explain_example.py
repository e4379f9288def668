"""What ``explain`` shows where nothing is given: a telegram, words as vectors, a small LSTM, and an experiment."""

from __future__ import annotations

import re
import zlib

import numpy as np

from lstmkernel.backends.packing import Array
from lstmkernel.gradient_flow import GradientFlow, gradient_flow
from lstmkernel.lstm import LSTM

SENTENCE = "Enemy forces will attack at dawn."
#: Of the example: small, so that every number can be shown.
WIDTH, LAYERS, FORGET_BIAS, SEED = 4, 3, 1, 0

#: Of the experiment: how far the gradient flows, with which forget biases.
STEPS, UNITS, INPUTS, BIASES = 200, 32, 8, (0, 1, 3)
#: What makes the same plain RNN's gradient explode instead of vanish, as a factor of its recurrent weights.
LOUDER = 4

#: Sizes by their names, each over the steps back from the one where the gradient starts: 0, 1, 2 ...
Curves = dict[str, Array]


def words(sentence: str) -> list[str]:
    """Words and punctuation marks, in order."""
    return re.findall(r"\w+|[^\w\s]", sentence)


def embedded(word: str, size: int) -> Array:
    """A vector of length 1, always the same for the same letters in either case: random, from their CRC-32."""
    drawn = np.random.default_rng(zlib.crc32(word.lower().encode())).standard_normal(size)
    return drawn / np.linalg.norm(drawn)


def network(input_size: int, hidden_size: int, layers: int, forget_bias: float, recurrent: float = 1) -> LSTM:
    """An untrained LSTM: PyTorch's initial weights from SEED, recurrent ones times ``recurrent``.

    Gate f's two biases sum to forget_bias.
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
    """Gradient flow over STEPS steps of noise, for each forget bias; the same RNN beside each."""
    x = np.random.default_rng(SEED).standard_normal((STEPS + 1, INPUTS))
    louder = gradient_flow(network(INPUTS, UNITS, 1, 0, LOUDER), x)
    panels = {}
    for bias in BIASES:
        found = curves(gradient_flow(network(INPUTS, UNITS, 1, bias), x), 0, reverse=False)
        found[f"plain RNN, recurrent weights x {LOUDER}"] = louder.rnn[0, ::-1]
        panels[f"forget bias {bias}"] = found
    return panels


def curves(flow: GradientFlow, k: int, reverse: bool) -> Curves:
    """Layer and direction k of an unbatched flow that starts at its last step."""
    back = slice(None, None, 1 if reverse else -1)
    return {
        "LSTM, in total": flow.total[k, back],
        "straight road: product of forget gates": flow.straight[k, back],
        "other ways, through h": flow.other[k, back],
        "plain RNN, the weights of gate g": flow.rnn[k, back],
    }
