/* target.h - compile one region of a file for an instruction set the rest of the build does not assume.
 *
 * Target regions rather than compiler flags per file: one list of sources and one set of flags serve every compiler and
 * platform, and no function outside a region can pick up an instruction that the CPU may lack. */
#ifndef LK_TARGET_H
#define LK_TARGET_H
/* For every file after it, and before any target region. */
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

/* Before a loop of few turns whose count is a constant: what it indexes then stays in registers. */
#ifdef __clang__
#define UNROLLED /* does so by itself */
#else
#define UNROLLED LK_PRAGMA(GCC unroll 6)
#endif

/* Kernels are assembled from small functions whose loop counts are constants at each call: they must be inlined. */
#define INLINE static inline __attribute__((always_inline))
/* A function that holds tiles is not: inside a larger one, its inner loops would lose registers to the rest. */
#define SEPARATE static __attribute__((noinline))

#endif
