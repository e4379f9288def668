/* emulated_avx512.h - included before everything else where AVX-512 is emulated: its intrinsics become SIMDe's portable
 * functions, and target regions become empty, so that the compiler itself cannot use what this CPU lacks. */
#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>
#include <simde/x86/fma.h>

#define LK_TARGET_BEGIN(features)
#define LK_TARGET_END
