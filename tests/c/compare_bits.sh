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
plain=(-std=gnu11 -ffp-contract=off -Icsrc)
flags=(-O3 "${plain[@]}" -Wall -Wextra -Werror)

# AVX-VNNI has a short form of AVX-512's instructions. A CPU that has only the long one can run those.
vnni=()
if grep -qsw avx512_vnni /proc/cpuinfo && grep -qsw avx512vl /proc/cpuinfo && ! grep -qsw avx_vnni /proc/cpuinfo; then
    vnni=('-DLK_VEX="%{evex%}"' -DLK_HAS_AVX_VNNI=lk_cpu_has_avx512_vnni)
fi

# Everything, by compiler $1. A program links the tables of all sets; those that it does not run would be most of the time,
# so only those of 8-bit weights, which one program runs for several sets, are a little optimised.
compile_all() {
    local compiler=$1 source optimised
    mkdir "$work/$compiler"
    for source in tests/c/bits.c csrc/run/*.c csrc/tables/*_f??.c csrc/tables/*_i8a*.c; do
        optimised=-O0
        [[ $source = *_i8a* ]] && optimised=-O1
        "$compiler" "$optimised" "${vnni[@]}" "${plain[@]}" -c "$source" -o "$work/$compiler/$(basename "$source" .c).o"
    done
}

# The program that runs instruction set $1, from "$2 $3 ..." with its flags, and what compile_all made.
build() {
    local isa=$1 compiler=$2 folder="$work/of_$1" source
    mkdir "$folder"
    cp "$work/$compiler"/*.o "$folder"
    "${@:2}" -c "csrc/tables/${isa}_f64.c" -o "$folder/${isa}_f64.o" &
    local first=$!
    for source in f32 f16; do
        "${@:2}" -c "csrc/tables/${isa}_$source.c" -o "$folder/${isa}_$source.o"
    done
    wait "$first"
    "$compiler" ${static:+"$static"} "$folder"/*.o -pthread -lm -o "$work/$isa"
}

compile_all gcc
native=$([ "$(uname -m)" = aarch64 ] && echo neon || echo avx2)
build "$native" gcc "${flags[@]}"
"$work/$native" "$native" > "$work/$native.txt"
grep -v ^i8 "$work/$native.txt" > "$work/floats.txt"
failed=0
# With what the native program printed, $3.
compare() {
    if cmp -s "$work/$3.txt" "$work/$1.txt"; then
        echo "$1 $2: the bits of $native in all $(wc -l < "$work/$1.txt") cases"
    else
        echo "$1 $2: OTHER BITS than $native:"
        diff "$work/$3.txt" "$work/$1.txt" | head -5
        failed=1
    fi
}

# Kernels for 8-bit weights that one CPU can run are held against each other there.
if grep "OTHER BITS" "$work/$native.txt"; then
    failed=1
fi

if [ "$native" = neon ]; then
    echo "neon: on this CPU"
elif command -v aarch64-linux-gnu-gcc > /dev/null && command -v qemu-aarch64 > /dev/null; then
    compile_all aarch64-linux-gnu-gcc
    static=-static build neon aarch64-linux-gnu-gcc "${flags[@]}"
    qemu-aarch64 "$work/neon" neon > "$work/neon.txt"
    compare neon "under qemu-user" "$native"
else
    echo "neon: left out, needs aarch64-linux-gnu-gcc and qemu-aarch64"
fi

if [ "$native" = avx2 ] && grep -qsw avx512f /proc/cpuinfo; then
    build avx512 gcc "${flags[@]}"
    "$work/avx512" avx512 > "$work/avx512.txt"
    compare avx512 "on this CPU" floats
elif [ -e /usr/include/simde/x86/avx512.h ] && [ "$native" = avx2 ]; then
    # -O1: with -O3, GCC 12 needs four minutes for a table. -w: SIMDe's own headers warn. -mfma, -mf16c: its
    # fma rounds once, and it widens 16-bit floats exactly, only on those of the host.
    build avx512 gcc -w -Wno-psabi -O1 "${plain[@]}" -mavx2 -mfma -mf16c -include tests/c/emulated_avx512.h
    "$work/avx512" avx512 > "$work/avx512.txt"
    compare avx512 "through SIMDe" floats
else
    echo "avx512: left out, needs x86-64, and a CPU that has it or SIMDe"
fi
exit $failed
