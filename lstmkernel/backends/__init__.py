"""Kernels: one contract, three ways to compute it (numpy, c, numba), and one list of all backends.

``backends.get("c:avx2")`` gives a backend; contract.py says what each one has, packing.py how its weights lie.
"""

from lstmkernel.backends.contract import ACTIVATIONS, KERNELS, Backend, BackendError
from lstmkernel.backends.registry import (
    HOW_TO_GET_C,
    INSTRUCTION_SETS,
    NAMES,
    ONE_ANSWER,
    c_is_built,
    get,
    int8_kernels,
    register,
    unavailable,
    usable,
)

__all__ = [
    "ACTIVATIONS",
    "HOW_TO_GET_C",
    "INSTRUCTION_SETS",
    "KERNELS",
    "NAMES",
    "ONE_ANSWER",
    "Backend",
    "BackendError",
    "c_is_built",
    "get",
    "int8_kernels",
    "register",
    "unavailable",
    "usable",
]
