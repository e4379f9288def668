"""What Numba compiles for on this machine, and the shape of vectors and register tiles that suits it.

C compiles every instruction set and chooses at run time; Numba compiles for the host alone. The numbers are those of
csrc/vec/<isa>.h. The features come from the string that LLVM is given, not from the CPU, so that NUMBA_CPU_NAME and
NUMBA_CPU_FEATURES mean here what they mean elsewhere in Numba.
"""

from __future__ import annotations

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
