"""Attributes that are texts: fixed-length ones in the attribute itself, others in heaps that many texts share."""

from __future__ import annotations

from collections.abc import Callable

from lstmkernel.formats.untrusted.hdf5.blocks import Blocks, Fields
from lstmkernel.formats.untrusted.hdf5.datatypes import Datatype, datatype, shape
from lstmkernel.formats.untrusted.hdf5.headers import Header

#: Names in one attribute. Keras writes at most as many as fit 64 kB, and splits longer lists.
MOST_NAMES = 1 << 12

#: What a text counts at least as memory.
LEAST_COUNTED = 16

#: Called with the bytes of a text before it is made.
Take = Callable[[int], None]


class Texts:
    """The attributes of a file's objects."""

    def __init__(self, blocks: Blocks) -> None:
        self._blocks = blocks
        self._heaps: dict[int, dict[int, bytes]] = {}

    def attribute(self, header: Header, name: str, listed: bool, place: str, take: Take) -> list[str] | None:
        """One text, or with ``listed`` several, in a list; None without the attribute."""
        found = header.attributes.get(name.encode())
        if found is None:
            return None
        place = f"{place}: attribute {name!r}"
        kind, extents = datatype(Fields(found.kind, "type")), shape(Fields(found.shape, "shape"))
        if extents is None or len(extents) != listed or (listed and extents[0] > MOST_NAMES):
            raise ValueError(f"{place}: expected {'texts' if listed else 'a text'}, got shape {extents}")
        count = extents[0] if listed else 1
        if count and not kind.text:  # the type of an empty list does not matter
            raise ValueError(f"{place}: expected text, got {kind.name}")
        values = Fields(found.value, "attribute")
        return [self._text(values, kind, take, place) for _ in range(count)]

    def _text(self, fields: Fields, kind: Datatype, take: Take, place: str) -> str:
        if not kind.variable:
            take(max(kind.size, LEAST_COUNTED))
            return fields.take(kind.size).split(b"\0", 1)[0].decode()
        length, heap, number = fields.integer(4), fields.integer(8), fields.integer(4)
        take(max(length, LEAST_COUNTED))
        if length == 0:
            return ""
        stored = self._heap(heap).get(number, b"")
        if len(stored) < length:
            raise ValueError(f"{place}: expected a text of {length} bytes, got {len(stored)}")
        return stored[:length].split(b"\0", 1)[0].decode()

    def _heap(self, at: int) -> dict[int, bytes]:
        """The texts of a heap by their numbers."""
        if at not in self._heaps:
            fields = self._blocks.fields(at, 16, "heap", b"GCOL")
            fields.version(1)
            fields.take(3)
            size = fields.integer(8)
            objects = self._blocks.fields(at + 16, max(0, size - 16), "heap")
            found = {}
            while objects.left >= 16:
                number, _ = objects.integers(2, 2)
                objects.take(4)
                length = objects.integer(8)
                if number == 0:  # the rest is free
                    break
                found[number] = objects.take(length)
                objects.take(min(-length % 8, objects.left))
            self._heaps[at] = found
        return self._heaps[at]
