/* float_control.h - the kernels' floating-point environment: round to nearest, no traps, denormals flushed. Arithmetic
 * with denormals is slow, and a sound that fades away must not take longer than a loud one. Each thread enters this
 * environment before its first kernel, and restores the caller's after the last one. */
#ifndef LK_FLOAT_CONTROL_H
#define LK_FLOAT_CONTROL_H
#include <stdint.h>

#if defined(__x86_64__)
#include <xmmintrin.h>
typedef unsigned lk_float_control;
static inline lk_float_control lk_enter_kernel(void)
{
    enum { MASK_ALL = 0x1f80, FLUSH_TO_ZERO = 0x8000, DENORMALS_ARE_ZERO = 0x0040 };
    const lk_float_control callers = _mm_getcsr();
    _mm_setcsr(MASK_ALL | FLUSH_TO_ZERO | DENORMALS_ARE_ZERO);
    return callers;
}
static inline void lk_leave_kernel(lk_float_control callers) { _mm_setcsr(callers); }
#elif defined(__aarch64__)
typedef uint64_t lk_float_control;
static inline void lk_leave_kernel(lk_float_control callers)
{
    __asm__ volatile("msr fpcr, %0" : : "r"(callers) : "memory");
}
static inline lk_float_control lk_enter_kernel(void)
{
    const lk_float_control flush_to_zero = 1 << 24; /* all else 0: round to nearest, no traps */
    lk_float_control callers;
    __asm__ volatile("mrs %0, fpcr" : "=r"(callers) : : "memory");
    lk_leave_kernel(flush_to_zero);
    return callers;
}
#else
typedef int lk_float_control;
static inline lk_float_control lk_enter_kernel(void) { return 0; }
static inline void lk_leave_kernel(lk_float_control callers) { (void)callers; }
#endif

#endif
