#!/usr/bin/env bash
# Run kernels and threads under valgrind's memcheck, against the definition: it sees numbers that were never written, which
# the compiler's sanitizers do not, and memory that is lost. valgrind has no AVX-512, so AVX2 and the portable kernels run.
# Debian: apt-get install gcc valgrind. Some minutes on two cores; the programs are those of sanitize.sh.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
checks=(--quiet --error-exitcode=1 --leak-check=full --show-leak-kinds=definite --errors-for-leak-kinds=definite)
flags=(-g -O1 -std=gnu11 -ffp-contract=off -Icsrc -pthread)

# shellcheck disable=SC2016
printf '%s\n' csrc/run/*.c csrc/tables/*_f??.c csrc/tables/*_i8a*.c | xargs -P "$(nproc)" -I {} \
    sh -c '"$@" -c "$0" -o "'"$work"'/$(basename "$0" .c).o"' {} gcc "${flags[@]}"
for program in sanitized sanitized_lstm sanitized_training sanitized_threads; do
    gcc "${flags[@]}" "tests/c/$program.c" "$work"/*.o -lm -o "$work/$program"
    valgrind "${checks[@]}" "$work/$program"
    echo "valgrind: $program: nothing found"
done
