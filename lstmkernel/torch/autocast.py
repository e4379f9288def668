"""``torch.autocast``: its other modules hand on numbers of 16 bits, and expect such numbers.

The kernels compute in the dtype of the weights. As from ``torch.nn.LSTM``, results have the dtype that x and the first
states have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import reduce
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

LOWER = (torch.bfloat16, torch.float16)


def run(module: Callable[[Any, Any], Any], x: Any, hx: Any, own: torch.dtype) -> Any:
    """``module(x, hx)``, which computes in its ``own`` dtype; x and hx may have 16 bits where autocast is on."""
    if not torch.is_autocast_enabled("cpu"):
        return module(x, hx)
    dtypes = [tensor.dtype for tensor in _tensors((x, hx))]
    if not set(dtypes) & {*LOWER}:
        return module(x, hx)
    results = module(_cast(x, LOWER, own), _cast(hx, LOWER, own))
    common = reduce(torch.promote_types, dtypes)
    return _cast(results, (own,), common) if common in LOWER else results


def _tensors(values: Any) -> Iterator[Tensor]:
    """Those inside tuples; the data of a PackedSequence."""
    if isinstance(values, PackedSequence):
        yield values.data
    elif isinstance(values, tuple | list):
        for value in values:
            yield from _tensors(value)
    elif isinstance(values, Tensor):
        yield values


def _cast(values: Any, old: tuple[torch.dtype, ...], new: torch.dtype) -> Any:
    """The same structure; tensors of the ``old`` dtypes become ``new``."""
    if isinstance(values, PackedSequence):
        return values._replace(data=_cast(values.data, old, new))
    if isinstance(values, tuple | list):
        return tuple(_cast(value, old, new) for value in values)
    return values.to(new) if isinstance(values, Tensor) and values.dtype in old else values
