#!/usr/bin/env bash
# Build csrc/ for Windows by GCC of mingw-w64, and run the C tests under Wine: all kernels and threads against the
# definition, each vector operation, and the bits of every instruction set that this CPU has against those of a build for
# Linux. The library must need no others but Windows's own.
# Debian: apt-get install gcc gcc-mingw-w64-x86-64 wine64. Linux on x86-64. Some minutes on two cores.
# What is not installed is named and left out, but not in CI. The exit status is non-zero where something fails.
set -euo pipefail
cd "$(dirname "$0")/../.."
compiler=x86_64-w64-mingw32-gcc
wine=$(command -v wine64 || command -v wine || echo /usr/lib/wine/wine64)
if ! command -v "$compiler" > /dev/null; then
    echo "windows: left out, needs $compiler (Debian: apt-get install gcc-mingw-w64-x86-64)"
    [ "${CI:-}" != true ]
    exit
fi
work=$(mktemp -d)
server=$(command -v wineserver || echo /usr/lib/wine/wineserver)
trap 'WINEPREFIX=$work/prefix "$server" -k 2> /dev/null || true; rm -rf "$work"' EXIT
# As csrc/build.py has them.
flags=(-std=gnu11 -O3 -ffp-contract=off -fno-wrapv -Wall -Wextra -Werror -Icsrc)
for_windows=("-Wa,-muse-unaligned-vector-move")

# The kernels by the compiler and flags $2 ..., in folder $1.
kernels() {
    mkdir "$work/$1"
    # shellcheck disable=SC2016
    printf '%s\n' csrc/run/*.c csrc/tables/*_f??.c csrc/tables/*_i8a*.c | xargs -P "$(nproc)" -I {} \
        sh -c '"$@" -c "$0" -o "'"$work/$1"'/$(basename "$0" .c).o"' {} "${@:2}"
}

kernels windows "$compiler" "${flags[@]}" "${for_windows[@]}"
"$compiler" -shared -static-libgcc "$work/windows"/*.o -o "$work/kernels.dll"
needed=$("${compiler%gcc}objdump" -p "$work/kernels.dll" | sed -n 's/.*DLL Name: //p')
if others=$(grep -viE '^(kernel32|msvcrt|ucrtbase|api-ms-win-[a-z0-9-]*)\.dll$' <<< "$needed"); then
    echo "windows: the library needs more than Windows has:" "$others"
    exit 1
fi
echo "windows: built without a warning; the library needs ${needed//$'\n'/, }"

# Programs are less optimised, as in musl.sh.
for program in sanitized sanitized_lstm sanitized_training sanitized_threads bits; do
    "$compiler" "${flags[@]}" -O1 "tests/c/$program.c" "$work/windows"/*.o -static-libgcc -o "$work/$program.exe"
done
# Instruction set $1 in dtype $2, whose target region $3 and $4 open and close; further flags after them.
operations() {
    "$compiler" "${flags[@]}" "${for_windows[@]}" -O2 -Wno-unused-function "-D$2" -DLK_VECTORS="\"vec/$1.h\"" \
        "-DLK_REGION_BEGIN=$3" "-DLK_REGION_END=$4" "${@:5}" tests/c/vector_operations.c -static-libgcc \
        -o "$work/operations.exe"
    echo -n "windows: $1 float${2#LK_F}: "
    run operations
}

if ! command -v "$wine" > /dev/null; then
    echo "windows: built and not run, needs Wine (Debian: apt-get install wine64)"
    [ "${CI:-}" != true ]
    exit
fi
export WINEPREFIX="$work/prefix" WINEDEBUG=-all WINEDLLOVERRIDES="mscoree,mshtml="
run() { timeout 600 "$wine" "$work/$1.exe" "${@:2}" < /dev/null; }

for program in sanitized sanitized_lstm sanitized_training sanitized_threads; do
    run "$program" without-fork
    echo "windows: $program: as the definition says"
done

for dtype in LK_F32 LK_F64; do
    operations generic "$dtype" "" "" -DTWO_ROUNDINGS
    if grep -qsw avx2 /proc/cpuinfo; then
        operations avx2 "$dtype" 'LK_TARGET_BEGIN("avx2,fma,f16c")' LK_TARGET_END
    fi
    if grep -qsw avx512f /proc/cpuinfo; then
        operations avx512 "$dtype" 'LK_TARGET_BEGIN("avx512f")' LK_TARGET_END
    fi
done

sets=(generic)
for isa in avx2 avx512f; do if grep -qsw "$isa" /proc/cpuinfo; then sets+=("${isa%f}"); fi; done
kernels linux gcc -std=gnu11 -O1 -ffp-contract=off -Icsrc
gcc -std=gnu11 -O1 -ffp-contract=off -Icsrc tests/c/bits.c "$work/linux"/*.o -pthread -lm -o "$work/bits"
for isa in "${sets[@]}"; do
    "$work/bits" "$isa" > "$work/of_linux"
    run bits "$isa" | tr -d '\r' > "$work/of_windows"
    if grep "OTHER BITS" "$work/of_windows"; then exit 1; fi
    cmp "$work/of_linux" "$work/of_windows"
    echo "windows: $isa: the bits of Linux in all $(wc -l < "$work/of_windows") cases"
done
