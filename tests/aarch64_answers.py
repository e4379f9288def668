"""For aarch64.sh: a digest of the bits of each of many answers, a line each.

All inputs and weights are small integers over a power of two. So they do not depend on NumPy's own rounding.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from networks import NETWORKS

import lstmkernel as lk
from lstmkernel.host import cores

#: Steps and rows.
SHAPES = [(1, 1), (7, 1), (9, 5), (3, 40), (2, 130)]


def exact(random: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Numbers in -1..1."""
    return (random.integers(-(2**18), 2**18, shape) / 2**18).astype(dtype)


def weighted(net: Any, random: np.random.Generator) -> Any:
    shapes = net.parameter_shapes()
    net.load_state_dict({name: exact(random, shape, net.dtype) / 2 for name, shape in shapes.items()})
    return net


def answers() -> Iterator[tuple[str, Iterable[np.ndarray]]]:
    """A name, and arrays."""
    for dtype in ("float32", "float64"):
        for name, arguments in NETWORKS.items():
            random = np.random.default_rng(7)
            lstm = weighted(lk.LSTM(**arguments, dtype=dtype, backend="c", num_threads=2, seed=0), random)
            for T, B in SHAPES:
                x = exact(random, (B, T, lstm.input_size) if lstm.batch_first else (T, B, lstm.input_size), dtype)
                lengths = random.integers(0, T + 1, B)
                for given in (None, lengths):
                    out, states = lstm(x, lengths=given)
                    yield f"{dtype} {name} {T} {B} {given is not None}", (out, *states)
                if lstm.variant is None and not lstm.reverse:
                    out, states, tape = lstm.forward(x, lengths=lengths)
                    gradients = lstm.backward(tape, x[..., :1] * np.ones_like(out))
                    yield f"{dtype} {name} {T} {B} gradients", (out, *states, *gradients.values())
        for activation in ("linear", "tanh", "sigmoid", "relu"):
            for K, O in [(3, 2), (33, 70)]:
                random = np.random.default_rng(8)
                dense = weighted(lk.Dense(K, O, activation, dtype=dtype, backend="c", seed=0), random)
                yield f"{dtype} dense {K} {O} {activation}", (dense(exact(random, (40, K), dtype)),)


def main() -> None:
    cores.available = lambda: 2
    print(lk.LSTM(1, 1, backend="c").backend, lk.__file__, file=sys.stderr)
    for name, arrays in answers():
        bits = b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)
        print(hashlib.sha256(bits).hexdigest()[:16], name)


if __name__ == "__main__":
    main()
