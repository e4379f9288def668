/* vec/shuffle.h - the operations that move lanes, for every instruction set. They are written in the compiler's own
 * vectors, from which it makes instructions of the set. GCC shuffles by a vector of places, Clang by literals. */
#ifndef LK_SHUFFLE_H
#define LK_SHUFFLE_H
#include "vec/chosen.h"

#ifdef LK_F32
typedef int32_t lk_place;
#else
typedef int64_t lk_place;
#endif

/* Lane i of the result is lane (i + quarters * LANES / 4) % LANES of a: a gate that begins in the middle of a vector
 * comes to its beginning. quarters: a constant in 0..3; of vectors of 2 lanes, 0 or 2. */
INLINE vec v_rotate(vec a, int quarters)
{
    const int first = quarters * LANES / 4;
#ifdef __clang__ /* which makes one shuffle of this loop */
    vec rotated = a;
    for (int lane = 0; lane < LANES; lane++)
        rotated[lane] = a[(lane + first) % LANES];
    return rotated;
#else
    typedef lk_place places __attribute__((vector_size(LANES * sizeof(real))));
    places from;
    for (int lane = 0; lane < LANES; lane++)
        from[lane] = (lane + first) % LANES;
    return __builtin_shuffle(a, from);
#endif
}

/* Four neighbours in memory, whatever LANES is. */
typedef real four __attribute__((vector_size(4 * sizeof(real)), aligned(sizeof(real))));
#ifdef __clang__
#define CHOOSE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__) /* 0..3: of a, 4..7: of b */
#else
typedef lk_place four_places __attribute__((vector_size(4 * sizeof(real))));
#define CHOOSE(a, b, ...) __builtin_shuffle(a, b, (four_places){__VA_ARGS__})
#endif

/* to[j][i] = from[i][j], i and j in 0..3. As loops, compilers take twice as long. */
INLINE void v_transpose4(real *const to[4], const real *const from[4])
{
    const four a = *(const four *)from[0], b = *(const four *)from[1];
    const four c = *(const four *)from[2], d = *(const four *)from[3];
    const four ab_low = CHOOSE(a, b, 0, 4, 1, 5), ab_high = CHOOSE(a, b, 2, 6, 3, 7);
    const four cd_low = CHOOSE(c, d, 0, 4, 1, 5), cd_high = CHOOSE(c, d, 2, 6, 3, 7);
    *(four *)to[0] = CHOOSE(ab_low, cd_low, 0, 1, 4, 5);
    *(four *)to[1] = CHOOSE(ab_low, cd_low, 2, 3, 6, 7);
    *(four *)to[2] = CHOOSE(ab_high, cd_high, 0, 1, 4, 5);
    *(four *)to[3] = CHOOSE(ab_high, cd_high, 2, 3, 6, 7);
}
#undef CHOOSE

#endif
