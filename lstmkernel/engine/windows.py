"""Every window of a recording. A window is a view of the recording: the kernels take rows that overlap."""

from __future__ import annotations

from collections.abc import Iterator
from typing import SupportsIndex

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import ArrayLike

from lstmkernel.backends.large import slices
from lstmkernel.backends.packing import Array
from lstmkernel.engine import arguments, inputs
from lstmkernel.engine.blocks import Blocks
from lstmkernel.engine.chain import Chain
from lstmkernel.engine.last import of_rows
from lstmkernel.engine.network import Network
from lstmkernel.host.progress import progress

Place = tuple[slice | int, slice | int]


def windows(
    engine: Network | Chain, x: ArrayLike, length: SupportsIndex, stride: SupportsIndex, out: Array | None
) -> Array:
    """As ``Model.windows`` says."""
    chain, steps, apart = Chain.of(engine), arguments.size("length", length), arguments.size("stride", stride)
    recording, batched = inputs.steps_of(chain, x)
    T, B, I = recording.shape
    if steps > T:
        raise ValueError(f"x: expected at least length = {steps} time steps, got {T}")
    count = (T - steps) // apart + 1
    step, row, number = recording.strides
    grid = as_strided(recording, (steps, count, B, I), (step, apart * step, row, number), writeable=False)
    by_row = batched and chain.batch_first
    shape = ((B, count) if by_row else (count, B) if batched else (count,)) + (chain.out_features,)
    if out is None:
        written = out = np.empty(shape, chain.dtype)
    else:
        weights = [item for layer in chain.layers for item in layer.parameters.items()]
        written = arguments.output(out, shape, chain.dtype, [("x", x), ("x", recording), *weights])
    by_window, blocks = inputs.as_steps(chain, written, batched), Blocks(chain)
    with progress("lstmkernel: windows", count * B) as advance:
        for place in _places(count, B, blocks.cut(steps).rows):
            rows = grid[(slice(None), *place)]
            by_window[place] = of_rows(chain, rows, blocks.first_states(rows.shape[1]), None)
            advance(rows.shape[1])
    return out


def _places(count: int, B: int, most: int) -> Iterator[Place]:
    """Windows that run together: neighbours of one row, or the same one of several rows, at most so many."""
    if count >= B:
        for b in range(B):
            for some in slices(count, most):
                yield some, b
    else:
        for window in range(count):
            for some in slices(B, most):
                yield window, some
