"""``.pt`` and ``.pth``: a state_dict or a checkpoint as ``torch.save`` writes it, read without PyTorch.

The file is a zip: ``data.pkl`` describes the tensors (``unpickle.py``); ``data/0``, ``data/1`` ... hold their elements.
"""

from __future__ import annotations

import os
from functools import cache
from typing import Any, Literal, NamedTuple

import numpy as np

from lstmkernel.backends.packing import Array
from lstmkernel.formats.contract import Options
from lstmkernel.formats.inspection import Contents, Tensor
from lstmkernel.formats.pytorch import state_dict, unpickle
from lstmkernel.formats.pytorch.unpickle import Storage, StoredTensor
from lstmkernel.formats.untrusted import archive, limits
from lstmkernel.formats.untrusted.archive import Archive
from lstmkernel.formats.untrusted.raw_tensors import as_array
from lstmkernel.lstm import LSTM
from lstmkernel.stack import Stack

NAME = "PyTorch (.pt, .pth)"
SUFFIXES: tuple[str, ...] = (".pt", ".pth")

#: The versions of PyTorch's file format that this reader knows.
VERSIONS = range(1, 11)

#: Bounds on the tree of containers. One container can stand in several others, so a small file can make a huge tree.
MOST_TENSORS = 50_000
MOST_NODES = 500_000
MOST_DEPTH = 32
MOST_NAME = 500


class _Checkpoint(NamedTuple):
    root: str  # the folder in the zip, with its slash
    byte_order: Literal["<", ">"]
    stored: dict[str, StoredTensor]
    others: list[str]  # the names of values that are not tensors

    @property
    def tensors(self) -> list[Tensor]:
        return [Tensor(name, tensor.shape, tensor.storage.dtype) for name, tensor in self.stored.items()]


def recognises(path: str, head: bytes) -> bool:
    """A zip with a pickle in it, or a pickle alone, which older versions wrote."""
    if head.startswith(archive.MAGIC):
        first = head[30 : 30 + int.from_bytes(head[26:28], "little")]  # all that a broken zip shows
        return first.endswith(b"/data.pkl") or any(name.endswith("data.pkl") for name in archive.names(path))
    return head[:1] == b"\x80" and head[1:2] in (b"\2", b"\3", b"\4", b"\5")


def inspect(path: str) -> Contents:
    with _opened(path) as zip_file:
        checkpoint = _checkpoint(zip_file)
    return state_dict.contents(NAME, checkpoint.tensors, checkpoint.others)


def load(path: str, prefix: str | None, options: Options) -> LSTM | Stack:
    size, taken = os.path.getsize(path), 0
    with _opened(path) as zip_file:
        checkpoint = _checkpoint(zip_file)

        @cache  # several tensors can share a storage: with cuDNN, all weights of an LSTM do
        def elements(storage: Storage) -> Array:
            whole = Tensor(f"storage {storage.key}", (storage.elements,), storage.dtype)
            return as_array(whole, zip_file.read(f"{checkpoint.root}data/{storage.key}"), checkpoint.byte_order)

        def read(tensor: Tensor) -> Array:
            nonlocal taken
            stored = checkpoint.stored[tensor.name]
            values = elements(stored.storage)
            taken += int(np.prod(stored.shape)) * values.itemsize
            limits.check("tensors that share storages", taken, size)
            strides = [stride * values.itemsize for stride in stored.strides]
            return np.lib.stride_tricks.as_strided(values[stored.offset :], stored.shape, strides, writeable=False)

        return state_dict.load(checkpoint.tensors, read, prefix, options)


def _opened(path: str) -> Any:
    with open(path, "rb") as file:
        if file.read(1) == b"\x80":
            raise ValueError(
                "expected a zip, got a bare pickle, as PyTorch before 1.6 and other programs write it; in PyTorch, "
                "torch.save(torch.load(old, weights_only=True), new) converts the file"
            )
    return archive.opened(path)


def _checkpoint(zip_file: Archive) -> _Checkpoint:
    names = zip_file.sizes
    if any(name.endswith("/constants.pkl") or "/code/" in name for name in names):
        raise ValueError(
            "expected a state_dict, got TorchScript, which is a program; in PyTorch, "
            "torch.save(torch.jit.load(old).state_dict(), new) saves its weights"
        )
    roots = [name.removesuffix("data.pkl") for name in names if name.endswith("/data.pkl")]
    if len(roots) != 1:
        raise ValueError(f"zip: expected one data.pkl in one folder, got {len(roots)}")
    root = roots[0]
    version = _record(zip_file, f"{root}version", "3")
    if not version.isdecimal() or int(version) not in VERSIONS:
        raise ValueError(f"version: expected {VERSIONS[0]} to {VERSIONS[-1]}, got {version[:20]!r}")
    order = _record(zip_file, f"{root}byteorder", "little")
    if order not in ("little", "big"):
        raise ValueError(f"byteorder: expected little or big, got {order[:20]!r}")
    if names[f"{root}data.pkl"] > unpickle.MOST_BYTES:
        raise ValueError(f"data.pkl: expected at most {unpickle.MOST_BYTES} bytes, got {names[f'{root}data.pkl']}")
    stored, others = _flat(unpickle.parse(zip_file.read(f"{root}data.pkl")))
    for name, tensor in stored.items():
        _check_storage(name, tensor.storage, names.get(f"{root}data/{tensor.storage.key}"))
    return _Checkpoint(root, "<" if order == "little" else ">", stored, others)


def _record(zip_file: Archive, name: str, default: str) -> str:
    """A member of the zip that holds a short text."""
    if name not in zip_file.sizes:
        return default
    if zip_file.sizes[name] > 100:
        raise ValueError(f"zip: {name[:100]}: expected at most 100 bytes, got {zip_file.sizes[name]}")
    return zip_file.read(name).decode("ascii").strip()


def _check_storage(name: str, storage: Storage, size: int | None) -> None:
    """The zip must hold as many bytes as the pickle says."""
    if size is None:
        raise ValueError(f"{name}: storage {storage.key[:100]!r} is not in the zip")
    item = 2 if storage.dtype == "bfloat16" else np.dtype(storage.dtype).itemsize
    if size != storage.elements * item:
        raise ValueError(f"{name}: expected a storage of {storage.elements} {storage.dtype}, got {size} bytes")


def _flat(value: Any) -> tuple[dict[str, StoredTensor], list[str]]:
    """The tensors in nested containers, by their keys joined with dots, and the names of everything else."""
    stored: dict[str, StoredTensor] = {}
    others: list[str] = []
    nodes = 0

    def visit(name: str, node: Any, depth: int) -> None:
        nonlocal nodes
        nodes += 1
        if depth > MOST_DEPTH or nodes > MOST_NODES or len(stored) > MOST_TENSORS or len(name) > MOST_NAME:
            raise ValueError(
                f"{name[:100]}: expected at most {MOST_TENSORS} tensors, {MOST_DEPTH} containers in one another and "
                f"{MOST_NAME} letters in a name, got more"
            )
        if isinstance(node, StoredTensor):
            if name in stored:
                raise ValueError(f"{name}: the name is there twice")
            stored[name] = node
        elif isinstance(node, dict | list | tuple):
            items = node.items() if isinstance(node, dict) else enumerate(node)
            for key, inner in items:
                visit(f"{name}.{key}" if depth else f"{key}", inner, depth + 1)
        elif len(others) < 100:
            others.append(name)

    visit("", value, 0)
    return stored, others
