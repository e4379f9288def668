/* quantized.h - products with 8-bit weights: rows of numbers become rows of integers, and sums of integers are exact.
 *
 * A weight is an integer times the scale of its row of the matrix. A row of K inputs gets an amplitude a, and its
 * activations are q[k] = round(x[k] * (LEVELS / a)), ties to even. The sum over k is cut into parts of PART_INPUTS:
 *   z = z + (float(sum of q[k] w[k]) * a) * (scale / LEVELS),   part by part, each operation rounded once
 * No sum needs more than 32 bits: 512 * 32767 * 127 = 2,130,641,408 with activations of 16 bits, and with those of 8 bits
 * 131,072 * 127 * 127 = 2,114,060,288, both below 2^31. Sums of planes (vec/dot_generic.h) may wrap around on the way.
 *
 * The amplitude is the largest |x[k]|. Where all are known to be at most 1, it is 1, so that the integers do not depend on
 * the largest of them: that is h of a plain LSTM, after its first step at least. An amplitude below LEAST_AMPLITUDE
 * counts as 0, and so do its activations. Where a row has NaN or infinity, its amplitude is NaN, and so is z.
 * All that is a property of the row alone, so no result depends on the other rows, on chunks or on threads. */
#ifndef LK_QUANTIZED_H
#define LK_QUANTIZED_H
#include "vec/dot_chosen.h"
#include "kernels/tile.h"

enum { LEVELS = LK_I8 == 16 ? 32767 : 127, GROUP_INPUTS = 4, PART_INPUTS = LK_I8 == 16 ? 512 : 1 << 17 };
enum { PART_GROUPS = PART_INPUTS / GROUP_INPUTS };

/* o * tanh(c) may round to a little more than 1. Up to this, the largest activation is LEVELS all the same. */
static const real NEARLY_ONE = 1 + 0x1p-17f;
static const real LEAST_AMPLITUDE = 0x1p-100f;

INLINE int64_t groups_of(int64_t inputs) { return divide_up(inputs, GROUP_INPUTS); }
INLINE int64_t parts_of(int64_t inputs) { return divide_up(inputs, PART_INPUTS); }
INLINE int64_t padded(int64_t inputs) { return divide_up(inputs, LANES) * LANES; }
INLINE int64_t integer_row_bytes(int64_t inputs) { return activation_bytes(padded(inputs)); }

/* Rows of K integers, and an amplitude for each. */
typedef struct {
    int64_t K;
    uint8_t *values;
    real *amplitude;
} integer_rows;

INLINE const uint8_t *values_of(const integer_rows *rows, int64_t row)
{
    return rows->values + row * integer_row_bytes(rows->K);
}

INLINE real amplitude_of(const real *x, int64_t K, int bounded)
{
    ivec magnitude = i_zero();
    int64_t k = 0;
    for (; k + LANES <= K; k += LANES)
        magnitude = i_magnitude(magnitude, v_load(x + k));
    if (k < K)
        magnitude = i_magnitude(magnitude, v_load_n(x + k, K - k));
    const int32_t bits = i_largest(magnitude);
    real largest;
    memcpy(&largest, &bits, sizeof largest);
    if (bounded && largest <= NEARLY_ONE)
        return 1;
    if (largest < LEAST_AMPLITUDE)
        return 0;
    return largest <= __FLT_MAX__ ? largest : __builtin_nanf("");
}

/* Row `row` of `to`, from x [K]. bounded: whether |x| is mostly at most 1. */
INLINE void quantize_row(const integer_rows *to, int64_t row, const real *x, int bounded)
{
    const int64_t K = to->K, inputs = padded(K);
    uint8_t *const values = to->values + row * integer_row_bytes(K);
    const real amplitude = amplitude_of(x, K, bounded);
    const vec factor = v_splat(amplitude > 0 ? LEVELS / amplitude : 0);
    int64_t k = 0;
    for (; k + LANES <= K; k += LANES)
        put_activations(values, k, inputs, v_mul(v_load(x + k), factor));
    if (k < K)
        put_activations(values, k, inputs, v_mul(v_load_n(x + k, K - k), factor));
    to->amplitude[row] = amplitude;
}

/* A matrix of 8-bit weights, from some block on.
 *   w        [blocks][groups][4][LANES] words of 4 bytes
 *   scale    [blocks][4][LANES]: of a row of the matrix, divided by LEVELS
 *   offset   [blocks][parts][4][LANES]: -128 times the sum of a row's weights */
typedef struct {
    const weight *w;
    const real *scale;
    const int32_t *offset;
} integer_matrix;

INLINE integer_matrix from_block(const void *w, const void *scale, const int32_t *offset, int64_t block, int64_t K)
{
    return (integer_matrix){(const weight *)w + block * groups_of(K) * BLOCK_SIZE,
                            (const real *)scale + block * BLOCK_SIZE, offset + block * parts_of(K) * BLOCK_SIZE};
}

/* Sums of the groups first .. last - 1. sums: [rows][PLANES][blocks]. */
INLINE void add_groups(const int rows, const int blocks, ivec sums[][4], const integer_rows *x, int64_t row,
                       int64_t first, int64_t last, const weight *w, int64_t w_block, int line)
{
    const int64_t inputs = padded(x->K), ahead = line < 0 ? 0 : w_block + line * WEIGHT_LINE;
    const uint8_t *values[MOST_TILE_ROWS];
    for (int r = 0; r < rows; r++)
        values[r] = values_of(x, row + r);
    for (int64_t k = first; k < last; k++) {
        const weight *w_k = w + k * BLOCK_SIZE;
        group4 x_k[MOST_TILE_ROWS];
        for (int r = 0; r < rows * PLANES; r++)
            x_k[r] = load_group(values[r / PLANES], k, inputs, r % PLANES);
        if (rows > 1)
            __builtin_prefetch(w_k + ahead);
        for (int b = 0; b < blocks; b++)
            for (int g = 0; g < 4; g++) {
                const ready w_g = load_weights(w_k + b * w_block + g * LANES);
                for (int r = 0; r < rows * PLANES; r++)
                    sums[r * blocks + b][g] = i_dot(sums[r * blocks + b][g], w_g, x_k[r]);
            }
    }
}

/* The compiler keeps nothing of this in registers here. Sums of integers need them all. */
#define KEEP_IN_MEMORY(array) __asm__ volatile("" : "+m"(array))

/* acc[r][b][g] += the product of row `row` + r of x with the matrix; `line` as for accumulate.
 *
 * Bound: one row loads blocks * 4 vectors of weights for each group; more rows do rows * PLANES * 4 dot products. */
INLINE void accumulate_integers(const int rows, const int blocks, vec acc[][4], const integer_rows *x, int64_t row,
                                integer_matrix matrix, int line)
{
    const int64_t groups = groups_of(x->K), parts = parts_of(x->K);
    for (int64_t part = 0; part < parts; part++) {
        const int64_t first = part * PART_GROUPS, last = smaller(first + PART_GROUPS, groups);
        ivec sums[MOST_TILE_ROWS][4];
        KEEP_IN_MEMORY(*(vec(*)[MOST_TILE_ROWS][4])acc);
        for (int r = 0; r < rows * PLANES; r++)
            for (int b = 0; b < blocks; b++)
                for (int g = 0; g < 4; g++)
                    sums[r * blocks + b][g] =
                        first_sum(matrix.offset + ((b * parts + part) * 4 + g) * LANES, r % PLANES);
        add_groups(rows, blocks, sums, x, row, first, last, matrix.w, groups * BLOCK_SIZE, line);
        for (int r = 0; r < rows; r++)
            for (int b = 0; b < blocks; b++)
                for (int g = 0; g < 4; g++) {
                    const ivec sum = whole_sum(&sums[r * PLANES * blocks + b][g], 4 * blocks);
                    const vec number = v_mul(i_float(sum), v_splat(x->amplitude[row + r]));
                    acc[r * blocks + b][g] =
                        v_add(acc[r * blocks + b][g], v_mul(number, v_load(matrix.scale + b * BLOCK_SIZE + g * LANES)));
                }
    }
}

#endif
