"""Where the file's root is, and the messages of an object: each object has a header, and a header is a list of them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import NamedTuple

from lstmkernel.formats.untrusted.hdf5.blocks import AGAIN, SIGNATURE, Blocks, Fields

# Kinds of messages, by HDF5's numbers.
DATASPACE, LINK_INFO, DATATYPE, LINK, EXTERNAL, LAYOUT, FILTERS = 0x1, 0x2, 0x3, 0x6, 0x7, 0x8, 0xB
ATTRIBUTE, CONTINUATION, SYMBOL_TABLE, ATTRIBUTE_INFO = 0xC, 0x10, 0x11, 0x15

_IN_WORDS = {DATASPACE: "shape", DATATYPE: "type", LAYOUT: "layout", FILTERS: "filters", ATTRIBUTE: "attribute"}
_IN_WORDS |= {SYMBOL_TABLE: "list of names"}

#: The first block states the file's size and the root's header at places that depend on its version.
_SIZES_AT, _ROOT_AT = {0: 40, 1: 44}, {0: 64, 1: 68}
_BEFORE_SIZES = {0: 24, 1: 28}


class Attribute(NamedTuple):
    """Type, shape and value of an attribute, as they are in the file."""

    kind: bytes
    shape: bytes
    value: bytes


class Header:
    """The messages of one object, by their kind."""

    def __init__(self, messages: Mapping[int, list[bytes]], shared: frozenset[int]) -> None:
        self._messages, self._shared = messages, shared

    def __contains__(self, kind: int) -> bool:
        return kind in self._messages

    def all(self, kind: int) -> list[Fields]:
        """Every message of a kind, to be taken field by field."""
        what = _IN_WORDS.get(kind, f"message {kind}")
        if kind in self._shared:
            raise ValueError(f"HDF5: {what}: expected it in the object itself, got one that objects share; {AGAIN}")
        return [Fields(data, what) for data in self._messages.get(kind, [])]

    @cached_property
    def attributes(self) -> dict[bytes, Attribute]:
        """The attributes by their names."""
        if ATTRIBUTE_INFO in self:
            raise ValueError(f"HDF5: attributes: expected HDF5's oldest layout, got a newer one; {AGAIN}")
        return dict(map(_attribute, self.all(ATTRIBUTE)))

    def one(self, kind: int) -> Fields:
        found = self.all(kind)
        if len(found) != 1:
            raise ValueError(f"HDF5: expected one {_IN_WORDS.get(kind, kind)}, got {len(found)}")
        return found[0]


def root_of(blocks: Blocks) -> int:
    """The address of the root's header. The first block must state the file's true size."""
    start = blocks.read(0, 9, "first block")
    if not start.startswith(SIGNATURE):
        raise ValueError(f"not HDF5: expected a file that begins with {SIGNATURE!r}, got {start[:8]!r}")
    version = start[8]
    if version not in _ROOT_AT:
        known = "of version 0 or 1"
        raise ValueError(f"HDF5: expected a first block {known}, got version {version}: a newer layout; {AGAIN}")
    fields = blocks.fields(0, _ROOT_AT[version] + 8, "first block")
    fields.take(13)
    widths = fields.integers(2, 1)
    if widths != [8, 8]:
        raise ValueError(f"HDF5: expected addresses and sizes of 8 bytes, got {widths}; {AGAIN}")
    fields.take(_BEFORE_SIZES[version] - 15)
    base, _, stated = fields.integers(3, 8)
    if base:
        raise ValueError(f"HDF5: expected the first block at the file's start, got a base address of {base}; {AGAIN}")
    if stated != blocks.size:
        raise ValueError(
            f"HDF5: expected {stated} bytes, as the first block states, got {blocks.size}; is the file cut off?"
        )
    _, _, root = fields.integers(3, 8)
    return root


def header_at(blocks: Blocks, at: int) -> Header:
    """The header at an address, and the blocks in which it goes on."""
    what = "object's header"
    start = blocks.read(at, 16, what)
    if start.startswith(b"OHDR"):
        raise ValueError(f"HDF5: {what}: expected version 1, got version 2: a newer layout; {AGAIN}")
    fields = Fields(start, what)
    fields.version(1)
    fields.take(1)
    count = fields.integer(2)
    fields.take(4)
    messages: dict[int, list[bytes]] = {}
    shared, places, found = set(), [(at + 16, fields.integer(4))], 0
    for place, size in places:  # which grows on the way
        block = blocks.fields(place, size, what)
        while block.left >= 8 and found < count:
            kind, length = block.integers(2, 2)
            flags = block.integer(1)
            block.take(3)
            body = block.take(length)
            found += 1
            messages.setdefault(kind, []).append(body)
            if flags & 2:
                shared.add(kind)
            if kind == CONTINUATION:
                next_place, next_size = Fields(body, what).integers(2, 8)
                places.append((next_place, next_size))
    return Header(messages, frozenset(shared))


def _attribute(fields: Fields) -> tuple[bytes, Attribute]:
    """Name and content of an attribute."""
    version = fields.version(1, 2, 3)
    flags = fields.integer(1)
    sizes = fields.integers(3, 2)
    fields.take(1 if version == 3 else 0)  # the name's encoding
    padded = 8 if version == 1 else 1
    name, kind, shape = (fields.take(-(-size // padded) * padded) for size in sizes)
    if version > 1 and flags & 3:
        raise ValueError(f"HDF5: attribute: expected its own type, got one that objects share; {AGAIN}")
    return name.split(b"\0", 1)[0], Attribute(kind, shape, fields.take(fields.left))
