#!/usr/bin/env bash
# Try every vector operation of every instruction set and dtype alone (vector_operations.c), as GCC and Clang compile it.
# What this CPU lacks is emulated: NEON under qemu-user, AVX-512 through SIMDe. On AArch64 only NEON and generic are tried.
# Debian: apt-get install gcc clang gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user libsimde-dev
# What is not installed is named and left out, but not in CI. The exit status is non-zero where a result differs.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
flags=(-O2 -std=gnu11 -ffp-contract=off -Wall -Wextra -Werror -Wno-unused-function -Icsrc)
missing=0
failed=0

left_out() {
    echo "$1: left out, $2"
    missing=1
}

# Instruction set $1 with target region $2 (none where it is empty), in both dtypes. run: the command that runs programs.
# The compiler, its flags and further definitions follow.
try() {
    local isa=$1 begin=$2 end=${2:+LK_TARGET_END} dtype
    shift 2
    for dtype in LK_F32 LK_F64; do # the second is no parameter: double is what there is without the first
        "$@" "${flags[@]}" "-D$dtype" -DLK_VECTORS="\"vec/$isa.h\"" "-DLK_REGION_BEGIN=$begin" "-DLK_REGION_END=$end" \
            tests/c/vector_operations.c -lm -o "$work/program"
        echo -n "$isa float${dtype#LK_F}, $how: "
        "${run[@]}" "$work/program" || failed=1
    done
}

native=$(uname -m)
avx512='LK_TARGET_BEGIN("avx512f")'
for compiler in gcc clang; do
    how=$compiler run=()
    if ! command -v "$compiler" > /dev/null; then
        left_out "$compiler" "it is not installed"
        continue
    fi
    try generic "" "$compiler" -DTWO_ROUNDINGS
    if [ "$native" = aarch64 ]; then
        try neon "" "$compiler"
        continue
    fi
    if grep -qw avx2 /proc/cpuinfo; then
        try avx2 'LK_TARGET_BEGIN("avx2,fma,f16c")' "$compiler"
    else
        left_out avx2 "this CPU lacks it"
    fi
    if grep -qw avx512f /proc/cpuinfo; then
        try avx512 "$avx512" "$compiler"
    elif [ -e /usr/include/simde/x86/avx512.h ]; then
        # -w: SIMDe's own headers warn. -Wno-psabi: notes are no warnings. -mfma, -mf16c: its fma rounds once, and it widens
        # 16-bit floats exactly, only on those of the host.
        how="$compiler and SIMDe"
        try avx512 "$avx512" "$compiler" -mavx2 -mfma -mf16c -include tests/c/emulated_avx512.h -w -Wno-psabi
    else
        left_out avx512 "this CPU lacks it, and SIMDe is not installed"
    fi
done

if [ "$native" != aarch64 ]; then
    run=(qemu-aarch64)
    for compiler in aarch64-linux-gnu-gcc "clang --target=aarch64-linux-gnu"; do
        how="$compiler under qemu-user"
        # shellcheck disable=SC2086 # a compiler and its target are two words
        if ! command -v qemu-aarch64 > /dev/null || ! echo 'int main(void) { return 0; }' \
            | $compiler -static -x c - -o "$work/program" 2> /dev/null; then
            left_out neon "needs qemu-aarch64 and $compiler"
        else
            try neon "" $compiler -static
        fi
    done
fi
[ "$failed" = 0 ] && { [ "$missing" = 0 ] || [ "${CI:-}" != true ]; }
