"""The names in a group: a B-tree of nodes, each with names and the addresses of the objects' headers."""

from __future__ import annotations

from lstmkernel.formats.untrusted.hdf5.blocks import AGAIN, Blocks
from lstmkernel.formats.untrusted.hdf5.headers import LINK, LINK_INFO, SYMBOL_TABLE, Header

#: Letters of a path through groups, and of a name in it.
MOST_PATH = 1000

#: What stands in place of an address: another name, which is not followed.
SOFT_LINK: None = None

_SOFT = 2


def links_of(blocks: Blocks, header: Header, path: str) -> dict[str, int | None]:
    """By each name in the group its object's address, or SOFT_LINK."""
    if LINK_INFO in header or LINK in header:
        raise ValueError(
            f"{path[:200]}: expected names of HDF5's oldest layout, got newer links, such as to other files; {AGAIN}"
        )
    tree, heap = header.one(SYMBOL_TABLE).integers(2, 8)
    names = _names(blocks, heap)
    found: dict[str, int | None] = {}
    letters = 0
    for node in _leaves(blocks, tree):
        fields = blocks.fields(node, 8, "group's node", b"SNOD")
        fields.version(1)
        fields.take(1)
        count = fields.integer(2)
        entries = blocks.fields(node + 8, 40 * count, "group's node")
        for _ in range(count):
            offset, address = entries.integers(2, 8)
            kind, _ = entries.integers(2, 4)
            entries.take(16)
            name = _name(names, offset, path)
            if name in found:
                raise ValueError(f"{path[:200]}: expected each name once, got {name!r} twice")
            found[name] = SOFT_LINK if kind == _SOFT else address
            letters += len(name)
            if letters > len(names):
                raise ValueError(f"{path[:200]}: expected names beside each other, got some that share letters")
    return found


def _leaves(blocks: Blocks, tree: int) -> list[int]:
    """The addresses of the nodes of names, in order. Levels count down, so there is no circle."""
    waiting, leaves = [(tree, -1)], []
    while waiting:
        at, expected = waiting.pop()
        if expected == -2:
            leaves.append(at)
            continue
        fields = blocks.fields(at, 24, "group's tree", b"TREE")
        kind, level = fields.integers(2, 1)
        count = fields.integer(2)
        if kind != 0 or (expected >= 0 and level != expected):
            raise ValueError(f"HDF5: group's tree: expected level {expected} of a tree of names, got {level}")
        entries = blocks.fields(at + 24, 16 * count, "group's tree")
        children = [entries.integers(2, 8)[1] for _ in range(count)]
        waiting += [(child, level - 1 if level else -2) for child in reversed(children)]
    return leaves


def _names(blocks: Blocks, heap: int) -> bytes:
    """All names of a group, each with a zero byte at its end."""
    fields = blocks.fields(heap, 32, "group's names", b"HEAP")
    fields.version(0)
    fields.take(3)
    size, _, address = fields.integers(3, 8)
    return blocks.read(address, size, "group's names")


def _name(names: bytes, offset: int, path: str) -> str:
    end = names.find(b"\0", offset, offset + MOST_PATH + 1)
    if end <= offset:
        start = names[offset : offset + 50].decode(errors="replace")
        raise ValueError(f"{path[:200]}/{start}: expected names of 1 to {MOST_PATH} letters, got a longer one or none")
    return names[offset:end].decode()
