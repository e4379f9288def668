/* backward_plan.h - the sizes of a backward pass, and where everything lies in its two pieces of memory: `packed`, which
 * is kept from call to call, and `work`. */
#ifndef LK_BACKWARD_PLAN_H
#define LK_BACKWARD_PLAN_H
#include "kernels/layout.h"
#include "kernels/team.h"
#include "kernels/tile.h"

/* A chunk has CHUNK_STEPS_ROWS rows of d_z, which are enough to pay for loading and storing the weights' gradients. It
 * has fewer where units are many, so that d_z stays within CHUNK_D_Z_BYTES, but at least CHUNK_LEAST_ROWS. Threads that
 * share the rows of a chunk meet at its end, so it has so many rows for each of them.
 * The tape is read from its end on, and prefetched FETCH_BYTES ahead. */
enum { CHUNK_STEPS_ROWS = 256, CHUNK_LEAST_ROWS = 96, CHUNK_D_Z_BYTES = 1 << 21, FETCH_BYTES = 1 << 12 };

/* One call, as one thread of the team sees it. Arrays lie in the workspace, and all threads have the same ones. */
typedef struct {
    const lk_tape *tape;
    const lk_gradients *gradients;
    lk_team *team;
    int by_units;
    int64_t I, H, R, P;
    /* Padded widths of a row. That of d_z [4][H] is one cache line wider: rows that are a power of two apart would
     * share few sets of a cache. */
    int64_t c_stride, h_stride, d_z_stride;
    /* The part at hand: vectors of units, and of h. */
    range units, outputs;
    /* Packed for product_rows. */
    struct {
        real *w_hh, *w_ih, *w_hr;
    } packed;
    /* The weights' gradients: of all gates [blocks][inputs][BLOCK_SIZE], whose inputs are x, 1 and h_before; of W_hr
     * [blocks][P][BLOCK_SIZE]. */
    struct {
        int64_t inputs;
        real *gates, *w_hr;
    } sums;
    /* The step at hand: `active` rows take it. d_hidden is the gradient of o tanh(c); without a projection it is d_h.
     * d_h_rows and d_hidden_rows point to each row of the two. */
    struct {
        int64_t active;
        const real *gates;
        real *d_h, *d_c, *d_hidden;
        real **d_h_rows, **d_hidden_rows;
    } step;
    /* The chunk at hand: d_z of at most most_rows rows; [x, 1, h_before] transposed, [inputs][transposed_stride].
     * For a projection also o tanh(c), d_h, and d_h transposed. */
    struct {
        int64_t most_rows, transposed_stride;
        real *d_z, *inputs;
        real *hidden, *d_h, *d_h_transposed;
    } chunk;
    /* This thread's own room for a pointer to each row of a chunk. */
    real **pointers;
} backward_pass;

/* The next `count` elements of work. If work is NULL, it only counts the bytes. */
INLINE real *take(char **work, int64_t *bytes, int64_t count)
{
    real *const place = *work ? (real *)(void *)(*work + *bytes) : NULL;
    *bytes += whole_lines(count) * (int64_t)sizeof(real);
    return place;
}

/* Places in gradients->packed, which keeps them from call to call; returns its bytes. */
static int64_t plan_packed(backward_pass *pass, const lk_gradients *gradients)
{
    const int64_t I = gradients->input_size, H = gradients->hidden_size, P = gradients->proj_size, R = P ? P : H;
    const int d_x = gradients->d_x != NULL, d_w = gradients->d_w_ih != NULL;
    char *packed = gradients->packed;
    int64_t bytes = 0;
    pass->sums.inputs = I + 1 + R;
    pass->packed.w_hh = take(&packed, &bytes, divide_up(R, BLOCK_SIZE) * 4 * H * BLOCK_SIZE);
    pass->packed.w_ih = take(&packed, &bytes, d_x ? divide_up(I, BLOCK_SIZE) * 4 * H * BLOCK_SIZE : 0);
    pass->packed.w_hr = take(&packed, &bytes, divide_up(H, BLOCK_SIZE) * P * BLOCK_SIZE);
    pass->sums.gates = take(&packed, &bytes, d_w ? divide_up(4 * H, BLOCK_SIZE) * pass->sums.inputs * BLOCK_SIZE : 0);
    pass->sums.w_hr = take(&packed, &bytes, d_w ? divide_up(H, BLOCK_SIZE) * P * BLOCK_SIZE : 0);
    return bytes;
}

static int64_t packed_bytes(const lk_gradients *gradients)
{
    backward_pass pass;
    return plan_packed(&pass, gradients);
}

static void plan_sizes(backward_pass *pass, const lk_tape *tape, const lk_gradients *gradients, int by_units,
                       lk_team *team)
{
    const int64_t I = gradients->input_size, H = gradients->hidden_size, P = gradients->proj_size, R = P ? P : H,
                  B = tape->B;
    pass->tape = tape, pass->gradients = gradients, pass->by_units = by_units, pass->team = team;
    pass->I = I, pass->H = H, pass->R = R, pass->P = P;
    pass->c_stride = divide_up(H, LANES) * LANES, pass->h_stride = divide_up(R, LANES) * LANES;
    pass->d_z_stride = whole_lines(4 * H) + LINE;
    const int64_t fitting = larger(CHUNK_LEAST_ROWS, CHUNK_D_Z_BYTES / (4 * H * (int64_t)sizeof(real)));
    const int64_t rows = smaller(CHUNK_STEPS_ROWS, fitting) * (by_units ? 1 : team->size);
    pass->chunk.most_rows = larger(B, smaller(rows, B * (tape->last - tape->first)));
    pass->chunk.transposed_stride = whole_lines(pass->chunk.most_rows) + LINE;
}

/* Sizes and places; returns the bytes of work. */
static int64_t plan_backward(backward_pass *pass, const lk_tape *tape, const lk_gradients *gradients, int by_units,
                             lk_team *team, char *work)
{
    plan_packed(pass, gradients);
    plan_sizes(pass, tape, gradients, by_units, team);
    const int64_t P = pass->P, B = tape->B, rows = pass->chunk.most_rows;
    const int64_t transposed_stride = pass->chunk.transposed_stride;
    const int d_w = gradients->d_w_ih != NULL;
    int64_t bytes = 0;
    pass->step.d_h = take(&work, &bytes, B * pass->h_stride);
    pass->step.d_c = take(&work, &bytes, B * pass->c_stride);
    pass->step.d_hidden = P ? take(&work, &bytes, B * pass->c_stride) : pass->step.d_h;
    pass->chunk.d_z = take(&work, &bytes, rows * pass->d_z_stride);
    pass->chunk.inputs = take(&work, &bytes, d_w ? pass->sums.inputs * transposed_stride : 0);
    pass->chunk.hidden = take(&work, &bytes, P ? rows * pass->c_stride : 0);
    pass->chunk.d_h = take(&work, &bytes, P ? rows * pass->h_stride : 0);
    pass->chunk.d_h_transposed = take(&work, &bytes, P ? P * transposed_stride : 0);
    const int64_t own = larger(rows, LANES), threads = larger(1, tape->threads);
    if (work) {
        pass->step.d_h_rows = (real **)(void *)(work + bytes);
        pass->step.d_hidden_rows = pass->step.d_h_rows + B;
        pass->pointers = pass->step.d_hidden_rows + B + own * team->rank;
    }
    return bytes + (2 * B + own * threads) * (int64_t)sizeof(real *);
}

static int64_t backward_workspace(const lk_tape *tape, const lk_gradients *gradients)
{
    backward_pass pass;
    lk_team largest = {.size = (int)larger(1, tape->threads)}; /* of those that may share rows */
    return plan_backward(&pass, tape, gradients, 0, &largest, NULL);
}

#endif
