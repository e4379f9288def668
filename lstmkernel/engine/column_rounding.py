"""Rounding a matrix column by column, where the columns to come make good the error so far.

The method is GPTQ (Frantar, Ashkboos, Hoefler, Alistarh, "GPTQ: Accurate post-training quantization for generative
pre-trained transformers", 2022, arXiv:2210.17323). Each row w of the matrix becomes integers q times a scale s, so that
(w - q s) S (w - q s)^T is small, where S are the second moments of the row's inputs. With the upper triangular U of
S^-1 = U^T U, the error of column j, divided by U[j, j], is taken from every column k > j, times U[j, k].

Order: the columns with the largest moments first, as the authors' code has it (``act_order``): then most columns are
left to make good. Damping: a part of the mean moment is added to each column's own, as there (``percdamp``), because S
comes from few steps, and would be fitted too closely. They add 0.01; 0.02 is better on the Silero network's 750 steps.
"""

from __future__ import annotations

import numpy as np

from lstmkernel.backends.packing import Array
from lstmkernel.engine.precision import MOST_INT8

#: What is added to the moment of each column, in means of all columns'.
DAMPING = 0.02

#: Columns whose errors are taken from the others at once, by one product of matrices.
BLOCK = 64


def rounded(weight: Array, scale: Array, moments: Array) -> Array:
    """int8 (rows, K) of a weight (rows, K), for scales (rows, K) and moments (K, K), all float64. A scale of 0 gives 0.

    The same arguments give the same integers on one machine. The BLAS of another one may sum in another order.
    """
    order = np.argsort(-np.diag(moments), kind="stable")
    factor = _factor(moments[np.ix_(order, order)])
    left, scale = weight.T[order], scale.T[order]  # by column: each is contiguous
    values = np.empty(left.shape, np.int8)
    for start in range(0, len(left), BLOCK):
        stop = min(start + BLOCK, len(left))
        errors = _round_block(left, scale, factor, values, start, stop)
        left[stop:] -= factor[start:stop, stop:].T @ errors
    found = np.empty(weight.shape, np.int8)
    found[:, order] = values.T
    return found


def _round_block(left: Array, scale: Array, factor: Array, values: Array, start: int, stop: int) -> Array:
    """Round columns start..stop - 1 of ``left`` (K, rows) to ``values``; their errors, as others are to take them."""
    errors = np.empty((stop - start, left.shape[1]))
    for j in range(start, stop):
        wanted = np.divide(left[j], scale[j], out=np.zeros_like(left[j]), where=scale[j] > 0)
        values[j] = np.clip(np.rint(wanted), -MOST_INT8, MOST_INT8)
        error = errors[j - start] = (left[j] - values[j] * scale[j]) / factor[j, j]
        left[j + 1 : stop] -= np.outer(factor[j, j + 1 : stop], error)
    return errors


def _factor(moments: Array) -> Array:
    """U (K, K), upper triangular, of the damped moments: (S + damping)^-1 = U^T U.

    S, read from its end, is L L^T; then L^-1, read from its end, is U. So only a triangular matrix is inverted.
    """
    mean = float(np.mean(np.diag(moments)))
    K = len(moments)
    scaled = moments / mean if mean > 0 else np.zeros((K, K))  # inputs that are always 0: plain rounding
    lower = np.linalg.cholesky((scaled + DAMPING * np.eye(K))[::-1, ::-1])
    found: Array = np.linalg.solve(lower, np.eye(K))[::-1, ::-1]
    return found
