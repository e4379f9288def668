#!/usr/bin/env bash
# Run every kernel under the compiler's sanitizers, on arrays of exactly their size, against the definition:
#   address, undefined  sanitized.c: each kernel alone; sanitized_lstm.c: layers and LSTMs, and once more on kernels for
#                       one layer's sizes; sanitized_threads.c; sanitized_training.c
#   thread              the last two, with threads that sleep now and then where it hurts most (csrc/run/threads.c)
# A sanitizer that is not installed is named and left out, but not in CI. One that this system cannot run is left out
# everywhere: ThreadSanitizer wants memory where some kernels put none. Some minutes on two cores.
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

# Program $2, its arguments after it, with the kernels compiled in folder $1, under the sanitizer of ``flags``.
run() {
    "$compiler" "${flags[@]}" "tests/c/$2.c" "$1"/*.o -lm -o "$1/$2"
    "${launch[@]}" "$1/$2" "${@:3}"
    echo "${1##*/}: ${*:2}: nothing found"
}

# All kernels, in folder $1; as many files at once as there are cores. Tables that do not run are not optimised, which is
# much of the time: those of AVX-512 on another CPU, and those that pattern $2 names.
compile_kernels() {
    local unused=none
    grep -qsw avx512f /proc/cpuinfo || unused=avx512
    mkdir -p "$1"
    # shellcheck disable=SC2016
    printf '%s\n' csrc/run/*.c csrc/tables/*_f??.c csrc/tables/*_i8a*.c | xargs -P "$(nproc)" -I {} \
        sh -c 'case "$0" in *'"$unused"'* | '"${2:-none}"') set -- "$@" -O0 ;; esac
            "$@" -c "$0" -o "'"$1"'/$(basename "$0" .c).o"' {} "$compiler" "${flags[@]}"
}

# Kernels for a layer of sizes $4 $5 $6 in vectors $1, whose target region $2 and $3 open and close.
specialised() {
    local defines=("-DLK_INPUT_SIZE=$4" "-DLK_HIDDEN_SIZE=$5" "-DLK_PROJ_SIZE=$6") folder="$work/address of $1"
    mkdir -p "$folder"
    cp "$work/address"/*.o "$folder"
    "$compiler" "${flags[@]}" -Wno-unused-function -DLK_F32 "-DLK_VECTORS=\"vec/$1.h\"" \
        "-DLK_REGION_BEGIN=$2" "-DLK_REGION_END=$3" "${defines[@]}" -c csrc/tables/specialised.c -o "$folder/specialised.o"
    flags+=("${defines[@]}")
    run "$folder" sanitized_lstm
    echo "  of kernels for $4 -> $5, projection $6"
    flags=("${flags[@]:0:${#flags[@]}-3}")
}

specialised_in() {
    while read -r -a sizes; do
        specialised "$@" "${sizes[@]}"
    done <<< $'1 5 0\n150 3 0\n1 16 0\n2 7 3'
}

# Not optimised: ten times faster to compile, and no load is left out because its result is not used.
launch=(env)
if can_run address,undefined "${launch[@]}"; then
    plain=("${flags[@]}")
    flags+=("-fsanitize=address,undefined")
    compile_kernels "$work/address"
    run_all() {
        for program in sanitized sanitized_lstm sanitized_training sanitized_threads; do
            run "$work/address" "$program"
        done
    }
    all_specialised() {
        if grep -qsw avx2 /proc/cpuinfo; then
            specialised generic "" "" 2 7 3
            specialised_in avx2 'LK_TARGET_BEGIN("avx2,fma,f16c")' LK_TARGET_END
        else
            specialised_in generic "" ""
        fi
    }
    run_all &
    first=$!
    all_specialised
    wait "$first"
    flags=("${plain[@]}")
fi

# Without randomised addresses, where that is allowed: with many random bits they can lie where it has its own.
setarch "$(uname -m)" -R true 2> /dev/null && launch=(setarch "$(uname -m)" -R)
# GCC 12 lets variables that are both alive share their place on the stack when it instruments for threads; AddressSanitizer,
# which would see a use out of scope, and Clang's ThreadSanitizer find nothing.
flags+=(-O1)
echo | "$compiler" -fstack-reuse=none -x c -S -o /dev/null - 2> /dev/null && flags+=(-fstack-reuse=none)
if can_run thread "${launch[@]}"; then
    # Every table has the same threads, so one dtype is enough, and 8-bit weights, for which each thread has rows of its own.
    flags+=(-fsanitize=thread -DLK_TEST_DELAYS -DLK_ONLY_FLOAT32)
    compile_kernels "$work/thread" '*_f16.c | *_f64.c | *_i8a8.c'
    run "$work/thread" sanitized_threads without-fork
    run "$work/thread" sanitized_training
fi
[ "$missing" = 0 ] || [ "${CI:-}" != true ]
