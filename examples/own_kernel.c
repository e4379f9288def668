/* own_kernel.c - simple, slow kernels for lstmkernel. Make them faster, and compare them with the others:
 *
 *     lstmkernel compare --against examples/own_kernel.c --shape silero_block
 *
 * Delete the kernels that you do not write. The comments of csrc/lstmkernel.h explain the arguments. The program is
 * compiled for this CPU, with REAL defined as float or double. docs/write_a_kernel.md explains it. */
#include <math.h>
#include "lstmkernel.h"

typedef REAL real;

/* The units of a block. You choose this number. Packed weights and gates are [blocks][K][4][lanes]. */
const int64_t lanes = 16;
/* In the 4 * LANES gates of a block, the places where each gate begins. */
enum { LANES = 16, I = 0, F = LANES, G = 2 * LANES, O = 3 * LANES, GATES = 4 * LANES };

static int64_t blocks_of(const lk_layer *layer) { return (layer->hidden_size + LANES - 1) / LANES; }

/* z[GATES] += x[K] w[K][GATES] */
static void accumulate(real *restrict z, int64_t K, const real *x, const real *restrict w)
{
    for (int64_t k = 0; k < K; k++, w += GATES)
        for (int j = 0; j < GATES; j++)
            z[j] += x[k] * w[j];
}

static real sigmoid(real x) { return 1 / (1 + (real)exp(-x)); }

/* The four moves of the cell for the first `units` units of a block. */
static void update_block(const real *z, int64_t units, real *c, real *h)
{
    for (int64_t u = 0; u < units; u++) {
        c[u] = sigmoid(z[F + u]) * c[u] + sigmoid(z[I + u]) * (real)tanh(z[G + u]);
        h[u] = sigmoid(z[O + u]) * (real)tanh(c[u]);
    }
}

int gate_matmul(const lk_layer *layer, int64_t N, const void *x_, int64_t x_row, void *z_)
{
    const real *x = x_, *bias = layer->bias;
    real *z = z_;
    for (int64_t n = 0; n < N; n++, x += x_row)
        for (int64_t b = 0; b < blocks_of(layer); b++, z += GATES) {
            for (int j = 0; j < GATES; j++)
                z[j] = bias[b * GATES + j];
            accumulate(z, layer->input_size, x, (const real *)layer->w_x + b * layer->input_size * GATES);
        }
    return 0;
}

int cell_update(int64_t N, int64_t H, const void *z_, void *c_, void *h_)
{
    const real *z = z_;
    real *c = c_, *h = h_;
    for (int64_t n = 0; n < N; n++, c += H, h += H)
        for (int64_t unit = 0; unit < H; unit += LANES, z += GATES)
            update_block(z, H - unit < LANES ? H - unit : LANES, c + unit, h + unit);
    return 0;
}

/* The bytes that layer_forward needs in `work`: here, for the new h of a row. */
int64_t workspace(const lk_layer *layer, int64_t T, int64_t B)
{
    (void)T, (void)B;
    return layer->hidden_size * (int64_t)sizeof(real);
}

int layer_forward(const lk_layer *layer, int64_t T, int64_t B, const void *x_, int64_t x_step, int64_t x_row,
                  const int64_t *lengths, int reverse, void *h_, void *c_, void *out_, int64_t out_step, int64_t out_row,
                  void *work)
{
    const int64_t K = layer->input_size, H = layer->hidden_size;
    const real *w_x = layer->w_x, *w_h = layer->w_h, *bias = layer->bias;
    real *h_next = work;
    for (int64_t b = 0; b < B; b++) {
        real *h = (real *)h_ + b * H, *c = (real *)c_ + b * H;
        const int64_t length = lengths ? lengths[b] : T;
        for (int64_t s = 0; s < T; s++) {
            const int64_t t = reverse && s < length ? length - 1 - s : s;
            real *out = (real *)out_ + t * out_step + b * out_row;
            if (s >= length) { /* past the row's end */
                for (int64_t u = 0; u < H; u++)
                    out[u] = 0;
                continue;
            }
            const real *x = (const real *)x_ + t * x_step + b * x_row;
            for (int64_t block = 0; block < blocks_of(layer); block++) {
                const int64_t unit = block * LANES, units = H - unit < LANES ? H - unit : LANES;
                real z[GATES];
                for (int j = 0; j < GATES; j++)
                    z[j] = bias[block * GATES + j];
                accumulate(z, K, x, w_x + block * K * GATES);
                accumulate(z, H, h, w_h + block * H * GATES);
                update_block(z, units, c + unit, h_next + unit);
            }
            for (int64_t u = 0; u < H; u++)
                out[u] = h[u] = h_next[u];
        }
    }
    return 0;
}
