/* vector_operations.c - every operation of one vec/<isa>.h in one dtype, alone, against scalar code. The script
 * vector_operations.sh compiles it for each instruction set and dtype. Defined on the command line:
 *
 *   LK_VECTORS      "vec/avx2.h", ...
 *   LK_REGION_BEGIN, LK_REGION_END   of the target, as for csrc/tables/specialised.c
 *   LK_F32          for float
 *   TWO_ROUNDINGS   for the set whose fma rounds twice, and that has no v_load_half: vec/generic.h
 *
 * Every combination of the numbers below comes to every lane: zeros, infinities and NaN of both signs, the ends of the
 * range, denormals, numbers whose sums and products are halfway between two others, and random ones. Results are equal
 * bit by bit. Only for arithmetic any NaN is as good as another: its sign and payload are each CPU's own. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include "system.h"
#include LK_VECTORS

#ifdef LK_F32
typedef uint32_t bits;
enum { MANTISSA = 23, BIAS = 127 };
#define FMA fmaf
#define BUILTIN_FMA __builtin_fmaf
#else
typedef uint64_t bits;
enum { MANTISSA = 52, BIAS = 1023 };
#define FMA fma
#define BUILTIN_FMA __builtin_fma
#endif

#ifdef _WIN32 /* mingw-w64's own functions round twice */
#undef FMA
#define FMA fma_of_cpu
__attribute__((target("fma"))) static real fma_of_cpu(real x, real y, real z) { return BUILTIN_FMA(x, y, z); }
#endif

/* ---------------------------------------------------------------- the operations, in the target region */

LK_REGION_BEGIN
#define OPERATION(name, expression)                                                 \
    SEPARATE void run_##name(real *to, const real *x, const real *y, const real *z) \
    {                                                                               \
        const vec a = v_load(x), b = v_load(y), c = v_load(z);                      \
        (void)a, (void)b, (void)c;                                                  \
        v_store(to, expression);                                                    \
    }
OPERATION(load, a)
OPERATION(splat, v_splat(*x))
OPERATION(add, v_add(a, b))
OPERATION(sub, v_sub(a, b))
OPERATION(mul, v_mul(a, b))
OPERATION(div, v_div(a, b))
OPERATION(fma, v_fma(a, b, c))
OPERATION(fnma, v_fnma(a, b, c))
OPERATION(min, v_min(a, b))
OPERATION(max, v_max(a, b))
OPERATION(zero_below, v_zero_below(a, b, c))
OPERATION(copysign, v_copysign(a, b))
OPERATION(pow2, v_pow2(a))
OPERATION(rotate_0, v_rotate(a, 0))
OPERATION(rotate_1, v_rotate(a, LANES < 4 ? 0 : 1)) /* two lanes have no quarters */
OPERATION(rotate_2, v_rotate(a, 2))
OPERATION(rotate_3, v_rotate(a, LANES < 4 ? 0 : 3))

#if defined(LK_F32) && !defined(TWO_ROUNDINGS)
SEPARATE void run_load_half(real *to, const uint16_t *from) { v_store(to, v_load_half(from)); }
#endif
SEPARATE void run_load_n(real *to, const real *from, int64_t n) { v_store(to, v_load_n(from, n)); }
SEPARATE void run_store_n(real *to, const real *from, int64_t n) { v_store_n(to, v_load(from), n); }
SEPARATE void run_transpose4(real *const to[4], const real *const from[4]) { v_transpose4(to, from); }
LK_REGION_END

/* ---------------------------------------------------------------- the same in scalar code */

static real fused(real a, real b, real c)
{
#ifdef TWO_ROUNDINGS
    return a * b + c;
#else
    return FMA(a, b, c);
#endif
}

/* The magnitude's bits but the first, which is the sign's. */
static real with_sign(real magnitude, real sign)
{
    bits result, other;
    memcpy(&result, &magnitude, sizeof(real));
    memcpy(&other, &sign, sizeof(real));
    const bits first = (bits)1 << (8 * sizeof(real) - 1);
    result = (result & ~first) | (other & first);
    memcpy(&magnitude, &result, sizeof(real));
    return magnitude;
}

#define SCALAR(name, expression)                                                     \
    static real scalar_##name(const real *x, const real *y, const real *z, int lane) \
    {                                                                                \
        const real a = x[lane], b = y[lane], c = z[lane];                            \
        (void)a, (void)b, (void)c;                                                   \
        return expression;                                                           \
    }
SCALAR(load, a)
SCALAR(splat, x[0])
SCALAR(add, a + b)
SCALAR(sub, a - b)
SCALAR(mul, a *b)
SCALAR(div, a / b)
SCALAR(fma, fused(a, b, c))
SCALAR(fnma, fused(-a, b, c))
SCALAR(min, a < b ? a : b)
SCALAR(max, a > b ? a : b)
SCALAR(zero_below, b < c ? 0 : a)
SCALAR(copysign, with_sign(a, b))
SCALAR(pow2, (real)ldexp(1, (int)((double)a - 1.5 * (double)((int64_t)1 << MANTISSA)) - BIAS)) /* see check_pow2 */
SCALAR(rotate_0, a)
SCALAR(rotate_1, x[LANES < 4 ? lane : (lane + LANES / 4) % LANES])
SCALAR(rotate_2, x[(lane + LANES / 2) % LANES])
SCALAR(rotate_3, x[LANES < 4 ? lane : (lane + 3 * LANES / 4) % LANES])

/* ---------------------------------------------------------------- numbers and comparison */

enum { MOST_NUMBERS = 64 };
static real numbers[MOST_NUMBERS];
static int number_count;
static int64_t compared, different;

static void add_number(real number)
{
    numbers[number_count++] = number;
    numbers[number_count++] = -number;
}

static void find_numbers(void)
{
    const real eps = (real)ldexp(1, -MANTISSA), tiny = (real)ldexp(1, 1 - BIAS), huge = (real)ldexp(2 - eps, BIAS);
    const real large = (real)ldexp(1, MANTISSA + 1);
    const real chosen[] = {0,
                           INFINITY,
                           NAN,
                           1,
                           3,
                           (real)0.5,
                           tiny,
                           tiny * eps,
                           tiny * (1 - eps),
                           3 * tiny * eps,
                           huge,
                           1 + eps,
                           1 + 3 * eps,
                           1 - eps / 2,
                           eps / 2,
                           3 * eps / 2,
                           large,
                           large + 2,
                           large + 6};
    for (size_t i = 0; i < sizeof chosen / sizeof chosen[0]; i++)
        add_number(chosen[i]);
    uint64_t random = 1;
    while (number_count < MOST_NUMBERS - 1) {
        random = random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        add_number((real)ldexp(1 + (double)(random >> 11) * 0x1p-53, (int)(random >> 7) % 20 - 10));
    }
}

static bits bits_of(real number)
{
    bits result;
    memcpy(&result, &number, sizeof result);
    return result;
}

/* any_nan: which NaN it is does not matter. */
static void compare(const char *name, int place, real got, real expected, int any_nan)
{
    compared++;
    if (bits_of(got) == bits_of(expected) || (any_nan && isnan(got) && isnan(expected)))
        return;
    if (different++ < 10)
        fprintf(stderr, "%s [%d]: %a, expected %a\n", name, place, (double)got, (double)expected);
}

/* ---------------------------------------------------------------- checks */

/* takes: how many of x, y and z the operation reads. */
typedef struct {
    const char *name;
    int takes, any_nan;
    void (*run)(real *to, const real *x, const real *y, const real *z);
    real (*scalar)(const real *x, const real *y, const real *z, int lane);
} operation;

#define NAMED(name, takes, any_nan)                      \
    {                                                    \
#name, takes, any_nan, run_##name, scalar_##name \
    }
static const operation operations[] = {
    NAMED(load, 1, 0),     NAMED(splat, 1, 0),    NAMED(add, 2, 1),      NAMED(sub, 2, 1),
    NAMED(mul, 2, 1),      NAMED(div, 2, 1),      NAMED(fma, 3, 1),      NAMED(fnma, 3, 1),
    NAMED(min, 2, 0),      NAMED(max, 2, 0),      NAMED(copysign, 2, 0), NAMED(rotate_0, 1, 0),
    NAMED(rotate_1, 1, 0), NAMED(rotate_2, 1, 0), NAMED(rotate_3, 1, 0), NAMED(zero_below, 3, 0),
};

static void check_vectors(const operation *op, const real *x, const real *y, const real *z)
{
    real got[LANES];
    op->run(got, x, y, z);
    for (int lane = 0; lane < LANES; lane++)
        compare(op->name, lane, got[lane], op->scalar(x, y, z, lane), op->any_nan);
}

/* Combination number `first` in lane 0, the next in lane 1, and so on; each of them is in lane 0 once. */
static void check_operation(const operation *op)
{
    int64_t combinations = 1;
    for (int i = 0; i < op->takes; i++)
        combinations *= number_count;
    for (int64_t first = 0; first < combinations; first++) {
        real x[LANES], y[LANES], z[LANES];
        for (int lane = 0; lane < LANES; lane++) {
            const int64_t at = (first + lane) % combinations;
            x[lane] = numbers[at % number_count];
            y[lane] = numbers[at / number_count % number_count];
            z[lane] = numbers[at / number_count / number_count % number_count];
        }
        check_vectors(op, x, y, z);
    }
}

/* Every exponent of a normal number. */
static void check_pow2(void)
{
    const operation op = NAMED(pow2, 1, 0);
    for (int n = 1 - BIAS; n <= BIAS; n++) {
        real x[LANES];
        for (int lane = 0; lane < LANES; lane++)
            x[lane] =
                (real)(1.5 * (double)((int64_t)1 << MANTISSA) + BIAS + (n + lane <= BIAS ? n + lane : 1 - BIAS + lane));
        check_vectors(&op, x, x, x);
    }
}

/* Room for `count` elements that end where no memory follows. */
static real *room_before_end(int count) { return (real *)(void *)end_of_memory() - count; }

/* Every length of a tail, and more than a vector, with every number in every lane. Nothing else is read or written. */
static void check_tails(void)
{
    for (int n = 0; n <= LANES + 2; n++) {
        const int tail = n < LANES ? n : LANES;
        real *const memory = room_before_end(tail);
        for (int first = 0; first < number_count; first++) {
            real got[LANES], whole[LANES];
            for (int lane = 0; lane < LANES; lane++)
                whole[lane] = numbers[(first + lane) % number_count];
            memcpy(memory, whole, (size_t)tail * sizeof(real));
            run_load_n(got, memory, n);
            for (int lane = 0; lane < LANES; lane++)
                compare("load_n", n, got[lane], lane < n ? whole[lane] : 0, 0);
            memset(memory - 1, 0x55, (size_t)(tail + 1) * sizeof(real));
            memcpy(got, memory - 1, sizeof(real));
            run_store_n(memory, whole, n);
            compare("store_n before its place", n, memory[-1], got[0], 0);
            for (int lane = 0; lane < tail; lane++)
                compare("store_n", n, memory[lane], whole[lane], 0);
        }
        /* Within an array: what follows the tail stays. */
        real array[2 * LANES + 2], whole[LANES];
        for (int i = 0; i < 2 * LANES + 2; i++)
            array[i] = (real)i;
        for (int lane = 0; lane < LANES; lane++)
            whole[lane] = -(real)lane;
        run_store_n(array + 1, whole, n);
        for (int i = 0; i < 2 * LANES + 2; i++)
            compare("store_n in an array", i, array[i], i >= 1 && i <= tail ? -(real)(i - 1) : (real)i, 0);
    }
}

/* Rows of 4 of an array 7 wide become columns of one 9 wide, whose other elements stay. */
static void check_transpose4(void)
{
    enum { FROM = 7, TO = 9 };
    for (int first = 0; first < number_count; first++) {
        real from[4 * FROM], to[4 * TO];
        for (int i = 0; i < 4 * FROM; i++)
            from[i] = numbers[(first + i) % number_count];
        for (int i = 0; i < 4 * TO; i++)
            to[i] = (real)i;
        run_transpose4((real *const[]){to + 1, to + TO + 1, to + 2 * TO + 1, to + 3 * TO + 1},
                       (const real *const[]){from, from + FROM, from + 2 * FROM, from + 3 * FROM});
        for (int j = 0; j < 4; j++)
            for (int i = 0; i < TO; i++)
                compare("transpose4", j * TO + i, to[j * TO + i],
                        i >= 1 && i <= 4 ? from[(i - 1) * FROM + j] : (real)(j * TO + i), 0);
    }
}

#if defined(LK_F32) && !defined(TWO_ROUNDINGS)
/* What a 16-bit float is. */
static real half_value(uint16_t half)
{
    const int exponent = half >> 10 & 31, mantissa = half & 1023;
    const double magnitude = exponent ? ldexp(1024 + mantissa, exponent - 25) : ldexp(mantissa, -24);
    return with_sign((real)(exponent == 31 ? (mantissa ? NAN : INFINITY) : magnitude), half >> 15 ? -1 : 1);
}

/* Every 16-bit float. */
static void check_half(void)
{
    for (int first = 0; first < 1 << 16; first += LANES) {
        uint16_t from[LANES];
        real got[LANES];
        for (int lane = 0; lane < LANES; lane++)
            from[lane] = (uint16_t)(first + lane);
        run_load_half(got, from);
        for (int lane = 0; lane < LANES; lane++)
            compare("load_half", first + lane, got[lane], half_value(from[lane]), 1);
    }
}
#else
static void check_half(void) {}
#endif

int main(void)
{
    find_numbers();
    for (size_t i = 0; i < sizeof operations / sizeof operations[0]; i++)
        check_operation(&operations[i]);
    check_pow2();
    check_half();
    check_tails();
    check_transpose4();
    if (different)
        fprintf(stderr, "%lld of %lld results differ\n", (long long)different, (long long)compared);
    else
        printf("%lld results\n", (long long)compared);
    return different > 0;
}
