/* activation.h - sigmoid and tanh, one branch-free sequence of operations for every instruction set and dtype.
 *
 * Both rest on expm1 (Cody and Waite 1980; Muller, Elementary Functions, 2016): y = n ln 2 + r, |r| <= ln 2 / 2, and
 *   exp(y) = 2^n exp(r),   exp(r) - 1 = m = r + r^2 q(r),
 * with q the minimax polynomial of relative error 2^-31.1 (float, degree 5) or 2^-59.6 (double, degree 10) in m, its
 * coefficients rounded. n ln 2 is taken off in two parts, the first so short that n times it is exact even without fma.
 * With s = 2^n, the sums below are arranged so that few roundings meet where they count most:
 *   sigmoid(x) = 1 / (s + (s m + 1)),              y = -x
 *   tanh(x) = +-(s m + (s - 1)) / (s m + (s + 1)), y = -2|x|   (nothing cancels near 0; denominator in 1..2)
 * Maximum error over all 2^32 floats (tests/exhaustive.c): sigmoid 1.9991 ulp, tanh 1.9472 ulp (2.0106 without fma). A
 * NaN stays a NaN. A result below the smallest normal number is zero. */

#ifdef LK_F32
enum { Q_DEGREE = 5 };
static const real Q[Q_DEGREE + 1] = {0x1.0p-1f,      0x1.555554p-3f, 0x1.5554f8p-5f,
                                     0x1.1112dap-7f, 0x1.6d3a46p-10f, 0x1.9e6e9cp-13f};
static const real LOG2_E = 0x1.715476p+0f, LN2_HIGH = 0x1.62e4p-1f, LN2_LOW = 0x1.7f7d1cp-20f;
static const real ROUND_SHIFT = 0x1.8p+23f;     /* v_pow2 takes it */
static const real EXP_LOW = -87, EXP_HIGH = 88; /* 2^n stays a normal number between */
static const real TANH_LOW = -20;               /* tanh rounds to -1 where y is below */
#else
enum { Q_DEGREE = 10 };
static const real Q[Q_DEGREE + 1] = {
    0x1.0000000000000p-1,  0x1.5555555555559p-3,  0x1.555555555553ep-5,  0x1.111111110f6c1p-7,
    0x1.6c16c16c1f11ep-10, 0x1.a01a01afdece4p-13, 0x1.a01a017b9f818p-16, 0x1.71ddf860e0b78p-19,
    0x1.27e536663c584p-22, 0x1.af5eace0c8a9dp-26, 0x1.1ee8540de02a3p-29};
static const real LOG2_E = 0x1.71547652b82fep+0, LN2_HIGH = 0x1.62e42feep-1, LN2_LOW = 0x1.a39ef35793c76p-33;
static const real ROUND_SHIFT = 0x1.8p+52;
static const real EXP_LOW = -708, EXP_HIGH = 709;
static const real TANH_LOW = -40;
#endif

/* exp(y) = s + s * m, for y in [EXP_LOW, EXP_HIGH]. */
INLINE void exp_parts(vec y, vec *s, vec *m)
{
    const vec shifted = v_fma(y, v_splat(LOG2_E), v_splat(ROUND_SHIFT));
    const vec n = v_sub(shifted, v_splat(ROUND_SHIFT));
    const vec r = v_fnma(n, v_splat(LN2_LOW), v_fnma(n, v_splat(LN2_HIGH), y));
    const vec r2 = v_mul(r, r);
    /* Even and odd powers apart: half the dependency chain of Horner's scheme. */
    enum { LAST_EVEN = Q_DEGREE & ~1, LAST_ODD = (Q_DEGREE - 1) | 1 };
    vec even = v_splat(Q[LAST_EVEN]), odd = v_splat(Q[LAST_ODD]);
    for (int k = LAST_EVEN - 2; k >= 0; k -= 2)
        even = v_fma(even, r2, v_splat(Q[k]));
    for (int k = LAST_ODD - 2; k >= 1; k -= 2)
        odd = v_fma(odd, r2, v_splat(Q[k]));
    *m = v_fma(r2, v_fma(odd, r, even), r);
    *s = v_pow2(shifted);
}

INLINE vec v_sigmoid(vec x)
{
    const vec one = v_splat(1);
    const vec y = v_max(v_splat(EXP_LOW), v_min(v_splat(EXP_HIGH), v_sub(v_splat(0), x)));
    vec s, m;
    exp_parts(y, &s, &m);
    return v_div(one, v_add(s, v_fma(s, m, one)));
}

INLINE vec v_tanh(vec x)
{
    const vec one = v_splat(1), minus_abs = v_copysign(x, v_splat(-1));
    const vec y = v_max(v_splat(TANH_LOW), v_add(minus_abs, minus_abs));
    vec s, m;
    exp_parts(y, &s, &m);
    return v_copysign(v_div(v_fma(s, m, v_sub(s, one)), v_fma(s, m, v_add(s, one))), x);
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
