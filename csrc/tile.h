/* tile.h - the register tile under every matrix product, and the sweep that covers a matrix with tiles. */

enum { QUAD = 4 * LANES };    /* the four gates of one block of units, or 4 LANES neighbouring outputs */
enum { MOST_TILE_ROWS = 6 }; /* of any instruction set */

/* acc[r][p][g] += sum over k = from .. to - 1, in order, of x[r][k] * w[p][k][g]: `rows` rows by `panels` blocks by
 * four gates.
 *
 *   w   packed [panel][K][4][LANES], panels panel_stride apart
 *   acc rows * panels * 4 registers; `rows` and `panels` are constants at every call
 *
 * Bound: rows * panels * 4 FMAs per k, against panels * 4 loads of weights and `rows` broadcasts. */
INLINE void accumulate(const int rows, const int panels, vec acc[][4], const real *const *x, int64_t from, int64_t to,
                       const real *w, int64_t panel_stride)
{
    w += from * QUAD;
    for (int64_t k = from; k < to; k++, w += QUAD) {
        vec xk[MOST_TILE_ROWS];
        for (int r = 0; r < rows; r++)
            xk[r] = v_splat(x[r][k]);
        for (int p = 0; p < panels; p++)
            for (int g = 0; g < 4; g++) {
                vec wk = v_load(w + p * panel_stride + g * LANES);
                for (int r = 0; r < rows; r++)
                    acc[r * panels + p][g] = v_fma(wk, xk[r], acc[r * panels + p][g]);
            }
    }
}

/* A tile of a product: rows row .. row + rows - 1, blocks block .. block + panels - 1, inputs from .. to - 1. */
typedef void tile_function(const int rows, const int panels, int64_t row, int64_t block, int64_t from, int64_t to,
                           const void *job);

/* As many inputs k as keep the weights of a block in half of L1 (16 KiB). */
enum { SLICE = (1 << 14) / (QUAD * (int)sizeof(real)) };

/* Call `tile` on tiles that cover N rows, `blocks` blocks and K inputs. Blocks are the outer loop, so that a slice of a
 * block's weights is read once from L2 or beyond, and then from L1 for every tile of rows; a tile of a later slice
 * carries the sums of the earlier ones on, in the same order. Rows are split evenly (8 rows are 4 + 4, not 6 + 2). */
INLINE void sweep(int64_t N, int64_t blocks, int64_t K, int64_t slice, tile_function *tile, const void *job)
{
    if (N == 1) { /* every weight is used once: no slices, but several blocks for enough accumulators */
        int64_t block = 0;
        for (; block + TILE_PANELS <= blocks; block += TILE_PANELS)
            tile(1, TILE_PANELS, 0, block, 0, K, job);
        for (; block < blocks; block++)
            tile(1, 1, 0, block, 0, K, job);
        return;
    }
    const int64_t tiles = (N + TILE_ROWS - 1) / TILE_ROWS;
    const int64_t least = tiles ? N / tiles : 0, taller = tiles ? N % tiles : 0;
    for (int64_t block = 0; block < blocks; block++)
        for (int64_t from = 0; from < K; from += slice) {
            const int64_t to = K - from < slice ? K : from + slice;
            for (int64_t t = 0, row = 0; t < tiles; t++) {
                const int64_t rows = least + (t < taller);
                switch (rows) {
                case 1: tile(1, 1, row, block, from, to, job); break;
                case 2: tile(2, 1, row, block, from, to, job); break;
                case 3: tile(3, 1, row, block, from, to, job); break;
                case 4: if (TILE_ROWS >= 4) tile(4, 1, row, block, from, to, job); break;
                case 5: if (TILE_ROWS >= 5) tile(5, 1, row, block, from, to, job); break;
                case 6: if (TILE_ROWS >= 6) tile(6, 1, row, block, from, to, job); break;
                }
                row += rows;
            }
        }
}
