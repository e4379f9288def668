"""Build the C kernels with cffi, and say which files belong to the package. All metadata is in pyproject.toml."""

import os
import sysconfig

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

REQUIRE_C = os.environ.get("LSTMKERNEL_REQUIRE_C") == "1"

LEFT_OUT = """
**********************************************************************
lstmkernel: THE C BACKEND WAS LEFT OUT, because it did not compile:
    {error}
The package runs on Numba instead. To get the C backend, install a C
compiler (Debian: apt install gcc python3-dev; Fedora: dnf install gcc
python3-devel; macOS: xcode-select --install) and then run
    LSTMKERNEL_REQUIRE_C=1 pip install --force-reinstall --no-deps \\
        --no-cache-dir -e .
**********************************************************************
"""


class BuildKernels(build_ext):
    def build_extension(self, ext: Extension) -> None:
        ext.optional = not REQUIRE_C
        try:
            super().build_extension(ext)
        except Exception as error:
            if ext.optional:
                # pip shows this with -v only, so the package says it again when it first runs without C.
                print(LEFT_OUT.format(error=error), flush=True)
            raise  # setuptools goes on where the extension is optional


# One wheel for every Python of a platform; free-threaded ones have no limited API.
ABI3 = {} if sysconfig.get_config_var("Py_GIL_DISABLED") else {"bdist_wheel": {"py_limited_api": "cp310"}}

# The C sources go along: LSTM.compile gives them to the user's compiler, with a layer's sizes as constants.
ROOMS = ("vec", "kernels", "tables", "run")
SOURCES = {"lstmkernel.csrc": "csrc", **{f"lstmkernel.csrc.{room}": f"csrc/{room}" for room in ROOMS}}

setup(
    packages=[*find_packages(include=["lstmkernel*"]), *SOURCES],
    package_dir=SOURCES,
    package_data={
        "lstmkernel": ["py.typed"],
        "lstmkernel.workbench.roofline": ["probes.c"],
        "lstmkernel.models": ["*.safetensors"],
        **{package: ["*.h", "*.c"] for package in SOURCES},
    },
    cffi_modules=["csrc/build.py:ffi"],
    cmdclass={"build_ext": BuildKernels},
    options=ABI3,
)
