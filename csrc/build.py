"""Tell cffi what to compile: the declarations of lstmkernel.h, the C sources beside it."""

import os
import sysconfig
from pathlib import Path

from cffi import FFI

HERE = Path(__file__).parent
CONTRACT = (HERE / "lstmkernel.h").read_text()

# GCC aligns the stack to 16 bytes on Windows, but may keep vectors of 32 and 64 bytes on it with instructions that want
# them aligned (GCC's bug 54412): a kernel that does would crash. The assembler (binutils 2.38 or newer) then writes the
# instructions that do not, and which are as fast where the address is aligned. Clang aligns the stack. The libraries of
# GCC are put in, because Windows finds none beside an extension.
WINDOWS = os.name == "nt"
UNALIGNED = WINDOWS and sysconfig.get_platform() == "win-amd64" and "clang" not in os.environ.get("CC", "")

ffi = FFI()
ffi.cdef("\n".join(line for line in CONTRACT.splitlines() if not line.startswith("#")))
ffi.set_source(
    "lstmkernel.backends.c._kernels",
    '#include "lstmkernel.h"',
    # setuptools wants paths relative to the project.
    sources=sorted(f"csrc/{path.relative_to(HERE)}" for path in HERE.rglob("*.c") if path.name != "specialised.c"),
    depends=sorted(f"csrc/{path.relative_to(HERE)}" for path in HERE.rglob("*.h")),
    include_dirs=["csrc"],
    libraries=[] if WINDOWS else ["m"],  # fmaf of vec/generic.h
    # No fast-math, no -march: tables/*.c open target regions. Contraction would round a * b + c once on one instruction
    # set and twice on another; the kernels say fma where they mean it.
    # -fno-wrapv and -g0 take back what Python's own flags add: GCC 12 would spill accumulators of the register tiles,
    # and debug information is 15 times as large as the code.
    extra_compile_args=[
        *("-std=gnu11", "-O3", "-ffp-contract=off", "-fno-wrapv", "-g0"),
        *("-fvisibility=hidden", "-Wall", "-Wextra"),
        *(["-Wa,-muse-unaligned-vector-move"] if UNALIGNED else []),
    ],
    extra_link_args=["-static-libgcc"] if WINDOWS else [],
)
