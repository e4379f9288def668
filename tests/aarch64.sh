#!/usr/bin/env bash
# Run the whole package in an aarch64 Python under qemu-user, and hold the bits of its answers (NEON) against those of
# this machine (AVX2 or AVX-512). It takes some minutes and 60 MB from Debian and PyPI, so CI does not run it.
# Debian 12: apt-get install gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user unzip
# Usage: tests/aarch64.sh [PYTHON], from anywhere. PYTHON has the package's dependencies and pytest; default: python3.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${1:-python3}
version=3.11 # Debian 12's
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Debian's aarch64 Python, unpacked into a folder. apt has lists of its own there: the system's are left alone.
mkdir -p "$work"/{apt/partial,archives/partial,root,site,tree}
touch "$work/status"
apt=(apt-get -qq -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o "Dir::State::lists=$work/apt"
    -o "Dir::State::status=$work/status" -o "Dir::Cache::archives=$work/archives" -o APT::Sandbox::User=root)
"${apt[@]}" update
(cd "$work" && "${apt[@]}" download "python$version-minimal" "libpython$version-minimal" "libpython$version-stdlib" \
    "libpython$version-dev" libc6 libssl3 zlib1g libexpat1 libffi8 libgcc-s1 libstdc++6 libbz2-1.0 liblzma5 libuuid1)
for package in "$work"/*.deb; do dpkg-deb -x "$package" "$work/root"; done

# The package's dependencies that it needs here, and pytest, from wheels for aarch64.
"$python" -m pip download -q --no-deps -d "$work" --only-binary=:all: --platform manylinux2014_aarch64 \
    --platform manylinux_2_28_aarch64 --platform manylinux_2_27_aarch64 --python-version "$version" \
    numpy cffi platformdirs safetensors rich pytest pluggy iniconfig packaging pygments
for wheel in "$work"/*.whl; do unzip -qo "$wheel" -d "$work/site"; done

# The package itself, with its C kernels built for aarch64 as setup.py builds them.
cp -r lstmkernel "$work/tree/"
rm -f "$work"/tree/lstmkernel/backends/c/_kernels*
PYTHONPATH=csrc "$python" -c "import sys, build; build.ffi.emit_c_code(sys.argv[1])" "$work/_kernels.c"
headers=$work/root/usr/include
mapfile -t sources < <(find csrc/run csrc/tables -name '*.c' ! -name specialised.c)
aarch64-linux-gnu-gcc -shared -fPIC -std=gnu11 -O3 -ffp-contract=off -fvisibility=hidden -DPy_LIMITED_API=0x030B0000 \
    -Icsrc "-I$headers/python$version" "-I$headers" "$work/_kernels.c" "${sources[@]}" -pthread \
    -o "$work/tree/lstmkernel/backends/c/_kernels.abi3.so"

echo "on this machine"
PYTHONPATH=$PWD:tests "$python" tests/aarch64_answers.py > "$work/here.txt"
echo "on aarch64"
PYTHONPATH=$work/tree:$work/site:tests qemu-aarch64 -L "$work/root" "$work/root/usr/bin/python$version" \
    tests/aarch64_answers.py > "$work/arm.txt"
if ! diff "$work/here.txt" "$work/arm.txt" | head -20 || ! cmp -s "$work/here.txt" "$work/arm.txt"; then
    echo "OTHER BITS"
    exit 1
fi
echo "the same bits in all $(wc -l < "$work/arm.txt") answers"
