/* example.h - an LSTM with its input and what must come out, and the arrays of a call to it. */
#ifndef TESTS_EXAMPLE_H
#define TESTS_EXAMPLE_H
#include "reference.h"
#include "tables.h"
#include "caller_arrays.h"

enum { MOST_LAYERS = 3 };

/* A call to an LSTM, and what must come out. */
typedef struct {
    int64_t T, B, I, H, P, L, D;
    int ragged, reverse; /* reverse: of one direction */
} sizes;

typedef struct {
    sizes s;
    int64_t R;
    plain_layer layers[2 * MOST_LAYERS];
    int64_t *lengths;
    double *x, *h_0, *c_0, *h_1, *c_1, *out;
} example;

static inline double *copy_of(const double *numbers, int64_t count)
{
    return memcpy(take(count, sizeof *numbers), numbers, (size_t)count * sizeof *numbers);
}

enum { PLAIN = -1 };

/* variant: which one, of network.h, or PLAIN. */
static inline example make_example(sizes s, int64_t variant)
{
    const int64_t R = s.P ? s.P : s.H, states = s.L * s.D;
    example e = {.s = s, .R = R, .lengths = s.ragged ? draw_lengths(s.T, s.B) : NULL, .x = draw(s.T * s.B * s.I, 2)};
    e.h_0 = draw(states * s.B * R, 1);
    e.c_0 = draw(states * s.B * s.H, 2);
    e.h_1 = copy_of(e.h_0, states * s.B * R);
    e.c_1 = copy_of(e.c_0, states * s.B * s.H);
    double *in = copy_of(e.x, s.T * s.B * s.I);
    for (int64_t n = 0; n < states; n++) {
        e.layers[n] = draw_layer(n < s.D ? s.I : s.D * R, s.H, s.P);
        if (variant != PLAIN)
            make_variant(&e.layers[n], variant + n);
        if (n % s.D == 0)
            e.out = take(s.T * s.B * s.D * R, sizeof *e.out);
        reference_layer(&e.layers[n], s.T, s.B, in, e.lengths, s.reverse || n % s.D, e.h_1 + n * s.B * R,
                        e.c_1 + n * s.B * s.H, e.out + n % s.D * R, s.D * R);
        if (n % s.D == s.D - 1) {
            free(in);
            in = e.out;
        }
    }
    snprintf(shape, sizeof shape, "T%d B%d I%d H%d P%d L%d D%d ragged%d reverse%d variant%d", (int)s.T, (int)s.B,
             (int)s.I, (int)s.H, (int)s.P, (int)s.L, (int)s.D, s.ragged, s.reverse, (int)variant);
    return e;
}

static inline void drop_example(example *e)
{
    for (int64_t n = 0; n < e->s.L * e->s.D; n++)
        drop_layer(&e->layers[n]);
    void *all[] = {e->lengths, e->x, e->h_0, e->c_0, e->h_1, e->c_1, e->out};
    for (int n = 0; n < 7; n++)
        free(all[n]);
}

/* The arrays of a call: x and out with gaps, states in `state_rows` rows a layer, of which the call's are the first. */
typedef struct {
    window x, h, c, out;
} buffers;

static inline buffers open_buffers(const example *e, int64_t gap, int batch_first, int64_t state_rows, int64_t itemsize)
{
    const sizes *s = &e->s;
    buffers b = {open_window(s->T, s->B, s->I, gap, batch_first, itemsize),
                 {0},
                 {0},
                 open_window(s->T, s->B, s->D * e->R, gap, batch_first, itemsize)};
    b.h = (window){s->L * s->D, s->B, e->R, state_rows * e->R, e->R, itemsize, NULL};
    b.c = (window){s->L * s->D, s->B, s->H, state_rows * s->H, s->H, itemsize, NULL};
    for (window *w = &b.h; w; w = w == &b.h ? &b.c : NULL) {
        w->memory = take(reals_of(w), itemsize);
        memset(w->memory, 0xff, (size_t)(reals_of(w) * itemsize));
    }
    fill_window(&b.x, e->x);
    fill_window(&b.h, e->h_0);
    fill_window(&b.c, e->c_0);
    return b;
}

static inline void close_buffers(buffers *b, const example *e, int table)
{
    close_window(&b->out, e->out, named("out", table));
    close_window(&b->h, e->h_1, named("h", table));
    close_window(&b->c, e->c_1, named("c", table));
    close_window(&b->x, e->x, named("x", table));
}

#endif
