#!/usr/bin/env bash
# Parse every header of csrc/ and tests/c/ alone, as an editor does, with GCC and Clang: in double, and in float as a build
# for the sizes of one layer does. vec/neon.h and vec/dot_neon.h are parsed for AArch64. run/system_windows.h needs the headers
# of Windows: tests/install/windows.sh compiles it.
# Debian: apt-get install gcc clang gcc-aarch64-linux-gnu libc6-dev-arm64-cross
# What is not installed is named and left out, but not in CI. The exit status is non-zero where a header does not parse.
set -euo pipefail
cd "$(dirname "$0")/../.."
# A header alone uses few of the static functions that it has and includes.
flags=(-fsyntax-only -std=gnu11 -Wall -Wextra -Werror -Wno-unused-function -I. -Icsrc -Itests/c -x c -)
sizes=(-DLK_INPUT_SIZE=3 -DLK_HIDDEN_SIZE=40 -DLK_PROJ_SIZE=0)
failed=0
missing=0

# Header $1 through the command that follows.
parse() {
    local header=$1
    shift
    if ! echo "#include \"$header\"" | "$@" "${flags[@]}"; then
        echo "$header: does not parse alone: $*"
        failed=1
    fi
}

# Headers $2, ... by compiler $1.
parse_all() {
    local compiler=$1 count=0
    shift
    if ! echo | $compiler "${flags[@]}" 2> /dev/null; then
        echo "$compiler: left out, it is not here"
        missing=1
        return
    fi
    for header in "$@"; do
        # shellcheck disable=SC2086 # a compiler and its target are two words
        for variant in "" "-DLK_F32 ${sizes[*]}"; do
            parse "$header" $compiler $variant
        done
        count=$((count + 1))
    done
    echo "$compiler: $count headers tried"
}

# tests/c/emulated_avx512.h is for the command line, and needs SIMDe.
mapfile -t headers < <(find csrc tests/c -name '*.h' ! -name '*neon.h' ! -name 'emulated_*' ! -name '*_windows.h' | sort)
for compiler in gcc clang; do
    parse_all "$compiler" "${headers[@]}"
done
for compiler in aarch64-linux-gnu-gcc "clang --target=aarch64-linux-gnu"; do
    parse_all "$compiler" csrc/vec/neon.h csrc/vec/dot_neon.h
done
[ "$failed" = 0 ] && { [ "$missing" = 0 ] || [ "${CI:-}" != true ]; }
