"""The hot loop of a kernel as the CPU gets it: ``compare --asm``.

objdump takes compiled code apart. A loop is what lies between a conditional jump backwards and where it goes; of each
function in which a kernel spends its time, the innermost loop is shown that computes most for what it loads.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lstmkernel.backends import BackendError
from lstmkernel.backends.c import specialised
from lstmkernel.tuning.plan import SPECIALISED
from lstmkernel.workbench.own_kernels import load

#: What the instruction sets' vector registers are called.
_REGISTERS = {"avx512": "zmm", "avx2": "ymm", "generic": "xmm"}

#: The C functions in which a kernel of the package spends its time.
FUNCTIONS = {
    "gate_matmul": ("input_product", "gate_matmul"),
    "cell_update": ("cell_update",),
    "dense_forward": ("dense_rows", "dense_forward"),
    "layer_forward": (
        "step_rows",
        "step_row",
        "small_step",
        "crowd_step",
        "run_row_plain",
        "run_row_packed",
        "layer_forward",
    ),
}

_FUNCTION = re.compile(r"^[0-9a-f]+ <(.+)>:$")
_INSTRUCTION = re.compile(r"^ *([0-9a-f]+):\t(\S+) *(.*)$")
_JUMP = re.compile(r"^(j(?!mp)[a-z]+|b\.[a-z]+|cbn?z|tbn?z)$")  # jmp leads back from what a compiler put aside
_LONGEST = 64  # instructions shown
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
        """Vectors alone: scalar registers hold addresses and counts. AT&T names the destination last."""
        if self.name.startswith("ld"):
            return True
        return bool(_VECTOR.search(self.operands)) and any("(" in source for source in self._split()[:-1])

    def _split(self) -> list[str]:
        """The operands, without objdump's remark; a comma in an address parts none."""
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
    """The instructions of one turn."""

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
        told = ", ".join(f"{count} {what}" for what, count in counts.items())
        lines = [f"    {each.name:<14} {each.operands}".rstrip() for each in self.instructions[:_LONGEST]]
        if len(self.instructions) > _LONGEST:
            lines.append(f"    ... and {len(self.instructions) - _LONGEST} more")
        return "\n".join([f"{self.function}: {len(self.instructions)} instructions, {told}", *lines])


def require_objdump() -> None:
    if shutil.which("objdump") is None:
        raise BackendError("--asm needs objdump, of the GNU binutils")


def of_kernel(kernel: str, name: str, dtype: np.dtype[Any], sizes: tuple[int, int, int]) -> str:
    """The hot loops of a backend's kernel, or why there are none. sizes: of the layer it is specialised for."""
    real = "ps" if dtype == np.float32 else "pd"
    functions: tuple[str, ...] = FUNCTIONS[kernel]
    isa = name.removeprefix("c:").removesuffix(SPECIALISED)
    register = _REGISTERS.get(isa, "")
    if name in load.CODE:
        listing, functions, real = _of_bytes(load.CODE[name]), (kernel,), ""  # one number at a time, too
    elif name.endswith(SPECIALISED):
        listing = _of_bytes(specialised.get(isa, dtype, sizes).code)
    elif name.startswith("c:"):
        from lstmkernel.backends.c import _kernels

        listing = _disassembled(Path(str(_kernels.__file__)))
    elif name == "numba":
        code = _numba_code(kernel, dtype)
        if not code:
            return f"{kernel}, {name}: its machine code was not kept; see lstmkernel cache"
        listing, functions = _of_bytes(code), ("",)
    elif code := _own_numba_code(kernel, name):
        listing, functions, real = _of_bytes(code), ("",), ""
    else:
        return f"{kernel}, {name}: no machine code of its own to show"
    loops = hot_loops(listing, functions, register, real)
    return "\n".join(f"{kernel}, {name}, {loop}" for loop in loops) or f"{kernel}, {name}: no loop that computes"


def _numba_code(kernel: str, dtype: np.dtype[Any]) -> bytes:
    """The object file that lies in the cache's entry as it is."""
    from lstmkernel.backends.numba.jit_cache import DiskCache

    entry = DiskCache(f"{kernel}-{dtype.name}").content()
    return entry[entry.index(b"\x7fELF") :] if entry and b"\x7fELF" in entry else b""


def _own_numba_code(kernel: str, name: str) -> bytes:
    """Of a Python file's kernel, as it was compiled last, through the assembler; nothing where Numba compiled none."""
    function: Any = getattr(load.MODULES.get(name), kernel, None)
    texts = list(function.inspect_asm().values()) if hasattr(function, "inspect_asm") else []
    if not texts:
        return b""
    with tempfile.TemporaryDirectory(prefix="lstmkernel-") as place:
        path = Path(place) / "code.o"
        subprocess.run(["as", "-o", str(path)], input=texts[-1], text=True, check=True)
        return path.read_bytes()


@cache
def _disassembled(code: Path) -> str:
    """What objdump says of a library or an object file."""
    command = ["objdump", "-d", "--no-show-raw-insn", str(code)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=True)
    except subprocess.CalledProcessError as error:
        raise BackendError(f"objdump: {error.stderr.strip()}") from None
    return done.stdout


def _of_bytes(code: bytes) -> str:
    """The same for code that is in memory."""
    with tempfile.TemporaryDirectory(prefix="lstmkernel-") as place:
        path = Path(place) / "code.o"
        path.write_bytes(code)
        return _disassembled.__wrapped__(path)


def hot_loops(listing: str, functions: tuple[str, ...], register: str, real: str) -> list[Loop]:
    """Of each function, the innermost loop that computes most for each load; none where it has no such loop.

    functions: what their names begin with; "" is all of the code together. register, real: what the operations must
    name, "zmm" and "ps" for AVX-512 and float; "" for whatever they do.
    """
    best: dict[str, Loop] = {}
    for name, instructions in _functions(listing):
        for function in {"", name.partition(".")[0]}.intersection(functions):
            for body in _innermost(instructions):
                loop = Loop(function or "compiled code", body)
                fits = all(register in each.operands and real in each.name for each in body if each.is_arithmetic)
                if loop.arithmetic and fits and (function not in best or _reuse(loop) > _reuse(best[function])):
                    best[function] = loop
    return [best[function] for function in functions if function in best]


def _reuse(loop: Loop) -> tuple[bool, float, int]:
    """What to choose by: a loop that calls exp computes less than it seems to load."""
    calls = any(each.name in ("call", "callq", "bl", "blr") for each in loop.instructions)
    return not calls, loop.arithmetic / max(loop.loads, 1), loop.arithmetic


def _functions(listing: str) -> Iterator[tuple[str, list[Instruction]]]:
    name, instructions = "", list[Instruction]()
    for line in listing.splitlines():
        if found := _FUNCTION.match(line):
            yield name, instructions
            name, instructions = found[1], []
        elif found := _INSTRUCTION.match(line):
            instructions.append(Instruction(int(found[1], 16), found[2], found[3].strip()))
    yield name, instructions


def _innermost(instructions: list[Instruction]) -> Iterator[tuple[Instruction, ...]]:
    """The bodies of loops that hold no other."""
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
