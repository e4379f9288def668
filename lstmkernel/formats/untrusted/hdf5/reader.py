"""What is in a file, by names: groups, arrays, texts; and no more memory than the file's size allows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import BinaryIO, NamedTuple

from lstmkernel.backends.packing import Array
from lstmkernel.formats.inspection import Tensor
from lstmkernel.formats.untrusted import limits
from lstmkernel.formats.untrusted.hdf5 import arrays
from lstmkernel.formats.untrusted.hdf5.arrays import StoredArray
from lstmkernel.formats.untrusted.hdf5.blocks import Blocks
from lstmkernel.formats.untrusted.hdf5.headers import (
    DATASPACE,
    LINK,
    LINK_INFO,
    SYMBOL_TABLE,
    Header,
    header_at,
    root_of,
)
from lstmkernel.formats.untrusted.hdf5.links import MOST_PATH, SOFT_LINK, links_of
from lstmkernel.formats.untrusted.hdf5.texts import Texts
from lstmkernel.formats.untrusted.raw_tensors import from_bfloat16

_FLOATS = ("float16", "bfloat16", "float32", "float64")


class Group(NamedTuple):
    """A group, with the addresses of what is in it by name."""

    name: str  # its path in the file
    address: int
    header: Header
    links: Mapping[str, int | None]


class HDF5Reader:
    """An open HDF5 file of ``size`` bytes. ``given`` is its size on disk; inside a zip file, that of the zip file."""

    def __init__(self, file: BinaryIO, size: int, given: int) -> None:
        blocks = Blocks(file, size)
        self._blocks, self._given = blocks, given
        self._texts = Texts(blocks)
        self._headers: dict[int, Header] = {}
        self._links: dict[int, Mapping[str, int | None]] = {}
        self._taken = 0  # bytes of arrays and attributes so far
        self.root = self._group("", root_of(blocks))

    def group(self, parent: Group, path: str) -> Group:
        """The group at a relative path such as "layers/lstm"."""
        place, address = self._found(parent, path)
        if DATASPACE in self._header(address):
            raise ValueError(f"{place[:200]}: expected a group, got an array")
        return self._group(place, address)

    def dataset(self, parent: Group, path: str) -> StoredArray:
        """The array at a relative path, not read yet."""
        place, address = self._found(parent, path)
        header = self._header(address)
        if _is_group(header):
            raise ValueError(f"{place[:200]}: expected an array, got a group")
        return arrays.stored_array(header, place)

    def check(self, array: StoredArray) -> None:
        """ValueError for an array that ``read`` would refuse, as far as it shows without reading the numbers."""
        tensor = self.tensor(array)
        if tensor.dtype not in _FLOATS:
            raise ValueError(f"{tensor.name[:200]}: expected float16, bfloat16, float32 or float64, got {tensor.dtype}")
        limits.check(f"{tensor.name[:200]}: HDF5", array.nbytes, self._given)
        arrays.check(array, self._blocks, self._given)

    def read(self, array: StoredArray) -> Array:
        """The floating-point numbers of an array; bfloat16, which NumPy does not have, becomes float32."""
        self.check(array)
        self._take(array.name, array.nbytes)
        if self.tensor(array).dtype == "bfloat16":
            kind = array.kind._replace(name="bfloat16")
            return from_bfloat16(arrays.read(array._replace(kind=kind), self._blocks))
        found = arrays.read(array, self._blocks)
        return found.astype(found.dtype.newbyteorder("="), copy=False)

    def tensor(self, array: StoredArray) -> Tensor:
        """Name, shape and dtype. Keras 3 writes bfloat16 as two opaque bytes and an attribute that says so."""
        bfloat16 = array.kind.name == "void16" and self.text(array, "dtype") == "bfloat16"
        return Tensor(array.name, array.shape, "bfloat16" if bfloat16 else array.kind.name)

    def tensors(self, top: Group) -> list[Tensor]:
        """Every array below a group, each once; links are not followed."""
        found: list[Tensor] = []
        seen, waiting = {top.address}, [top]
        while waiting:
            group = waiting.pop()
            inside = []
            for name, address in group.links.items():
                place = f"{group.name}/{name}".lstrip("/")
                if len(place) > MOST_PATH:  # each array's name repeats it
                    raise ValueError(
                        f"{place[:200]}: expected a path of at most {MOST_PATH} letters to an array, got a longer one"
                    )
                if address is SOFT_LINK or address in seen:
                    continue
                seen.add(address)
                header = self._header(address)
                if _is_group(header):
                    inside.append(self._group(place, address))
                elif DATASPACE in header:
                    found.append(self.tensor(arrays.stored_array(header, place)))
            waiting += inside[::-1]
        return found

    def text(self, owner: Group | StoredArray, name: str) -> str | None:
        """The text in an attribute, or None."""
        found = self._attribute(owner, name, listed=False)
        return None if found is None else found[0]

    def texts(self, owner: Group, name: str) -> list[str] | None:
        """The list of texts in an attribute, or None. Keras splits a long list into name0, name1, ..."""
        whole = self._attribute(owner, name, listed=True)
        if whole is not None:
            return whole
        found: list[str] = []
        parts = 0
        while (part := self._attribute(owner, f"{name}{parts}", listed=True)) is not None:
            found += part
            parts += 1
        return found if parts else None

    def _attribute(self, owner: Group | StoredArray, name: str, listed: bool) -> list[str] | None:
        place = owner.name[:200] or "/"
        return self._texts.attribute(owner.header, name, listed, place, lambda size: self._take(place, size))

    def _found(self, parent: Group, path: str) -> tuple[str, int]:
        """Place and address of what is at a relative path, reached through groups alone and never through a link."""
        place, address = parent.name, parent.address
        for name in path.split("/"):
            if not _is_group(self._header(address)):
                raise ValueError(f"{parent.name[:200]}/{path[:200]}: not in the file")
            links = self._group(place, address).links
            place = f"{place}/{name}".lstrip("/")
            if name not in links:
                raise ValueError(f"{parent.name[:200]}/{path[:200]}: not in the file")
            linked = links[name]
            if linked is SOFT_LINK:
                raise ValueError(f"{place[:200]}: expected the object itself, got a link to another name")
            address = linked
        return place, address

    def _group(self, place: str, address: int) -> Group:
        header = self._header(address)
        if address not in self._links:
            self._links[address] = links_of(self._blocks, header, place or "/")
        return Group(place, address, header, self._links[address])

    def _header(self, address: int) -> Header:
        if address not in self._headers:
            self._headers[address] = header_at(self._blocks, address)
        return self._headers[address]

    def _take(self, place: str, size: int) -> None:
        self._taken += size
        limits.check(f"{place[:200]}: HDF5", self._taken, self._given)


def _is_group(header: Header) -> bool:
    return SYMBOL_TABLE in header or LINK_INFO in header or LINK in header
