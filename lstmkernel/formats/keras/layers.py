"""Keras's layers: which of them compute something, and which have no match in lstmkernel."""

from __future__ import annotations

from collections.abc import Sequence

from lstmkernel.formats.keras import activations
from lstmkernel.formats.keras.config import RECURRENT, KerasLayer

#: Layers that do nothing once a model is trained.
IDLE = (
    *("InputLayer", "Dropout", "SpatialDropout1D", "GaussianDropout", "AlphaDropout", "GaussianNoise"),
    "ActivityRegularization",
)
HEADS = ("Dense", "TimeDistributed")

_KNOWN = "LSTM, Bidirectional, RNN of LSTMCells, Dense, Activation, Softmax or Dropout"

#: What else there is that people take for an LSTM, and classes that compression puts around layers.
_WHY_NOT = {
    "GRU": "lstmkernel runs LSTMs",
    "SimpleRNN": "lstmkernel runs LSTMs",
    "ConvLSTM": "an LSTM of convolutions; lstmkernel runs LSTMs",
    "PruneLowMagnitude": "pruned while it learned: save tfmot.sparsity.keras.strip_pruning(model)",
    "ClusterWeights": "clustered while it learned: save tfmot.clustering.keras.strip_clustering(model)",
    "Quantize": "quantized: save the model before it is quantized",
}


def check_kinds(layers: Sequence[KerasLayer]) -> None:
    """Refuse the first layer that is not supported, by its name."""
    passing = ("Dense", *activations.LAYERS, *IDLE, "Masking")
    for layer in layers:
        if layer.kind in RECURRENT or layer.inside.kind in passing:
            continue
        if layer.kind == "TimeDistributed":
            raise ValueError(f"{layer}: expected a Dense inside, got {layer.inside}")
        raise ValueError(f"{layer}: expected {_KNOWN}{_why_not(layer)}")


def working(layers: Sequence[KerasLayer]) -> list[KerasLayer]:
    """The layers that compute something, in order; activation layers are joined to the Dense below them."""
    check_kinds(layers)
    found: list[KerasLayer] = []
    for layer in layers:
        if layer.kind in RECURRENT or layer.inside.kind == "Dense":
            found.append(layer)
        elif layer.inside.kind in activations.LAYERS:
            found = activations.folded(found, layer)
    if not found:
        raise ValueError("expected an LSTM or Dense among the layers, got none")
    return found


def _why_not(layer: KerasLayer) -> str:
    return next((f"; {why}" for name, why in _WHY_NOT.items() if name in layer.kind), "")
