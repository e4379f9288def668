/* backward_weights.h - the first and the last stage of a backward pass: weights and their gradients go into the kernels'
 * order, and the gradients come back from it. */
#ifndef LK_BACKWARD_WEIGHTS_H
#define LK_BACKWARD_WEIGHTS_H
#include "kernels/backward_plan.h"
#include "kernels/gradient_products.h"
#include "kernels/rows.h"
#include "kernels/transpose.h"

/* n blocks or vectors of the weights, those of the part that the call takes. */
INLINE range of_call(const backward_pass *pass, int64_t n)
{
    const int64_t part = pass->gradients->part, parts = pass->gradients->parts;
    return (range){n * part / parts, n * (part + 1) / parts};
}
/* Some of those, which `part` counts from the first one on. */
INLINE range moved(range all, range part) { return (range){all.from + part.from, all.from + part.to}; }

/* A phase: pack w [K][outputs]. */
static void pack_phase(const backward_pass *pass, real *to, const void *w, int64_t K, int64_t outputs)
{
    const range all = of_call(pass, divide_up(outputs, BLOCK_SIZE));
    FOR_PARTS (part, pass->team, all.to - all.from, 0)
        pack_columns(to, w, K, outputs, moved(all, part));
}

static void pack_weights(const backward_pass *pass)
{
    pack_phase(pass, pass->packed.w_hh, pass->gradients->w_hh, 4 * pass->H, pass->R);
    if (pass->gradients->d_x)
        pack_phase(pass, pass->packed.w_ih, pass->gradients->w_ih, 4 * pass->H, pass->I);
    if (pass->P)
        pack_phase(pass, pass->packed.w_hr, pass->gradients->w_hr, pass->P, pass->H);
}

/* The weights' gradients are added to those in the caller's arrays. The caller's are loaded before the first step, and
 * the sums are stored after the last step. So a backward pass in several calls adds in the same order as one call.
 *
 * load_sums and store_sums move d [K][BLOCK_SIZE] from or to n rows of w [4 H][K], from row `first` on. */
INLINE void point_to_weights(const backward_pass *pass, void *w, int64_t K, int64_t first, int64_t n)
{
    for (int64_t row = 0; row < n; row++)
        pass->pointers[row] = (real *)w + (first + row) * K;
}
INLINE void load_sums(const backward_pass *pass, real *d, void *w, int64_t K, int64_t first, int64_t n)
{
    point_to_weights(pass, w, K, first, n);
    transpose(d, BLOCK_SIZE, (const real *const *)pass->pointers, n, K);
}
INLINE void store_sums(const backward_pass *pass, real *d, void *w, int64_t K, int64_t first, int64_t n)
{
    point_to_weights(pass, w, K, first, n);
    transpose_back(pass->pointers, d, BLOCK_SIZE, n, K);
}

/* A phase: `move`, which is load_sums or store_sums, for the vectors of the gates' sums. */
INLINE void move_sums(const backward_pass *pass,
                      void (*move)(const backward_pass *, real *, void *, int64_t, int64_t, int64_t))
{
    const int64_t I = pass->I, inputs = pass->sums.inputs;
    const range all = of_call(pass, divide_up(4 * pass->H, LANES));
    FOR_PARTS (part, pass->team, all.to - all.from, 0) {
        const range vectors = moved(all, part);
        for (int64_t vector = vectors.from; vector < vectors.to; vector++) {
            const int64_t first = vector * LANES, n = smaller(LANES, 4 * pass->H - first);
            real *const d = pass->sums.gates + vector / 4 * inputs * BLOCK_SIZE + vector % 4 * LANES;
            move(pass, d, pass->gradients->d_w_ih, I, first, n);
            move(pass, d + I * BLOCK_SIZE, pass->gradients->d_bias, 1, first, n);
            move(pass, d + (I + 1) * BLOCK_SIZE, pass->gradients->d_w_hh, pass->R, first, n);
        }
    }
}

static void load_weights(const backward_pass *pass)
{
    pack_weights(pass);
    if (!pass->gradients->d_w_ih)
        return;
    move_sums(pass, load_sums);
    if (pass->P)
        pack_phase(pass, pass->sums.w_hr, pass->gradients->d_w_hr, pass->P, pass->H);
}
static void store_weights(const backward_pass *pass)
{
    if (!pass->gradients->d_w_ih)
        return;
    move_sums(pass, store_sums);
    const int64_t H = pass->H, P = pass->P;
    const range all = of_call(pass, P ? divide_up(H, BLOCK_SIZE) : 0);
    FOR_PARTS (part, pass->team, all.to - all.from, 0) {
        const range blocks = moved(all, part);
        for (int64_t block = blocks.from; block < blocks.to; block++)
            for (int64_t output = 0; output < P; output++)
                copy_reals((real *)pass->gradients->d_w_hr + output * H + block * BLOCK_SIZE,
                           pass->sums.w_hr + (block * P + output) * BLOCK_SIZE,
                           smaller(BLOCK_SIZE, H - block * BLOCK_SIZE));
    }
}

#endif
