#!/usr/bin/env bash
# Run every kernel under the compiler's sanitizers, on arrays of exactly their size, against the definition:
#   address, undefined  sanitized.c: each kernel alone; sanitized_lstm.c: layers and LSTMs; sanitized_threads.c
#   thread              sanitized_threads.c
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

compile_kernels() {
    rm -f "$work"/*.o
    for source in csrc/*.c; do
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
fi
[ "$missing" = 0 ] || [ "${CI:-}" != true ]
