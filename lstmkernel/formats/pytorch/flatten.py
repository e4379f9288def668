"""The tensors in what was pickled, by their names, and what was passed over."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from lstmkernel.formats.pytorch import packed
from lstmkernel.formats.pytorch.pickled import Dict, Name, Opaque, StoredTensor

#: One container can stand in several others, so a small file can make a huge tree.
MOST_TENSORS = 50_000
MOST_NODES = 1_000_000
MOST_DEPTH = 32
MOST_NAME = 500

#: How many names are kept of values that are not tensors.
MOST_OTHERS = 100


class Flat(NamedTuple):
    """Names are keys joined by dots."""

    stored: dict[str, StoredTensor]
    unreadable: dict[str, str]  # tensors that only a program can make, with the reason
    others: list[str]  # what is not a tensor
    hidden: list[str]  # objects of programs, in which tensors are


def flatten(value: Any) -> Flat:
    """The tensors in nested dicts, lists and tuples. What is in an object of another program is not its weights."""
    walk = _Walk(_with_tensors(value))
    walk.visit("", value, 0)
    return walk.found


class _Walk:
    """Goes through the tree; a container without tensors in it is entered once, however often it stands there."""

    def __init__(self, telling: set[int]) -> None:
        self.found = Flat({}, {}, [], [])
        self._telling = telling
        self._entered = set[int]()
        self._nodes = 0

    def visit(self, name: str, node: Any, depth: int) -> None:
        self._nodes += 1
        if self._nodes > MOST_NODES:
            raise ValueError(f"{name[:100]}: expected at most {MOST_NODES} values, got more")
        if isinstance(node, StoredTensor):
            self._add(name, node)
        elif packed_linear := packed.linear(name, node):
            self._enter(name, packed_linear, depth)
        elif isinstance(node, Dict | list | tuple) or is_script(node):
            if id(node) in self._telling or id(node) not in self._entered:
                self._entered.add(id(node))
                self._enter(name, node, depth)
        elif isinstance(node, Opaque) and (packed_tensors := packed.tensors(node)):
            self._enter(name, packed_tensors, depth)
        elif isinstance(node, Opaque) and node.tensor:
            self._check(name, depth)
            self.found.unreadable[name] = node.why
        else:
            if id(node) in self._telling and len(self.found.hidden) < MOST_OTHERS:
                self.found.hidden.append(f"{name} ({node.why})" if name else node.why)
            self._pass_over(name, node)

    def _enter(self, name: str, node: Any, depth: int) -> None:
        if depth > MOST_DEPTH and id(node) not in self._telling:
            return
        self._check(name, depth)
        for key, inner in _items(node):
            self.visit(f"{name}.{key}" if depth else key, inner, depth + 1)

    def _add(self, name: str, tensor: StoredTensor) -> None:
        if name in self.found.stored:
            raise ValueError(f"{name}: the name is there twice")
        self.found.stored[name] = tensor
        self._check(name, 0)

    def _check(self, name: str, depth: int) -> None:
        count = len(self.found.stored) + len(self.found.unreadable)
        if depth > MOST_DEPTH or len(name) > MOST_NAME or count > MOST_TENSORS:
            raise ValueError(
                f"{name[:100]}: expected at most {MOST_TENSORS} tensors, {MOST_DEPTH} containers in one another and "
                f"{MOST_NAME} letters in a name, got more"
            )

    def _pass_over(self, name: str, node: Any) -> None:
        if len(self.found.others) < MOST_OTHERS and len(name) <= MOST_NAME:
            why = node.why if isinstance(node, Opaque) else str(node) if isinstance(node, Name) else ""
            self.found.others.append(f"{name or 'all of it'} ({why})" if why else name)


def is_script(node: Any) -> bool:
    """Whether it is a module of TorchScript, whose attributes are its parameters and modules."""
    return isinstance(node, Opaque) and node.why.startswith("__torch__.") and _attributes(node) is not None


def _attributes(module: Opaque) -> Dict | None:
    return next((state for state in module.inner if isinstance(state, Dict)), None)


def _items(node: Any) -> Iterator[tuple[str, Any]]:
    """What is in a container, by names."""
    if isinstance(node, Dict):
        yield from ((_key(key), value) for key, value in zip(node.items[::2], node.items[1::2], strict=True))
    elif isinstance(node, Opaque):
        # Lists among a module's attributes hold its parameters once more.
        inside = _items(_attributes(node))
        yield from ((key, value) for key, value in inside if not isinstance(value, list | tuple | Dict))
    else:
        yield from ((str(place), value) for place, value in enumerate(node))


def _key(key: Any) -> str:
    """A key as part of a name; of a tuple or an object only its kind, for it may hold anything."""
    if isinstance(key, str):
        return key
    if isinstance(key, int):
        return str(key) if abs(key) < 1 << 128 else "a large integer"
    return str(key) if key is None or isinstance(key, float) else f"a {type(key).__name__}".lower()


def _with_tensors(value: Any) -> set[int]:
    """The ids of the containers and objects that hold a tensor at any depth.

    Each is looked at once: first all that can be reached, then, from the tensors back to what holds them.
    """
    holders: dict[int, list[Any]] = {}
    waiting, seen, telling = [value], {id(value)}, list[Any]()
    while waiting:
        node = waiting.pop()
        if isinstance(node, StoredTensor) or (isinstance(node, Opaque) and node.tensor):
            telling.append(node)
            continue
        inside = node.items if isinstance(node, Dict) else node.inner if isinstance(node, Opaque) else node
        if not isinstance(inside, list | tuple):
            continue
        for inner in inside:
            if isinstance(inner, Dict | Opaque | list | tuple | StoredTensor):
                holding = holders.setdefault(id(inner), [])
                if not holding or holding[-1] is not node:
                    holding.append(node)
                if id(inner) not in seen:
                    seen.add(id(inner))
                    waiting.append(inner)
    found = set[int]()
    while telling:
        node = telling.pop()
        if id(node) not in found:
            found.add(id(node))
            telling += holders.get(id(node), [])
    return found
