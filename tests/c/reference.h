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

/* One step of one row: h [R] and c [H] become the next. */
static inline void reference_step(const plain_layer *layer, const double *x, double *h, double *c)
{
    const int64_t I = layer->I, H = layer->H, R = layer->R;
    double *hidden = take(H, sizeof *hidden);
    for (int64_t unit = 0; unit < H; unit++) {
        double z[4];
        for (int gate = 0; gate < 4; gate++) {
            const int64_t row = gate * H + unit;
            z[gate] = layer->bias[row] + dot(layer->w_ih + row * I, x, I) + dot(layer->w_hh + row * R, h, R);
        }
        hidden[unit] = cell_of(z, &c[unit]);
    }
    for (int64_t r = 0; r < R; r++)
        h[r] = layer->P ? dot(layer->w_hr + r * H, hidden, H) : hidden[r];
    free(hidden);
}

/* x [T][B][I] to out [T][B][..], of which this direction's R columns begin at out, rows out_row apart. */
static inline void reference_layer(const plain_layer *layer, int64_t T, int64_t B, const double *x, const int64_t *lengths,
                                   int reverse, double *h, double *c, double *out, int64_t out_row)
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
