"""What this machine has and what runs on it."""

from __future__ import annotations

import platform
from typing import Any

import numpy as np

from lstmkernel import backends
from lstmkernel._version import __version__
from lstmkernel.engine import arguments
from lstmkernel.host import cores, cpu


def info() -> dict[str, Any]:
    """CPU, instruction sets, backends, threads and versions, as plain values.

    ``backends`` maps each known backend to None if it can run, or to the reason why it cannot. ``default`` is the
    backend that "auto" means here. ``int8`` names the C kernels for 8-bit weights that run here, for example
    "avx512_vnni"; None without them.
    """
    reasons = {name: backends.unavailable(name) for name in backends.NAMES}
    return {
        "lstmkernel": __version__,
        "cpu": cpu.model(),
        "machine": f"{platform.system()} {platform.machine()}",
        "cores": cores.available(),
        "num_threads": arguments.num_threads(None),
        "backends": reasons,
        "default": backends.get("auto").name,
        "int8": backends.int8_kernels(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "numba": version_of("numba"),
    }


def version_of(package: str) -> str | None:
    """The version of an installed package; None if it is not installed."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return None
