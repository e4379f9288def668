/* network.h - what the programs of this directory share: numbers that are the same on every machine, arrays of either
 * dtype, each of exactly its size, and layers drawn in double, then packed for the lanes of any kernels.
 *
 * All numbers are multiples of a power of two, exact in float, and matrices are exact in 16 bits, so that one network has
 * one reference. */
#ifndef TESTS_NETWORK_H
#define TESTS_NETWORK_H
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "run/dispatch.h"

static uint32_t generator;

/* In -1..1, exact in both dtypes. */
static inline double next_number(void)
{
    generator = generator * 1664525u + 1013904223u;
    return ((int32_t)generator >> 9) / 4194304.0;
}

/* Zeros. */
static inline void *take(int64_t count, int64_t size)
{
    void *memory = calloc((size_t)count, (size_t)size);
    if (!memory && count * size > 0)
        abort();
    return memory;
}

#ifdef _WIN32 /* what it aligns, free does not take */
#include <malloc.h>
#define aligned_alloc(alignment, bytes) _aligned_malloc(bytes, alignment)
static inline void drop_work(void *work) { _aligned_free(work); }
#else
static inline void drop_work(void *work) { free(work); }
#endif

/* A workspace, of NaNs: what is in it must not matter. */
static inline void *take_work(int64_t bytes)
{
    bytes = (bytes + 63) / 64 * 64; /* C11 aligns no other sizes */
    void *memory = aligned_alloc(64, (size_t)bytes);
    if (!memory && bytes > 0)
        abort();
    return memset(memory, 0xff, (size_t)bytes);
}

/* A 16-bit float, of a number that is exact in it. */
static inline uint16_t half_of(double number)
{
    const int sign = number < 0 ? 0x8000 : 0;
    const double magnitude = fabs(number);
    int exponent;
    if (magnitude < 0x1p-14) /* a denormal one */
        return (uint16_t)(sign | (int)(magnitude * 0x1p24));
    const double fraction = frexp(magnitude, &exponent); /* in 0.5 .. 1 */
    return (uint16_t)(sign | ((exponent + 14) << 10) | (int)((2 * fraction - 1) * 1024));
}

static inline double get(const void *array, int64_t place, int64_t itemsize)
{
    return itemsize == 4 ? ((const float *)array)[place] : ((const double *)array)[place];
}

static inline void put(void *array, int64_t place, double value, int64_t itemsize)
{
    if (itemsize == 2)
        ((uint16_t *)array)[place] = half_of(value);
    else if (itemsize == 4)
        ((float *)array)[place] = (float)value;
    else
        ((double *)array)[place] = value;
}

static inline double *draw(int64_t count, double scale)
{
    double *numbers = take(count, sizeof *numbers);
    for (int64_t n = 0; n < count; n++)
        numbers[n] = scale * next_number();
    return numbers;
}

/* Of a matrix, with 11 bits. Some are denormal in 16 bits. */
static inline double *draw_matrix(int64_t count, double scale)
{
    double *numbers = draw(count, 1);
    for (int64_t n = 0; n < count; n++)
        numbers[n] = scale * (double)(int)(numbers[n] * 1024) / 1024;
    return numbers;
}

/* In the kernels' dtype. */
static inline void *converted(const double *numbers, int64_t count, int64_t itemsize)
{
    void *array = take(count, itemsize);
    for (int64_t n = 0; n < count; n++)
        put(array, n, numbers[n], itemsize);
    return array;
}

static inline int64_t *draw_lengths(int64_t T, int64_t B)
{
    int64_t *lengths = take(B, sizeof *lengths);
    for (int64_t b = 0; b < B; b++)
        lengths[b] = (b * 5 + 2) % (T + 1);
    return lengths;
}

/* The power of two that keeps sums of `terms` about 1. */
static inline double scale_for(int64_t terms)
{
    double scale = 1;
    while (scale * scale * (double)terms > 2)
        scale /= 2;
    return scale;
}

/* One layer and direction, not packed: w_ih [4][H][I], w_hh [4][H][R], bias [4][H], w_hr [P][H]; of a layer with a
 * variant peephole [4][H], whose part of g is never to be read, or NULL. */
typedef struct {
    int64_t I, H, P, R;
    double *w_ih, *w_hh, *bias, *w_hr, *peephole;
    int is_variant;
    lk_variant variant; /* without its peephole */
} plain_layer;

static inline plain_layer draw_layer(int64_t I, int64_t H, int64_t P)
{
    plain_layer layer = {.I = I, .H = H, .P = P, .R = P ? P : H};
    layer.w_ih = draw_matrix(4 * H * I, scale_for(I));
    layer.w_hh = draw_matrix(4 * H * layer.R, scale_for(layer.R));
    layer.bias = draw(4 * H, 1);
    layer.w_hr = P ? draw_matrix(P * H, scale_for(H)) : NULL;
    return layer;
}

/* Make it the n-th of the variants: every activation and coupling, with and without the rest. */
static inline void make_variant(plain_layer *layer, int64_t n)
{
    layer->is_variant = 1;
    layer->peephole = n % 4 ? draw(4 * layer->H, 1) : NULL;
    layer->variant = (lk_variant){.gates = {n % 5 ? LK_SIGMOID : LK_HARD_SIGMOID, 0.25, 0.5},
                                  .candidate = {n % 12, 0.25, 0.5},
                                  .output = {(n + 5) % 12, 0.75, 0.25},
                                  .gate_clip = n % 2 ? 0.5 : INFINITY,
                                  .cell_clip = n % 7 < 3 ? 0.75 : INFINITY,
                                  .coupled = n % 3};
}

static inline void drop_layer(plain_layer *layer)
{
    free(layer->w_ih);
    free(layer->w_hh);
    free(layer->bias);
    free(layer->w_hr);
    free(layer->peephole);
}

/* [4][H][K] as [blocks][K][4][lanes], of numbers of `size` bytes. */
static inline void *pack_gates(const double *w, int64_t H, int64_t K, const lk_kernels *kernels, int64_t size)
{
    const int64_t lanes = kernels->lanes, blocks = (H + lanes - 1) / lanes;
    void *packed = take(blocks * K * 4 * lanes, size);
    for (int64_t gate = 0; gate < 4; gate++)
        for (int64_t unit = 0; unit < H; unit++)
            for (int64_t k = 0; k < K; k++)
                put(packed, ((unit / lanes * K + k) * 4 + gate) * lanes + unit % lanes, w[(gate * H + unit) * K + k],
                    size);
    return packed;
}

/* [O][K] as [ceil(O / (4 lanes))][K][4][lanes], of numbers of `size` bytes. */
static inline void *pack_rows(const double *w, int64_t O, int64_t K, const lk_kernels *kernels, int64_t size)
{
    const int64_t block_size = 4 * kernels->lanes, blocks = (O + block_size - 1) / block_size;
    void *packed = take(blocks * K * block_size, size);
    for (int64_t o = 0; o < O; o++)
        for (int64_t k = 0; k < K; k++)
            put(packed, (o / block_size * K + k) * block_size + o % block_size, w[o * K + k], size);
    return packed;
}

/* Where a row of a matrix lies in its packed form: a row of a gate, or, where H is 0, of a matrix without gates. */
static inline int64_t packed_row(int64_t row, int64_t H, int64_t lanes, int64_t *block)
{
    const int64_t unit = H ? row % H : row, width = H ? lanes : 4 * lanes;
    *block = unit / width;
    return (H ? row / H * lanes : 0) + unit % width;
}

/* [rows][K] as 8-bit weights, the largest of them 127; H as for packed_row. *scale and *offset are those of lk_scales. */
static inline void *pack_int8(const double *w, int64_t rows, int64_t K, int64_t H, const lk_kernels *kernels,
                              const void **scale, const int32_t **offset)
{
    const int64_t lanes = kernels->lanes, size = 4 * lanes, groups = (K + 3) / 4;
    const int64_t blocks = H ? (H + lanes - 1) / lanes : (rows + size - 1) / size;
    const int64_t part = kernels->activation_bits == 16 ? 512 : 1 << 17, parts = (K + part - 1) / part;
    const double levels = kernels->activation_bits == 16 ? 32767 : 127;
    int8_t *packed = take(blocks * groups * size * 4, 1);
    float *scales = take(blocks * size, sizeof *scales);
    int32_t *offsets = take(blocks * parts * size, sizeof *offsets);
    double largest = 0;
    for (int64_t n = 0; n < rows * K; n++)
        largest = fmax(largest, fabs(w[n]));
    for (int64_t row = 0; row < rows; row++) {
        int64_t block;
        const int64_t place = packed_row(row, H, lanes, &block);
        scales[block * size + place] = (float)(largest / 127 / levels);
        for (int64_t k = 0; k < K; k++) {
            const int8_t q = (int8_t)(largest > 0 ? w[row * K + k] / largest * 127 : 0);
            packed[((block * groups + k / 4) * size + place) * 4 + k % 4] = q;
            offsets[(block * parts + k / part) * size + place] -= 128 * q;
        }
    }
    *scale = scales;
    *offset = offsets;
    return packed;
}

static inline lk_layer pack_int8_layer(const plain_layer *layer, const lk_kernels *kernels)
{
    const int64_t H = layer->H;
    lk_scales *s = take(1, sizeof *s);
    const void *w_x = pack_int8(layer->w_ih, 4 * H, layer->I, H, kernels, &s->x, &s->x_offset);
    const void *w_h = pack_int8(layer->w_hh, 4 * H, layer->R, H, kernels, &s->h, &s->h_offset);
    const void *w_r = layer->P ? pack_int8(layer->w_hr, layer->P, H, 0, kernels, &s->r, &s->r_offset) : NULL;
    void *bias = pack_gates(layer->bias, H, 1, kernels, kernels->itemsize);
    return (lk_layer){layer->I, H, layer->P, w_x, w_h, bias, w_r, NULL, NULL, s};
}

static inline lk_layer pack_layer(const plain_layer *layer, const lk_kernels *kernels)
{
    if (kernels->activation_bits)
        return pack_int8_layer(layer, kernels);
    const int64_t I = layer->I, H = layer->H, P = layer->P, size = kernels->itemsize, of_weight = kernels->weight_size;
    lk_variant *variant = NULL;
    if (layer->is_variant) {
        variant = take(1, sizeof *variant);
        *variant = layer->variant;
        variant->peephole = layer->peephole ? pack_gates(layer->peephole, H, 1, kernels, size) : NULL;
    }
    return (lk_layer){I,
                      H,
                      P,
                      pack_gates(layer->w_ih, H, I, kernels, of_weight),
                      pack_gates(layer->w_hh, H, layer->R, kernels, of_weight),
                      pack_gates(layer->bias, H, 1, kernels, size),
                      P ? pack_rows(layer->w_hr, P, H, kernels, of_weight) : NULL,
                      NULL,
                      variant,
                      NULL};
}

static inline void drop_packed(const lk_layer *layer)
{
    const void *peephole = layer->variant ? layer->variant->peephole : NULL;
    const lk_scales none = {0}, *s = layer->scales ? layer->scales : &none;
    const void *arrays[] = {layer->w_x, layer->w_h, layer->bias, layer->w_r,  peephole,    layer->variant, s->x,
                            s->h,       s->r,       s->x_offset, s->h_offset, s->r_offset, layer->scales};
    for (size_t n = 0; n < sizeof arrays / sizeof *arrays; n++)
        free((void *)arrays[n]);
}

#endif
