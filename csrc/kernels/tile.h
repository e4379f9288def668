/* tile.h - the register tile under every matrix product, and the sweep that covers a matrix with tiles. */
#ifndef LK_TILE_H
#define LK_TILE_H
#include "kernels/sizes.h"
#include "run/cost.h"
#include "vec/chosen.h"

/* Weights of one input for one block: its four gates or, in a dense layer, 4 LANES outputs. */
enum { BLOCK_SIZE = 4 * LANES };

/* TILE_ROWS of every instruction set is at most this. */
enum { MOST_TILE_ROWS = 6 };

/* A layer of at most so many units sums over h in two parts (lstmkernel.h). */
enum { FEW_UNITS = 16 };

/* How packed weights are stored: as they are or, with LK_F16, as 16-bit floats. Those are widened when they are loaded,
 * which is exact, so that the sums are those of the widened weights. With LK_I8, four bytes are one word (quantized.h). */
#ifdef LK_I8
typedef uint32_t weight;
enum { NARROW_WEIGHTS = 1 };
#elif defined(LK_F16)
typedef uint16_t weight;
enum { NARROW_WEIGHTS = 1 };
INLINE vec widened(const weight *w) { return v_load_half(w); }
#else
typedef real weight;
enum { NARROW_WEIGHTS = 0 };
INLINE vec widened(const weight *w) { return v_load(w); }
#endif

/* Elements of a cache line, weights of one, and cache lines of BLOCK_SIZE weights. */
enum {
    LINE = 64 / (int)sizeof(real),
    WEIGHT_LINE = 64 / (int)sizeof(weight),
    LINES = BLOCK_SIZE > WEIGHT_LINE ? BLOCK_SIZE / WEIGHT_LINE : 1,
};

/* function(n, ...) for n in 1..most. In each call n is a constant, so that arrays of n vectors stay in registers.
 * `most` is a constant of at most MOST_TILE_ROWS; calls with a larger n are not compiled. */
/* clang-format off */
#define WITH_CONSTANT(function, n, most, ...)                     \
    do {                                                          \
        switch (n) {                                              \
        case 1: function(1, __VA_ARGS__); break;                  \
        case 2: if ((most) >= 2) function(2, __VA_ARGS__); break; \
        case 3: if ((most) >= 3) function(3, __VA_ARGS__); break; \
        case 4: if ((most) >= 4) function(4, __VA_ARGS__); break; \
        case 5: if ((most) >= 5) function(5, __VA_ARGS__); break; \
        case 6: if ((most) >= 6) function(6, __VA_ARGS__); break; \
        }                                                         \
    } while (0)
/* clang-format on */

/* n sums of four gates each: set to zero, or added one by one. */
INLINE void clear_sums(const int n, vec sums[][4])
{
    for (int i = 0; i < n; i++)
        for (int g = 0; g < 4; g++)
            sums[i][g] = v_splat(0);
}
INLINE void add_sums(const int n, vec sums[][4], vec other[][4])
{
    for (int i = 0; i < n; i++)
        for (int g = 0; g < 4; g++)
            sums[i][g] = v_add(sums[i][g], other[i][g]);
}

#ifndef LK_I8

/* acc[r][b][g] += x[r] * w[b][g] for one input: `rows` rows, whose x fills a vector each, by `blocks` blocks, w_block
 * apart, by `gates` vectors. acc is rows * blocks * gates registers; those three are constants at every call. */
INLINE void add_products(const int rows, const int blocks, const int gates, vec acc[][4], const vec *x, const weight *w,
                         int64_t w_block)
{
    for (int b = 0; b < blocks; b++)
        for (int g = 0; g < gates; g++) {
            const vec wk = widened(w + b * w_block + g * LANES);
            for (int r = 0; r < rows; r++)
                acc[r * blocks + b][g] = v_fma(wk, x[r], acc[r * blocks + b][g]);
        }
}

/* The same for all four gates, of rows whose x lie x_row apart. */
INLINE void multiply_add(const int rows, const int blocks, vec acc[][4], const real *x, int64_t x_row, const weight *w,
                         int64_t w_block)
{
    vec xk[MOST_TILE_ROWS];
    for (int r = 0; r < rows; r++)
        xk[r] = v_splat(x[r * x_row]);
    add_products(rows, blocks, 4, acc, xk, w, w_block);
}

/* acc[r][b][g] += sum over k = 0 .. K - 1, in order, of x[r][k] * w[b][k][g]: `rows` rows by `blocks` blocks by four
 * gates.
 *
 *   w    packed [block][K][4][LANES]
 *   acc  rows * blocks * 4 registers; `rows` and `blocks` are constants at every call
 *   line which cache line of each input of the next block to prefetch meanwhile; -1 for none (always where rows is 1)
 *
 * Bound: rows * blocks * 4 FMAs per k, against blocks * 4 loads of weights and `rows` broadcasts. */
INLINE void accumulate(const int rows, const int blocks, vec acc[][4], const real *const *x, int64_t K, const weight *w,
                       int line)
{
    const int64_t w_block = K * BLOCK_SIZE, ahead = line < 0 ? 0 : w_block + line * WEIGHT_LINE;
    for (int64_t k = 0; k < K; k++, w += BLOCK_SIZE) {
        vec xk[MOST_TILE_ROWS];
        for (int r = 0; r < rows; r++)
            xk[r] = v_splat(x[r][k]);
        if (rows > 1)
            __builtin_prefetch(w + ahead);
        add_products(rows, blocks, 4, acc, xk, w, w_block);
    }
}

#endif

/* A tile of a product: rows row .. row + rows - 1, blocks block .. block + blocks - 1; `line` as for accumulate. */
typedef void tile_function(const int rows, const int blocks, int64_t row, int64_t block, int line, const void *job);

INLINE int64_t weight_bytes(range blocks, int64_t K)
{
    return (blocks.to - blocks.from) * K * BLOCK_SIZE * (int64_t)sizeof(weight);
}
INLINE int far_away(range blocks, int64_t K) { return weight_bytes(blocks, K) > FAR_BYTES; }

/* One row uses every weight once. So the weights must stream, and enough sums must run side by side to hide the latency
 * of an FMA: up to three blocks are one tile. Two streams of weights are faster than one where L1 keeps a good part of
 * the weights from step to step (by up to 13% at 64 units), and where they come from L3 or memory. From L2, on AVX-512,
 * one stream is faster (by 8% at 128 units). With `backwards` the last block comes first: a step that begins where the
 * step before ended finds those weights in the nearest cache. */
INLINE void sweep_row(range blocks, int64_t K, int backwards, tile_function *tile, const void *job)
{
    const int64_t count = blocks.to - blocks.from;
    if (count == 3) {
        tile(1, 3, 0, blocks.from, -1, job);
        return;
    }
    const int in_pairs = TILE_BLOCKS == 2 || weight_bytes(blocks, K) <= NEARLY_L1_BYTES || far_away(blocks, K);
    const int64_t pairs = in_pairs || count == 2 ? count / 2 : 0;
    for (int64_t done = 0, now; done < count; done += now) {
        now = done < 2 * pairs ? 2 : 1;
        const int64_t block = backwards ? blocks.to - done - now : blocks.from + done;
        if (now == 2)
            tile(1, 2, 0, block, -1, job);
        else
            tile(1, 1, 0, block, -1, job);
    }
}

/* Several rows, in tiles of at most `most_rows` (a constant) and of nearly equal size: 8 rows are 4 + 4, not 6 + 2.
 * Blocks are the outer loop: the weights of a block come from far away once, and from L1 or L2 for every further tile.
 * Where L2 does not hold all weights and there are tiles enough, each tile prefetches another cache line of every input
 * of the next block. Elsewhere prefetching costs a little and gains nothing. */
INLINE void sweep_rows(const int most_rows, int64_t N, range blocks, int64_t K, tile_function *tile, const void *job)
{
    const int64_t tiles = divide_up(N, most_rows);
    const int far = far_away(blocks, K) && tiles >= LINES;
    for (int64_t block = blocks.from; block < blocks.to; block++)
        for (int64_t t = 0, row = 0, rows; t < tiles; t++, row += rows) {
            const int line = far ? (int)(t % LINES) : -1;
            rows = divide_up(N - row, tiles - t);
            WITH_CONSTANT(tile, rows, most_rows, 1, row, block, line, job);
        }
}

/* Call `tile` for tiles that cover N rows and the blocks, with K inputs each. */
INLINE void sweep(const int most_rows, int64_t N, range blocks, int64_t K, int backwards, tile_function *tile,
                  const void *job)
{
    if (N == 1)
        sweep_row(blocks, K, backwards, tile, job);
    else
        sweep_rows(most_rows, N, blocks, K, tile, job);
}

#endif
