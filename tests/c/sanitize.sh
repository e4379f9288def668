#!/usr/bin/env bash
# Run every kernel under the compiler's sanitizers, on arrays of exactly their size, against the definition:
#   address, undefined  sanitized.c: each kernel alone; sanitized_lstm.c: layers and LSTMs, and once more on kernels for
#                       one layer's sizes; sanitized_threads.c; sanitized_training.c
#   thread              the last two
# A sanitizer that is not installed is named and left out, but not in CI. One that this system cannot run is left out
# everywhere: ThreadSanitizer wants memory where some kernels put none. About a minute on one core.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
compiler=${CC:-gcc}
flags=(-g -std=gnu11 -ffp-contract=off -fno-sanitize-recover=all -Wall -Wextra -Werror -Icsrc -pthread)
missing=0

# Whether programs under sanitizer $1 can be built, and run through the command that follows.
can_run() {
    if ! echo 'int main(void) { return 0; }' | "$compiler" "-fsanitize=$1" -x c - -o "$work/probe" 2> /dev/null; then
        echo "$1: left out, $compiler lacks it (Debian: apt-get install gcc)"
        missing=1
    elif ! "${@:2}" "$work/probe" 2> /dev/null; then
        echo "$1: left out, this system cannot run it"
    else
        return 0
    fi
    return 1
}

# Program $2, its arguments after it, under sanitizer $1.
run() {
    "$compiler" "${flags[@]}" "-fsanitize=$1" "tests/c/$2.c" "$work"/*.o -lm -o "$work/$2"
    "${launch[@]}" "$work/$2" "${@:3}"
    echo "$1: ${*:2}: nothing found"
}

# Kernels for a layer of sizes $5 $6 $7 in vectors $2, whose target region $3 and $4 open and close, under sanitizer $1.
specialised() {
    local defines=("-DLK_INPUT_SIZE=$5" "-DLK_HIDDEN_SIZE=$6" "-DLK_PROJ_SIZE=$7")
    "$compiler" "${flags[@]}" "-fsanitize=$1" -Wno-unused-function -DLK_F32 "-DLK_VECTORS=\"vec/$2.h\"" \
        "-DLK_REGION_BEGIN=$3" "-DLK_REGION_END=$4" "${defines[@]}" -c csrc/tables/specialised.c -o "$work/specialised.o"
    flags+=("${defines[@]}")
    run "$1" sanitized_lstm
    echo "  of kernels for $5 -> $6, projection $7, in vectors of $2"
    flags=("${flags[@]:0:${#flags[@]}-3}")
    rm "$work/specialised.o"
}

compile_kernels() {
    rm -f "$work"/*.o
    for source in csrc/run/*.c csrc/tables/*_f??.c; do
        "$compiler" "${flags[@]}" "-fsanitize=$1" -c "$source" -o "$work/$(basename "$source" .c).o"
    done
}

# Not optimised: ten times faster to compile, and no load is left out because its result is not used.
launch=(env)
if can_run address,undefined "${launch[@]}"; then
    compile_kernels address,undefined
    run address,undefined sanitized
    run address,undefined sanitized_lstm
    run address,undefined sanitized_threads
    run address,undefined sanitized_training
    while read -r -a sizes; do
        specialised address,undefined generic "" "" "${sizes[@]}"
        ! grep -qw avx2 /proc/cpuinfo \
            || specialised address,undefined avx2 'LK_TARGET_BEGIN("avx2,fma")' LK_TARGET_END "${sizes[@]}"
    done <<< $'1 5 0\n150 3 0\n1 16 0\n2 7 3'
fi

# Without randomised addresses, where that is allowed: with many random bits they can lie where it has its own.
setarch "$(uname -m)" -R true 2> /dev/null && launch=(setarch "$(uname -m)" -R)
# GCC 12 lets variables that are both alive share their place on the stack when it instruments for threads; AddressSanitizer,
# which would see a use out of scope, and Clang's ThreadSanitizer find nothing.
flags+=(-O1)
echo | "$compiler" -fstack-reuse=none -x c -S -o /dev/null - 2> /dev/null && flags+=(-fstack-reuse=none)
if can_run thread "${launch[@]}"; then
    compile_kernels thread
    run thread sanitized_threads without-fork
    run thread sanitized_training
fi
[ "$missing" = 0 ] || [ "${CI:-}" != true ]
