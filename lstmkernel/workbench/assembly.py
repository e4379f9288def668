"""The hot loop of a kernel in machine code: ``compare --asm``.

objdump disassembles the compiled code. A loop reaches from a conditional jump backwards to the jump's target. For each
function in which a kernel spends its time, the inner loop with the highest ratio of arithmetic to loads is shown.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from lstmkernel.backends import BackendError
from lstmkernel.backends.c.specialised import SPECIALISED
from lstmkernel.engine.precision import plain
from lstmkernel.workbench import machine_code, narrow
from lstmkernel.workbench.machine_code import FUNCTION

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

#: The same of layer_forward with weights of fewer bits. No gate_matmul beside it shows the products of the inputs.
NARROW_FUNCTIONS = {
    "float16": ("input_product", *FUNCTIONS["layer_forward"]),
    "int8": ("inputs_product", "step_rows", "step_row", "quantize_rows"),
}

#: "{vex}" and the like are forms of an instruction.
_INSTRUCTION = re.compile(r"^ *([0-9a-f]+):\t(?:\{\w+\} )?(\S+) *(.*)$")
#: Conditional jumps only: a compiler moves rare code away, and that code returns by an unconditional jump.
_JUMP = re.compile(r"^(j(?!mp)[a-z]+|b\.[a-z]+|cbn?z|tbn?z)$")
#: A call, or a jump to the beginning of another function, which is a call at the end of one.
_CALL = re.compile(r"\t(?:call|jmp|bl|b)\w? +[0-9a-f]+ <([^.+@>]+)(?:@plt|[.][^+@>]*)?>$")
_MOST_SHOWN = 64
_FMA = re.compile(r"^(vfn?m(add|sub)|fml[as]|fmadd)")
#: Instructions that sum several products of integers for each element of a vector, or that add one product to it.
_DOT_PRODUCT = re.compile(r"^(v?pdpbusd|v?pmaddwd|v?pmaddubsw|[su]dot|[su]ml[as]l2?)$")
_ARITHMETIC = re.compile(r"^v?(mul|add|sub|div)[ps][sd]$|^f(mul|add|sub|div)$")
#: Of 64 bits are only addresses and counts. AArch64 has the same names for numbers in vectors and elsewhere.
_INTEGERS = re.compile(r"^v?p(add|sub|mull)[bwd]$|^(add|sub|mul|addp|[su]mull2?)$")
_VECTOR_OF_INTEGERS = re.compile(r"%[xyz]mm|\bv\d+\.(8b|16b|4h|8h|2s|4s)")
#: Half of the 32-bit products of a vector where there is no pmulld. Addresses have it, too.
_HALF_PRODUCT = re.compile(r"^v?pmuludq$")
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
    def is_dot_product(self) -> bool:
        return bool(_DOT_PRODUCT.match(self.name))

    @property
    def is_arithmetic(self) -> bool:
        if self.is_fma or self.is_dot_product or _ARITHMETIC.match(self.name):
            return True
        return bool(_INTEGERS.match(self.name) and _VECTOR_OF_INTEGERS.search(self.operands))

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
        count = sum(each.is_arithmetic for each in self.instructions)
        return count and count + sum(bool(_HALF_PRODUCT.match(each.name)) for each in self.instructions)

    @property
    def fmas(self) -> int:
        return sum(each.is_fma for each in self.instructions)

    @property
    def dot_products(self) -> int:
        return sum(each.is_dot_product for each in self.instructions)

    @property
    def loads(self) -> int:
        return sum(each.reads_memory for each in self.instructions)

    def __str__(self) -> str:
        counts = {
            "FMAs": self.fmas,
            **({"dot products": self.dot_products} if self.dot_products else {}),
            "other operations": self.arithmetic - self.fmas - self.dot_products,
            "loads": self.loads,
            "stores": sum(each.writes_memory for each in self.instructions),
            "on the stack": sum(each.on_stack for each in self.instructions),
        }
        summary = ", ".join(f"{count} {what}" for what, count in counts.items())
        lines = [f"    {each.name:<14} {each.operands}".rstrip() for each in self.instructions[:_MOST_SHOWN]]
        if len(self.instructions) > _MOST_SHOWN:
            lines.append(f"    ... and {len(self.instructions) - _MOST_SHOWN} more")
        return "\n".join([f"{self.function}: {len(self.instructions)} instructions, {summary}", *lines])


def hot_loops_of(kernel: str, name: str, dtype: np.dtype[Any], sizes: tuple[int, int, int]) -> str:
    """The hot loops of a backend's kernel, or why there are none. sizes: of the layer that it is specialised for."""
    backend, choice = narrow.parts_of(name)
    precision = plain(dtype) if choice is None else narrow.CHOICES[choice]
    if backend == "numba":
        listing = machine_code.of_numba(kernel, precision)
        if listing is None:
            return f"{kernel}, {name}: its machine code is not in the cache; see lstmkernel cache"
        return _shown(kernel, name, hot_loops(listing, ("",)))
    if not backend.startswith("c:"):
        return f"{kernel}, {name}: it has no machine code of its own"
    isa = backend.removeprefix("c:").removesuffix(SPECIALISED)
    try:
        if backend.endswith(SPECIALISED):
            listing = machine_code.of_specialised(isa, precision, sizes)
        else:
            listing = machine_code.of_table(isa, precision)
    except BackendError as reason:
        return f"{kernel}, {name}: {reason}"
    functions = NARROW_FUNCTIONS.get(precision.weights) or FUNCTIONS.get(kernel, (kernel,))
    return _shown(kernel, name, hot_loops(listing, functions))


def hot_loops_of_own(kernel: str, name: str, code: bytes) -> str:
    """The hot loops of a user's kernel, and of all functions that it calls. code: a library or an object file."""
    if not code:
        return f"{kernel}, {name}: it has no machine code of its own"
    listing = machine_code.of_bytes(code)
    return _shown(kernel, name, hot_loops(listing, functions_of(listing, kernel)))


def _shown(kernel: str, name: str, loops: list[Loop]) -> str:
    return "\n".join(f"{kernel}, {name}, {loop}" for loop in loops) or f"{kernel}, {name}: no loop with arithmetic"


def hot_loops(listing: str, functions: tuple[str, ...]) -> list[Loop]:
    """For each function, the inner loop with the most arithmetic for each load; functions without one are left out.

    functions: their names up to the first dot; "" means all of the code together.
    """
    best: dict[str, Loop] = {}
    for loop in inner_loops(listing, functions):
        if loop.arithmetic and (loop.function not in best or _reuse(loop) > _reuse(best[loop.function])):
            best[loop.function] = loop
    return [best[name] for name in map(_name_of, functions) if name in best]


def inner_loops(listing: str, functions: tuple[str, ...]) -> Iterator[Loop]:
    """All loops of these functions that contain no other loop."""
    for function, instructions in _functions(listing, functions):
        for body in _innermost(instructions):
            yield Loop(_name_of(function), body)


def _name_of(function: str) -> str:
    return function or "compiled code"


def _reuse(loop: Loop) -> tuple[bool, bool, bool, float, int]:
    """Loops are compared by this.

    One that calls a function (exp) comes last, because its arithmetic is elsewhere; and so does one that jumps away,
    because rare code was moved into it. Dot products come first: beside them, all else is rare. So do loops that are
    FMAs for the most part: those of matrix products, of four gates or more. A polynomial has many other operations.
    """
    leaves = any(each.name in ("call", "callq", "bl", "blr", "jmp", "b") for each in loop.instructions)
    products = loop.fmas >= max(4, len(loop.instructions) / 2)
    return not leaves, loop.dot_products > 0, products, loop.arithmetic / max(loop.loads, 1), loop.arithmetic


def _functions(listing: str, wanted: tuple[str, ...]) -> Iterator[tuple[str, list[Instruction]]]:
    """The code of each wanted function; a function may stand in the listing several times."""
    all_code = "" in wanted
    name, instructions = "", list[Instruction]()
    for line in listing.splitlines():
        if found := FUNCTION.match(line):
            yield name, instructions
            name, instructions = "" if all_code else found[2].partition(".")[0], []
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
        if found := FUNCTION.match(line):
            name = found[2].partition(".")[0]
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
