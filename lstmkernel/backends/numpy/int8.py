"""The definition of 8-bit weights: integers in place of numbers, and sums of integers, which are exact.

A row of K inputs becomes integers: q = rint(x * (levels / a)), where the amplitude a is the largest |x| of that row. h
of a plain LSTM is at most 1 after its first step, and gets a = 1. The sum over k is cut into parts, whose sums of q * w
fit 32 bits, and becomes a number part by part:

    z = z + (float32(sum) * a) * (scale / levels)

Each operation rounds once, to float32. See csrc/kernels/quantized.h, which computes the same bits.
"""

from __future__ import annotations

import numpy as np

from lstmkernel.backends.large import slices
from lstmkernel.backends.packing import Array, PackedScales, part_inputs

#: o * tanh(c) may round to a little more than 1. Up to this, the amplitude is 1.
NEARLY_ONE = np.float32(1 + 2.0**-17)

#: A smaller amplitude counts as 0, and so do its numbers.
LEAST_AMPLITUDE = np.float32(2.0**-100)


def quantize_rows(x: Array, levels: int, bounded: bool) -> tuple[Array, Array]:
    """Integers (N, K), as float64, and amplitudes (N,) of x (N, K) float32. bounded: |x| is mostly at most 1."""
    largest = np.abs(x).max(axis=1, initial=0)
    amplitude = np.where(np.isfinite(largest), largest, np.float32(np.nan))
    amplitude[largest < LEAST_AMPLITUDE] = 0
    if bounded:
        amplitude[largest <= NEARLY_ONE] = 1
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        factor = np.where(amplitude > 0, np.float32(levels) / amplitude, np.float32(0))
        return np.nan_to_num(np.rint(x * factor[:, None]).astype(np.float64)), amplitude


def add_product(z: Array, x: Array, w: Array, scales: PackedScales, levels: int, bounded: bool) -> None:
    """z (N, rows) += x (N, K) times a packed matrix, where a block is the whole layer (lanes = H)."""
    values, amplitude = quantize_rows(x, levels, bounded)
    (_, K), rows = x.shape, z.shape[1]
    scale = scales.scale.reshape(-1)[:rows]
    matrix = w.transpose(0, 1, 4, 2, 3).reshape(w.shape[1] * 4, -1)[:K, :rows]
    for part in slices(K, part_inputs(levels)):
        total = values[:, part] @ matrix[part].astype(np.float64)  # exact: float64 has all integers below 2^53
        z += (total.astype(np.float32) * amplitude[:, None]) * scale
