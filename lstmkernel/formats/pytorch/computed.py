"""Weights that PyTorch computes again at each call, from tensors that a state_dict has in their place.

| what | in the state_dict, for a weight ``W`` | in inference |
|---|---|---|
| WeightDrop (AWD-LSTM, fastai, PyTorch-NLP) | ``W_raw``; perhaps ``W``, which the last dropout left | ``W_raw`` |
| pruning | ``W_orig``, ``W_mask`` | their product |
| weight norm | ``W_g``, ``W_v``; newer ``parametrizations.W.original0``, ``...1`` | g v / norm(v) |
| spectral norm | ``W_orig``, ``W_u``, ``W_v``; newer ``parametrizations.W.original``, ``.0._u``, ``.0._v`` | W / u'Wv |

What else is parametrized (orthogonal, say) is computed by a program, and cannot be read.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from lstmkernel.backends.packing import Array
from lstmkernel.formats.pytorch import packed
from lstmkernel.formats.pytorch.weights import Weight, unreadable

_OWN = r"(?:weight|bias)(?:_[ih][hr](?:_l\d+(?:_reverse)?)?)?"
_SUFFIXED = re.compile(rf"(?P<place>(?:.*\.)?)(?P<own>{_OWN})_(?P<part>raw|orig|mask|g|v|u)", re.DOTALL)
_PARAMETRIZED = re.compile(rf"(?P<place>(?:.*\.)?)parametrizations\.(?P<own>{_OWN})\.(?P<part>.+)", re.DOTALL)

_SAVE = "and save the state_dict again"


def resolved(weights: Sequence[Weight]) -> list[Weight]:
    """The weights as the forward pass uses them, in place of what they are computed from."""
    weights = packed.resolved(weights)
    parts: dict[str, dict[str, Weight]] = {}
    sources = set[str]()
    for weight in weights:
        match = _SUFFIXED.fullmatch(weight.name) or _PARAMETRIZED.fullmatch(weight.name)
        if match:
            kind = "" if match.re is _SUFFIXED else "parametrizations."
            parts.setdefault(match["place"] + match["own"], {})[kind + match["part"]] = weight
            sources.add(weight.name)
    if not parts:
        return list(weights)
    given = _Given([weight.name for weight in weights if weight.name not in sources], parts)
    found: dict[str, Weight] = {}
    unclear: dict[str, set[str]] = {}  # by place
    for origin, inside in parts.items():
        name = given.place_of(origin) if set(inside) == {"raw"} else origin
        if name is None:
            place, own = _split(origin)
            unclear.setdefault(place, set()).add(own)
        found[name or origin] = _computed(name or origin, inside)
    for place, owns in unclear.items():
        found |= {name: unreadable(name, _unclear(place)) for name in given.below(place) if _split(name)[1] in owns}
    gone = sources | found.keys()
    return [weight for weight in weights if weight.name not in gone] + list(found.values())


class _Given:
    """The names that are there, in an order in which what begins alike stands side by side."""

    def __init__(self, given: Sequence[str], origins: Iterable[str]) -> None:
        self._names = sorted(given)
        self._kinds: dict[bool, list[str]] = {True: [], False: []}  # places of LSTMs, and of other layers
        for kind, places in self._kinds.items():
            named = (_split(name) for name in {*given, *origins})
            places += sorted({place for place, own in named if re.fullmatch(_OWN, own) and ("_" in own) == kind})
        self._with_others = {(place, "_" in own) for place, own in map(_split, given) if re.fullmatch(_OWN, own)}

    def place_of(self, origin: str) -> str | None:
        """The name of the weight whose ``W_raw`` is at ``origin``; None if it may be one of several.

        A wrapper may keep it above the module whose weight it is: "rnn.W_raw", and "rnn.module.W" with the others.
        """
        place, own = _split(origin)
        kind = "_" in own
        if (place, kind) in self._with_others:
            return origin
        below = [found for found in _beginning(self._kinds[kind], place, 4) if found != place]
        if f"{place}module." in below:
            return f"{place}module.{own}"
        return origin if not below else f"{below[0]}{own}" if len(below) == 1 else None

    def below(self, place: str) -> list[str]:
        return _beginning(self._names, place, len(self._names))


def _beginning(names: list[str], start: str, most: int) -> list[str]:
    """Of sorted names, the first ones that begin so."""
    begin = end = bisect_left(names, start)
    while end < min(len(names), begin + most) and names[end].startswith(start):
        end += 1
    return names[begin:end]


def _unclear(place: str) -> str:
    return (
        f"expected one module below {place[-100:]!r}, to which the weight before dropout there belongs, got several; "
        "in the state_dict, give each weight its own name, and load it again"
    )


def _split(name: str) -> tuple[str, str]:
    """What stands before a tensor's own name, with its dot; and that name."""
    place, dot, own = name.rpartition(".")
    return place + dot, own


def _computed(name: str, parts: Mapping[str, Weight]) -> Weight:
    """The weight of that name from its parts; one that cannot be read where they do not tell how."""
    kinds = tuple(sorted(parts))
    known = _KINDS.get(kinds)
    broken = next((part for part in parts.values() if part.problem), None)
    if broken:
        return unreadable(name, f"{broken.name}: {broken.problem}")
    if known is None:
        return unreadable(name, _advice(name, parts))
    inputs, compute = known
    whole, *others = (parts[kind] for kind in inputs)
    wrong = _misfit(kinds, whole, others)
    if wrong:
        return unreadable(name, f"{wrong}; {_advice(name, parts)}", whole.shape)
    assumed = (
        f"{name}: its parametrization is taken for torch.nn.utils.parametrizations."
        f"{'weight_norm' if kinds == _NEW_WEIGHT_NORM else 'spectral_norm'} and no other beside it; after "
        "torch.nn.utils.parametrize.remove_parametrizations nothing has to be assumed"
        if any(kind.startswith("parametrizations.") for kind in kinds)
        else ""
    )

    def read() -> Array:
        values = [part.read() for part in (whole, *others)]
        if len(values) == 1:
            return values[0]
        with np.errstate(all="ignore"):  # a norm of zero gives NaN, as in PyTorch
            found = compute(*(value.astype(np.float64) for value in values))
        return found.astype(np.result_type(values[0], np.float32))

    return Weight(name, whole.shape, whole.dtype, read, assumed=assumed)


# ---------------------------------------------------------------- how


def _itself(weight: Array) -> Array:
    return weight


def _masked(weight: Array, mask: Array) -> Array:
    return weight * mask


def _weight_normed(v: Array, g: Array) -> Array:
    """The norm of each row, or of each column, or of all, as the shape of g says."""
    axes = tuple(range(v.ndim)) if g.size == 1 else tuple(axis for axis in range(v.ndim) if g.shape[axis] == 1)
    norm = np.sqrt((v * v).sum(axis=axes, keepdims=True))
    scale: Array = g.reshape(norm.shape) / norm
    return v * scale


def _spectral_normed(weight: Array, u: Array, v: Array) -> Array:
    matrix = weight.reshape(len(weight), -1) if len(u) == len(weight) else weight.T
    sigma: Array = u @ matrix @ v
    return weight / sigma


_NEW_WEIGHT_NORM = ("parametrizations.original0", "parametrizations.original1")

#: By the parts that are there: those that the function takes, the one of the weight's own shape first.
_KINDS: dict[tuple[str, ...], tuple[tuple[str, ...], Callable[..., Array]]] = {
    ("raw",): (("raw",), _itself),
    ("mask", "orig"): (("orig", "mask"), _masked),
    ("g", "v"): (("v", "g"), _weight_normed),
    _NEW_WEIGHT_NORM: (("parametrizations.original1", "parametrizations.original0"), _weight_normed),
    ("orig", "u", "v"): (("orig", "u", "v"), _spectral_normed),
    ("parametrizations.0._u", "parametrizations.0._v", "parametrizations.original"): (
        ("parametrizations.original", "parametrizations.0._u", "parametrizations.0._v"),
        _spectral_normed,
    ),
}


def _misfit(kinds: tuple[str, ...], whole: Weight, others: Sequence[Weight]) -> str:
    """What is wrong with the shapes, or ""."""
    shape, got = whole.shape, [other.shape for other in others]
    if kinds == ("mask", "orig"):
        fits = got == [shape]
    elif len(others) == 1:  # weight norm: one axis, or none, is kept
        kept = [axis for axis, size in enumerate(got[0]) if size != 1]
        of_axis = len(got[0]) == len(shape) and all(got[0][axis] == shape[axis] for axis in kept)
        fits = np.prod(got[0]) == 1 or (of_axis and len(kept) == 1)
    elif others:  # spectral norm
        rest = int(np.prod(shape[1:]))
        fits = len(shape) >= 2 and (got == [shape[:1], (rest,)] or (len(shape) == 2 and got == [shape[1:], shape[:1]]))
    else:
        fits = True
    return "" if fits else f"{whole.name}: expected shapes that fit {shape}, got {', '.join(map(str, got))}"


def _advice(name: str, parts: Mapping[str, Weight]) -> str:
    """What the weight is computed from, and the function that undoes exactly that."""
    own = name.rpartition(".")[2]
    seen = ", ".join(sorted(part.name[-100:] for part in parts.values())[:4])
    if any(kind.startswith("parametrizations.") for kind in parts):
        what = "a parametrization, computed by a program that the file does not have"
        undo = f"torch.nn.utils.parametrize.remove_parametrizations(module, {own!r})"
    elif "raw" in parts:
        what = "the wrapper's weight before dropout, and parts of something else"
        undo = f"in the state_dict, rename {parts['raw'].name[-100:]} to {name[-100:]}"
    elif "mask" in parts:
        what, undo = "parts of a pruned weight", f"torch.nn.utils.prune.remove(module, {own!r})"
    elif "orig" in parts or "u" in parts:
        what, undo = "parts of a spectral norm", f"torch.nn.utils.remove_spectral_norm(module, {own!r})"
    else:
        what, undo = "parts of a weight norm", f"torch.nn.utils.remove_weight_norm(module, {own!r})"
    return f"expected the weight itself, or all that it is computed from, got {seen}: {what}; {undo} {_SAVE}"
