"""The hot loop of a kernel in machine code: ``compare --asm``.

objdump disassembles the compiled code. A loop reaches from a conditional jump backwards to the jump's target. For each
function in which a kernel spends its time, the inner loop with the highest ratio of arithmetic to loads is shown.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lstmkernel.backends import BackendError
from lstmkernel.backends.c import specialised
from lstmkernel.backends.c.specialised import SPECIALISED
from lstmkernel.host import compile_c

#: The names of the instruction sets' vector registers.
_REGISTERS = {"avx512": "zmm", "avx2": "ymm", "generic": "xmm"}

#: The C functions in which each kernel of the package spends its time.
FUNCTIONS = {
    "gate_matmul": ("input_product", "gate_matmul"),
    "cell_update": ("cell_update",),
    "dense_forward": ("dense_rows", "dense_forward"),
    "layer_forward": (
        "step_rows",
        "step_row",
        "small_step",
        "transposed_step",
        "run_row_plain",
        "run_row_packed",
        "layer_forward",
    ),
    "layer_record": ("record_rows", "record_row", "record_small"),
    "layer_backward": ("product_rows", "cells_backward", "weight_inputs"),
}

_FUNCTION = re.compile(r"^[0-9a-f]+ <(.+)>:$")
_INSTRUCTION = re.compile(r"^ *([0-9a-f]+):\t(\S+) *(.*)$")
#: Conditional jumps only: a compiler moves rare code away, and that code returns by an unconditional jump.
_JUMP = re.compile(r"^(j(?!mp)[a-z]+|b\.[a-z]+|cbn?z|tbn?z)$")
#: A call, or a jump to the beginning of another function, which is a call at the end of one.
_CALL = re.compile(r"\t(?:call|jmp|bl|b)\w? +[0-9a-f]+ <([^.+@>]+)(?:@plt|[.][^+@>]*)?>$")
_MOST_SHOWN = 64
_FMA = re.compile(r"^(vfn?m(add|sub)|fml[as]|fmadd)")
_ARITHMETIC = re.compile(r"^v?(mul|add|sub|div)[ps][sd]$|^f(mul|add|sub|div)$")
_VECTOR = re.compile(r"%[xyz]mm")
_STACK = re.compile(r"\(%r[sb]p|\[sp|\[x29")


class Instruction(NamedTuple):
    """One line of a disassembly."""

    address: int
    name: str
    operands: str

    @property
    def is_fma(self) -> bool:
        return bool(_FMA.match(self.name))

    @property
    def is_arithmetic(self) -> bool:
        return self.is_fma or bool(_ARITHMETIC.match(self.name))

    @property
    def reads_memory(self) -> bool:
        """Whether it loads a vector. Scalar loads are addresses and counts. AT&T syntax names the destination last."""
        if self.name.startswith("ld"):
            return True
        return bool(_VECTOR.search(self.operands)) and any("(" in source for source in self._split()[:-1])

    def _split(self) -> list[str]:
        """The operands, without objdump's remark. A comma inside an address does not separate operands."""
        return re.split(r",(?![^()]*\))", self.operands.partition("#")[0].rstrip())

    @property
    def writes_memory(self) -> bool:
        if self.name.startswith("st"):
            return True
        return bool(_VECTOR.search(self.operands)) and self._split()[-1].endswith(")")

    @property
    def on_stack(self) -> bool:
        return (self.reads_memory or self.writes_memory) and bool(_STACK.search(self.operands))


class Loop(NamedTuple):
    """The instructions of one iteration."""

    function: str
    instructions: tuple[Instruction, ...]

    @property
    def arithmetic(self) -> int:
        return sum(each.is_arithmetic for each in self.instructions)

    @property
    def loads(self) -> int:
        return sum(each.reads_memory for each in self.instructions)

    def __str__(self) -> str:
        fmas = sum(each.is_fma for each in self.instructions)
        counts = {
            "FMAs": fmas,
            "other operations": self.arithmetic - fmas,
            "loads": self.loads,
            "stores": sum(each.writes_memory for each in self.instructions),
            "on the stack": sum(each.on_stack for each in self.instructions),
        }
        summary = ", ".join(f"{count} {what}" for what, count in counts.items())
        lines = [f"    {each.name:<14} {each.operands}".rstrip() for each in self.instructions[:_MOST_SHOWN]]
        if len(self.instructions) > _MOST_SHOWN:
            lines.append(f"    ... and {len(self.instructions) - _MOST_SHOWN} more")
        return "\n".join([f"{self.function}: {len(self.instructions)} instructions, {summary}", *lines])


def require_objdump() -> None:
    if shutil.which("objdump") is None:
        raise BackendError("--asm needs the program objdump, a part of GNU binutils")


class _Code(NamedTuple):
    """A disassembly, and what to look for in it; see ``hot_loops``."""

    listing: str
    functions: tuple[str, ...]
    register: str = ""
    real: str = ""


def hot_loops_of(kernel: str, name: str, dtype: np.dtype[Any], sizes: tuple[int, int, int]) -> str:
    """The hot loops of a backend's kernel, or why there are none. sizes: of the layer that it is specialised for."""
    if name == "numba" and not _numba_code(kernel, dtype):
        return f"{kernel}, {name}: its machine code is not in the cache; see lstmkernel cache"
    code = _code(kernel, name, dtype, sizes)
    return _shown(kernel, name, [] if code is None else hot_loops(*code), has_code=code is not None)


def hot_loops_of_own(kernel: str, name: str, code: bytes) -> str:
    """The hot loops of a user's kernel, and of all functions that it calls. code: a library or an object file."""
    listing = _of_bytes(code) if code else ""
    return _shown(kernel, name, hot_loops(listing, functions_of(listing, kernel), "", ""), has_code=bool(code))


def _shown(kernel: str, name: str, loops: list[Loop], *, has_code: bool) -> str:
    if not has_code:
        return f"{kernel}, {name}: it has no machine code of its own"
    return "\n".join(f"{kernel}, {name}, {loop}" for loop in loops) or f"{kernel}, {name}: no loop with arithmetic"


def _code(kernel: str, name: str, dtype: np.dtype[Any], sizes: tuple[int, int, int]) -> _Code | None:
    real = "ps" if dtype == np.float32 else "pd"
    if name == "numba":
        return _Code(_of_bytes(_numba_code(kernel, dtype)), ("",), "", real)
    if not name.startswith("c:"):
        return None
    isa = name.removeprefix("c:").removesuffix(SPECIALISED)
    special = name.endswith(SPECIALISED)
    listing = _of_bytes(specialised.get(isa, dtype, sizes).code) if special else _of_extension()
    return _Code(listing, FUNCTIONS.get(kernel, (kernel,)), _REGISTERS.get(isa, ""), real)


def _numba_code(kernel: str, dtype: np.dtype[Any]) -> bytes:
    """The object file, which is a part of the cache's entry."""
    from lstmkernel.backends.numba.jit_cache import DiskCache

    entry = DiskCache(f"{kernel}-{dtype.name}").content()
    return entry[entry.index(b"\x7fELF") :] if entry and b"\x7fELF" in entry else b""


@cache
def _of_extension() -> str:
    """The disassembly of the package's own C kernels."""
    from lstmkernel.backends.c import _kernels

    return _disassembled(Path(str(_kernels.__file__)))


def _of_bytes(code: bytes) -> str:
    with compile_c.as_file(code) as path:
        return _disassembled(path)


def _disassembled(code: Path) -> str:
    """objdump's listing of a library or an object file."""
    command = ["objdump", "-d", "--no-show-raw-insn", str(code)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=True)
    except subprocess.CalledProcessError as error:
        raise BackendError(f"objdump: {error.stderr.strip()}") from None
    return done.stdout


def hot_loops(listing: str, functions: tuple[str, ...], register: str, real: str) -> list[Loop]:
    """For each function, the inner loop with the most arithmetic for each load; functions without one are left out.

    functions: their names up to the first dot; "" means all of the code together. register, real: what the arithmetic
    must contain, for example "zmm" and "ps" for AVX-512 and float; "" allows all.
    """
    best: dict[str, Loop] = {}
    for function, instructions in _functions(listing, functions):
        for body in _innermost(instructions):
            loop = Loop(function or "compiled code", body)
            fits = all(register in each.operands and real in each.name for each in body if each.is_arithmetic)
            if loop.arithmetic and fits and (function not in best or _reuse(loop) > _reuse(best[function])):
                best[function] = loop
    return [best[function] for function in functions if function in best]


def _reuse(loop: Loop) -> tuple[bool, float, int]:
    """Loops are compared by this. A loop that calls a function (exp) comes last: its arithmetic is elsewhere."""
    calls = any(each.name in ("call", "callq", "bl", "blr") for each in loop.instructions)
    return not calls, loop.arithmetic / max(loop.loads, 1), loop.arithmetic


def _functions(listing: str, wanted: tuple[str, ...]) -> Iterator[tuple[str, list[Instruction]]]:
    """The code of each wanted function; a function may stand in the listing several times."""
    all_code = "" in wanted
    name, instructions = "", list[Instruction]()
    for line in listing.splitlines():
        if found := _FUNCTION.match(line):
            yield name, instructions
            name, instructions = "" if all_code else found[1].partition(".")[0], []
        elif name in wanted and (found := _INSTRUCTION.match(line)):
            instructions.append(Instruction(int(found[1], 16), found[2], found[3].strip()))
    yield name, instructions


def functions_of(listing: str, kernel: str) -> tuple[str, ...]:
    """The kernel and the functions of the listing that it calls, itself or through others.

    "", which means all of the code, where the listing has no function of the kernel's name, as Numba's.
    """
    calls: dict[str, set[str]] = {}
    name = ""
    for line in listing.splitlines():
        if found := _FUNCTION.match(line):
            name = found[1].partition(".")[0]
            calls.setdefault(name, set())
        elif found := _CALL.search(line):
            calls[name].add(found[1])
    known = [kernel] if kernel in calls else []
    for function in known:
        known += sorted(other for other in calls[function] if other in calls and other not in known)
    return tuple(known) or ("",)


def _innermost(instructions: list[Instruction]) -> Iterator[tuple[Instruction, ...]]:
    """The bodies of loops that contain no other loop."""
    place = {each.address: index for index, each in enumerate(instructions)}
    loops = []
    for end, each in enumerate(instructions):
        if not _JUMP.match(each.name):
            continue
        target = re.search(r"\b([0-9a-f]+) <", each.operands)
        start = place.get(int(target[1], 16)) if target else None
        if start is not None and start <= end:
            loops.append((start, end))
    for start, end in loops:
        if not any((s, e) != (start, end) and start <= s and e <= end for s, e in loops):
            yield tuple(instructions[start : end + 1])
