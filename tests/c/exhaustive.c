/* exhaustive.c - sigmoid and tanh of every float there is, held against double precision: the 2 ulp that csrc/kernels/activation.h
 * promises. Not part of the test suite, because it takes two to four minutes. To run it, from the project's root:
 *
 *   kernels=$(find csrc/run csrc/tables -name '*.c' ! -name specialised.c)
 *   cc -O2 -ffp-contract=off -Icsrc -o exhaustive tests/c/exhaustive.c $kernels -lm -lpthread && ./exhaustive [isa]
 *
 * The best usable instruction set is tried unless one is named. Exit status 1 where a result is further than 2 ulp from
 * the exact one, a NaN does not stay a NaN, or tanh(-x) is not -tanh(x) bit for bit; 0 where all is well.
 *
 * An ulp is the distance of neighbouring floats where the exact result lies. A result that is below the smallest normal
 * number may be zero instead.
 *
 * What it printed:
 *   avx512  sigmoid  worst 1.9991 ulp at -0x1.69c008p-12 = -0.0003449918,  broken 0
 *   avx512  tanh     worst 1.9078 ulp at 0x1.09131cp-1 = 0.517723918,  broken 0
 *   avx2    the same as avx512, bit for bit
 *   generic sigmoid  worst 1.9991 ulp at -0x1.69c008p-12 = -0.0003449918,  broken 0
 *   generic tanh     worst 1.9482 ulp at 0x1.fe330cp-2 = 0.498241603,  broken 0
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "lstmkernel.h"
#include "system.h"

enum { CHUNK = 1 << 14, THREADS = 2, SIGN = 1u << 31 };
#define SMALLEST_NORMAL 0x1p-126

static const double LIMIT = 2;

typedef struct {
    const lk_kernels *kernels;
    int activation;
    uint32_t first, last; /* bit patterns, both included */
    double worst;         /* in ulp */
    float worst_at;
    uint64_t broken; /* NaNs lost, signs not symmetric */
} share;

static double exact(int activation, float x) { return activation == LK_TANH ? tanh(x) : 1 / (1 + exp(-(double)x)); }

static uint32_t bits_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static double error_in_ulp(float got, double expected)
{
    if (fabs(expected) < SMALLEST_NORMAL && got == 0)
        return 0;
    int exponent; /* |expected| in [0.5, 1) * 2^exponent */
    frexp(fmax(fabs(expected), SMALLEST_NORMAL), &exponent);
    const double error = fabs(got - expected) / ldexp(1, exponent - 24);
    return error >= 0 ? error : INFINITY; /* a NaN that should be none */
}

static void try_one(share *job, float x, float y, float y_of_minus_x)
{
    if (isnan(x) || isnan(y)) {
        job->broken += isnan(x) ? !isnan(y) : 1;
        return;
    }
    if (job->activation == LK_TANH) {
        job->broken += (bits_of(y) ^ SIGN) != bits_of(y_of_minus_x);
        if (signbit(x))
            return; /* its mirror image is tried */
    }
    const double error = error_in_ulp(y, exact(job->activation, x));
    if (error > job->worst) {
        job->worst = error;
        job->worst_at = x;
    }
}

static lk_thread_result run(void *job_)
{
    share *job = job_;
    static _Thread_local float x[CHUNK], y[CHUNK], minus_x[CHUNK], y_of_minus_x[CHUNK];
    for (uint64_t first = job->first; first <= job->last; first += CHUNK) {
        for (uint32_t n = 0; n < CHUNK; n++) {
            const uint32_t bits = (uint32_t)first + n;
            memcpy(x + n, &bits, sizeof bits);
            minus_x[n] = -x[n];
        }
        lk_activation(job->kernels, job->activation, CHUNK, x, y);
        if (job->activation == LK_TANH)
            lk_activation(job->kernels, job->activation, CHUNK, minus_x, y_of_minus_x);
        for (uint32_t n = 0; n < CHUNK; n++)
            try_one(job, x[n], y[n], y_of_minus_x[n]);
    }
    return 0;
}

static int try_all(const lk_kernels *kernels, const char *isa, const char *name, int activation)
{
    share jobs[THREADS];
    void *arguments[THREADS];
    const uint64_t patterns = (uint64_t)1 << 32, each = patterns / THREADS;
    for (int i = 0; i < THREADS; i++) {
        jobs[i] = (share){kernels, activation, (uint32_t)(i * each), (uint32_t)((i + 1) * each - 1), 0, 0, 0};
        arguments[i] = &jobs[i];
    }
    on_threads(THREADS, run, arguments);
    share all = {0};
    for (int i = 0; i < THREADS; i++) {
        all.broken += jobs[i].broken;
        if (jobs[i].worst > all.worst) {
            all.worst = jobs[i].worst;
            all.worst_at = jobs[i].worst_at;
        }
    }
    printf("%-7s %-7s  worst %.4f ulp at %a = %.9g,  broken %llu\n", isa, name, all.worst, all.worst_at, all.worst_at,
           (unsigned long long)all.broken);
    fflush(stdout);
    return all.worst > LIMIT || all.broken;
}

int main(int argc, char **argv)
{
    for (int isa = 0; lk_isa_name(isa); isa++) {
        if (argc > 1 ? strcmp(argv[1], lk_isa_name(isa)) : !lk_isa_usable(isa))
            continue;
        const lk_kernels *kernels = lk_find(isa, sizeof(float));
        if (!kernels)
            break;
        const int sigmoid_wrong = try_all(kernels, lk_isa_name(isa), "sigmoid", LK_SIGMOID);
        const int tanh_wrong = try_all(kernels, lk_isa_name(isa), "tanh", LK_TANH);
        return sigmoid_wrong || tanh_wrong;
    }
    fprintf(stderr, "no such instruction set here\n");
    return 2;
}
