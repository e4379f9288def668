#!/usr/bin/env bash
# Build csrc/ against musl, as Alpine Linux has it, and run the C tests: all kernels and threads
# against the definition, and the bits of every instruction set that this CPU has against those of a build with glibc.
# Optimised as the package is: with less, GCC 12 warns of variables that it cannot follow.
# Debian: apt-get install gcc musl-tools. Linux on x86-64 or AArch64. Some minutes on two cores.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
flags=(-O3 -std=gnu11 -ffp-contract=off -Wall -Wextra -Werror -Icsrc -pthread)

# The kernels and programs of tests/c by compiler $1, in folder $2. Programs are less optimised: with more, GCC 12 warns of sizes
# that cannot be.
build() {
    mkdir "$work/$2"
    # shellcheck disable=SC2016
    printf '%s\n' csrc/run/*.c csrc/tables/*_f??.c csrc/tables/*_i8a*.c | xargs -P "$(nproc)" -I {} \
        sh -c '"$@" -c "$0" -o "'"$work/$2"'/$(basename "$0" .c).o"' {} "$1" "${flags[@]}"
    for program in "${@:3}"; do
        "$1" "${flags[@]}" -O1 -static "tests/c/$program.c" "$work/$2"/*.o -lm -o "$work/$2/$program"
    done
}

build musl-gcc musl bits sanitized sanitized_lstm sanitized_training sanitized_threads
build gcc glibc bits
for program in sanitized sanitized_lstm sanitized_training sanitized_threads; do
    "$work/musl/$program"
    echo "musl: $program: as the definition says"
done

sets=(generic)
case $(uname -m) in
    aarch64) sets+=(neon) ;;
    *) for isa in avx2 avx512f; do if grep -qsw "$isa" /proc/cpuinfo; then sets+=("${isa%f}"); fi; done ;;
esac
for isa in "${sets[@]}"; do
    "$work/glibc/bits" "$isa" > "$work/of_glibc"
    "$work/musl/bits" "$isa" > "$work/of_musl"
    cmp "$work/of_glibc" "$work/of_musl"
    echo "musl: $isa: the bits of glibc in all $(wc -l < "$work/of_musl") cases"
done
