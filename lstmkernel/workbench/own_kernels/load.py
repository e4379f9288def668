"""Load a user's own kernels, in C or in Python with Numba, as a backend.

A file may define any of the kernels OWN. docs/write_a_kernel.md describes their arguments.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lstmkernel import backends
from lstmkernel.backends import Backend, BackendError
from lstmkernel.backends.c.specialised import sources
from lstmkernel.backends.packing import Array, LayerVariant, LayerWeights, LSTMWeights, empty, pack_layer
from lstmkernel.host import compile_c

#: The kernels that a user may write.
OWN = ("gate_matmul", "cell_update", "layer_forward")

Kernels = dict[str, Callable[..., None]]

#: For a C file: every instruction of this CPU, because the library runs only here. No fused multiply-adds that the
#: source does not ask for.
C_FLAGS = ("-std=gnu11", "-O3", "-march=native", "-ffp-contract=off", "-Wall", "-Wextra")

#: The C functions, as in csrc/lstmkernel.h but without the table of kernels.
C_TYPES = {
    "gate_matmul": "int(*)(const lk_layer *, int64_t, const void *, int64_t, void *)",
    "cell_update": "int(*)(int64_t, int64_t, const void *, void *, void *)",
    "layer_forward": "int(*)(const lk_layer *, int64_t, int64_t, const void *, int64_t, int64_t, const int64_t *, int, "
    "void *, void *, void *, int64_t, int64_t, void *)",
    "workspace": "int64_t(*)(const lk_layer *, int64_t, int64_t)",
}


class KernelError(Exception):
    """A kernel failed when it was called: it returned a status other than 0, or raised an exception."""


class Own(NamedTuple):
    """A user's file, loaded."""

    backend: Backend  # named after the file; a kernel that it does not define raises BackendError when called
    native: Callable[[LayerWeights], Any]  # the form in which its kernels take a layer's weights
    assembly: Callable[[str], str]  # of a kernel; empty where Numba did not compile it

    @property
    def kernels(self) -> list[str]:
        """The kernels of OWN that the file defines."""
        return [name for name in OWN if not isinstance(getattr(self.backend, name), _Missing)]


def _plain_scratch(size: int) -> Array:
    return empty((size,), np.uint8)


def library(path: str, dtype: np.dtype[Any]) -> bytes | None:
    """Compile a C file; None for a Python file. The compiler's warnings go to stderr.

    Raises FileNotFoundError; ValueError for another kind of file; BackendError where the C kernels were not built;
    CompileError, with the compiler's own message.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(2, "No such file", path)
    if path.endswith(".py"):
        return None
    if not path.endswith(".c"):
        raise ValueError(f"{path}: expected a .c or a .py file")
    if not backends.c_is_built():
        raise BackendError(f"{path}: kernels in C need those of the package; {backends.HOW_TO_GET_C}")
    real = "float" if dtype == np.float32 else "double"
    made = compile_c.library(Path(path), [*C_FLAGS, f"-DREAL={real}", f"-I{sources()}"])
    if made.warnings:
        print(made.warnings, file=sys.stderr)
    return made.code


def load(path: str, code: bytes | None, scratch: Callable[[int], Array] = _plain_scratch) -> Own:
    """Load a file whose ``library`` is ``code``. scratch: gives so many bytes of memory to a layer_forward in C.

    Raises BackendError for Python that fails, and for a file without a kernel.
    """
    return _of_python(path) if code is None else _of_c(path, code, scratch)


class _Missing:
    """Stands for a kernel that a file does not define."""

    def __init__(self, file: str, kernel: str) -> None:
        self._message = f"{file} has no {kernel}"

    def __call__(self, *arguments: Any) -> Any:
        raise BackendError(self._message)


def _own(
    path: str, lanes: object, own: Kernels, native: Callable[[LayerWeights], Any], assembly: Callable[[str], str]
) -> Own:
    name = os.path.basename(path)
    if not own:
        raise BackendError(f"{path}: expected a function named {', '.join(OWN[:-1])} or {OWN[-1]}, found none")
    if not isinstance(lanes, int) or isinstance(lanes, bool) or lanes < 1:
        raise BackendError(f"{path}: expected lanes, the units of a block, as an integer of at least 1, got {lanes!r}")

    def pack(
        w_ih: Array, w_hh: Array, bias: Array, w_hr: Array | None, variant: LayerVariant | None = None
    ) -> LayerWeights:
        if w_hr is not None or variant is not None:
            raise BackendError(
                f"{name}: own kernels do not support a {'projection' if w_hr is not None else 'variant'}"
            )
        weights = pack_layer(w_ih, w_hh, bias, None, None, lanes)
        return weights._replace(native=native(weights))

    fields: dict[str, Any] = {field: _Missing(name, field) for field in Backend._fields}
    fields |= {"name": name, "min_gflops": 1.0, "pack_layer": pack, "pack_lstm": LSTMWeights, **own}
    return Own(Backend(**fields), native, assembly)


# ---------------------------------------------------------------- C


def _of_c(path: str, code: bytes, scratch: Callable[[int], Array]) -> Own:
    from lstmkernel.backends.c._kernels import ffi

    loaded = compile_c.load(code)

    def function(name: str) -> Any:
        address = ctypes.cast(getattr(loaded, name), ctypes.c_void_p).value if hasattr(loaded, name) else 0
        return ffi.cast(C_TYPES[name], address) if address else None

    lanes = ctypes.c_int64.in_dll(loaded, "lanes").value if hasattr(loaded, "lanes") else None
    functions = {name: function(name) for name in C_TYPES}
    address = ffi.from_buffer

    def layer(weights: LayerWeights) -> Any:
        arrays = (address(weights.w_x), address(weights.w_h), address(weights.bias), ffi.NULL, ffi.NULL)
        return ffi.new("lk_layer *", (weights.input_size, weights.hidden_size, 0, *arrays))

    def gate_matmul(x: Array, weights: LayerWeights, z: Array) -> None:
        _check(functions["gate_matmul"](weights.native, len(x), address(x), x.shape[1], address(z)))

    def cell_update(z: Array, c: Array, h: Array) -> None:
        _check(functions["cell_update"](*c.shape, address(z), address(c), address(h)))

    def layer_forward(
        x: Array, weights: LayerWeights, lengths: Array | None, reverse: bool, h: Array, c: Array, out: Array
    ) -> None:
        T, B, I = x.shape
        size = functions["workspace"](weights.native, T, B) if functions["workspace"] else 0
        work = scratch(size)
        row_lengths = ffi.NULL if lengths is None else address("int64_t[]", lengths)
        steps = (T, B, address(x), B * I, I, row_lengths, reverse, address(h), address(c))
        R = out.shape[2]
        _check(functions["layer_forward"](weights.native, *steps, address(out), B * R, R, address(work)))

    ours: Kernels = {"gate_matmul": gate_matmul, "cell_update": cell_update, "layer_forward": layer_forward}
    own = {name: kernel for name, kernel in ours.items() if functions[name]}
    return _own(path, lanes, own, layer, lambda kernel: "")


def _check(status: int) -> None:
    if status != 0:
        raise KernelError(f"returned {status}; 0 means success")


# ---------------------------------------------------------------- Python


def _of_python(path: str) -> Own:
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(spec.name, module)  # dataclasses look there
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise BackendError(f"{path}: {_message(error, path)}") from error

    def call(name: str, *arguments: Any) -> None:
        try:
            getattr(module, name)(*arguments)
        except (Exception, SystemExit) as error:
            if type(error).__module__.startswith("numba."):  # it compiles at the first call
                raise BackendError(f"{path}: {name}: {_message(error, path)}") from error
            raise KernelError(f"raised {_message(error, path)}") from error

    def assembly(kernel: str) -> str:
        function: Any = getattr(module, kernel, None)
        texts = list(function.inspect_asm().values()) if hasattr(function, "inspect_asm") else []
        return texts[-1] if texts else ""

    def gate_matmul(x: Array, weights: LayerWeights, z: Array) -> None:
        call("gate_matmul", x, weights.w_x, weights.bias, z)

    def cell_update(z: Array, c: Array, h: Array) -> None:
        call("cell_update", z, c, h)

    def layer_forward(
        x: Array, weights: LayerWeights, lengths: Array | None, reverse: bool, h: Array, c: Array, out: Array
    ) -> None:
        row_lengths = np.full(x.shape[1], len(x)) if lengths is None else lengths
        call("layer_forward", x, weights.w_x, weights.w_h, weights.bias, row_lengths, reverse, h, c, out)

    ours: Kernels = {"gate_matmul": gate_matmul, "cell_update": cell_update, "layer_forward": layer_forward}
    own = {name: kernel for name, kernel in ours.items() if callable(getattr(module, name, None))}
    return _own(path, getattr(module, "lanes", None), own, lambda weights: None, assembly)


def _message(error: BaseException, path: str) -> str:
    """The message, with the line of the file that raised it. SyntaxErrors and Numba's errors already name it."""
    file = os.path.abspath(path)
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename in (path, file)]
    place = f" (line {lines[-1]})" if lines else ""
    return f"{type(error).__name__}: {error}{place}"
