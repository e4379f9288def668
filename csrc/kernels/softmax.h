/* softmax.h - y[i] = exp(y[i]) / sum of all exp(y[j]), of one row in place.
 *
 * The largest number is subtracted first, so that exp cannot overflow. exp is that of activation.h, and 0 below
 * EXP_LOW. A row with NaN or +Inf, or of -Inf alone, becomes NaN, as in PyTorch. The sum has the same order for every
 * length of vectors: number j is added to partial sum j % PARTIAL_SUMS, and these are added in halves.
 * Error: below 6 ulp in random rows of 1 to 1000 numbers whose differences are exact (test_activation.py). */
#ifndef LK_SOFTMAX_H
#define LK_SOFTMAX_H
#include "kernels/activation.h"

enum { PARTIAL_SUMS = 16 };

INLINE real greater(real a, real b) { return b > a ? b : a; }

/* The largest of n numbers. NaN may be passed over: its exp is NaN, and so is the sum. */
INLINE real largest_of(const real *y, int64_t n)
{
    real largest = y[0], lane[LANES];
    int64_t i = 0;
    if (n >= LANES) {
        vec most = v_load(y);
        for (i = LANES; i + LANES <= n; i += LANES)
            most = v_max(most, v_load(y + i));
        v_store(lane, most);
        for (int l = 0; l < LANES; l++)
            largest = greater(largest, lane[l]);
    }
    for (; i < n; i++)
        largest = greater(largest, y[i]);
    return largest;
}

INLINE vec v_exp_below_zero(vec x)
{
    vec s, m, v = v_min(v_splat(-EXP_LOW), v_sub(v_splat(0), x));
    exp_parts(1, &v, &s, &m);
    return v_zero_below(exp_of(s, m), x, v_splat(EXP_LOW));
}

/* y = exp(y - largest). The result is the sum of these. */
INLINE real exp_and_sum(real *y, int64_t n, real largest)
{
    vec sums[PARTIAL_SUMS / LANES];
    real partial[PARTIAL_SUMS];
    for (int s = 0; s < PARTIAL_SUMS / LANES; s++)
        sums[s] = v_splat(0);
    for (int64_t first = 0; first < n; first += PARTIAL_SUMS)
        for (int s = 0; s < PARTIAL_SUMS / LANES; s++) {
            const int64_t i = first + s * LANES, left = n - i;
            if (left <= 0)
                break;
            v_store_n(y + i, v_exp_below_zero(v_sub(v_load_n(y + i, left), v_splat(largest))), left);
            sums[s] = v_add(sums[s], v_load_n(y + i, left)); /* zeros after the last number */
        }
    for (int s = 0; s < PARTIAL_SUMS / LANES; s++)
        v_store(partial + s * LANES, sums[s]);
    for (int half = PARTIAL_SUMS / 2; half > 0; half /= 2)
        for (int p = 0; p < half; p++)
            partial[p] += partial[p + half];
    return partial[0];
}

SEPARATE void softmax(real *y, int64_t n)
{
    const vec sum = v_splat(exp_and_sum(y, n, largest_of(y, n)));
    for (int64_t i = 0; i < n; i += LANES)
        v_store_n(y + i, v_div(v_load_n(y + i, n - i), sum), n - i);
}

#endif
