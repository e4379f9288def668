/* vec/target.h - compile a region of a file for an instruction set that the rest of the build does not assume.
 *
 * Regions have two advantages over compiler flags for each file. One list of sources and one set of flags serve every
 * compiler and platform. And no function outside a region can get an instruction that the CPU may lack. */
#ifndef LK_TARGET_H
#define LK_TARGET_H
/* For all files that follow; they must not be included within a region. */
#include <stdint.h>
#include <string.h>

#define LK_PRAGMA(text) _Pragma(#text)
#ifdef LK_TARGET_BEGIN /* on the command line: tests/c/emulated_avx512.h */
#elif defined(__clang__)
#define LK_TARGET_BEGIN(features) \
    LK_PRAGMA(clang attribute push(__attribute__((target(features))), apply_to = function))
#define LK_TARGET_END LK_PRAGMA(clang attribute pop)
#else
#define LK_TARGET_BEGIN(features) LK_PRAGMA(GCC push_options) LK_PRAGMA(GCC target(features))
#define LK_TARGET_END LK_PRAGMA(GCC pop_options)
#endif

/* Before a loop that runs a few times, a constant number: what it indexes then stays in registers. Clang unrolls such
 * loops by itself. */
#ifdef __clang__
#define UNROLLED
#else
#define UNROLLED LK_PRAGMA(GCC unroll 6)
#endif

/* Kernels are made of small functions with loops whose counts are constants at each call. They must be inlined. */
#define INLINE static inline __attribute__((always_inline))
/* A function of tiles must not be inlined: within a larger one, its inner loops would lose registers to the rest. */
#define SEPARATE static __attribute__((noinline))

#endif
