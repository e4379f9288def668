"""The rule for files that have the weights of several layers, and do not say how these are connected.

Layers are taken for a chain, with a word about it, if their widths allow exactly one. They are refused where the names
or shapes speak against a chain: two networks of the same shape, a network beside its average, an encoder and a decoder,
a matrix that can be an Embedding.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import combinations, pairwise, permutations
from typing import NamedTuple

from lstmkernel.formats.assumptions import assume

#: A chain of more layers than this is not looked for; without an order in the file, of more LSTMs than this.
MOST_PARTS = 64
MOST_WITHOUT_ORDER = 6

#: Words in names that tell one network of a training from another.
ROLES = {
    *("ema", "swa", "avg", "average", "averaged", "shadow", "teacher", "student", "target", "online", "momentum"),
    *("optimizer", "optim", "optimiser", "generator", "discriminator", "actor", "critic", "policy", "best", "old"),
    *("backup", "copy"),
}
_EMBEDDING = re.compile(r"embed|(?<![a-z])(emb|tok|token|tokens|wte|wpe|vocab|vocabulary)(?![a-z])")
ENDS = ({"encoder", "enc", "encode"}, {"decoder", "dec", "decode"})


class Part(NamedTuple):
    """A layer of which a file has the weights."""

    name: str  # its name in the file, as ``prefix=`` takes it
    words: str  # what it is, in words
    recurrent: bool  # an LSTM; otherwise a dense layer
    widths: tuple[int, int]  # of its input and its output
    shapes: tuple[object, ...]  # the names and shapes of its arrays
    bias: bool = True


def ordered(parts: Sequence[Part], in_order: bool) -> list[Part]:
    """The parts from first to last, with a word about it, or ValueError.

    ``in_order`` says that they stand in the order of the layers; otherwise only their widths tell it.
    """
    lstms = [part for part in parts if part.recurrent]
    heads = [part for part in parts if not part.recurrent]
    if len(heads) > 1 or len(parts) > MOST_PARTS:
        raise ValueError(f"expected one LSTM, or LSTMs and a last Linear, got {_some(parts)}; {_choose(parts)}")
    why = _two_networks(parts) or _embedding(lstms, heads)
    if why:
        raise ValueError(f"expected one network, got {why}; {_choose(parts)}")
    if in_order:
        orders = [list(parts)] if _fits(parts) and heads in ([], list(parts[-1:])) else []
    elif len(lstms) <= MOST_WITHOUT_ORDER:
        orders = [[*order, *heads] for order in permutations(lstms) if _fits([*order, *heads])]
    else:
        orders = []
    if len(orders) != 1:
        chain = "each layer as wide as the next one expects, a Linear last"
        expected = chain if in_order else f"one order of the layers, which the file does not tell, with {chain}"
        raise ValueError(f"expected {expected}, got {_some(parts)}; {_choose(parts)}")
    names = [part.name[:100] for part in orders[0]]
    assume(
        f"taken for a chain with nothing between its parts: {_some(orders[0])}. The widths allow it, but the file does "
        f"not say it. prefix={names} says it; prefix={names[0]!r} loads one part"
    )
    return orders[0]


def _two_networks(parts: Sequence[Part]) -> str | None:
    """What speaks for two networks, each by itself, in words."""
    words = [set(re.split(r"[^a-z]+", part.name.lower())) for part in parts]
    roles = [names & ROLES for names in words]
    role = next((role for each in roles for role in sorted(each) if not all(role in other for other in roles)), None)
    if role:
        return f"several, for only a part of the names has {role!r} in it: {_some(parts)}"
    ends = [[bool(names & end) for end in ENDS] for names, part in zip(words, parts, strict=True) if part.recurrent]
    if [True, False] in ends and [False, True] in ends:
        return f"an encoder and a decoder, which are hardly a chain: {_some(parts)}"
    for one, other in combinations([part for part in parts if part.recurrent], 2):
        twins = _subtrees(one.name, other.name)
        if twins and not _numbered(*twins) and _inside(parts, twins[0]) == _inside(parts, twins[1]):
            return f"two of the same names and shapes: {twins[0]!r} and {twins[1]!r}"
    return None


def _subtrees(one: str, other: str) -> tuple[str, str] | None:
    """The names up to the first component in which they differ; None where one is inside of the other."""
    first, second = one.split("."), other.split(".")
    for place, (left, right) in enumerate(zip(first, second, strict=False), 1):
        if left != right:
            return ".".join(first[:place]), ".".join(second[:place])
    return None


def _numbered(one: str, other: str) -> bool:
    """Whether two names differ only in a number: "lstm1" and "lstm2", or "lstm" and "lstm2"."""
    return re.sub(r"_?\d+", "", one) == re.sub(r"_?\d+", "", other)


def _inside(parts: Sequence[Part], name: str) -> list[tuple[object, ...]]:
    return [part.shapes for part in parts if part.name == name or part.name.startswith(f"{name}.")]


def _embedding(lstms: Sequence[Part], heads: Sequence[Part]) -> str | None:
    """Whether the dense layer may be an Embedding in front of an LSTM, in words."""
    for head in heads:
        if looks_embedded(head) or (not head.bias and any(head.widths[0] == lstm.widths[0] for lstm in lstms)):
            return f"{head.name} ({head.words}), which can be an Embedding, beside {_some(lstms)}"
    return None


def looks_embedded(part: Part) -> bool:
    """Whether a dense layer's name says that it is an Embedding, which has no bias."""
    return not part.bias and _EMBEDDING.search(part.name.lower()) is not None


def _fits(parts: Sequence[Part]) -> bool:
    return all(below.widths[1] == above.widths[0] for below, above in pairwise(parts))


def _some(parts: Sequence[Part]) -> str:
    more = f" and {len(parts) - 6} more" if len(parts) > 6 else ""
    return ", then ".join(f"{part.name[:100] or 'the rest'} ({part.words})" for part in parts[:6]) + more


def _choose(parts: Sequence[Part]) -> str:
    names = [part.name[:100] for part in parts]
    shown = ", ".join(map(repr, names[:6])) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
    return f"choose with prefix=, one of {shown}, or a list of them in the order in which they run"
