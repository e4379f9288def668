/* reference.h - the definition in plain C and double: contiguous arrays, one sum after the other. */
#ifndef TESTS_REFERENCE_H
#define TESTS_REFERENCE_H
#include <math.h>
#include "network.h"

static inline double sigmoid_of(double x) { return 1 / (1 + exp(-x)); }

static inline double activated(int activation, double x)
{
    switch (activation) {
    case LK_TANH: return tanh(x);
    case LK_SIGMOID: return sigmoid_of(x);
    case LK_RELU: return x > 0 ? x : 0;
    default: return x;
    }
}

static inline double dot(const double *a, const double *b, int64_t K)
{
    double sum = 0;
    for (int64_t k = 0; k < K; k++)
        sum += a[k] * b[k];
    return sum;
}

/* The four moves of one unit, on pre-activations of i, f, g, o. Returns h. */
static inline double cell_of(const double z[4], double *c)
{
    *c = sigmoid_of(z[1]) * *c + sigmoid_of(z[0]) * tanh(z[2]);
    return sigmoid_of(z[3]) * tanh(*c);
}

static inline double function_of(const lk_function *f, double x)
{
    switch (f->activation) {
    case LK_AFFINE: return f->alpha * x + f->beta;
    case LK_SCALED_TANH: return f->alpha * tanh(f->beta * x);
    case LK_HARD_SIGMOID: return fmin(1, fmax(0, f->alpha * x + f->beta));
    case LK_LEAKY_RELU: return x < 0 ? f->alpha * x : x;
    case LK_THRESHOLDED_RELU: return x < f->alpha ? 0 : x;
    case LK_ELU: return x < 0 ? f->alpha * expm1(x) : x;
    case LK_SOFTSIGN: return x / (1 + fabs(x));
    case LK_SOFTPLUS: return log1p(exp(x));
    default: return activated((int)f->activation, x);
    }
}

static inline double clipped_to(double most, double x) { return fmin(most, fmax(-most, x)); }

/* The four moves of a variant, with peepholes p of i, f and o. */
static inline double variant_cell_of(const lk_variant *v, const double z[4], const double p[4], double *c)
{
    double i = function_of(&v->gates, clipped_to(v->gate_clip, z[0] + p[0] * *c));
    double f = function_of(&v->gates, clipped_to(v->gate_clip, z[1] + p[1] * *c));
    if (v->coupled == LK_FORGET_COUPLED)
        f = 1 - i;
    if (v->coupled == LK_INPUT_COUPLED)
        i = 1 - f;
    *c = clipped_to(v->cell_clip, f * *c + i * function_of(&v->candidate, clipped_to(v->gate_clip, z[2])));
    return function_of(&v->gates, clipped_to(v->gate_clip, z[3] + p[3] * *c)) * function_of(&v->output, *c);
}

/* One step of one row: h [R] and c [H] become the next. */
static inline void reference_step(const plain_layer *layer, const double *x, double *h, double *c)
{
    const int64_t I = layer->I, H = layer->H, R = layer->R;
    double *hidden = take(H, sizeof *hidden);
    for (int64_t unit = 0; unit < H; unit++) {
        double z[4], p[4] = {0};
        for (int gate = 0; gate < 4; gate++) {
            const int64_t row = gate * H + unit;
            z[gate] = layer->bias[row] + dot(layer->w_ih + row * I, x, I) + dot(layer->w_hh + row * R, h, R);
            if (layer->peephole)
                p[gate] = layer->peephole[row];
        }
        hidden[unit] = layer->is_variant ? variant_cell_of(&layer->variant, z, p, &c[unit]) : cell_of(z, &c[unit]);
    }
    for (int64_t r = 0; r < R; r++)
        h[r] = layer->P ? dot(layer->w_hr + r * H, hidden, H) : hidden[r];
    free(hidden);
}

/* x [T][B][I] to out [T][B][..], of which this direction's R columns begin at out, rows out_row apart. */
static inline void reference_layer(const plain_layer *layer, int64_t T, int64_t B, const double *x,
                                   const int64_t *lengths, int reverse, double *h, double *c, double *out,
                                   int64_t out_row)
{
    for (int64_t b = 0; b < B; b++) {
        const int64_t length = lengths ? lengths[b] : T;
        for (int64_t s = 0; s < length; s++) {
            const int64_t t = reverse ? length - 1 - s : s;
            reference_step(layer, x + (t * B + b) * layer->I, h + b * layer->R, c + b * layer->H);
            memcpy(out + (t * B + b) * out_row, h + b * layer->R, (size_t)layer->R * sizeof *out);
        }
        for (int64_t t = length; t < T; t++)
            memset(out + (t * B + b) * out_row, 0, (size_t)layer->R * sizeof *out);
    }
}

#endif
