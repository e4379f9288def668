"""Build the C kernels with cffi, and say which files belong to the package. All metadata is in pyproject.toml."""

import os
import re
import sysconfig
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

WINDOWS = os.name == "nt"
REQUIRE_C = os.environ.get("LSTMKERNEL_REQUIRE_C") == "1"

LEFT_OUT = """
**********************************************************************
lstmkernel: THE C BACKEND WAS LEFT OUT, because it did not compile:
    {error}
The package runs on Numba instead, or on NumPy where Numba is not
installed. To get the C backend, install a C compiler (Debian: apt
install gcc python3-dev; Fedora: dnf install gcc python3-devel; macOS:
xcode-select --install; Windows: GCC of mingw-w64) and then run
    LSTMKERNEL_REQUIRE_C=1 pip install --force-reinstall --no-deps \\
        --no-cache-dir -e .
**********************************************************************
"""


def compile_at_once(compile_in_turn: Callable[..., list[str]], sources: list[str], **options: Any) -> list[str]:
    """As setuptools compiles the sources of an extension, but as many at once as there are cores."""
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        compiled = threads.map(lambda source: compile_in_turn([source], **options), sources)
        return [name for names in compiled for name in names]


class BuildKernels(build_ext):
    def finalize_options(self) -> None:
        super().finalize_options()
        if WINDOWS and self.compiler is None:
            self.compiler = "mingw32"  # Microsoft's has no vectors and no target regions

    def get_libraries(self, ext: Extension) -> list[str]:
        """A wheel for every Python needs the library without a number; for GCC, setuptools names this version's."""
        found: list[str] = super().get_libraries(ext)
        return [re.sub(r"^python3\d+$", "python3", name) if ext.py_limited_api else name for name in found]

    def build_extension(self, ext: Extension) -> None:
        ext.optional = not REQUIRE_C
        if WINDOWS:
            self.compiler.dll_libraries = []  # Microsoft's runtime, for which GCC has no file
        self.compiler.compile = partial(compile_at_once, self.compiler.compile)
        try:
            super().build_extension(ext)
        except Exception as error:
            if ext.optional:
                # pip shows this with -v only, so the package says it again when it first runs without C.
                print(LEFT_OUT.format(error=error), flush=True)
            raise  # setuptools goes on where the extension is optional


# One wheel for every Python of a platform; free-threaded ones have no limited API.
ABI3 = {} if sysconfig.get_config_var("Py_GIL_DISABLED") else {"bdist_wheel": {"py_limited_api": "cp311"}}


class BuildPackages(build_py):
    """The C sources go along: LSTM.compile gives them to the user's compiler, with a layer's sizes as constants.

    They are copied into the package here, and are no packages of setuptools in a folder of their own: then an editable
    install would be an import hook, which mypy and pyright do not see through.
    """

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            for source in Path("csrc").rglob("*.[ch]"):
                target = Path(self.build_lib, "lstmkernel", source)
                target.parent.mkdir(parents=True, exist_ok=True)
                self.copy_file(str(source), str(target))


setup(
    packages=find_packages(include=["lstmkernel*"]),
    package_dir={"": "."},
    package_data={
        "lstmkernel": ["py.typed"],
        "lstmkernel.workbench.roofline": ["probes.c", "dot_probe.c"],
        "lstmkernel.models": ["*.safetensors"],
    },
    cffi_modules=["csrc/build.py:ffi"],
    cmdclass={"build_ext": BuildKernels, "build_py": BuildPackages},
    options=ABI3,
)
