"""How everything here is compiled.

There is no fastmath, so every operation has the order and the rounding that is written. Errors are as in NumPy: zero
divisors are not checked, so nothing raises. There is no reference counting, because kernels own no memory.

This module subclasses four of Numba's own classes: JITCodeLibrary, NativeLowering, Compiler and CPUDispatcher. A new
version of Numba may change them.
"""

# mypy: ignore-errors
# Compiled code: its types are Numba's, and inferred.

from __future__ import annotations

from functools import partial
from typing import Any

from numba import njit, types
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler
from numba.core.compiler_machinery import PassManager, register_pass
from numba.core.registry import CPUDispatcher
from numba.core.typed_passes import NativeLowering
from numba.extending import intrinsic


class _Linked(JITCodeLibrary):
    """Code that is only ever linked into an entry, and becomes machine code there.

    Numba itself would make machine code of every function alone, and at every level of calls it would optimise again
    all that is linked in. lstm_forward took twice as long to compile.
    """

    #: Whether LLVM optimises it before it is linked. It does so for inlined functions, because tiles come out better.
    optimised = True

    def _optimize_final_module(self) -> None:
        if self.optimised:
            super()._optimize_final_module()

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._finalized = True


class _EntryLibrary(JITCodeLibrary):
    """An entry's code, with all that is linked into it. Only the entry itself can be seen from outside.

    Numba names a function after its place in the sources, its types and its number in this process. So entries that two
    processes compiled may have functions of the same name that are not the same: a constant of a closure differs, for
    one. A process that loads both entries from disk would call one of the functions in place of both.
    """

    def __init__(self, codegen: Any, name: str) -> None:
        super().__init__(codegen, name)
        self._own: set[str] = set()

    def add_ir_module(self, ir_module: Any) -> None:
        self._own |= {function.name for function in ir_module.functions if not function.is_declaration}
        super().add_ir_module(ir_module)

    def _optimize_final_module(self) -> None:
        super()._optimize_final_module()
        for function in self._final_module.functions:
            if not function.is_declaration and function.name not in self._own:
                function.linkage = "internal"  # after optimising, which would inline other functions then


@register_pass(mutates_CFG=True, analysis_only=False)
class _EntryLowering(NativeLowering):
    """Numba's lowering, to a library of our own."""

    _name = "lstmkernel_entry_lowering"

    def run_pass(self, state: Any) -> bool:
        state.library = _EntryLibrary(state.targetctx.codegen(), state.func_id.func_qualname)
        state.library.enable_object_caching()
        return bool(super().run_pass(state))


@register_pass(mutates_CFG=True, analysis_only=False)
class _Lowering(NativeLowering):
    """Numba's lowering, without the machine code."""

    _name = "lstmkernel_lowering"

    def run_pass(self, state: Any) -> bool:
        state.library = _Linked(state.targetctx.codegen(), state.func_id.func_qualname)
        state.library.enable_object_caching()
        state.library.optimised = state.flags.forceinline
        state.flags.no_compile = True
        super().run_pass(state)
        # Numba finds a compiled function by a builtin object, its key. Any object will do that no other function has.
        lowered, key = state["cr"], set().copy
        state.targetctx.insert_user_function(key, lowered.fndesc, [state.library])
        state["cr"] = lowered._replace(cfunc=key)
        return True


def _compiler(lowering: type[NativeLowering]) -> type[Compiler]:
    """Numba's pipeline with another lowering."""

    class Pipeline(Compiler):
        def define_pipelines(self) -> list[Any]:
            (numbas,) = super().define_pipelines()
            pipeline = PassManager(numbas.pipeline_name)
            for step, description in numbas.passes:
                pipeline.add_pass(lowering if step is NativeLowering else step, description)
            pipeline.finalize()
            return [pipeline]

    return Pipeline


_ENTRY_COMPILER = _compiler(_EntryLowering)

_COMMON: dict[str, Any] = {"error_model": "numpy", "_nrt": False}
_INTERNAL = {**_COMMON, "no_cpython_wrapper": True, "no_cfunc_wrapper": True, "pipeline_class": _compiler(_Lowering)}

#: Inlined by LLVM: small functions, and those that are passed as arguments, such as tiles.
inlined = partial(njit, **_INTERNAL, forceinline=True)()
#: Spliced into the source of its callers before types are inferred. LLVM compiles an inlined function once for each
#: caller; splicing the large ones instead halves the time to compile. Splicing everything doubles it again.
spliced = partial(njit, **_INTERNAL, inline="always")()
#: Left to LLVM to inline or call. forceinline=False must be said, because a function that is compiled for an inlined
#: one inherits its flag.
internal = partial(njit, **_INTERNAL, forceinline=False)()


class Entry(CPUDispatcher):
    """A function that Python calls. `cache` keeps its machine code on disk (jit_cache.py)."""

    def __init__(self, function: Any, cache: Any) -> None:
        options = _COMMON | {"nopython": True, "nogil": True, "no_cfunc_wrapper": True}
        super().__init__(function, targetoptions=options, pipeline_class=_ENTRY_COMPILER)
        self._cache = cache


@intrinsic
def never_inline(typingctx):
    """A call of this in a function's body keeps LLVM from inlining that function into its callers."""

    def codegen(context, builder, signature, args):
        builder.function.attributes.add("noinline")
        return context.get_dummy_value()

    return types.void(), codegen
