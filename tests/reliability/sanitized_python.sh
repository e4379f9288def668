#!/usr/bin/env bash
# Run tests from Python with the C kernels under AddressSanitizer and UndefinedBehaviorSanitizer: what tests/c/sanitize.sh
# does from C, along the way that users' calls take. Python itself is not instrumented, so leaks are not looked for.
# Usage: tests/reliability/sanitized_python.sh [PYTHON [PYTEST'S ARGUMENTS]]; default: python3, and the tests below.
# PYTHON has the package's dependencies and pytest. Debian: apt-get install gcc. About an hour on two cores.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=$(command -v "${1:-python3}")
shift || true
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
git ls-files -z | xargs -0 cp --parents -t "$work"
cd "$work"
# Not optimised, unlike the package's own build: ten times faster to compile, and no load is left out because its result
# is not used.
export PYTHONPATH=$work
PYTHONPATH=csrc "$python" -c "import sys, build; build.ffi.emit_c_code(sys.argv[1])" kernels.c
include=$("$python" -c "import sysconfig; print(sysconfig.get_path('include'))")
# shellcheck disable=SC2054 # the comma is of the flag
flags=(-O0 -g1 -std=gnu11 -ffp-contract=off -fPIC -fvisibility=hidden -DPy_LIMITED_API=0x030B0000 "-I$include" -Icsrc
    -fsanitize=address,undefined -fno-sanitize-recover=all)
# shellcheck disable=SC2016
printf '%s\n' kernels.c csrc/run/*.c csrc/tables/*_f??.c csrc/tables/*_i8a*.c | xargs -P "$(nproc)" -I {} \
    sh -c '"$@" -c "$0" -o "$(basename "$0" .c).o"' {} gcc "${flags[@]}"
gcc -shared -fsanitize=address,undefined ./*.o -pthread -o lstmkernel/backends/c/_kernels.abi3.so
tests=("$@")
[ $# -gt 0 ] || tests=(-m "not slow" tests/network/test_bits.py tests/network/test_edges.py tests/network/test_ragged.py
    tests/streaming tests/kernels/test_kernels.py)
# Not the default allocator of Python, whose arenas would hide an overrun of an array.
LD_PRELOAD=$(gcc -print-file-name=libasan.so) ASAN_OPTIONS=detect_leaks=0 PYTHONMALLOC=malloc TESTS_WITHOUT_NUMBA=1 \
    "$python" -m pytest -q -p no:cacheprovider "${tests[@]}"
