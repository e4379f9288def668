"""How PyTorch's files are laid out: where the pickle is, and where the elements of its storages are.

Today's file is a zip: ``data.pkl`` describes the tensors; ``data/0``, ``data/1`` ... hold their elements. TorchScript
is such a zip with a program beside it; only its weights are read. Before PyTorch 1.6 a file was five pickles (a number,
a version, sizes of C's types, the object, the keys of its storages), and then each storage: its number of elements in 8
bytes, and the elements.
"""

from __future__ import annotations

import contextlib
import mmap
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Literal, NamedTuple

from lstmkernel.formats.pytorch.flatten import Flat, flatten
from lstmkernel.formats.pytorch.pickled import Storage
from lstmkernel.formats.pytorch.unpickle import parse
from lstmkernel.formats.untrusted import archive
from lstmkernel.formats.untrusted.archive import Archive

#: The versions of PyTorch's zip format that this reader knows.
VERSIONS = range(1, 11)

#: What the first two pickles of the format before 1.6 are.
OLD_MAGIC, OLD_VERSION = 0x1950A86A20F9469CFC6C, 1001

#: What the tar of PyTorch before 0.1.10 begins with.
OLDEST = (b"sys_info", b"pickle", b"storages", b"tensors")


class Checkpoint(NamedTuple):
    found: Flat
    elements: Callable[[Storage], bytes]  # the bytes of a storage
    byte_order: Literal["<", ">"]
    notes: list[str]


def recognises(path: str, head: bytes) -> bool:
    """A zip with a pickle in it, a pickle alone, or the tar of the first versions."""
    if head.startswith(archive.MAGIC):
        first = head[30 : 30 + int.from_bytes(head[26:28], "little")]  # all that a broken zip shows
        return first.endswith(b"/data.pkl") or any(name.endswith("data.pkl") for name in archive.names(path))
    return _is_pickle(head) or is_oldest(head)


@contextlib.contextmanager
def opened(path: str) -> Iterator[Checkpoint]:
    with open(path, "rb") as file:
        head = file.read(512)
    if is_oldest(head):
        raise ValueError(
            "expected a zip or pickles, got a tar, as PyTorch before 0.1.10 (2017) wrote it; if you trust the file, "
            "torch.save(torch.load(old, weights_only=False), new) in PyTorch converts it"
        )
    if _is_pickle(head):
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            yield _of_pickles(data)
    else:
        with archive.opened(path) as zip_file:
            yield _of_zip(zip_file, os.path.getsize(path))


def _is_pickle(head: bytes) -> bool:
    return head[:1] == b"\x80" and head[1:2] in (b"\2", b"\3", b"\4", b"\5")


def is_oldest(head: bytes) -> bool:
    return head[257:262] == b"ustar" and head[:100].rstrip(b"\0").removeprefix(b"./") in OLDEST


# ---------------------------------------------------------------- zip


def _of_zip(zip_file: Archive, size: int) -> Checkpoint:
    sizes = zip_file.sizes
    roots = [name.removesuffix("data.pkl") for name in sizes if name.endswith("/data.pkl")]
    if len(roots) != 1:
        raise ValueError(f"zip: expected one data.pkl in one folder, got {len(roots)}")
    root = roots[0]
    version = _record(zip_file, f"{root}version", "3")
    if not version.isdecimal() or int(version) not in VERSIONS:
        raise ValueError(f"version: expected {VERSIONS[0]} to {VERSIONS[-1]}, got {version[:20]!r}")
    order = _record(zip_file, f"{root}byteorder", "little")
    if order not in ("little", "big"):
        raise ValueError(f"byteorder: expected little or big, got {order[:20]!r}")
    data = zip_file.read(f"{root}data.pkl")
    value, end, _ = parse(data, size)
    if end != len(data):
        raise ValueError(f"pickle: expected its end at byte {len(data) - 1}, got it at {end - 1}")
    found = flatten(value)
    for name, tensor in found.stored.items():
        if tensor.storage.data is None:
            _check_size(name, tensor.storage, sizes.get(f"{root}data/{tensor.storage.key}"))

    def elements(storage: Storage) -> bytes:
        return zip_file.read(f"{root}data/{storage.key}") if storage.data is None else storage.data

    return Checkpoint(found, elements, "<" if order == "little" else ">", _notes_of_script(zip_file, root, found))


def _notes_of_script(zip_file: Archive, root: str, found: Flat) -> list[str]:
    """TorchScript is a program. Its weights can be read as data; a frozen one has made them constants without names."""
    if not any(name.startswith(f"{root}code/") for name in zip_file.sizes):
        return []
    if not found.stored and any(name.startswith(f"{root}constants/") for name in zip_file.sizes):
        raise ValueError(
            "TorchScript: expected weights with names, got constants, as torch.jit.freeze makes them; save the module "
            "before it is frozen, or its state_dict"
        )
    return ["TorchScript, a program: only its weights are read, and not what it does with them"]


def _record(zip_file: Archive, name: str, default: str) -> str:
    """A member of the zip that holds a short text."""
    if name not in zip_file.sizes:
        return default
    if zip_file.sizes[name] > 100:
        raise ValueError(f"zip: {name[:100]}: expected at most 100 bytes, got {zip_file.sizes[name]}")
    return zip_file.read(name).decode("ascii").strip()


def _check_size(name: str, storage: Storage, size: int | None) -> None:
    """The zip must hold as many bytes as the pickle says."""
    if size is None:
        raise ValueError(f"{name}: storage {storage.key[:100]!r} is not in the zip")
    if size != storage.size:
        raise ValueError(f"{name}: expected a storage of {storage.elements} {storage.dtype}, got {size} bytes")


# ---------------------------------------------------------------- pickles


def _of_pickles(data: mmap.mmap) -> Checkpoint:
    """The format before 1.6; or one pickle alone, which can hold NumPy's arrays. Elements are little-endian in both."""
    first = parse(data, len(data), nested=_storage_of_bytes)
    if first.value != OLD_MAGIC:
        if first.end != len(data):
            raise ValueError(f"pickle: expected its end at byte {len(data) - 1}, got it at {first.end - 1}")
        return Checkpoint(flatten(first.value), _own_data, "<", ["a pickle, not of torch.save"])
    whole, places = _old(data, first.end)

    def elements(storage: Storage) -> bytes:
        if storage.data is not None:
            return storage.data
        return data[places[storage.key] : places[storage.key] + storage.size]

    return Checkpoint(flatten(whole), elements, "<", ["written by PyTorch before 1.6"])


def _old(data: Any, start: int) -> tuple[Any, dict[str, int]]:
    """The object of a file from before 1.6, whose first pickle ends at ``start``; and where its storages are."""
    version = parse(data, len(data), start)
    if version.value != OLD_VERSION:
        raise ValueError(f"pickle: expected version {OLD_VERSION} of the format, got another one")
    system = parse(data, len(data), version.end)
    whole = parse(data, len(data), system.end)
    keys = parse(data, len(data), whole.end)
    return whole.value, _places(data, keys.end, keys.value, whole.storages)


def _storage_of_bytes(data: bytes) -> Storage | None:
    """What ``pickle`` makes of a storage: the bytes of a whole file from before 1.6."""
    first = parse(data, len(data))
    if first.value != OLD_MAGIC:
        return None
    storage, places = _old(data, first.end)
    if not isinstance(storage, Storage):
        return None
    at = places[storage.key]
    return replace(storage, key="", data=data[at : at + storage.size])


def _own_data(storage: Storage) -> bytes:
    if storage.data is None:
        raise ValueError(f"storage {storage.key[:100]!r}: expected its elements in the pickle, got none")
    return storage.data


def _places(data: Any, at: int, keys: Any, storages: dict[str, Storage]) -> dict[str, int]:
    """Where the elements of each storage begin.

    Before them stands only their number; their size is in the pickle.
    """
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise ValueError("pickle: expected a list of the storages' keys, got something else")
    places = dict[str, int]()
    for key in keys:
        storage, count = storages.get(key), int.from_bytes(data[at : at + 8], "little")
        if storage is None or key in places:
            raise ValueError(f"storage {key[:100]!r}: expected one that the pickle has, once")
        if count != storage.elements:
            raise ValueError(f"storage {key[:100]!r}: expected {storage.elements} elements, got {count}")
        places[key], at = at + 8, at + 8 + storage.size
    if at != len(data):
        raise ValueError(f"expected {at} bytes, as the pickle's storages need, got {len(data)}")
    missing = next((key for key in storages if key not in places), None)
    if missing is not None:
        raise ValueError(f"storage {missing[:100]!r} is not in the file")
    return places
