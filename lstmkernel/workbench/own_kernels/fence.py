"""Arrays between guard pages: a kernel that reads or writes past either end of one stops there.

The pages before and after an array cannot be touched. An array cannot touch both of them, so a kernel is called twice:
with arrays that end at a guard page, and with arrays that begin after one. The bytes between an array and its other
guard page hold a pattern, which must be there afterwards. Where the system has no such pages, patterns do it alone.
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, cast

import numpy as np

from lstmkernel.backends import Backend
from lstmkernel.backends.memory import CACHE_LINE
from lstmkernel.backends.packing import Array, LayerWeights, empty
from lstmkernel.workbench.own_kernels.load import KernelError, Own

PAGE = mmap.PAGESIZE
#: Bytes of the guard pages on each side. A kernel may miss an array's end by a whole row.
GUARD = max(PAGE, 1 << 16)
PATTERN = 0xA5

_NOTHING, _READ = 0, 1  # PROT_NONE, PROT_READ


class OverrunError(KernelError):
    """A kernel touched what lies beside an array, or wrote to one that is only to be read."""


@cache
def _mprotect() -> Callable[[int, int, int], int] | None:
    """The C library's function; None where it has none."""
    try:
        found = ctypes.CDLL(None).mprotect
    except (AttributeError, OSError, TypeError):
        return None
    found.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    return cast("Callable[[int, int, int], int]", found)


def _protect(address: int, size: int, access: int) -> bool:
    """Whether the system did it."""
    mprotect = _mprotect()
    return mprotect is not None and mprotect(address, size, access) == 0


def _new_memory(size: int) -> mmap.mmap:
    return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


class Fenced:
    """A copy of an array, with guard pages on both sides."""

    def __init__(self, name: str, source: Array, *, at_end: bool, alignment: int) -> None:
        """at_end: it ends, or with False begins, at a guard page, as near as ``alignment`` (bytes) allows."""
        self.name, self._source = name, source
        size, between = source.nbytes, max(PAGE, -(-source.nbytes // PAGE) * PAGE)
        memory = np.frombuffer(_new_memory(between + 2 * GUARD), np.uint8)
        start = memory.ctypes.data
        first = GUARD + (between - size) // alignment * alignment if at_end else GUARD
        self._all, self._pages = range(start, start + len(memory)), (start + GUARD, between)
        self.first, self.end = start + first, start + first + size
        guarded = _protect(start, GUARD, _NOTHING) and _protect(start + GUARD + between, GUARD, _NOTHING)
        seen = slice(GUARD, GUARD + between) if guarded else slice(0, len(memory))
        memory[seen] = PATTERN
        self._before, self._after = memory[seen.start : first], memory[first + size : seen.stop]
        self.array: Array = memory[first : first + size].view(source.dtype).reshape(source.shape)
        self.array[...] = source
        self.array.flags.writeable = source.flags.writeable

    def lock(self) -> None:
        """From now on it can only be read."""
        _protect(*self._pages, _READ)

    def holds(self, address: int) -> bool:
        """Whether this array's memory, guard pages included, has that address."""
        return address in self._all

    def what_is_at(self, address: int) -> str:
        """An address of ``holds`` in words, for example "past the end of c (element 51; the last one is 50)"."""
        unit = "byte" if self.array.itemsize == 1 else "element"
        place = (address - self.first) // self.array.itemsize
        if self.first <= address < self.end:
            return f"{self.name} ({unit} {place}), which is only to be read"
        if address < self.first:
            return f"before the beginning of {self.name} ({unit} {place}; the first one is 0)"
        return f"past the end of {self.name} ({unit} {place}; the last one is {self.array.size - 1})"

    def check(self) -> None:
        """Raises OverrunError where the pattern beside the array has changed."""
        for part, beside in ((self._before, self.first - len(self._before)), (self._after, self.end)):
            if (changed := np.flatnonzero(part != PATTERN)).size:
                nearest = changed[-1] if part is self._before else changed[0]
                raise OverrunError(f"wrote {self.what_is_at(beside + int(nearest))}")

    def give_back(self, to: tuple[Array, ...]) -> None:
        """Copy what was written to the array that this one stands for, if it is one of these."""
        if any(self._source is array for array in to):
            self._source[...] = self.array


class Fence:
    """Calls kernels with all their arrays between guard pages."""

    def __init__(self, announce: Callable[[str, float], None]) -> None:
        """announce: called before each call, with the kernel and its sizes, and the operations that it has to do."""
        self._announce = announce
        self._arrays: list[Fenced] | None = None
        self.at_end = True

    def scratch(self, size: int) -> Array:
        """Memory for the kernel's own use, aligned to a cache line."""
        return self._put("work", empty((size,), np.uint8), CACHE_LINE)

    def touched(self, address: int, verb: str) -> str | None:
        """What an access to this address was, for example "wrote past the end of c"; None where no array is near."""
        near = [array for array in self._arrays or () if array.holds(address)]
        return f"{verb} {near[0].what_is_at(address)}" if near else None

    def backend(self, own: Own) -> Backend:
        """The kernels of a file."""
        kernels = own.backend

        def gate_matmul(x: Array, weights: LayerWeights, z: Array) -> None:
            (N, I), H = x.shape, weights.hidden_size
            with self._call(f"gate_matmul(N={N}, I={I}, H={H})", 8 * N * I * H, z):
                fenced_x, layer = self._read("x", x), self._layer(own, weights)
                kernels.gate_matmul(fenced_x, layer, self._put("z", z, CACHE_LINE))

        def cell_update(z: Array, c: Array, h: Array) -> None:
            N, H = c.shape
            with self._call(f"cell_update(N={N}, H={H})", 100 * N * H, c, h):
                fenced_z = self._read("z", z, CACHE_LINE)
                kernels.cell_update(fenced_z, self._put("c", c), self._put("h", h))

        def layer_forward(
            x: Array, weights: LayerWeights, lengths: Array | None, reverse: bool, h: Array, c: Array, out: Array
        ) -> None:
            (T, B, I), H = x.shape, weights.hidden_size
            what = (
                f"layer_forward(T={T}, B={B}, I={I}, H={H}, {'lengths, ' * (lengths is not None)}reverse={reverse:d})"
            )
            with self._call(what, T * B * H * (8 * (I + H) + 100), h, c, out):
                fenced_x, layer = self._read("x", x), self._layer(own, weights)
                fenced_lengths = None if lengths is None else self._read("lengths", lengths)
                states = self._put("h", h), self._put("c", c)
                kernels.layer_forward(fenced_x, layer, fenced_lengths, reverse, *states, self._put("out", out))

        found: dict[str, Any] = {"gate_matmul": gate_matmul, "cell_update": cell_update, "layer_forward": layer_forward}
        return kernels._replace(**{name: found[name] for name in own.kernels})

    @contextmanager
    def _call(self, what: str, operations: float, *written: Array) -> Iterator[None]:
        self._announce(what, operations)
        self._arrays = []
        try:
            yield
            for array in self._arrays:
                array.check()
                array.give_back(written)
        finally:
            self._arrays = None

    def _put(self, name: str, source: Array, alignment: int = 1) -> Array:
        if self._arrays is None:  # no call: what is timed has plain memory
            return source
        alignment = max(alignment, source.itemsize)
        fenced = Fenced(name, source, at_end=self.at_end, alignment=alignment)
        self._arrays.append(fenced)
        return fenced.array

    def _read(self, name: str, source: Array, alignment: int = 1) -> Array:
        array = self._put(name, source, alignment)
        if self._arrays:
            self._arrays[-1].lock()
        return array

    def _layer(self, own: Own, weights: LayerWeights) -> LayerWeights:
        arrays: dict[str, Any] = {
            name: self._read(name, getattr(weights, name), CACHE_LINE) for name in ("w_x", "w_h", "bias")
        }
        fenced = weights._replace(**arrays)
        return fenced._replace(native=own.native(fenced))
