"""The one list of backends. Tests, ``lstmkernel compare`` and the benchmarks all loop over it.

A backend's name is ``"numpy"``, ``"numba"``, or ``"c:<instruction set>"``; ``"c"`` is the best instruction set that
this CPU has, and ``"auto"`` is C where it was built, else Numba where it is installed, else NumPy.
``LSTMKERNEL_BACKEND`` and ``LSTMKERNEL_ISA`` replace the defaults of an unnamed backend and an unnamed instruction set.
"""

from __future__ import annotations

import os
import warnings
from functools import cache

from lstmkernel.backends.contract import Backend, BackendError

#: The C backend's instruction sets on all platforms, best first.
INSTRUCTION_SETS = ("avx512", "avx2", "neon", "generic")

#: Every backend that there is, fastest first and the definition last.
NAMES = (*(f"c:{isa}" for isa in INSTRUCTION_SETS), "numba", "numpy")

#: The backends that promise the same bits: all their sums are fused multiply-adds in one fixed order.
ONE_ANSWER = tuple(name for name in NAMES if name not in ("c:generic", "numpy"))

_ALIASES = ("auto", "c")

#: More backends of this process, by name.
_registered: dict[str, Backend] = {}

#: How to get the C backend where it is missing.
HOW_TO_GET_C = (
    "install a C compiler, then, where lstmkernel was cloned, "
    "LSTMKERNEL_REQUIRE_C=1 pip install --force-reinstall --no-deps --no-cache-dir -e ."
)


def get(name: str | None = None) -> Backend:
    """The backend of that name; ``None`` and ``"auto"`` mean the best one here.

    Raises ValueError for an unknown name, BackendError for one that cannot run here.
    """
    if name in (None, "auto"):
        name = os.environ.get("LSTMKERNEL_BACKEND") or "auto"
    if not isinstance(name, str):
        raise TypeError(f"backend: expected a string, got {type(name).__name__}")
    if name in _registered:
        return _registered[name]
    if name not in NAMES and name not in _ALIASES:
        raise ValueError(f"unknown backend {name!r}; known are {', '.join((*_ALIASES, *NAMES))}")
    return _load(_resolve(name, _chosen_isa()))


def register(backend: Backend) -> None:
    """Let ``get`` find a backend by its name, in this process: a user's own kernels, or kernels for certain sizes.

    Raises ValueError for the name of one of NAMES.
    """
    if backend.name in (*_ALIASES, *NAMES):
        raise ValueError(f"backend name: expected one that is free, got {backend.name!r}, which is lstmkernel's own")
    _registered[backend.name] = backend


def unavailable(name: str) -> str | None:
    """Why a backend of NAMES cannot run here; None if it can. Numba is not imported, because that takes long."""
    try:
        if name.startswith("c:"):
            _load(name)
        elif name == "numba":
            _require_numba()
    except BackendError as reason:
        return str(reason)
    return None


def usable() -> list[str]:
    """The names of all backends that can run here."""
    return [name for name in NAMES if unavailable(name) is None]


def int8_kernels() -> str | None:
    """The C kernels for 8-bit weights here, as csrc/tables names them, for example "avx512_vnni". None without any."""
    try:
        isa = get("c").name.removeprefix("c:")
    except BackendError:
        return None
    from lstmkernel.backends.c import calls

    file = calls.source(isa, "int8")
    return None if file is None else file.removesuffix("_i8a8.c")


def c_is_built() -> bool:
    try:
        import lstmkernel.backends.c._kernels  # noqa: F401
    except ImportError:
        return False
    return True


def _chosen_isa() -> str | None:
    isa = os.environ.get("LSTMKERNEL_ISA")
    if isa and isa not in INSTRUCTION_SETS:
        raise ValueError(f"LSTMKERNEL_ISA={isa!r} is unknown; known are {', '.join(INSTRUCTION_SETS)}")
    return isa


def _resolve(name: str, isa: str | None) -> str:
    """The name without aliases."""
    if name == "auto" and c_is_built():
        name = "c"
    elif name == "auto":
        name = "numba" if unavailable("numba") is None else "numpy"
        _warn_once_without_c(name)
    if name != "c":
        return name
    if isa:
        return f"c:{isa}"
    return next((f"c:{isa}" for isa in INSTRUCTION_SETS if unavailable(f"c:{isa}") is None), "c:generic")


@cache
def _load(name: str) -> Backend:
    if name.startswith("c:"):
        if not c_is_built():
            raise BackendError(f"backend {name!r}: the C kernels were not built; {HOW_TO_GET_C}")
        from lstmkernel.backends.c import calls

        return calls.backend(name.removeprefix("c:"))
    if name == "numba":
        _require_numba()
        from lstmkernel.host import forks  # what it does to forks is for processes that use Numba

        try:
            with forks.whole:
                from lstmkernel.backends.numba import backend
        except (ImportError, OSError, RuntimeError) as error:  # it wants another NumPy, or its LLVM is broken
            raise BackendError(f"backend 'numba': {error}") from error
        return backend.backend()
    from lstmkernel.backends.numpy import definition

    return definition.backend()


def _require_numba() -> None:
    from importlib.util import find_spec

    for package in ("numba", "llvmlite"):
        if find_spec(package) is None:
            raise BackendError(f"backend 'numba': the package {package} is not installed; pip install numba")
    if os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0"):
        raise BackendError("backend 'numba': NUMBA_DISABLE_JIT is set, and vectors exist only in compiled code")


@cache
def _warn_once_without_c(name: str) -> None:
    instead = {"numba": "Numba", "numpy": "NumPy, slowly, because Numba is not installed either"}[name]
    warnings.warn(f"lstmkernel runs on {instead}: the C kernels were not built; {HOW_TO_GET_C}", stacklevel=4)
