/* cpu.c - which instruction sets this CPU has and this operating system lets us use. */
#include "run/dispatch.h"

#ifdef __x86_64__
#include <cpuid.h>

/* XCR0, bit by bit: the register files that the operating system saves for us at a context switch. */
enum { XCR0_SSE = 1 << 1, XCR0_AVX = 1 << 2, XCR0_AVX512 = 7 << 5 };

static int os_saves(unsigned needed)
{
    unsigned eax, ebx, ecx, edx;
    if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx) || !(ecx & bit_OSXSAVE))
        return 0;
    unsigned low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (low & needed) == needed;
}

int lk_cpu_has_avx2(void)
{
    unsigned eax, ebx, ecx, edx;
    return os_saves(XCR0_SSE | XCR0_AVX) && __get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & bit_FMA)
           && (ecx & bit_F16C) && __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) && (ebx & bit_AVX2);
}

int lk_cpu_has_avx512(void)
{
    unsigned eax, ebx, ecx, edx;
    return lk_cpu_has_avx2() && os_saves(XCR0_SSE | XCR0_AVX | XCR0_AVX512)
           && __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) && (ebx & bit_AVX512F);
}
#endif

int lk_cpu_always(void) { return 1; }
