"""What ``lstmkernel.inspect`` returns: what is inside a file of weights, without loading it."""

from __future__ import annotations

from typing import NamedTuple, Protocol


class Shaped(Protocol):
    """An array, or the description of one."""

    @property
    def shape(self) -> tuple[int, ...]: ...


class Tensor(NamedTuple):
    """A named array of a file.

    ``dtype`` is a name of NumPy's, or "bfloat16", or the format's own name where NumPy has no such dtype.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str


class LoadableNetwork(NamedTuple):
    """What ``load(path, prefix=prefix)`` gives, in words; the prefix "" is the whole file."""

    prefix: str
    description: str


class Contents(NamedTuple):
    """What ``lstmkernel.inspect`` found. It prints as a list of networks, notes and tensors."""

    format: str  # "safetensors", "PyTorch (.pt, .pth)", ...
    tensors: list[Tensor]
    networks: list[LoadableNetwork]
    notes: list[str]  # what else the user should know, a sentence each
    sample_rate: float | None = None  # Hz, of the audio that the network was made for, where the file says so

    def __repr__(self) -> str:
        lines = [f"{self.format}, {len(self.tensors)} tensors"]
        for prefix, description in self.networks:
            lines.append(f"network {f'prefix={prefix!r}' if prefix else '(whole file)'}: {description}")
        lines += [] if self.networks else ["no network that can be loaded"]
        lines += [f"note: {note}" for note in self.notes]
        lines += [f"tensor {name}: {dtype} {shape}" for name, shape, dtype in self.tensors]
        return "\n".join(line if line.isprintable() else repr(line)[1:-1] for line in lines)  # names are the file's
