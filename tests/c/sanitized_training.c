/* sanitized_training.c - layer_record and layer_backward of every instruction set and dtype, on arrays of exactly
 * their size: the bits of one thread on several, and every table near the first one of its dtype. Whether that is
 * right is for tests/training/test_gradient.py. For tests/c/sanitize.sh: AddressSanitizer sees one element read or
 * written too far, ThreadSanitizer accesses that nothing orders. */
#include <math.h>
#include "network.h"
#include "tables.h"

/* Steps 0 .. T - 1 in calls of so many; `needed`: whether d_out is given, and the gradients of x and parameters are
 * needed. */
typedef struct {
    int64_t T, B, I, H, P, steps;
    int reverse, ragged, needed;
} training_case;

/* All that the kernels wrote, h first, one after the other. */
enum { H_T, D_H, D_C, D_X, D_W_IH, D_W_HH, D_BIAS, D_W_HR, RESULTS };

typedef struct {
    void *result[RESULTS];
    int64_t size[RESULTS]; /* in elements */
} results;

static results make_results(const training_case *t, int64_t itemsize)
{
    const int64_t H = t->H, R = t->P ? t->P : H;
    results r = {
        .size = {t->T * t->B * R, t->B * R, t->B * H, t->T * t->B * t->I, 4 * H * t->I, 4 * H * R, 4 * H, t->P * H}};
    generator = 99;
    for (int n = 0; n < RESULTS; n++) {
        double *numbers = draw(r.size[n], 1);
        r.result[n] = converted(numbers, r.size[n], itemsize);
        free(numbers);
    }
    return r;
}

static void drop_results(results *r)
{
    for (int n = 0; n < RESULTS; n++)
        free(r->result[n]);
}

/* Rows that take step s, and rows of gates before it. */
static int64_t rows_of(const training_case *t, const int64_t *lengths, int64_t s)
{
    int64_t rows = t->B;
    while (lengths && rows > 0 && lengths[rows - 1] <= s)
        rows--;
    return rows;
}
static int64_t rows_until(const training_case *t, const int64_t *lengths, int64_t s)
{
    return s == 0 ? 0 : rows_until(t, lengths, s - 1) + rows_of(t, lengths, s - 1);
}

/* In order, longest first; the last of several rows has no steps. */
static int64_t *descending_lengths(const training_case *t)
{
    int64_t *lengths = take(t->B, sizeof *lengths);
    for (int64_t b = 0; b < t->B; b++)
        lengths[b] = t->T - t->T * b / (t->B > 1 ? t->B - 1 : 1);
    return lengths;
}

static lk_gradients gradients_into(const training_case *t, const results *r, void *const weights[3], const void *d_out)
{
    const int64_t R = t->P ? t->P : t->H;
    lk_gradients g = {t->I, t->H,           t->P,           weights[0], weights[1], weights[2], NULL, 0,
                      0,    r->result[D_H], r->result[D_C], NULL,       0,          0,          0,    NULL,
                      NULL, NULL,           NULL,           NULL,       0,          0,          1};
    if (!t->needed)
        return g;
    g.d_out = d_out, g.d_out_step = t->B * R, g.d_out_row = R;
    g.d_x = r->result[D_X], g.d_x_step = t->B * t->I, g.d_x_row = t->I, g.d_x_add = t->reverse;
    g.d_w_ih = r->result[D_W_IH], g.d_w_hh = r->result[D_W_HH], g.d_bias = r->result[D_BIAS];
    g.d_w_hr = t->P ? r->result[D_W_HR] : NULL;
    return g;
}

/* The weights in one part or several. Of the tape only the number of threads matters. */
static void move_weights(const lk_kernels *kernels, const lk_tape *tape, lk_gradients *gradients, int stage)
{
    void *work = take_work(lk_backward_workspace(kernels, tape, gradients));
    gradients->stages = stage, gradients->parts = (int)(gradients->hidden_size % 3 + 1);
    for (gradients->part = 0; gradients->part < gradients->parts; gradients->part++)
        lk_layer_backward(kernels, tape, gradients, work);
    gradients->stages = LK_STEPS;
    drop_work(work);
}

static results run(const training_case *t, const lk_kernels *kernels, int threads)
{
    const int64_t R = t->P ? t->P : t->H, itemsize = kernels->itemsize;
    results r = make_results(t, itemsize);
    generator = 7;
    plain_layer plain = draw_layer(t->I, t->H, t->P);
    lk_layer layer = pack_layer(&plain, kernels);
    void *weights[] = {converted(plain.w_ih, 4 * t->H * t->I, itemsize), converted(plain.w_hh, 4 * t->H * R, itemsize),
                       t->P ? converted(plain.w_hr, t->P * t->H, itemsize) : NULL};
    double *x = draw(t->T * t->B * t->I, 1), *h_0 = draw(t->B * R, 1), *d_out = draw(t->T * t->B * R, 1);
    void *arrays[] = {converted(x, t->T * t->B * t->I, itemsize), converted(h_0, t->B * R, itemsize),
                      converted(d_out, t->T * t->B * R, itemsize)};
    int64_t *lengths = t->ragged ? descending_lengths(t) : NULL;
    char *c = take((t->T + 1) * t->B * t->H, itemsize),
         *gates = take(rows_until(t, lengths, t->T) * 4 * t->H, itemsize);
    lk_gradients gradients = gradients_into(t, &r, weights, arrays[2]);
    gradients.packed = take_work(lk_packed_bytes(kernels, &gradients));
    lk_tape tape = {t->T,      t->B,          0,        0, lengths, t->reverse, arrays[0], t->B * t->I, t->I,
                    arrays[1], r.result[H_T], t->B * R, R, NULL,    NULL,       threads};
    for (int pass = 0; pass < 2; pass++) {
        if (pass)
            move_weights(kernels, &tape, &gradients, LK_LOAD);
        for (int64_t n = 0; n < t->T; n += t->steps) {
            const int64_t from = pass ? (t->T - 1 - n) / t->steps * t->steps : n;
            tape.first = from, tape.last = from + t->steps < t->T ? from + t->steps : t->T;
            tape.c = c + from * t->B * t->H * itemsize;
            tape.gates = gates + rows_until(t, lengths, from) * 4 * t->H * itemsize;
            void *work = take_work(pass ? lk_backward_workspace(kernels, &tape, &gradients)
                                        : lk_record_workspace(kernels, &layer, &tape));
            if (pass)
                lk_layer_backward(kernels, &tape, &gradients, work);
            else
                lk_layer_record(kernels, &layer, &tape, work);
            drop_work(work);
        }
    }
    move_weights(kernels, &tape, &gradients, LK_STORE);
    void *all[] = {x,          h_0,        d_out,      lengths,   c,         gates,
                   weights[0], weights[1], weights[2], arrays[0], arrays[1], arrays[2]};
    for (size_t n = 0; n < sizeof all / sizeof *all; n++)
        free(all[n]);
    drop_work(gradients.packed);
    drop_packed(&layer);
    drop_layer(&plain);
    return r;
}

static void compare(const results *got, const results *expected, int itemsize, double allowed, const char *what)
{
    for (int n = 0; n < RESULTS; n++)
        for (int64_t i = 0; i < got->size[n]; i++) {
            const double a = get(got->result[n], i, itemsize), b = get(expected->result[n], i, itemsize);
            if (!(fabs(a - b) <= allowed * (1 + fabs(b)))) {
                fprintf(stderr, "%s, result %d [%d]: %.9g, expected %.9g\n", what, n, (int)i, a, b);
                exit(1);
            }
        }
}

static void check(training_case t, int most_threads)
{
    results first[2] = {0};
    snprintf(shape, sizeof shape, "T%d B%d I%d H%d P%d steps%d reverse%d ragged%d needed%d", (int)t.T, (int)t.B,
             (int)t.I, (int)t.H, (int)t.P, (int)t.steps, t.reverse, t.ragged, t.needed);
    for (int i = 0; i < table_count; i++) {
        const int itemsize = (int)tables[i]->itemsize;
        if (!tables[i]->layer_record) /* inference alone */
            continue;
        results one = run(&t, tables[i], 1);
        for (int threads = 2; threads <= most_threads; threads++) {
            results several = run(&t, tables[i], threads);
            compare(&several, &one, itemsize, 0, named("threads", i));
            drop_results(&several);
        }
        if (first[itemsize / 8].result[0]) {
            compare(&one, &first[itemsize / 8], itemsize, itemsize == 4 ? 1e-4 : 1e-11, named("tables", i));
            drop_results(&one);
        } else {
            first[itemsize / 8] = one;
        }
    }
    for (int n = 0; n < 2; n++)
        drop_results(&first[n]);
}

int main(void)
{
    find_tables();
    for (int64_t H = 1; H <= 33; H++)
        check((training_case){5, 1 + H % 7, 1 + H % 9, H, H % 3 ? 0 : (H + 1) / 2, 1 + H % 5, H % 2, H % 4 < 2,
                              H % 5 != 0},
              1);
    for (int64_t B = 1; B <= 13; B++)
        check((training_case){3, B, 65 - B, 40, 0, 3, 0, B % 2, 1}, 1);
    check((training_case){4, 300, 3, 5, 0, 4, 0, 1, 1}, 1); /* more rows than a chunk has */
    /* Large enough for threads to share rows, or units where there are few rows. */
    check((training_case){12, 40, 20, 40, 0, 5, 1, 1, 1}, 3);
    check((training_case){12, 40, 20, 40, 13, 12, 0, 0, 1}, 3);
    check((training_case){5, 400, 3, 12, 0, 5, 0, 1, 1}, 3); /* several pieces of rows for each thread */
    check((training_case){5, 400, 3, 12, 7, 3, 1, 0, 1}, 3);
    check((training_case){8, 2, 130, 150, 0, 8, 1, 1, 1}, 4);
    check((training_case){6, 1, 130, 150, 70, 3, 0, 0, 1}, 3);
    return 0;
}
