/* vec/dot_options.h - what every vec/dot_<isa>.h takes for granted, and their targets. */
#ifndef LK_DOT_OPTIONS_H
#define LK_DOT_OPTIONS_H

/* All is in float. A table defines both; where a header is parsed alone, as by an editor, these are the ones. */
#ifndef LK_F32
#define LK_F32
#endif
#ifndef LK_I8
#define LK_I8 16
#endif

#define LK_AVX512_DOT "avx512f,avx512bw"
#define LK_AVX512_VNNI "avx512f,avx512bw,avx512vnni"
#define LK_AVX2_DOT "avx2,fma,f16c"
#define LK_AVX2_VNNI "avx2,fma,f16c,avxvnni"
#ifdef __clang__
#define LK_NEON_DOTPROD "dotprod"
#else
#define LK_NEON_DOTPROD "arch=armv8.2-a+dotprod"
#endif

#endif
