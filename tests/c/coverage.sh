#!/usr/bin/env bash
# Which lines of csrc/ the C programs of sanitize.sh reach on this CPU: a table for each file, counted by GCC's gcov. A header
# counts as one file, in whichever tables it is compiled. Options go to gcovr, such as --html-details report.html.
# Debian: apt-get install gcc; pip install --group coverage. Some minutes on two cores.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
flags=(--coverage -O1 -std=gnu11 -ffp-contract=off -Icsrc -pthread)

# shellcheck disable=SC2016
printf '%s\n' csrc/run/*.c csrc/tables/*_f??.c csrc/tables/*_i8a*.c | xargs -P "$(nproc)" -I {} \
    sh -c '"$@" -c "$0" -o "'"$work"'/$(basename "$0" .c).o"' {} gcc "${flags[@]}"
for program in sanitized sanitized_lstm sanitized_training sanitized_threads; do
    gcc "${flags[@]}" "tests/c/$program.c" "$work"/*.o -lm -o "$work/$program"
    "$work/$program"
done
"${GCOVR:-gcovr}" --root . --filter csrc/ --merge-mode-functions=separate "$@" "$work"
