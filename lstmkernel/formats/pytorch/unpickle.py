"""PyTorch's pickles, read as data: a small interpreter of pickle's opcodes.

Nothing is imported or called: ``pickled.py`` says what stands for the values. Each opcode costs about as much memory as
it has bytes; what it makes is counted, so that a small pickle cannot make much.
"""

from __future__ import annotations

import pickletools
import struct
from collections.abc import Callable
from typing import Any, NamedTuple

from lstmkernel.formats.pytorch import pickled
from lstmkernel.formats.pytorch.pickled import Dict, Name, Opaque, Storage
from lstmkernel.formats.untrusted import limits

#: About two seconds. A tensor takes about 30 operations, a word of a vocabulary three.
MOST_OPERATIONS = 2_000_000

_OPCODES = {ord(opcode.code): opcode.name for opcode in pickletools.opcodes}

#: About how many bytes a value of each kind takes in memory.
_CONTAINER, _OPAQUE, _VALUE, _SLOT = 160, 200, 50, 8


Nested = Callable[[bytes], Storage | None]


class Unpickled(NamedTuple):
    value: Any
    end: int  # where the pickle ends in the data
    storages: dict[str, Storage]  # all that it mentions, by their keys


def parse(data: Any, file_size: int, start: int = 0, nested: Nested | None = None) -> Unpickled:
    """What was pickled at a place of ``data``, which is bytes or a mapped file.

    Values are texts, numbers, lists, tuples and what ``pickled`` describes. One container may be in several, and in
    itself. A file of ``file_size`` bytes must not take much more than that. ``nested`` reads a storage that was pickled
    as the bytes of a file of its own.
    """
    try:
        machine = _Machine(data, file_size, start, nested)
        return Unpickled(machine.run(), machine.at, machine.storages)
    except ValueError as error:
        raise ValueError(f"pickle: {error}") from error


class _Machine:
    """The interpreter's place in the data, its stack and its memo. MARK puts the stack aside and begins another."""

    def __init__(self, data: Any, file_size: int, start: int, nested: Nested | None) -> None:
        self.at, self._nested = start, nested
        self._data, self._size, self._file_size = data, len(data), file_size
        self._stack: list[Any] = []
        self._below: list[list[Any]] = []
        self._memo: list[Any] = []
        self._far_memo: dict[int, Any] = {}
        self._cost = 0
        self.storages: dict[str, Storage] = {}

    def run(self) -> Any:
        """Every opcode up to STOP."""
        for _ in range(MOST_OPERATIONS):
            begin = self.at
            if begin >= self._size:
                raise ValueError(f"expected STOP, got the end at byte {begin}")
            name = _OPCODES.get(self._data[begin])
            if name is None:
                raise ValueError(f"opcode {bytes([self._data[begin]])!r} at byte {begin}: unknown")
            self.at = begin + 1
            if name == "STOP":
                return self._result()
            try:
                _DO[name](self)
            except (IndexError, KeyError):
                raise ValueError(f"{name} at byte {begin}: expected a value on the stack, got none") from None
        raise ValueError(f"expected at most {MOST_OPERATIONS} operations, got more")

    def _result(self) -> Any:
        if len(self._stack) != 1 or self._below:
            raise ValueError(f"expected one value at the end, got {len(self._stack)}")
        return self._stack[0]

    # ---------------------------------------------------------------- reading

    def take(self, count: int) -> bytes:
        """The next bytes."""
        begin, end = self.at, self.at + count
        if end > self._size:
            raise ValueError(f"expected {count} bytes at byte {begin}, got the end at byte {self._size}")
        self.at = end
        return bytes(self._data[begin:end])

    def number(self, form: str) -> Any:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def line(self) -> str:
        """The text up to the end of the line, its escapes as they are."""
        return self.raw_line().decode("ascii", "backslashreplace")

    def raw_line(self) -> bytes:
        end = self._data.find(b"\n", self.at)
        if end < 0:
            raise ValueError(f"expected a line at byte {self.at}, got the end")
        found = self.take(end - self.at)
        self.at = end + 1
        return found

    def sized(self, form: str) -> bytes:
        """Bytes behind their number."""
        return self.take(self.number(form))

    # ---------------------------------------------------------------- the stack

    def push(self, value: Any, cost: int = _VALUE) -> None:
        self._cost += cost + _SLOT
        if self._cost & ~0xFFFFF != (self._cost - cost - _SLOT) & ~0xFFFFF:  # from time to time
            limits.check("its values", self._cost, self._file_size)
        self._stack.append(value)

    def push_text(self, text: str | bytes) -> None:
        self.push(text, _VALUE + len(text))

    def pop(self) -> Any:
        return self._stack.pop()

    def drop(self) -> None:
        """POP: the topmost value, or the mark where there is none."""
        if self._stack:
            self._stack.pop()
        else:
            self.since_mark()

    @property
    def top(self) -> Any:
        return self._stack[-1]

    def replace(self, value: Any) -> None:
        """Another value in the place of the topmost."""
        self._stack[-1] = value

    def mark(self) -> None:
        self.push(None, _CONTAINER)
        self._stack.pop()
        self._below.append(self._stack)
        self._stack = []

    def since_mark(self) -> list[Any]:
        values, self._stack = self._stack, self._below.pop()
        return values

    # ---------------------------------------------------------------- the memo

    def put(self, index: int) -> None:
        value = self._stack[-1]
        self._cost += _SLOT if index == len(self._memo) else _CONTAINER
        if index == len(self._memo):
            self._memo.append(value)
        elif 0 <= index < len(self._memo):
            self._memo[index] = value
        else:
            self._far_memo[index] = value
            limits.check("its values", self._cost, self._file_size)

    def memoize(self) -> None:
        self.put(len(self._memo) + len(self._far_memo))

    def get(self, index: int) -> None:
        if 0 <= index < len(self._memo):
            value = self._memo[index]
        elif index in self._far_memo:
            value = self._far_memo[index]
        else:
            raise ValueError(f"memo: expected an entry {index}, got {len(self._memo)} entries without it")
        self.push(value, 0)

    # ---------------------------------------------------------------- containers

    def append(self, values: list[Any]) -> None:
        target = self.top
        if isinstance(target, Opaque):  # a list of a class of its own
            target.inner += values
        elif isinstance(target, list):
            target += values
        else:
            raise ValueError(f"expected a list to append to, got {type(target).__name__}")

    def set_items(self, values: list[Any]) -> None:
        if len(values) % 2:
            raise ValueError("expected a value for each key")
        target = self.top
        if isinstance(target, Opaque):  # a dict of a class of its own
            target.inner += values
        elif isinstance(target, Dict):
            target.items += values
            self._cost += _SLOT * len(values)
        else:
            raise ValueError(f"expected a dict to set items of, got {type(target).__name__}")

    # ---------------------------------------------------------------- names and calls

    def name(self, module: Any, name: Any) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise ValueError(f"expected the name of a module and a name in it, got {type(module).__name__}")
        self.push(Name(module, name), _OPAQUE + len(module) + len(name))

    def call(self, function: Any, arguments: Any) -> None:
        if not isinstance(arguments, tuple | list):
            raise ValueError(f"expected arguments, got {type(arguments).__name__}")
        copied = sum(_SLOT * len(each) for each in arguments if isinstance(each, str | list))
        made = self._storage(arguments) if function == _FROM_BYTES else None
        made = pickled.called(function, tuple(arguments)) if made is None else made
        self.push(made, _OPAQUE + _SLOT * len(arguments) + copied)

    def _storage(self, arguments: Any) -> Storage | None:
        if self._nested is None or len(arguments) != 1 or not isinstance(arguments[0], bytes):
            return None
        self.push(None, _CONTAINER + len(arguments[0]))
        self.pop()
        return self._nested(arguments[0])

    def persistent(self) -> None:
        """A storage, or the class of a module, by its persistent id."""
        found = pickled.storage(self.pop())
        whole = found[0] if isinstance(found, tuple) else found
        if isinstance(whole, Storage) and self.storages.setdefault(whole.key, whole) != whole:
            raise ValueError(f"storage {whole.key[:100]!r}: expected one size and dtype, got two")
        self.push(found, 2 * _OPAQUE)

    def make(self, kind: Any, *given: Any) -> None:
        """An object of a class; ``given`` is what its ``__new__`` gets."""
        if not isinstance(kind, Name | Opaque):
            raise ValueError(f"expected a class, got {type(kind).__name__}")
        if kind == _ORDERED:  # some programs make their state_dict so
            self.push(Dict(), _CONTAINER)
            return
        why = str(kind) if isinstance(kind, Name) else kind.why
        self.push(Opaque(why, [each for each in given if each]), _OPAQUE)

    def build(self) -> None:
        state = self.pop()
        self.replace(pickled.built(self.top, state))


_ORDERED = Name("collections", "OrderedDict")
_FROM_BYTES = Name("torch.storage", "_load_from_bytes")


# ---------------------------------------------------------------- one entry an opcode


def _tuple(machine: _Machine, count: int) -> None:
    values = [machine.pop() for _ in range(count)]
    machine.push(tuple(values[::-1]))


def _marked_tuple(machine: _Machine) -> None:
    values = machine.since_mark()
    machine.push(tuple(values), _VALUE + _SLOT * len(values))


def _marked_list(machine: _Machine) -> None:
    values = machine.since_mark()
    machine.push(values, _CONTAINER)


def _marked_dict(machine: _Machine) -> None:
    values = machine.since_mark()
    machine.push(Dict(), _CONTAINER)
    machine.set_items(values)


def _set(machine: _Machine, values: list[Any]) -> None:
    machine.push(Opaque("a set", values), _OPAQUE + _SLOT * len(values))


def _setitem(machine: _Machine) -> None:
    value, key = machine.pop(), machine.pop()
    machine.set_items([key, value])


def _stack_global(machine: _Machine) -> None:
    name, module = machine.pop(), machine.pop()
    machine.name(module, name)


def _reduce(machine: _Machine) -> None:
    arguments, function = machine.pop(), machine.pop()
    machine.call(function, arguments)


def _new(machine: _Machine, named: bool) -> None:
    given = [machine.pop() for _ in range(2 if named else 1)]
    machine.make(machine.pop(), *given[::-1])


def _object(machine: _Machine) -> None:
    kind, *arguments = machine.since_mark()
    machine.make(kind, arguments)


def _instance(machine: _Machine) -> None:
    kind = Name(machine.line(), machine.line())
    machine.make(kind, machine.since_mark())


def _decimal(machine: _Machine) -> None:
    """INT and LONG as text; 00 and 01 are bools."""
    text = machine.line()
    machine.push({"00": False, "01": True}[text] if text in ("00", "01") else int(text.removesuffix("L")))


def _quoted(machine: _Machine) -> None:
    text = machine.line()
    if len(text) < 2 or text[0] != text[-1] or text[0] not in "'\"":
        raise ValueError("STRING: expected quotes, got none")
    machine.push_text(text[1:-1])


def _binary(signed: bool, form: str) -> Callable[[_Machine], None]:
    def do(machine: _Machine) -> None:
        data = machine.sized(form)
        machine.push(int.from_bytes(data, "little", signed=signed), _VALUE + len(data))

    return do


def _bytes(form: str) -> Callable[[_Machine], None]:
    return lambda machine: machine.push_text(machine.sized(form))


def _text(form: str, encoding: str = "utf-8", errors: str = "surrogatepass") -> Callable[[_Machine], None]:
    return lambda machine: machine.push_text(machine.sized(form).decode(encoding, errors))


def _constant(value: Any) -> Callable[[_Machine], None]:
    return lambda machine: machine.push(value, 0)


def _fixed(form: str) -> Callable[[_Machine], None]:
    return lambda machine: machine.push(machine.number(form), 28)


def _extension(form: str) -> Callable[[_Machine], None]:
    return lambda machine: machine.push(Opaque(f"extension {machine.number(form)} of copyreg"), _OPAQUE)


#: The Python 2 of old files wrote texts as bytes; latin-1 keeps every byte.
_DO: dict[str, Callable[[_Machine], object]] = {
    "PROTO": lambda machine: machine.take(1),
    "FRAME": lambda machine: machine.take(8),
    "NONE": _constant(None),
    "NEWTRUE": _constant(True),
    "NEWFALSE": _constant(False),
    "INT": _decimal,
    "LONG": _decimal,
    "BININT": _fixed("<i"),
    "BININT1": _fixed("<B"),
    "BININT2": _fixed("<H"),
    "LONG1": _binary(True, "<B"),
    "LONG4": _binary(True, "<I"),
    "FLOAT": lambda machine: machine.push(float(machine.line())),
    "BINFLOAT": _fixed(">d"),
    "STRING": _quoted,
    "UNICODE": lambda machine: machine.push_text(machine.raw_line().decode("raw-unicode-escape")),
    "BINSTRING": _text("<I", "latin-1"),
    "SHORT_BINSTRING": _text("<B", "latin-1"),
    "SHORT_BINUNICODE": _text("<B"),
    "BINUNICODE": _text("<I"),
    "BINUNICODE8": _text("<Q"),
    "SHORT_BINBYTES": _bytes("<B"),
    "BINBYTES": _bytes("<I"),
    "BINBYTES8": _bytes("<Q"),
    "BYTEARRAY8": _bytes("<Q"),
    "NEXT_BUFFER": lambda machine: machine.push(Opaque("a buffer outside the pickle"), _OPAQUE),
    "READONLY_BUFFER": lambda machine: machine.top,
    "EMPTY_DICT": lambda machine: machine.push(Dict(), _CONTAINER),
    "EMPTY_LIST": lambda machine: machine.push([], _CONTAINER),
    "EMPTY_TUPLE": _constant(()),
    "EMPTY_SET": lambda machine: _set(machine, []),
    "TUPLE1": lambda machine: _tuple(machine, 1),
    "TUPLE2": lambda machine: _tuple(machine, 2),
    "TUPLE3": lambda machine: _tuple(machine, 3),
    "TUPLE": _marked_tuple,
    "LIST": _marked_list,
    "DICT": _marked_dict,
    "FROZENSET": lambda machine: _set(machine, machine.since_mark()),
    "APPEND": lambda machine: machine.append([machine.pop()]),
    "APPENDS": lambda machine: machine.append(machine.since_mark()),
    "ADDITEMS": lambda machine: machine.append(machine.since_mark()),
    "SETITEM": _setitem,
    "SETITEMS": lambda machine: machine.set_items(machine.since_mark()),
    "MARK": _Machine.mark,
    "POP": _Machine.drop,
    "POP_MARK": _Machine.since_mark,
    "DUP": lambda machine: machine.push(machine.top, 0),
    "PUT": lambda machine: machine.put(int(machine.line())),
    "BINPUT": lambda machine: machine.put(machine.number("<B")),
    "LONG_BINPUT": lambda machine: machine.put(machine.number("<I")),
    "MEMOIZE": _Machine.memoize,
    "GET": lambda machine: machine.get(int(machine.line())),
    "BINGET": lambda machine: machine.get(machine.number("<B")),
    "LONG_BINGET": lambda machine: machine.get(machine.number("<I")),
    "GLOBAL": lambda machine: machine.name(machine.line(), machine.line()),
    "STACK_GLOBAL": _stack_global,
    "PERSID": lambda machine: machine.push(Opaque(f"persistent id {machine.line()[:60]}"), _OPAQUE),
    "BINPERSID": _Machine.persistent,
    "REDUCE": _reduce,
    "BUILD": _Machine.build,
    "NEWOBJ": lambda machine: _new(machine, named=False),
    "NEWOBJ_EX": lambda machine: _new(machine, named=True),
    "OBJ": _object,
    "INST": _instance,
    "EXT1": _extension("<B"),
    "EXT2": _extension("<H"),
    "EXT4": _extension("<I"),
}
