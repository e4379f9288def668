"""HDF5 from an untrusted file: only what is in this one file, and no more memory than its size allows."""

from __future__ import annotations

import contextlib
import math
import mmap
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from lstmkernel.backends.packing import Array
from lstmkernel.formats.errors import needed
from lstmkernel.formats.inspection import Tensor
from lstmkernel.formats.untrusted import limits
from lstmkernel.formats.untrusted.raw_tensors import as_array

if TYPE_CHECKING:
    import h5py

SIGNATURE = b"\x89HDF\r\n\x1a\n"

#: Deflate, shuffle and Fletcher-32, by HDF5's numbers. Any other filter would be a plug-in, which is code.
FILTERS = (1, 2, 3)

#: Letters of a path through groups.
MOST_PATH = 1000

#: Names in one attribute. Keras writes at most as many as fit 64 kB, and splits longer lists.
MOST_NAMES = 1 << 12


class HDF5Reader:
    """An open HDF5 file. ``given`` is its size on disk in bytes; inside a zip file, the size of the zip file.

    The HDF5 library follows links into other files, reads arrays out of other files and unpacks whatever a file asks
    for. Here links and arrays in other files, and whatever would become too large, are refused before the library sees
    them.
    """

    def __init__(self, file: h5py.File, given: int) -> None:
        self.root: h5py.Group = file
        self._given = given
        self._taken = 0  # bytes of arrays and attributes so far

    def group(self, parent: h5py.Group, path: str) -> h5py.Group:
        """The group at a relative path such as "layers/lstm"."""
        child = self._child(parent, path)
        if not hasattr(child, "keys"):
            raise ValueError(f"{_place(parent, path)}: expected a group, got an array")
        return child

    def dataset(self, parent: h5py.Group, path: str) -> h5py.Dataset:
        """The array at a relative path, not read yet."""
        child = self._child(parent, path)
        if hasattr(child, "keys"):
            raise ValueError(f"{_place(parent, path)}: expected an array, got a group")
        if child.shape is None:  # HDF5 allows such arrays
            raise ValueError(f"{_place(parent, path)}: expected an array with a shape, got one without")
        return child

    def read(self, dataset: h5py.Dataset) -> Array:
        """The floating-point numbers of an array; bfloat16, which NumPy does not have, becomes float32."""
        tensor = self.tensor(dataset)
        if tensor.dtype not in ("float16", "bfloat16", "float32", "float64"):
            raise ValueError(f"{tensor.name[:200]}: expected float16, bfloat16, float32 or float64, got {tensor.dtype}")
        if dataset.external or dataset.is_virtual:
            raise ValueError(f"{tensor.name[:200]}: expected numbers inside the file, got some in other files")
        _check_filters(dataset)
        self._take(tensor.name, math.prod(tensor.shape) * dataset.dtype.itemsize)
        array: Array = dataset[()]
        if tensor.dtype == "bfloat16":
            return as_array(tensor, array.tobytes(), "<")
        return array.astype(array.dtype.newbyteorder("="), copy=False)

    def tensor(self, dataset: h5py.Dataset) -> Tensor:
        """Name, shape and dtype. Keras 3 writes bfloat16 as two opaque bytes and an attribute that says so."""
        bfloat16 = dataset.dtype == np.dtype("V2") and self.text(dataset, "dtype") == "bfloat16"
        dtype = "bfloat16" if bfloat16 else dataset.dtype.newbyteorder("=").name
        return Tensor(str(dataset.name).lstrip("/"), dataset.shape or (), dtype)

    def tensors(self, top: h5py.Group) -> list[Tensor]:
        """Every array below a group, each once; links are not followed.

        In a loop: HDF5's own function for this is recursive, and groups nested deeply enough overflow its stack.
        """
        import h5py

        found: list[Tensor] = []
        seen, waiting = {_identity(top)}, [(str(top.name), top)]
        while waiting:
            path, group = waiting.pop()
            inside = []
            for name in group:
                place = f"{path}/{name}"
                if len(place) > MOST_PATH:  # each array's name repeats it
                    raise ValueError(
                        f"{place[:200]}: expected a path of at most {MOST_PATH} letters to an array, got a longer one"
                    )
                if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                    continue
                item = group[name]
                if _identity(item) in seen:
                    continue
                seen.add(_identity(item))
                if isinstance(item, h5py.Dataset):
                    found.append(self.tensor(item))
                elif isinstance(item, h5py.Group):
                    inside.append((place, item))
            waiting += inside[::-1]
        return found

    def text(self, owner: h5py.Group | h5py.Dataset, name: str) -> str | None:
        """The text in an attribute, or None."""
        value = self._attribute(owner, name, listed=False)
        return None if value is None else _text(value)

    def texts(self, owner: h5py.Group, name: str) -> list[str] | None:
        """The list of texts in an attribute, or None. Keras splits a long list into name0, name1, ..."""
        whole = self._attribute(owner, name, listed=True)
        if whole is not None:
            return [_text(value) for value in whole]
        found: list[str] = []
        parts = 0
        while (part := self._attribute(owner, f"{name}{parts}", listed=True)) is not None:
            found += [_text(value) for value in part]
            parts += 1
        return found if parts else None

    def _child(self, parent: h5py.Group, path: str) -> Any:
        """What is at a relative path, reached through groups alone and never through a link."""
        import h5py

        found: Any = parent
        for name in path.split("/"):
            if not isinstance(found, h5py.Group) or name in ("", ".") or name not in found:
                raise ValueError(f"{_place(parent, path)}: not in the file")
            link = found.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink):
                raise ValueError(f"{_place(found, name)}: expected the object itself, got a {type(link).__name__}")
            found = found[name]
        if not isinstance(found, h5py.Group | h5py.Dataset):
            raise ValueError(f"{_place(parent, path)}: expected a group or an array, got a {type(found).__name__}")
        return found

    def _attribute(self, owner: h5py.Group | h5py.Dataset, name: str, listed: bool) -> Any:
        """An attribute's value, one text or a list of them, checked before it is read; None without the attribute."""
        import h5py

        if name not in owner.attrs:
            return None
        attribute, place = owner.attrs.get_id(name), f"{owner.name[:200]}: attribute {name!r}"
        dimensions = len(attribute.shape)
        if dimensions != listed or (listed and attribute.shape[0] > MOST_NAMES):
            raise ValueError(f"{place}: expected {'texts' if listed else 'a text'}, got shape {attribute.shape}")
        if attribute.shape == (0,):  # its type does not matter
            return []
        string = h5py.check_string_dtype(attribute.dtype)
        if string is None:
            raise ValueError(f"{place}: expected text, got {attribute.dtype}")
        if listed and string.length is None:  # each of them can be the same long text
            limits.check(place, attribute.shape[0] * _longest_text(owner.file.filename), self._given)
        self._take(place, attribute.get_storage_size())
        return owner.attrs[name]

    def _take(self, place: str, size: int) -> None:
        self._taken += size
        limits.check(f"{place[:200]}: HDF5", self._taken, self._given)


@contextlib.contextmanager
def reading(source: str | BinaryIO, head: bytes, size: int, given: int) -> Iterator[HDF5Reader]:
    """A reader of a file of ``size`` bytes that begins with ``head``; ``given`` as for HDF5Reader.

    Errors of the HDF5 library become ValueErrors.
    """
    h5py = needed("h5py", "keras", "Keras's HDF5 files")
    _check_size(head, size)
    try:
        with h5py.File(source, "r") as file:
            yield HDF5Reader(file, given)
    # The type of h5py's error depends on where in the library it occurs.
    except (OSError, RuntimeError, LookupError, TypeError, AttributeError, NotImplementedError) as error:
        raise ValueError(f"HDF5: {error}") from error


def _check_size(head: bytes, size: int) -> None:
    """The first block states the file's size, at a place that depends on the block's version."""
    if not head.startswith(SIGNATURE):
        raise ValueError(f"not HDF5: expected a file that begins with {SIGNATURE!r}, got {head[:8]!r}")
    at = {0: 40, 1: 44, 2: 28, 3: 28}.get(head[8] if len(head) > 8 else -1)
    if at is None or len(head) < at + 8:
        raise ValueError("HDF5: expected a first block of version 0 to 3; is the file cut off?")
    stated = int.from_bytes(head[at : at + 8], "little")
    if stated != size:
        raise ValueError(f"HDF5: expected {stated} bytes, as the first block states, got {size}; is the file cut off?")


def _longest_text(path: str) -> int:
    """A bound on texts of variable length: the largest of the blocks that HDF5 keeps them in.

    Each such block states its size after its signature.
    """
    signature, longest = b"GCOL\1\0\0\0", 0
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        at = data.find(signature)
        while at >= 0:
            longest = max(longest, int.from_bytes(data[at + 8 : at + 16], "little"))
            at = data.find(signature, at + 8)
        return min(longest, len(data))


def _check_filters(dataset: h5py.Dataset) -> None:
    created = dataset.id.get_create_plist()
    for i in range(created.get_nfilters()):
        number, _, _, name = created.get_filter(i)
        if number not in FILTERS:
            raise ValueError(f"{dataset.name[:200]}: expected one of HDF5's own filters, got {name[:100]!r} ({number})")


def _identity(item: h5py.Group | h5py.Dataset) -> tuple[int, int]:
    """The same for every name of one object."""
    import h5py

    about = h5py.h5o.get_info(item.id)
    return about.fileno, about.addr


def _place(parent: h5py.Group, path: str) -> str:
    return f"{str(parent.name).rstrip('/')[:200]}/{path[:200]}"


def _text(value: Any) -> str:
    """h5py gives str for texts of variable length and bytes for those of a fixed length."""
    return value.decode() if isinstance(value, bytes) else str(value)
