"""PyTorch's pickles, read as data: a small interpreter of the opcodes that ``torch.save`` writes for tensors.

Nothing is imported or called. Where PyTorch's own unpickler calls a function to make a tensor, this one makes a
description. Every other function, and every opcode that tensors in containers do not need, is refused by its name.
Sizes are checked where they appear, so that every description that leaves this file fits its storage.
"""

from __future__ import annotations

import io
import pickletools
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

#: A tensor takes about 30 operations, so this is a model of 15,000 tensors. Each makes at most one small object.
MOST_OPERATIONS = 500_000
MOST_BYTES = 16 << 20

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
}

_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_LITERALS = {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE"}
_EMPTY = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}
_SMALL_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_INERT = {"PROTO", "FRAME", "STOP"}
_OPCODES = {opcode.code.encode("latin-1"): opcode for opcode in pickletools.opcodes}


@dataclass(frozen=True, slots=True)
class Storage:
    """Elements in a member of the zip, whose name is the key."""

    key: str
    dtype: str
    elements: int


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A view of a storage; offset and strides count elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Name:
    """A name in a module, which the pickle mentions."""

    module: str
    name: str


_DICT = _Name("collections", "OrderedDict")
_TENSOR = _Name("torch._utils", "_rebuild_tensor_v2")
_PARAMETER = _Name("torch._utils", "_rebuild_parameter")
_PLAIN = (_Name("torch", "Size"), _Name("torch", "device"))  # called with plain values, which are kept as they are
_DTYPES = {
    _Name("torch", name)
    for name in ("float16", "bfloat16", "float32", "float64", "uint8", "int8", "int16", "int32", "int64", "bool")
}
_KNOWN = {
    (known.module, known.name): known
    for known in (_DICT, _TENSOR, _PARAMETER, *_PLAIN, *_DTYPES, *(_Name("torch", name) for name in STORAGES))
}


def parse(data: bytes) -> Any:
    """What was pickled: dicts, lists, tuples, strings, numbers and StoredTensors. One container may be in several."""
    if len(data) > MOST_BYTES:
        raise ValueError(f"pickle: expected at most {MOST_BYTES} bytes without the tensors' elements, got {len(data)}")
    try:
        return _run(data)
    except ValueError as error:  # also those of pickletools
        raise ValueError(f"pickle: {error}") from error


def _run(data: bytes) -> Any:
    machine = _Machine()
    for count, (name, argument, position) in enumerate(_operations(data)):
        if count > MOST_OPERATIONS:
            raise ValueError(f"expected at most {MOST_OPERATIONS} operations, got more")
        if name == "STOP":
            if position != len(data) - 1:
                raise ValueError(f"expected its end at byte {len(data) - 1}, got it at {position}")
            return machine.result()
        try:
            machine.do(name, argument)
        except IndexError:
            raise ValueError(f"{name} at byte {position}: expected a value on the stack, got none") from None
    raise ValueError(f"expected STOP, got the end at byte {len(data)}")


def _operations(data: bytes) -> Iterator[tuple[str, Any, int]]:
    """Name, argument and position of each opcode.

    Not by ``pickletools.genops``, which would decode the arguments of opcodes before they can be refused.
    """
    file = io.BytesIO(data)
    while code := file.read(1):
        position = file.tell() - 1
        opcode = _OPCODES.get(code)
        if opcode is None:
            raise ValueError(f"opcode {code!r} at byte {position}: unknown")
        if not _Machine.knows(opcode.name):
            raise ValueError(f"opcode {opcode.name}: expected only those of tensors and plain containers")
        reader = _two_lines if opcode.name == "GLOBAL" else opcode.arg.reader if opcode.arg else None
        yield opcode.name, reader(file) if reader else None, position


def _two_lines(file: io.BytesIO) -> str:
    """A module and a name in it, undecoded: pickletools would decode escapes, and Python warns about unknown ones."""
    lines = [file.readline(), file.readline()]
    if not all(line.endswith(b"\n") for line in lines):
        raise ValueError("GLOBAL: expected two lines, got the end")
    return " ".join(line[:-1].decode("ascii", "backslashreplace") for line in lines)


class _Machine:
    """The interpreter's stack and memo. MARK puts the stack aside and begins an empty one."""

    def __init__(self) -> None:
        self._stack: list[Any] = []
        self._below: list[list[Any]] = []
        self._memo: dict[int, Any] = {}

    def result(self) -> Any:
        if len(self._stack) != 1 or self._below:
            raise ValueError(f"expected one value at the end, got {len(self._stack)}")
        return self._stack[0]

    @classmethod
    def knows(cls, name: str) -> bool:
        simple = name in _CONSTANTS or name in _LITERALS or name in _EMPTY or name in _SMALL_TUPLES or name in _INERT
        return simple or hasattr(cls, f"_{name.lower()}")

    def do(self, name: str, argument: Any) -> None:
        stack = self._stack
        if name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _LITERALS:
            stack.append(argument)
        elif name in _EMPTY:
            stack.append(_EMPTY[name]())
        elif name in _SMALL_TUPLES:
            stack.append(tuple(stack.pop() for _ in range(_SMALL_TUPLES[name]))[::-1])
        elif name not in _INERT:
            getattr(self, f"_{name.lower()}")(argument)

    # ---------------------------------------------------------------- one method an opcode

    def _mark(self, _: Any) -> None:
        self._below.append(self._stack)
        self._stack = []

    def _since_mark(self) -> list[Any]:
        values, self._stack = self._stack, self._below.pop()
        return values

    def _tuple(self, _: Any) -> None:
        values = self._since_mark()
        self._stack.append(tuple(values))

    def _append(self, _: Any) -> None:
        value = self._stack.pop()
        _expect(self._stack[-1], list, "a list to append to").append(value)

    def _appends(self, _: Any) -> None:
        values = self._since_mark()
        _expect(self._stack[-1], list, "a list to append to").extend(values)

    def _setitem(self, _: Any) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        _set(self._stack[-1], key, value)

    def _setitems(self, _: Any) -> None:
        values = self._since_mark()
        if len(values) % 2:
            raise ValueError("expected a value for each key")
        for key, value in zip(values[::2], values[1::2], strict=True):
            _set(self._stack[-1], key, value)

    def _binput(self, index: int) -> None:
        self._memo[index] = self._stack[-1]

    _long_binput = _binput

    def _memoize(self, _: Any) -> None:
        self._memo[len(self._memo)] = self._stack[-1]

    def _binget(self, index: int) -> None:
        if index not in self._memo:
            raise ValueError(f"memo: expected an entry {index}, got {len(self._memo)} entries without it")
        self._stack.append(self._memo[index])

    _long_binget = _binget

    def _global(self, names: str) -> None:
        self._stack.append(_known(*names.split(" ", 1)))

    def _stack_global(self, _: Any) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        self._stack.append(_known(_expect(module, str, "a module's name"), _expect(name, str, "a name")))

    def _binpersid(self, _: Any) -> None:
        self._stack.append(_storage(self._stack.pop()))

    def _reduce(self, _: Any) -> None:
        arguments, function = _expect(self._stack.pop(), tuple, "arguments"), self._stack.pop()
        self._stack.append(_called(function, arguments))

    def _build(self, _: Any) -> None:
        """Drops the attributes of an OrderedDict: in a state_dict, the versions of the modules."""
        self._stack.pop()
        _expect(self._stack[-1], dict, "a dict with attributes")


# ---------------------------------------------------------------- what the opcodes make


def _known(module: str, name: str) -> _Name:
    found = _KNOWN.get((module, name))
    if found is None:
        raise ValueError(
            f"expected tensors and plain containers, got the name {module[:100]}.{name[:100]}; nothing in a "
            "file is executed or imported. If the file is yours: torch.save(model.state_dict(), path)"
        )
    return found


def _storage(description: Any) -> Storage:
    """From ("storage", torch.FloatStorage, key, device, number of elements)."""
    match description:
        case ("storage", _Name(module="torch", name=kind), str(key), str(), int(elements)) if kind in STORAGES:
            return Storage(key, STORAGES[kind], elements)
    raise ValueError("expected a storage as torch.save describes it, got another persistent id")


def _called(function: Any, arguments: tuple[Any, ...]) -> Any:
    if function == _DICT and not arguments:
        return {}
    if function == _TENSOR and len(arguments) >= 4:
        if len(arguments) > 6 and arguments[6]:  # flags: its numbers are to be negated or conjugated
            raise ValueError(f"expected the numbers themselves, got a tensor with {str(arguments[6])[:100]}")
        return _tensor(*arguments[:4])
    if function == _PARAMETER and arguments and isinstance(arguments[0], StoredTensor):
        return arguments[0]
    if function in _PLAIN:
        return arguments
    name = f"{function.module}.{function.name}" if isinstance(function, _Name) else type(function).__name__
    raise ValueError(f"expected a call that makes a tensor or a container, got a call of {name}")


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any) -> StoredTensor:
    """A view within its storage, with no more elements than it has."""
    sizes = (offset, *_expect(shape, tuple, "a shape"), *_expect(strides, tuple, "strides"))
    if not isinstance(storage, Storage) or not all(type(size) is int and size >= 0 for size in sizes):
        raise ValueError("expected a tensor of a storage and of sizes of at least 0, got another description")
    if len(shape) != len(strides) or len(shape) > 32:
        raise ValueError(f"expected a stride for each of at most 32 sizes, got {len(shape)}, {len(strides)}")
    elements = prod(shape)
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True)) if elements else 0
    if elements > storage.elements or (elements and last >= storage.elements):
        raise ValueError(
            f"storage {storage.key[:100]!r}: expected a tensor within its {storage.elements} elements, got "
            f"shape {shape}, strides {strides}, offset {offset}"
        )
    return StoredTensor(storage, offset, shape, strides)


def _set(target: Any, key: Any, value: Any) -> None:
    target = _expect(target, dict, "a dict to set items of")
    small = type(key) is int and abs(key) < 1 << 31  # a dict of large integers can be made slow
    if not small and not isinstance(key, str):
        raise ValueError(f"expected keys that are strings or small integers, got {type(key).__name__}")
    if key in target:
        raise ValueError(f"key {str(key)[:100]!r} is there twice")
    target[key] = value


def _expect(value: Any, kind: type, what: str) -> Any:
    if not isinstance(value, kind):
        raise ValueError(f"expected {what}, got {type(value).__name__}")
    return value
