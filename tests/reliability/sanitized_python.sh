#!/usr/bin/env bash
# Run tests from Python with the C kernels under AddressSanitizer and UndefinedBehaviorSanitizer: what tests/c/sanitize.sh
# does from C, along the way that users' calls take. Python itself is not instrumented, so leaks are not looked for.
# Usage: tests/reliability/sanitized_python.sh [PYTHON [PYTEST'S ARGUMENTS]]; default: python3, and the tests below.
# PYTHON has the package's dependencies and pytest. Debian: apt-get install gcc. Some minutes on two cores.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=$(command -v "${1:-python3}")
shift || true
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
git ls-files -z | xargs -0 cp --parents -t "$work"
cd "$work"
# Little optimised: quicker to compile, and no load is left out because its result is not used.
CFLAGS="-fsanitize=address,undefined -fno-sanitize-recover=all -O1 -g" LDFLAGS="-fsanitize=address,undefined" \
    "$python" setup.py -q build_ext --inplace
tests=("$@")
[ $# -gt 0 ] || tests=(-m "not slow" tests/network/test_bits.py tests/network/test_edges.py tests/network/test_ragged.py
    tests/streaming tests/kernels/test_kernels.py)
# Not the default allocator of Python, whose arenas would hide an overrun of an array.
LD_PRELOAD=$(gcc -print-file-name=libasan.so) ASAN_OPTIONS=detect_leaks=0 PYTHONMALLOC=malloc TESTS_WITHOUT_NUMBA=1 \
    PYTHONPATH=$work "$python" -m pytest -q -p no:cacheprovider "${tests[@]}"
