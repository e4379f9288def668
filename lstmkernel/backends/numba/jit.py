"""How everything here is compiled.

No fastmath, so the order and rounding of every operation is the one written. Errors as in NumPy: no checks for zero
divisors, so nothing raises. No reference counting: kernels own no memory.
"""

# mypy: ignore-errors
# Compiled code: its types are Numba's, and inferred.

from __future__ import annotations

from functools import partial
from typing import Any

from numba import njit, types
from numba.extending import intrinsic

_COMMON: dict[str, Any] = {"error_model": "numpy", "_nrt": False}
_INTERNAL = {**_COMMON, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}

#: Inlined by LLVM: small functions, and those that are passed as arguments, such as tiles.
inlined = partial(njit, **_INTERNAL, forceinline=True)()
#: Spliced into the source of its callers before types are inferred. What inlined functions inline, LLVM compiles once
#: for each of them; splicing the large ones instead halves the time to compile. Splicing everything doubles it again.
spliced = partial(njit, **_INTERNAL, inline="always")()
#: Left to LLVM to inline or call. Said explicitly, because a function compiled for an inlined one inherits its flag.
internal = partial(njit, **_INTERNAL, forceinline=False)()
#: A function that Python calls.
entry = partial(njit, **_COMMON, no_cfunc_wrapper=True, nogil=True)()


@intrinsic
def never_inline(typingctx):
    """Stand in a function's body and keep LLVM from inlining that function into its callers."""

    def codegen(context, builder, signature, args):
        builder.function.attributes.add("noinline")
        return context.get_dummy_value()

    return types.void(), codegen
