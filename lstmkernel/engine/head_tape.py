"""The forward and backward pass of a dense layer, in NumPy: a head takes little time beside the LSTMs below it."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from lstmkernel.backends.large import MOST_COPIED, slices
from lstmkernel.backends.packing import Array
from lstmkernel.engine import arguments
from lstmkernel.engine.fingerprint import fingerprint
from lstmkernel.engine.head import Head


class HeadTape:
    """What ``Dense.forward`` kept of one call, for ``Dense.backward``: x itself, and y."""

    def __init__(self, head: Head, x: Array, y: Array) -> None:
        self.head, self.x, self.y = head, x, y
        self.fingerprint = fingerprint(x)

    @property
    def nbytes(self) -> int:
        """Bytes that the tape holds, without x."""
        return self.y.nbytes

    def check_x(self) -> None:
        """Raises ValueError if the caller wrote to x since."""
        if not np.array_equal(fingerprint(self.x), self.fingerprint):
            raise ValueError("x: expected the numbers that forward had, got others: give forward a copy")

    def __repr__(self) -> str:
        head = self.head
        return f"HeadTape(of Dense({head.input_size}, {head.out_features}), x {self.x.shape}, {self.nbytes} bytes)"


def record(head: Head, x: ArrayLike) -> tuple[Array, HeadTape]:
    """y (..., O) and the tape of x (..., K). y belongs to the caller."""
    kept = np.ascontiguousarray(arguments.real("x", x, head.dtype))
    y = head(kept)
    return y, HeadTape(head, kept, y.copy())


def backward(tape: HeadTape, d_y: ArrayLike) -> dict[str, Array]:
    """As ``Dense.backward`` says."""
    tape.check_x()
    head = tape.head
    given = arguments.real("d_y", d_y, head.dtype)
    arguments.shape("d_y", given, tape.y.shape, "of y")
    rows = [np.ascontiguousarray(a).reshape(-1, a.shape[-1]) for a in (tape.x, tape.y, given)]
    weight = head.parameters["weight"]
    d_weight, d_bias = np.zeros_like(weight), np.zeros(head.out_features, head.dtype)
    d_x = np.empty(tape.x.shape, head.dtype)
    d_rows = d_x.reshape(-1, head.input_size)
    for part in slices(len(d_rows), MOST_COPIED // (head.input_size + head.out_features)):
        x, y, d = (array[part] for array in rows)
        d_z = _through_activation(head.activation, y, d)
        d_weight += d_z.T @ x
        d_bias += d_z.sum(axis=0)
        np.matmul(d_z, weight, out=d_rows[part])
    return {"weight": d_weight, **({"bias": d_bias} if "bias" in head.parameters else {}), "x": d_x}


def _through_activation(activation: str, y: Array, d: Array) -> Array:
    """dL/dz from y = activation(z) and d = dL/dy, both (N, O)."""
    if activation == "tanh":
        found = d * (1 - y * y)
    elif activation == "sigmoid":
        found = d * (y * (1 - y))
    elif activation == "relu":
        found = np.where(y > 0, d, 0)
    elif activation == "softmax":
        found = y * (d - (d * y).sum(axis=1, keepdims=True))
    else:
        found = d
    return np.asarray(found, y.dtype)
