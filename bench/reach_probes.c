/* reach_probes.c - what reach.py times from C: pairs of steps of a stream, and operations of one cycle each. */
#include <stdint.h>
void pairs(int (*advance)(const void *, const void *, void *), const void *one, const void *other, const void *x,
           void *out, int64_t n)
{
    for (; n > 0; n--) {
        advance(one, x, out);
        advance(other, x, out);
    }
}
#ifdef __aarch64__
#define CYCLE __asm__ volatile("eor %0, %0, %1" : "+r"(a) : "r"(b));
#else
#define CYCLE __asm__ volatile("xor %1, %0" : "+r"(a) : "r"(b));
#endif
void cycles(int64_t n)
{
    int64_t a = 0, b = n;
    for (; n > 0; n -= 8) {
        CYCLE CYCLE CYCLE CYCLE CYCLE CYCLE CYCLE CYCLE
    }
}
