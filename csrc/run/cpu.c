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

int lk_cpu_has_avx512bw(void)
{
    unsigned eax, ebx, ecx, edx;
    return lk_cpu_has_avx512() && __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) && (ebx & bit_AVX512BW);
}

int lk_cpu_has_avx512_vnni(void)
{
    unsigned eax, ebx, ecx, edx;
    return lk_cpu_has_avx512bw() && __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) && (ecx & bit_AVX512VNNI);
}

int lk_cpu_has_avx_vnni(void)
{
    enum { AVX_VNNI = 1 << 4 };
    unsigned eax, ebx, ecx, edx;
    return lk_cpu_has_avx2() && __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) && (eax & AVX_VNNI);
}
#endif

#ifdef __aarch64__
#ifdef __linux__
#include <sys/auxv.h>
int lk_cpu_has_dotprod(void)
{
    const unsigned long dot_products = 1ul << 20; /* HWCAP_ASIMDDP */
    return (getauxval(AT_HWCAP) & dot_products) != 0;
}
#elif defined(_WIN32)
#include <windows.h>
int lk_cpu_has_dotprod(void)
{
    const DWORD dot_products = 43; /* PF_ARM_V82_DP_INSTRUCTIONS_AVAILABLE */
    return IsProcessorFeaturePresent(dot_products) != 0;
}
#else
int lk_cpu_has_dotprod(void) { return 1; } /* every Apple CPU with macOS 11 or later has it */
#endif
#endif

int lk_cpu_always(void) { return 1; }
