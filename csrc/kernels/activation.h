/* activation.h - sigmoid and tanh, one branch-free sequence of operations for every instruction set and dtype.
 *
 * Both rest on expm1 (Cody and Waite 1980; Muller, Elementary Functions, 2016): y = n ln 2 + r, |r| <= ln 2 / 2, and
 *   exp(y) = 2^n exp(r),   exp(r) - 1 = m = r + r^2 q(r),
 * with q the minimax polynomial of relative error 2^-26.1 (float, degree 4) or 2^-59.6 (double, degree 10) in m, its
 * coefficients rounded. n ln 2 is subtracted in two parts. The first is so short that n times it is exact even without
 * fma. With s = 2^n, the sums below are arranged so that few roundings meet where they count most:
 *   sigmoid(x) = 1 / (s + (s m + 1)),              y = -x
 *   tanh(x) = +-(s m + (s - 1)) / (s m + (s + 1)), y = -2|x|   (nothing cancels near 0; denominator in 1..2)
 * Maximum error over all 2^32 floats (tests/c/exhaustive.c): sigmoid 1.9991 ulp, tanh 1.9078 ulp (1.9482 without fma).
 * Over 10^8 doubles: 2.0000 and 1.9976. NaN stays NaN. A result below the smallest normal number is zero. */
#ifndef LK_ACTIVATION_H
#define LK_ACTIVATION_H
#include "lstmkernel.h"
#include "vec/chosen.h"

/* Constants of each dtype.
 *   Q_DEGREE, Q             the polynomial
 *   KEEP_REST               1: what the reduction rounds away is added later. Without it, tanh of doubles would be up
 *                           to 2.1 ulp off
 *   LOG2_E                  1 / ln 2
 *   LN2_HIGH, LN2_LOW       ln 2 in two parts
 *   ROUND_SHIFT             what v_pow2 takes: adding it rounds to an integer
 *   EXP_LOW, EXP_HIGH       between them, 2^n is a normal number
 *   TANH_ENOUGH             tanh(x) rounds to 1 where 2x is more */
#ifdef LK_F32
enum { Q_DEGREE = 4, KEEP_REST = 0 };
static const real Q[Q_DEGREE + 1] = {0x1.fffffep-2f, 0x1.5554aap-3f, 0x1.55579ep-5f, 0x1.122c64p-7f, 0x1.6aaf44p-10f};
static const real LOG2_E = 0x1.715476p+0f, LN2_HIGH = 0x1.62e4p-1f, LN2_LOW = 0x1.7f7d1cp-20f;
static const real ROUND_SHIFT = 0x1.8p+23f + 127;
static const real EXP_LOW = -87, EXP_HIGH = 88;
static const real TANH_ENOUGH = 20;
#else
enum { Q_DEGREE = 10, KEEP_REST = 1 };
static const real Q[Q_DEGREE + 1] = {0x1.0000000000000p-1,  0x1.5555555555559p-3,  0x1.555555555553ep-5,
                                     0x1.111111110f6c1p-7,  0x1.6c16c16c1f11ep-10, 0x1.a01a01afdece4p-13,
                                     0x1.a01a017b9f818p-16, 0x1.71ddf860e0b78p-19, 0x1.27e536663c584p-22,
                                     0x1.af5eace0c8a9dp-26, 0x1.1ee8540de02a3p-29};
static const real LOG2_E = 0x1.71547652b82fep+0, LN2_HIGH = 0x1.62e42feep-1, LN2_LOW = 0x1.a39ef35793c76p-33;
static const real ROUND_SHIFT = 0x1.8p+52 + 1023;
static const real EXP_LOW = -708, EXP_HIGH = 709;
static const real TANH_ENOUGH = 40;
#endif

/* exp_parts and its like work on at most this many vectors at once. */
enum { MOST_AT_ONCE = 6 };

/* high + n LN2_LOW, rounded. *rest: what rounding lost, where KEEP_REST asks for it. */
INLINE vec reduced(vec n, vec high, vec *rest)
{
    if (!KEEP_REST)
        return v_fma(n, v_splat(LN2_LOW), high);
    const vec low = v_mul(n, v_splat(LN2_LOW)), u = v_add(high, low);
    *rest = v_add(v_sub(high, u), low);
    return u;
}

/* exp(-v[i]) = s[i] - s[i] m[i] for i in 0..n-1, where -v[i] is in [EXP_LOW, EXP_HIGH]. Each operation is done for all
 * i before the next operation: for one i alone, each of them would wait for the one before. Here u = -r, and m has the
 * opposite sign of the m at the head of this file. */
INLINE void exp_parts(const int n, const vec *v, vec *s, vec *m)
{
    vec shifted[MOST_AT_ONCE], u[MOST_AT_ONCE], rest[MOST_AT_ONCE], u2[MOST_AT_ONCE], q[MOST_AT_ONCE];
    for (int i = 0; i < n; i++)
        shifted[i] = v_fnma(v[i], v_splat(LOG2_E), v_splat(ROUND_SHIFT));
    for (int i = 0; i < n; i++)
        s[i] = v_sub(shifted[i], v_splat(ROUND_SHIFT)); /* the n of the formula */
    for (int i = 0; i < n; i++)
        u[i] = v_fma(s[i], v_splat(LN2_HIGH), v[i]);
    for (int i = 0; i < n; i++)
        u[i] = reduced(s[i], u[i], &rest[i]);
    for (int i = 0; i < n; i++)
        u2[i] = v_mul(u[i], u[i]);
    /* m = u - u^2 (Q[0] - Q[1] u + Q[2] u^2 - ...), by Horner's scheme in u^2 over pairs of coefficients. Its chain of
     * operations that depend on each other is half as long as that of Horner's scheme in u. */
    for (int k = Q_DEGREE & ~1; k >= 0; k -= 2)
        for (int i = 0; i < n; i++) {
            const vec even = v_splat(-Q[k]);
            const vec pair = k < Q_DEGREE ? v_fma(v_splat(Q[k + 1]), u[i], even) : even;
            q[i] = k == (Q_DEGREE & ~1) ? pair : v_fma(q[i], u2[i], pair);
        }
    for (int i = 0; i < n; i++)
        m[i] = KEEP_REST ? v_add(u[i], v_fma(u2[i], q[i], rest[i])) : v_fma(u2[i], q[i], u[i]);
    for (int i = 0; i < n; i++)
        s[i] = v_pow2(shifted[i]);
}

/* exp(-v) from its parts. Without fma, s - s m would not be right where s is so small that s m is not a normal number. */
INLINE vec exp_of(vec s, vec m) { return v_mul(s, v_sub(v_splat(1), m)); }

/* sigmoid(x) = 1 / denominator: v for exp_parts, then the denominator from its result. */
INLINE vec sigmoid_argument(vec x) { return v_max(v_splat(-EXP_HIGH), v_min(v_splat(-EXP_LOW), x)); }
INLINE vec sigmoid_denominator(vec s, vec m) { return v_add(s, v_fnma(s, m, v_splat(1))); }

/* tanh(x) = numerator / denominator, likewise. */
INLINE vec tanh_argument(vec x)
{
    const vec magnitude = v_copysign(x, v_splat(1));
    return v_min(v_splat(TANH_ENOUGH), v_add(magnitude, magnitude));
}
INLINE vec tanh_numerator(vec s, vec m, vec x) { return v_copysign(v_fnma(s, m, v_sub(s, v_splat(1))), x); }
INLINE vec tanh_denominator(vec s, vec m) { return v_fnma(s, m, v_add(s, v_splat(1))); }

INLINE vec v_sigmoid(vec x)
{
    vec s, m, v = sigmoid_argument(x);
    exp_parts(1, &v, &s, &m);
    return v_div(v_splat(1), sigmoid_denominator(s, m));
}

INLINE vec v_tanh(vec x)
{
    vec s, m, v = tanh_argument(x);
    exp_parts(1, &v, &s, &m);
    return v_div(tanh_numerator(s, m, x), tanh_denominator(s, m));
}

INLINE vec v_relu(vec x) { return v_max(v_splat(0), x); }

INLINE vec activate(int activation, vec x)
{
    switch (activation) {
    case LK_TANH: return v_tanh(x);
    case LK_SIGMOID: return v_sigmoid(x);
    case LK_RELU: return v_relu(x);
    default: return x;
    }
}

static int activation(int kind, int64_t N, const void *x_, void *y_)
{
    const real *x = x_;
    real *y = y_;
    int64_t n = 0;
    for (; n + LANES <= N; n += LANES)
        v_store(y + n, activate(kind, v_load(x + n)));
    if (n < N)
        v_store_n(y + n, activate(kind, v_load_n(x + n, N - n)), N - n);
    return LK_OK;
}

#endif
