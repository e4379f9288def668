"""What Numba compiles for on this machine, and the shape of vectors and register tiles that suits it.

C compiles every instruction set and chooses at run time; Numba compiles for the host alone. The numbers are those of
csrc/vec/<isa>.h. The features come from the string that LLVM is given, not from the CPU, so that NUMBA_CPU_NAME and
NUMBA_CPU_FEATURES mean here what they mean elsewhere in Numba.
"""

from __future__ import annotations

from typing import NamedTuple

from numba.core.registry import cpu_target

#: Target triple, CPU name and feature string ("+avx2,-avx512f,...") of everything that Numba compiles here.
HOST: tuple[str, str, str] = cpu_target.target_context.codegen().magic_tuple()

ARCHITECTURE = HOST[0].split("-")[0]
IS_X86 = ARCHITECTURE in ("x86_64", "i686")
IS_AARCH64 = ARCHITECTURE in ("aarch64", "arm64")
_FEATURES = frozenset(HOST[2].split(","))

#: Whether one instruction makes a * b + c with one rounding. Else there are two roundings, as in csrc/vec/generic.h.
HAS_FMA = IS_AARCH64 or "+fma" in _FEATURES

if "+avx512f" in _FEATURES:
    VECTOR_BYTES, TILE_ROWS = 64, 6
elif "+avx2" in _FEATURES and HAS_FMA:
    VECTOR_BYTES, TILE_ROWS = 32, 3
elif IS_AARCH64:
    VECTOR_BYTES, TILE_ROWS = 16, 6
else:
    VECTOR_BYTES, TILE_ROWS = 16, 3

#: What LLVM's assembler statements call a vector register; "" on other systems, which have none.
VECTOR_CONSTRAINT = "v" if IS_X86 else "w" if IS_AARCH64 else ""


class Dot(NamedTuple):
    """How 8-bit weights are multiplied by activations; see vec/dot.py."""

    instruction: str
    planes: int
    rows: int  # most of a register tile
    bytes: int  # of an activation in memory


def _dot(bits: int) -> Dot:
    """For activations of so many bits: what csrc/vec/dot_<isa>.h does."""
    wide, planes = VECTOR_BYTES == 64, bits // 8
    if wide and "+avx512vnni" in _FEATURES:
        return Dot("vpdpbusd", planes, 3 if planes == 2 else 6, planes)
    if wide and "+avx512bw" in _FEATURES:
        return Dot("vpmaddwd", 1, 4, 2)
    if VECTOR_BYTES == 32 and "+avxvnni" in _FEATURES:
        return Dot("vpdpbusd", planes, 1 if planes == 2 else 3, planes)
    if VECTOR_BYTES == 32:
        return Dot("vpmaddwd" if bits == 16 else "vpmaddubsw", 1, 2, planes)
    if IS_AARCH64 and "+dotprod" in _FEATURES:
        return Dot("sdot", planes, 3 if planes == 2 else 4, planes)
    return Dot("portable", 1, 3, planes)


#: By the bits of an activation.
DOT = {bits: _dot(bits) for bits in (16, 8)}
