"""Build the C kernels with cffi. All metadata is in pyproject.toml."""

import os

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

REQUIRE_C = os.environ.get("LSTMKERNEL_REQUIRE_C") == "1"

LEFT_OUT = """
**********************************************************************
lstmkernel: THE C BACKEND WAS LEFT OUT, because it did not compile:
    {error}
The package runs on Numba instead. To get the C backend, install a C
compiler (Debian: apt install gcc python3-dev; Fedora: dnf install gcc
python3-devel; macOS: xcode-select --install) and then run
    LSTMKERNEL_REQUIRE_C=1 pip install --force-reinstall --no-deps .
**********************************************************************
"""


class BuildKernels(build_ext):
    def build_extension(self, ext: Extension) -> None:
        ext.optional = not REQUIRE_C
        try:
            super().build_extension(ext)
        except Exception as error:
            if ext.optional:
                print(LEFT_OUT.format(error=error), flush=True)
            raise  # setuptools goes on where the extension is optional


setup(
    cffi_modules=["csrc/build.py:ffi"],
    cmdclass={"build_ext": BuildKernels},
    options={"bdist_wheel": {"py_limited_api": "cp310"}},
)
