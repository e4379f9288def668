#!/usr/bin/env bash
# Hold the bits of every instruction set against each other, those that this CPU lacks by emulation:
#   AVX2 natively; NEON under qemu-user; AVX-512 natively, or through SIMDe (which maps each intrinsic to portable
#   operations).
# Debian: apt-get install gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user libsimde-dev
# What is not installed is named and left out; the exit status is non-zero where bits differ.
# Optimised as the package is (csrc/build.py): with less, GCC 12 warns of variables that it cannot follow.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
flags=(-O3 -std=gnu11 -ffp-contract=off -Wall -Wextra -Werror -Icsrc)

gcc "${flags[@]}" tests/c/bits.c csrc/run/*.c csrc/tables/*_f??.c -pthread -o "$work/native"
native=$([ "$(uname -m)" = aarch64 ] && echo neon || echo avx2)
"$work/native" "$native" > "$work/$native.txt"
lines=$(wc -l < "$work/$native.txt")
failed=0
compare() {
    if cmp -s "$work/$native.txt" "$work/$1.txt"; then
        echo "$1 $2: the bits of $native in all $lines cases"
    else
        echo "$1 $2: OTHER BITS than $native:"
        diff "$work/$native.txt" "$work/$1.txt" | head -5
        failed=1
    fi
}

if command -v aarch64-linux-gnu-gcc > /dev/null && command -v qemu-aarch64 > /dev/null; then
    aarch64-linux-gnu-gcc -static "${flags[@]}" tests/c/bits.c csrc/run/*.c csrc/tables/*_f??.c -pthread -o "$work/arm"
    qemu-aarch64 "$work/arm" neon > "$work/neon.txt"
    compare neon "under qemu-user"
else
    echo "neon: left out, needs aarch64-linux-gnu-gcc and qemu-aarch64"
fi

if [ "$native" = avx2 ] && grep -qsw avx512f /proc/cpuinfo; then
    "$work/native" avx512 > "$work/avx512.txt"
    compare avx512 "on this CPU"
elif [ -e /usr/include/simde/x86/avx512.h ] && [ "$native" = avx2 ]; then
    # -O1: with -O3, GCC 12 needs four minutes for a table. -w: SIMDe's own headers warn. -mfma: its fma rounds once
    # only on the FMA of the host.
    gcc -w -Wno-psabi -O1 -std=gnu11 -ffp-contract=off -mavx2 -mfma -include tests/c/emulated_avx512.h -Icsrc \
        tests/c/bits.c csrc/run/*.c csrc/tables/*_f??.c -pthread -o "$work/avx512"
    "$work/avx512" avx512 > "$work/avx512.txt"
    compare avx512 "through SIMDe"
else
    echo "avx512: left out, needs x86-64, and a CPU that has it or SIMDe"
fi
exit $failed
