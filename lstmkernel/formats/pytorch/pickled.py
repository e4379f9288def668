"""What a pickle describes: tensors, and placeholders for everything that only a program could make of it.

Nothing is imported or called. Where PyTorch or NumPy calls a function to make a tensor, ``called`` makes a description
of the tensor. What any other function would give is an ``Opaque``: its name, and what was given to it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import Any, Literal

import numpy as np

#: Storage classes of the module torch by the dtype of their elements.
STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexDoubleStorage": "complex128",
    "ComplexFloatStorage": "complex64",
    "UntypedStorage": "uint8",
    "QInt8Storage": "qint8",
    "QUInt8Storage": "quint8",
    "QInt32Storage": "qint32",
}

#: Bytes of an element, of dtypes that NumPy does not have.
_SIZES = {"bfloat16": 2, "qint8": 1, "quint8": 1, "qint32": 4}

#: What arrays and tensors over bytes can have.
_DTYPES = {"uint16", "uint32", "uint64", *STORAGES.values()} - {"qint8", "quint8", "qint32"}

#: No size, stride or offset of a tensor is larger.
MOST_ELEMENTS = 1 << 48


@dataclass(frozen=True, slots=True)
class Storage:
    """Elements in a member of the zip, whose name is the key, or in the pickle itself, ``data``."""

    key: str
    dtype: str
    elements: int
    data: bytes | None = None
    byte_order: Literal["<", ">"] = "<"  # of ``data``; otherwise the file has one for all

    @property
    def size(self) -> int:
        """In bytes."""
        return self.elements * item_size(self.dtype)


def item_size(dtype: str) -> int:
    return _SIZES.get(dtype) or np.dtype(dtype).itemsize


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A view of a storage; offset and strides count elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Name:
    """A name in a module, which the pickle mentions."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module[:60]}.{self.name[:60]}"


@dataclass(slots=True, eq=False)
class Opaque:
    """What only a program could make: ``why`` it cannot be read, and what it would be made of."""

    why: str
    inner: list[Any] = field(default_factory=list)
    tensor: bool = False  # whether it would be a tensor


@dataclass(slots=True, eq=False)
class Dict:
    """A dict, as its keys and values by turns: no key of a file is ever hashed."""

    items: list[Any] = field(default_factory=list)


# ---------------------------------------------------------------- calls


def called(function: Any, arguments: tuple[Any, ...]) -> Any:
    """What ``function(*arguments)`` would give."""
    if isinstance(function, Opaque):
        return Opaque(function.why, [function, *arguments])
    if not isinstance(function, Name):
        raise ValueError(f"expected a call of a name, got a call of {type(function).__name__}")
    make = _CALLS.get((function.module, function.name))
    made = make(arguments) if make else None
    return Opaque(str(function), list(arguments), tensor="rebuild" in function.name[:60]) if made is None else made


def built(value: Any, state: Any) -> Any:
    """What becomes of a value to which attributes are given; a state_dict keeps the versions of its modules there."""
    if isinstance(value, _Array):
        return value.tensor(state)
    if isinstance(value, _Dtype):
        return value.built(state)
    if isinstance(value, Opaque):
        value.inner.append(state)
    elif not isinstance(value, Dict | StoredTensor):
        raise ValueError(f"expected an object to give attributes to, got {type(value).__name__}")
    return value


def storage(description: Any) -> Storage | Opaque | Name | tuple[Storage, int]:
    """From ("storage", torch.FloatStorage, key, device, number of elements).

    Before PyTorch 1.6 a sixth entry can say that it is a part of that storage: (its key, offset, size).
    """
    match description:
        case ("storage", Name(module="torch" | "torch.storage", name=kind), str(key), str(), int(elements), *view):
            if kind not in STORAGES or len(view) > 1:
                return Opaque(f"a {kind[:100]}", tensor=True)
            if not 0 <= elements <= MOST_ELEMENTS:
                raise ValueError(f"storage {key[:100]!r}: expected a number of elements, got {_short(elements)}")
            whole = Storage(key, STORAGES[kind], elements)
            match view:
                case [] | [None]:
                    return whole
                case [(str(), int(offset), int(size))] if 0 <= offset <= offset + size <= elements:
                    return whole, offset
        case ("module", Name() as name, *_):  # the class of a module, with its source
            return name
    raise ValueError("expected a storage as torch.save describes it, got another persistent id")


def _tensor(arguments: tuple[Any, ...]) -> StoredTensor | Opaque | None:
    """``_rebuild_tensor_v2(storage, offset, shape, strides, requires_grad, hooks, flags)``."""
    if len(arguments) < 4:
        return None
    if len(arguments) > 6 and arguments[6] not in (None, False) and _flags(arguments[6]):
        return Opaque("a tensor whose numbers are to be negated or conjugated first", tensor=True)
    return view(*arguments[:4])


def _tensor_of_dtype(arguments: tuple[Any, ...]) -> StoredTensor | Opaque | None:
    """``_rebuild_tensor_v3``: the same over bytes, and in the seventh place the dtype of the numbers."""
    if len(arguments) < 7 or not isinstance(arguments[6], Name) or not isinstance(arguments[0], Storage):
        return None
    raw, dtype = arguments[0], arguments[6].name
    if dtype not in _DTYPES:
        return Opaque(f"a tensor of {dtype[:100]}", tensor=True)
    return view(Storage(raw.key, dtype, raw.size // item_size(dtype)), *arguments[1:4])


def view(given: Any, offset: Any, shape: Any, strides: Any) -> StoredTensor | Opaque:
    """A view within its storage, with no more elements than it has."""
    if isinstance(given, Opaque):
        return Opaque(given.why, tensor=True)
    within, start = given if isinstance(given, tuple) else (given, 0)
    if not isinstance(within, Storage) or not isinstance(shape, tuple) or not isinstance(strides, tuple):
        raise ValueError("expected a tensor of a storage, a shape and strides, got another description")
    if len(shape) != len(strides) or len(shape) > 32:
        raise ValueError(f"expected a stride for each of at most 32 sizes, got {len(shape)}, {len(strides)}")
    sizes = (offset, *shape, *strides)
    if not all(type(size) is int and size >= 0 for size in sizes):
        raise ValueError(f"storage {within.key[:100]!r}: expected sizes of at least 0, got another size")
    elements, offset = prod(shape), offset + start
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True)) if elements else 0
    if elements > within.elements or (elements and last >= within.elements) or max(shape, default=0) > MOST_ELEMENTS:
        raise ValueError(
            f"storage {within.key[:100]!r}: expected a tensor within its {within.elements} elements, got "
            f"shape {_short(shape)}, strides {_short(strides)}, offset {_short(offset)}"
        )
    # A stride along one element means nothing, so it may be any number; NumPy would take it for bytes.
    strides = tuple(stride if size > 1 and elements else 0 for size, stride in zip(shape, strides, strict=True))
    return StoredTensor(within, offset if elements else 0, shape, strides)


def _short(sizes: Any) -> str:
    """Sizes in a message: each may have any number of digits."""
    try:
        return str(sizes)[:200]
    except ValueError:  # more digits than Python writes
        return "too large to write"


def _flags(flags: Any) -> bool:
    """Whether any of the flags ``neg`` and ``conj`` may be set."""
    return not isinstance(flags, Dict) or any(value not in (False, None) for value in flags.items[1::2])


def _inner(arguments: tuple[Any, ...]) -> Any:
    """A Parameter, or a tensor that lives on another device: its first argument has the numbers."""
    value = arguments[0] if arguments else None
    return value if isinstance(value, StoredTensor) or (isinstance(value, Opaque) and value.tensor) else None


def _from_type(arguments: tuple[Any, ...]) -> Any:
    """``_rebuild_from_type_v2(function, type, arguments, attributes)``: a tensor with attributes of its own."""
    match arguments:
        case (Name(), Name(module="torch" | "torch._tensor" | "torch.nn.parameter", name=kind), tuple(inner), *_):
            if kind in ("Tensor", "Parameter", "Buffer"):
                return called(arguments[0], inner)
    return None


def _dict(arguments: tuple[Any, ...]) -> Dict | None:
    """A dict, or one of those classes of ``collections`` that add nothing to read; Python 2 gives a list of pairs."""
    match arguments:
        case ():
            return Dict()
        case (Dict() as copied,):
            return copied
        case (list(pairs),):
            made = Dict()
            for pair in pairs:
                if not isinstance(pair, list | tuple) or len(pair) != 2:
                    return None
                made.items += pair
            return made
    return None


def _default_dict(arguments: tuple[Any, ...]) -> Dict | None:
    return _dict(arguments[1:])


def _size(arguments: tuple[Any, ...]) -> Any:
    return arguments[0] if len(arguments) == 1 and isinstance(arguments[0], tuple | list) else None


def _tagged(arguments: tuple[Any, ...]) -> Any:
    """TorchScript's containers, with the type of their elements beside them."""
    return arguments[0] if arguments and isinstance(arguments[0], list | Dict) else None


# ---------------------------------------------------------------- NumPy's arrays


@dataclass(slots=True)
class _Dtype:
    """``numpy.dtype(name)``; its state says the byte order."""

    name: str
    order: Literal["<", ">"] = "<"

    def built(self, state: Any) -> _Dtype:
        return _Dtype(self.name, ">" if isinstance(state, tuple) and state[1:2] == (">",) else "<")


class _Array:
    """An array that waits for its state: (version, shape, dtype, whether columns come first, bytes)."""

    why = "an array of NumPy"

    def tensor(self, state: Any) -> StoredTensor | Opaque:
        match state:
            case (int(), tuple(shape), _Dtype() as dtype, bool() | int() as columns, bytes() | str() as data):
                raw = data.encode("latin-1", "replace") if isinstance(data, str) else data
                return _array(raw, dtype, shape, "F" if columns else "C")
        return Opaque(self.why, [state], tensor=True)


def _array(data: bytes, dtype: _Dtype, shape: tuple[Any, ...], order: str) -> StoredTensor | Opaque:
    try:
        kind = np.dtype(dtype.name)
    except TypeError:
        return Opaque(f"an array of {dtype.name[:100]}", tensor=True)
    if kind.kind not in "fiubc" or kind.name not in _DTYPES:
        return Opaque(f"an array of {kind.name[:100]}", tensor=True)
    if len(shape) > 32 or not all(type(size) is int and 0 <= size <= MOST_ELEMENTS for size in shape):
        raise ValueError("expected an array of at most 32 sizes of at least 0, got another shape")
    if prod(shape) * kind.itemsize != len(data):
        raise ValueError(f"expected an array of {_short(shape)} {kind.name}, got {len(data)} bytes")
    strides = [prod(shape[place + 1 :] if order == "C" else shape[:place]) for place in range(len(shape))]
    whole = Storage("", kind.name, len(data) // kind.itemsize, data, dtype.order)
    return view(whole, 0, shape, tuple(min(stride, MOST_ELEMENTS) for stride in strides))


def _reconstruct(arguments: tuple[Any, ...]) -> _Array | None:
    return _Array() if arguments[:1] == (Name("numpy", "ndarray"),) else None


def _frombuffer(arguments: tuple[Any, ...]) -> StoredTensor | Opaque | None:
    match arguments:
        case (bytes(data), _Dtype() as dtype, tuple(shape), "C" | "F" as order, *_):
            return _array(data, dtype, shape, order)
    return None


def _dtype(arguments: tuple[Any, ...]) -> _Dtype | None:
    return _Dtype(arguments[0]) if arguments and isinstance(arguments[0], str) else None


def _encoded(arguments: tuple[Any, ...]) -> bytes | None:
    """How protocol 2 writes bytes: the text of the same numbers, and "latin1"."""
    match arguments:
        case (str(text), "latin1" | "latin-1"):
            return text.encode("latin-1", "replace")
        case ():
            return b""
    return None


_CALLS = {
    ("collections", "OrderedDict"): _dict,
    ("collections", "Counter"): _dict,
    ("collections", "defaultdict"): _default_dict,
    ("torch", "Size"): _size,
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_tensor_v3"): _tensor_of_dtype,
    ("torch._tensor", "_rebuild_from_type"): _from_type,
    ("torch._tensor", "_rebuild_from_type_v2"): _from_type,
    ("torch.jit._pickle", "restore_type_tag"): _tagged,
    **{
        ("torch._utils", name): _inner
        for name in (
            *("_rebuild_parameter", "_rebuild_parameter_with_state", "_rebuild_device_tensor_from_numpy"),
            *("_rebuild_device_tensor_from_cpu_tensor", "_rebuild_xla_tensor"),
        )
    },
    **{
        (module, name): make
        for module in ("numpy.core", "numpy._core")
        for module, name, make in (
            (f"{module}.multiarray", "_reconstruct", _reconstruct),
            (f"{module}.numeric", "_frombuffer", _frombuffer),
        )
    },
    ("numpy", "dtype"): _dtype,
    ("_codecs", "encode"): _encoded,
    ("__builtin__", "bytes"): _encoded,
    ("builtins", "bytes"): _encoded,
}
