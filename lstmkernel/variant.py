"""Variant: what a layer computes, if it is not the plain LSTM."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import inf, isfinite
from numbers import Real
from typing import Any, Literal

from lstmkernel.backends.contract import VARIANT_ACTIVATIONS
from lstmkernel.backends.packing import Array, LayerVariant

#: A name, or a name and the numbers alpha and beta that it takes.
Activation = str | tuple[str, float] | tuple[str, float, float]

_PLACES = ("gates", "candidate", "output")


@dataclass(frozen=True)
class Variant:
    """Options of layers in model files that the plain LSTM does not have; docs/lstm.md has the formulas.

    Parameters
    ----------
    peephole
        Whether the gates i and f also see c_{t-1}, and o sees c_t, each unit its own (Gers and Schmidhuber 2000). The
        weights are ``weight_peephole_l0`` (3, H), in the order i, f, o; ONNX's order is i, o, f.
    gate_clip
        The input of each gate's and the candidate's activation is first clipped to [-gate_clip, gate_clip]: ONNX's
        ``clip``, as in ONNX Runtime, which does not clip c_t before h_t. None for no clipping.
    cell_clip
        c_t is clipped to [-cell_clip, cell_clip] right after the update, before the output gate and the output see it:
        TensorFlow's ``cell_clip``. None for no clipping.
    coupled
        "forget": the forget gate is 1 - i (ONNX's ``input_forget``); "input": the input gate is 1 - f. The weights of a
        coupled gate are stored but ignored. None: each gate has its own weights.
    activations
        For the gates, the candidate and the output, as ONNX's f, g and h; or six, the last three for the backward
        direction. Each is a name, or a name with the numbers that it takes. The default numbers are ONNX's:
        "sigmoid", "tanh", "relu", "linear", "softsign", "softplus", ("affine", 1, 0), ("scaled_tanh", 1, 1),
        ("hard_sigmoid", 0.2, 0.5), ("leaky_relu", 0.01), ("thresholded_relu", 1), ("elu", 1). Keras 2's hard_sigmoid
        is ("hard_sigmoid", 0.2, 0.5), Keras 3's ("hard_sigmoid", 1 / 6, 0.5).

    Raises ValueError for an unknown name or a number out of range, and TypeError for anything that is not a number.
    """

    peephole: bool = False
    gate_clip: float | None = None
    cell_clip: float | None = None
    coupled: Literal["forget", "input"] | None = None
    activations: Sequence[Activation] = ("sigmoid", "tanh", "tanh")

    def __post_init__(self) -> None:
        checked = {
            "peephole": bool(self.peephole),
            "gate_clip": _clip("gate_clip", self.gate_clip),
            "cell_clip": _clip("cell_clip", self.cell_clip),
            "activations": _activations(self.activations),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)
        if self.coupled not in (None, "forget", "input"):
            raise ValueError(f"coupled: expected None, 'forget' or 'input', got {self.coupled!r}")

    @classmethod
    def of(cls, value: Any) -> Variant | None:
        """``value`` as a Variant; it may be the result of ``to_dict``. None if it describes the plain LSTM."""
        if isinstance(value, Mapping):
            value = cls(**value)
        if value is not None and not isinstance(value, cls):
            raise TypeError(f"variant: expected a Variant or None, got {type(value).__name__}")
        return None if value == cls() else value

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    def in_direction(self, direction: int, peephole: Array | None) -> LayerVariant:
        """The variant as the kernels take it, for one layer and direction. peephole: its weights (3, H)."""
        of_direction = self.activations[3 * direction :] or self.activations
        gates, candidate, output = (_with_numbers(activation) for activation in of_direction[:3])
        return LayerVariant(
            gates, candidate, output, self.gate_clip or inf, self.cell_clip or inf, self.coupled, peephole
        )


def _clip(name: str, value: Any) -> float | None:
    if value is None:
        return None
    number = _number(name, value)
    if number <= 0:
        raise ValueError(f"{name}: expected more than 0, or None for no clipping, got {value!r}")
    return number


def _activations(given: Any) -> tuple[Activation, ...]:
    if isinstance(given, str) or not isinstance(given, Sequence) or len(given) not in (3, 6):
        meaning = "of the gates, the candidate and the output, or as many again for the backward direction"
        raise ValueError(f"activations: expected three, {meaning}, got {given!r}")
    checked = tuple(_activation(f"activations[{place}]", value) for place, value in enumerate(given))
    return checked[:3] if checked[:3] == checked[3:] else checked


def _activation(place: str, value: Any) -> Activation:
    """A name that takes no numbers, or a tuple of the name and all its numbers."""
    name, *numbers = (value,) if isinstance(value, str) else value if isinstance(value, Sequence) else (None,)
    if not isinstance(name, str) or name not in VARIANT_ACTIVATIONS:
        raise ValueError(f"{place}: expected one of {', '.join(VARIANT_ACTIVATIONS)}, got {value!r}")
    defaults = VARIANT_ACTIVATIONS[name]
    if len(numbers) > len(defaults):
        raise ValueError(f"{place}: expected at most {len(defaults)} numbers with {name!r}, got {value!r}")
    alpha_beta = [_number(f"{place}, {name}", number) for number in numbers] + list(defaults[len(numbers) :])
    return (name, *alpha_beta) if alpha_beta else name  # type: ignore[return-value]


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name}: expected a number, got {value!r}")
    if not isfinite(value):
        raise ValueError(f"{name}: expected a finite number, got {value!r}")
    return float(value)


def _with_numbers(activation: Activation) -> tuple[str, float, float]:
    name, *numbers = (activation,) if isinstance(activation, str) else activation
    alpha, beta = [*numbers, 0.0, 0.0][:2]
    return name, alpha, beta
