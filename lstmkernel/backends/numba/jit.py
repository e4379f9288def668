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
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler
from numba.core.compiler_machinery import register_pass
from numba.core.typed_passes import NativeLowering
from numba.extending import intrinsic


class _Part(JITCodeLibrary):
    """Code that is only ever linked into an entry, and becomes machine code there.

    Numba would make machine code of every function for itself, and optimise all that is linked into it again at every
    level of calls: lstm_forward took twice as long to compile.
    """

    #: Whether LLVM optimises it before it is linked: what is to be inlined, for tiles come out better.
    optimised = True

    def _optimize_final_module(self) -> None:
        if self.optimised:
            super()._optimize_final_module()

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._finalized = True


@register_pass(mutates_CFG=True, analysis_only=False)
class _Lowering(NativeLowering):
    """Numba's, up to machine code."""

    _name = "lstmkernel_lowering"

    def run_pass(self, state: Any) -> bool:
        state.library = _Part(state.targetctx.codegen(), state.func_id.func_qualname)
        state.library.enable_object_caching()
        state.library.optimised = state.flags.forceinline
        state.flags.no_compile = True
        super().run_pass(state)
        # Numba finds functions by the builtin objects that would call them: any will do that is no other function's.
        lowered, key = state["cr"], set().copy
        state.targetctx.insert_user_function(key, lowered.fndesc, [state.library])
        state["cr"] = lowered._replace(cfunc=key)
        return True


class _PartCompiler(Compiler):
    """Numba's pipeline with _Lowering."""

    def define_pipelines(self) -> list[Any]:
        (pipeline,) = super().define_pipelines()
        steps = [(step, doc) if step is not NativeLowering else (_Lowering, doc) for step, doc in pipeline.passes]
        pipeline.passes, pipeline._finalized = steps, False
        pipeline.finalize()
        return [pipeline]


_COMMON: dict[str, Any] = {"error_model": "numpy", "_nrt": False}
_INTERNAL = {**_COMMON, "no_cpython_wrapper": True, "no_cfunc_wrapper": True, "pipeline_class": _PartCompiler}

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
