"""What is inside a file of weights, without loading it."""

from __future__ import annotations

from typing import NamedTuple


class Tensor(NamedTuple):
    """A named array of a file; dtype by NumPy's names, or "bfloat16" or the format's own name where NumPy has none."""

    name: str
    shape: tuple[int, ...]
    dtype: str


class Network(NamedTuple):
    """What ``load(path, prefix=prefix)`` gives, in words; the prefix "" is the whole file."""

    prefix: str
    description: str


class Contents(NamedTuple):
    """What ``lstmkernel.inspect`` found."""

    format: str  # "safetensors", "PyTorch zip", ...
    tensors: list[Tensor]
    networks: list[Network]
    notes: list[str]  # what else the user should know, a sentence each
    sample_rate: float | None = None  # Hz, of the audio that the network was made for, where the file says so
