"""Quantizing a chain for data of the caller's: what was asked for, the weights, their certificate, the bound."""

from __future__ import annotations

from math import isfinite
from typing import Any, NamedTuple

import numpy as np

from lstmkernel.certificate import Certificate
from lstmkernel.engine import calibration, calibration_data, fewest_bits, measured_error
from lstmkernel.engine import precision as bits
from lstmkernel.engine.chain import Chain
from lstmkernel.engine.fewest_bits import Trial
from lstmkernel.engine.precision import Precision, Precisions, require_float32
from lstmkernel.host.progress import progress

AUTO = "auto"


class Asked(NamedTuple):
    """The arguments of ``quantize``, checked."""

    precision: Precision | None  # None: the fewest bits within max_error
    calibrate: Any = None
    max_error: float | None = None


def asked(precision: Any, activations: Any, calibrate: Any, weights: Any, max_error: Any) -> Asked:
    """Raises TypeError and ValueError for arguments that are wrong, or that do not go together."""
    bound = None if max_error is None else _bound(max_error)
    if bound is not None and calibrate is None:
        raise ValueError("max_error: expected calibrate= beside it, the data on which the error is measured")
    if weights is None:
        return Asked(bits.checked(precision, activations), calibrate, bound)
    if not isinstance(weights, str) or weights != AUTO:
        raise ValueError(f"weights: expected 'auto' or None, got {repr(weights)[:100]}; precision= names a precision")
    for name, value in (("precision", precision), ("activations", activations)):
        if value is not None:
            raise ValueError(f"{name}: expected None with weights='auto', which chooses it, got {repr(value)[:100]}")
    if calibrate is None or bound is None:
        raise ValueError("weights: expected calibrate= and max_error= beside 'auto', to choose by them")
    return Asked(None, calibrate, bound)


def _bound(max_error: Any) -> float:
    if isinstance(max_error, bool) or not isinstance(max_error, int | float | np.floating):
        raise TypeError(f"max_error: expected a number, got {type(max_error).__name__}")
    if not (isfinite(max_error) and max_error > 0):
        raise ValueError(f"max_error: expected a finite number above 0, got {max_error}")
    return float(max_error)


def for_data(chain: Chain, asked: Asked, name: str) -> Chain:
    """The chain, quantized as asked for, with its certificate. name: of the network, for the reader of that."""
    for network in chain.networks:
        require_float32(network.dtype, "to quantize it", "save it, and load(path, dtype='float32') gives it in float32")
    data = calibration_data.checked(asked.calibrate, chain)

    def attempt(choice: Precisions) -> Trial:
        total = calibration.steps_to_run(choice, data) + data.steps
        held_back = asked.precision is None or asked.precision.is_int8
        with progress(f"lstmkernel: quantizing {name}", total) as advance:
            narrow = calibration.quantized(chain, choice, data, advance)
            return Trial(narrow, measured_error.certificate(name, chain, narrow, data, held_back, advance))

    if asked.precision is None:
        assert asked.max_error is not None
        return _certified(fewest_bits.fewest_bits(chain, asked.max_error, attempt))
    trial = attempt((asked.precision,) * sum(network.shape.num_layers for network in chain.networks))
    largest = trial.certificate.out.largest
    if asked.max_error is not None and largest > asked.max_error:
        raise ValueError(
            f"max_error: expected an error of out of at most {asked.max_error:g}, got {largest:.3g} (rms "
            f"{trial.certificate.out.rms:.3g}) with {asked.precision}; weights='auto' in its place chooses more bits"
        )
    return _certified(trial)


def _certified(trial: Trial) -> Chain:
    """The chain of a trial. Its first network holds the certificate."""
    layers = list(trial.chain.layers)
    first = trial.chain.networks[0]
    layers[layers.index(first)] = first.noted(first.options.notes._replace(certificate=trial.certificate))
    return Chain(layers, trial.chain.skip)


def certificate_of(chain: Chain) -> Certificate | None:
    """The certificate that a network of the chain holds, if it was made of this chain with these weights."""
    held = [network.options.notes.certificate for network in chain.networks]
    known: list[Certificate] = [certificate for certificate in held if certificate is not None]
    if not known:
        return None
    weights = measured_error.weights_digest(chain)
    return next((certificate for certificate in known if certificate.weights == weights), None)
