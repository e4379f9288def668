"""Weights that PyTorch computes anew at each call, from tensors that a state_dict has in their place.

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
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from lstmkernel.backends.packing import Array
from lstmkernel.formats.pytorch.weights import Weight, unreadable

_OWN = r"(?:weight|bias)(?:_[ih][hr](?:_l\d+(?:_reverse)?)?)?"
_SUFFIXED = re.compile(rf"(?P<place>(?:.*\.)?)(?P<own>{_OWN})_(?P<part>raw|orig|mask|g|v|u)", re.DOTALL)
_PARAMETRIZED = re.compile(rf"(?P<place>(?:.*\.)?)parametrizations\.(?P<own>{_OWN})\.(?P<part>.+)", re.DOTALL)

_SAVE = "and save the state_dict again"


def resolved(weights: Sequence[Weight]) -> list[Weight]:
    """The weights as the forward pass uses them, in place of what they are computed from."""
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
    given = [weight.name for weight in weights if weight.name not in sources]
    found = {name: _computed(name, parts[origin]) for origin in parts for name in [_place(origin, parts, given)]}
    for origin, inside in parts.items():
        if "raw" in inside:
            found |= {name: unreadable(name, _unclear(origin)) for name in _copies(origin, given, found)}
    return [weight for weight in weights if weight.name not in sources | found.keys()] + list(found.values())


def _place(origin: str, parts: Mapping[str, Mapping[str, Weight]], given: Sequence[str]) -> str:
    """The name of the weight whose parts are at ``origin``.

    A wrapper may keep ``W_raw`` above the module whose weight it is: "rnn.W_raw", and "rnn.module.W" with the others.
    """
    place, own = _split(origin)
    if set(parts[origin]) != {"raw"} or any(_split(name)[0] == place and _alike(name, own) for name in given):
        return origin
    below = {_split(name)[0] for name in (*given, *parts) if _alike(name, own) and name.startswith(place)} - {place}
    if f"{place}module." in below:
        return f"{place}module.{own}"
    return f"{below.pop()}{own}" if len(below) == 1 else origin


def _copies(origin: str, given: Sequence[str], found: Mapping[str, Weight]) -> list[str]:
    """Weights of the same name below ``W_raw``, of which it is not known whether they are what a dropout left."""
    place, own = _split(origin)
    below = [name for name in given if name.startswith(place) and _split(name)[1] == own and name not in found]
    return below if origin in found and any(_split(name)[0] != place for name in below) else []


def _unclear(origin: str) -> str:
    return (
        f"expected one module to which {origin[-100:]}_raw, the weight before dropout, belongs, got several; in the "
        "state_dict, give each weight its own name, and load it again"
    )


def _split(name: str) -> tuple[str, str]:
    """What stands before a tensor's own name, with its dot; and that name."""
    place, dot, own = name.rpartition(".")
    return place + dot, own


def _alike(name: str, own: str) -> bool:
    """Whether both are of an LSTM, or both of another layer."""
    other = _split(name)[1]
    return re.fullmatch(_OWN, other) is not None and ("_" in other) == ("_" in own)


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
