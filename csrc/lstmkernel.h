/* lstmkernel.h - the kernel contract.
 *
 * The same kernels, with the same arguments in the same order, exist in NumPy (lstmkernel/backends/numpy/definition.py,
 * the definition), in Numba and here. build.py gives everything below the includes to cffi, so it stays plain C.
 *
 * Dimensions, in every file:
 *   T time steps, B batch rows, I input_size, H hidden_size, P proj_size (0: none),
 *   R = P ? P : H, the width of the hidden state h, and N, a number of independent rows (a batch, or batch x time).
 *
 * Packed weights. A "block" is `lanes` neighbouring units: one vector register of them. The four gates i, f, g, o of a
 * block lie side by side for each input k, so one sweep over k leaves all four gates of a block in registers:
 *   [blocks][K][4][lanes],  blocks = ceil(H / lanes), units past H filled with zero.
 * A dense layer has no gates; its "four gates" are four neighbouring vectors of outputs:
 *   [ceil(O / (4 lanes))][K][4][lanes].
 * Gate pre-activations z use the same order: [N][blocks][4][lanes].
 * Narrow weights are 16-bit floats (IEEE 754 binary16) in place of floats: w_x, w_h and w_r. All else stays float. A
 * weight is widened when it is loaded, which is exact, so the results have the bits that the widened weights give.
 * 8-bit weights are integers from -127 to 127, four neighbours along K side by side, inputs past K zero:
 *   [blocks][ceil(K / 4)][4][lanes][4].
 *
 * One answer. Every pre-activation is summed in one order, whatever the instruction set, batch, or number of threads:
 *   z = bias;  for k in 0..I-1: z = fma(w_ih[k], x[k], z);  for k in 0..R-1: z = fma(w_hh[k], h[k], z)
 * Each fma rounds once. Where H <= 16, and the layer has no variant, the odd k of h have a sum of their own, which
 * begins with 0 and is added last. With 8-bit weights, z is what kernels/quantized.h says. sigmoid, tanh and the cell update are one fixed sequence of IEEE operations
 * (activation.h, cell.h). There are three exceptions:
 *   The "generic" instruction set may lack fma, and then rounds twice.
 *   x86 and Arm treat a result that rounds up to the smallest normal number differently: one of them decides before
 *   rounding whether to flush it, the other one after rounding.
 *   The sign and payload of a NaN are each CPU's own.
 *
 * Python has checked every argument. Kernels own no memory, print nothing and never abort: they return a status. Sizes
 * and strides are in elements of the kernel's dtype, float or double, which the lk_kernels table decides. */
#ifndef LSTMKERNEL_H
#define LSTMKERNEL_H
#include <stdint.h>

/* What a kernel returns. LK_UNUSABLE: no such kernels on this CPU. LK_OVERLAP: out shares memory with x. */
enum { LK_OK = 0, LK_UNUSABLE = 1, LK_OVERLAP = 2 };
/* The first four activations are for dense layers and for variants, the others only for variants; but softmax, which
 * takes a whole row, is for dense layers alone. */
enum { LK_LINEAR = 0, LK_TANH = 1, LK_SIGMOID = 2, LK_RELU = 3 };
enum {
    LK_AFFINE = 4,
    LK_SCALED_TANH = 5,
    LK_HARD_SIGMOID = 6,
    LK_LEAKY_RELU = 7,
    LK_THRESHOLDED_RELU = 8,
    LK_ELU = 9,
    LK_SOFTSIGN = 10,
    LK_SOFTPLUS = 11,
    LK_SOFTMAX = 12
};
/* Coupled gates. LK_FORGET_COUPLED: f = 1 - i. LK_INPUT_COUPLED: i = 1 - f. */
enum { LK_NOT_COUPLED = 0, LK_FORGET_COUPLED = 1, LK_INPUT_COUPLED = 2 };

/* The kernels of one instruction set and dtype; see dispatch.c. */
typedef struct lk_kernels lk_kernels;

/* An activation with its numbers, where it has any. */
typedef struct {
    int64_t activation;
    double alpha, beta;
} lk_function;

/* How a layer's cell differs from the plain LSTM; see variant.h. */
typedef struct {
    lk_function gates, candidate, output;
    double gate_clip, cell_clip; /* INFINITY for none */
    int64_t coupled;
    const void *peephole; /* packed [blocks][4][lanes] of i, f, zeros, o; NULL for none */
} lk_variant;

/* What a layer of 8-bit weights has beside them. For weight_ih, weight_hh and weight_hr:
 *   x, h, r     of each row of the matrix its scale, divided by the largest activation: 32767, or 127
 *   x_offset... -128 times the sum of the weights of a row, part by part; see kernels/quantized.h
 * They are packed as biases are, [blocks][4][lanes] and [blocks][parts][4][lanes]. r and r_offset are NULL where P is 0. */
typedef struct {
    const void *x, *h, *r;
    const int32_t *x_offset, *h_offset, *r_offset;
} lk_scales;

/* One direction of one LSTM layer.
 *   w_x          weight_ih packed [blocks][I][4][lanes]
 *   w_h          weight_hh packed [blocks][R][4][lanes]
 *   bias         bias_ih + bias_hh, packed [blocks][4][lanes]
 *   w_r          weight_hr packed [ceil(P / (4 lanes))][H][4][lanes]; NULL where P is 0
 *   specialised  NULL, or kernels that are used in place of the general ones, and have the same lanes and dtype: for
 *                these sizes (tables/specialised.c; not with a variant), or for narrow weights
 *   variant      NULL for the plain LSTM
 *   scales       NULL, or those of 8-bit weights */
typedef struct {
    int64_t input_size, hidden_size, proj_size;
    const void *w_x, *w_h, *bias, *w_r;
    const lk_kernels *specialised;
    const lk_variant *variant;
    const lk_scales *scales;
} lk_layer;

typedef struct {
    int64_t in_features, out_features;
    int activation;
    const void *w;    /* weight packed [ceil(O / (4 lanes))][K][4][lanes] */
    const void *bias; /* packed [ceil(O / (4 lanes))][4][lanes] */
} lk_dense;

/* Instruction sets, best first: lk_isa_name(0), ... until NULL. */
const char *lk_isa_name(int isa);
/* 1 where this build has the kernels and this CPU and operating system can run them. */
int lk_isa_usable(int isa);
/* weight_size 4: float, 8: double, 2: float with narrow weights, for layers whose `specialised` they are. NULL where the
 * instruction set is not usable, or does not widen narrow weights. */
const lk_kernels *lk_find(int isa, int weight_size);
/* The kernels for 8-bit weights and activations of 16 or 8 bits, for layers whose `specialised` they are, and whose dtype
 * is float. NULL where there are none. Only lk_layer_forward, lk_lstm_forward and what belongs to them take such layers. */
const lk_kernels *lk_find_int8(int isa, int activation_bits);
/* Vector lanes: the block width that the packed weights must have. `kernels`: as lk_find returned it, not NULL. */
int64_t lk_lanes(const lk_kernels *kernels);
/* The file of csrc/tables that has them, without a path. `kernels`: as above. */
const char *lk_source(const lk_kernels *kernels);

/* y[n] = activation(x[n]), n in 0..N-1, contiguous. */
int lk_activation(const lk_kernels *kernels, int activation, int64_t N, const void *x, void *y);

/* z[N][blocks][4][lanes] = x[N][I] W_ih^T + bias; rows of x lie x_row apart. */
int lk_gate_matmul(const lk_kernels *kernels, const lk_layer *layer, int64_t N, const void *x, int64_t x_row, void *z);

/* The cell's moves 1 to 4 on z[N][blocks][4][lanes]: c[N][H] is updated in place, h[N][H] is written. */
int lk_cell_update(const lk_kernels *kernels, int64_t N, int64_t H, const void *z, void *c, void *h);

/* y[N][O] = activation(x[N][K] W^T + bias); rows lie x_row and y_row apart. */
int lk_dense_forward(const lk_kernels *kernels, const lk_dense *dense, int64_t N, const void *x, int64_t x_row, void *y,
                     int64_t y_row);

/* A whole layer over time, one direction.
 *   x       element (t, b, i) at x[t * x_step + b * x_row + i]
 *   lengths NULL, or B row lengths in 0..T in any order
 *   reverse 1: each row runs from its own last step to its first
 *   h, c    [B][R] and [B][H]: the states before the first step; on return, after each row's own last step
 *   out     element (t, b, r) at out[t * out_step + b * out_row + r]; zero past a row's length
 *   work    lk_workspace() bytes, 64-byte aligned, with no meaning between calls */
int lk_layer_forward(const lk_kernels *kernels, const lk_layer *layer, int64_t T, int64_t B, const void *x,
                     int64_t x_step, int64_t x_row, const int64_t *lengths, int reverse, void *h, void *c, void *out,
                     int64_t out_step, int64_t out_row, void *work);
int64_t lk_workspace(const lk_kernels *kernels, const lk_layer *layer, int64_t T, int64_t B);

/* Steps first .. last - 1 of one layer in one direction, as lk_layer_record keeps them for lk_layer_backward. Rows
 * are sorted longest first, so the rows that take a step are always the first ones. Each row counts steps from its
 * own beginning: step s of row b is at time s or, reversed, lengths[b] - 1 - s.
 *   lengths  NULL for T each, or [B], descending
 *   x        element (t, b, i) at x[t * x_step + b * x_row + i]
 *   h_0      [B][R], before step 0
 *   h        element (t, b, r) at h[t * h_step + b * h_row + r]; nothing is written where a row has no step
 *   c        [last - first + 1][B][H]; element n is c before step first + n
 *   gates    [4][H] (i, f, g, o) for every row that takes a step, one step after the other
 *   threads  how many to use at most */
typedef struct {
    int64_t T, B, first, last;
    const int64_t *lengths;
    int reverse;
    const void *x;
    int64_t x_step, x_row;
    const void *h_0;
    void *h;
    int64_t h_step, h_row;
    void *c, *gates;
    int threads;
} lk_tape;

/* The gradients dL/d..., and the parameters as PyTorch has them: w_ih [4H][I], w_hh [4H][R], w_hr [P][H] or NULL. All
 * are contiguous, except along T and B. A gradient that is NULL is zero if it is read, and not needed if it is written.
 *   d_out    element (t, b, r) at d_out[t * d_out_step + b * d_out_row + r]
 *   d_h, d_c [B][R] and [B][H]: of the states after the last step; on return, of the states before the first step, for
 *            rows that take a step
 *   d_x      like x: written or, with d_x_add, added to, where rows have steps
 *   d_w_ih, d_w_hh, d_bias [4H], d_w_hr    added to; either all of them are needed or none
 *   packed   lk_packed_bytes() bytes, 64-byte aligned: weights and their gradients in the kernels' order, from the first
 *            call of a backward pass to the last
 *   stages   what a call does, in this order. LK_LOAD fills `packed`, LK_STORE writes d_w_... from it
 *   part, parts    LK_LOAD and LK_STORE take part 0 .. parts - 1 of the weights in each call */
enum { LK_LOAD = 1, LK_STEPS = 2, LK_STORE = 4 };
typedef struct {
    int64_t input_size, hidden_size, proj_size;
    const void *w_ih, *w_hh, *w_hr;
    const void *d_out;
    int64_t d_out_step, d_out_row;
    void *d_h, *d_c;
    void *d_x;
    int64_t d_x_step, d_x_row;
    int d_x_add;
    void *d_w_ih, *d_w_hh, *d_bias, *d_w_hr;
    void *packed;
    int stages, part, parts;
} lk_gradients;

/* As lk_layer_forward, with bit-identical results. It also keeps everything that lk_layer_backward needs.
 *   work  lk_record_workspace() bytes, 64-byte aligned, with no meaning between calls */
int lk_layer_record(const lk_kernels *kernels, const lk_layer *layer, const lk_tape *tape, void *work);
int64_t lk_record_workspace(const lk_kernels *kernels, const lk_layer *layer, const lk_tape *tape);

/* The backward pass, from the tape's last step to its first. A long one is cut into several calls, with the tape of
 * other steps in each; the weights are loaded before the first of them and stored after the last.
 *   work  lk_backward_workspace() bytes, 64-byte aligned, with no meaning between calls */
int lk_layer_backward(const lk_kernels *kernels, const lk_tape *tape, const lk_gradients *gradients, void *work);
int64_t lk_packed_bytes(const lk_kernels *kernels, const lk_gradients *gradients);
int64_t lk_backward_workspace(const lk_kernels *kernels, const lk_tape *tape, const lk_gradients *gradients);

/* What a call of a whole LSTM needs besides the addresses of arrays. It is made once for each shape of input.
 *   layers       [num_layers][directions]
 *   x_step, ...  as for lk_layer_forward; out holds both directions side by side
 *   state_rows   rows of a layer in h and c; the first B of them are the call's
 *   first, last  0 and T. Only a call of one layer in two directions may take fewer steps: the forward direction takes
 *                times first .. last - 1, the backward direction takes times T - last .. T - first - 1
 *   threads      how many to use at most
 *   reverse      1: the one direction runs from each row's last step to its first, and times count from the end
 *   begins       NULL, or (B,): row b begins at step begins[b] of x and of out, x_row and out_row are not used, and out
 *                is written within each row's length alone. There is no reset then
 *   out_step     0 with begins, one layer and one direction: row b is at out[b * out_row], and has the output of the step
 *                that the layer takes last */
typedef struct {
    const lk_kernels *kernels;
    const lk_layer *layers;
    int64_t num_layers, directions;
    int64_t T, B;
    int64_t x_step, x_row, out_step, out_row;
    int64_t state_rows;
    int64_t first, last;
    int threads, reverse;
    const int64_t *begins;
} lk_call;

/* All layers: h [num_layers * directions][state_rows][R] and c [...][H] are updated, out [T][B][directions * R] is
 * written.
 *   reset    NULL, or [directions][T][B]: where it is not 0, a row's h and c become 0 before that direction takes that
 *            step
 *   between  room for [T][B][directions * R], used where there are two directions and several layers
 *   work     lk_lstm_workspace() bytes, 64-byte aligned, with no meaning between calls
 * No array may overlap another. */
int lk_lstm_forward(const lk_call *call, const void *x, const int64_t *lengths, const uint8_t *reset, void *h, void *c,
                    void *out, void *between, void *work);
int64_t lk_lstm_workspace(const lk_call *call);

/* How a call is run.
 *   way           LK_ONE_THREAD: layer after layer
 *                 LK_TASKS: each layer, direction and group of rows is a task, and any thread takes a task's next steps
 *                 LK_TEAMS: the threads share the units of a layer; where there are two directions, each has a team
 *   threads       how many take part, at most
 *   rows, steps   of a task, and of what a thread takes of it at once
 *   ns, alone_ns  predicted nanoseconds of this way, and of one thread */
enum { LK_ONE_THREAD, LK_TASKS, LK_TEAMS };
typedef struct {
    int way, threads;
    int64_t rows, steps;
    double ns, alone_ns;
} lk_plan;

/* Bytes of weights that stay in the cache of one core, and in the one that cores share. */
typedef struct {
    int64_t own, shared;
} lk_caches;

/* The way that lk_lstm_forward takes; with other caches, the one that it would take there. NULL: this machine's. *plan is
 * written. */
void lk_lstm_plan(const lk_call *call, const lk_caches *caches, lk_plan *plan);

/* T steps of B rows in one direction. Their states may be any rows of h [num_layers][state_rows][R] and c [...][H].
 *   from, to    the row of h and c where each row's states are read, and the row where they are written. All these
 *               numbers differ */
typedef struct {
    lk_call call;
    const int64_t *from, *to;
    void *h, *c, *work;
} lk_stream;

/* x [T][B][I], out [T][B][R], contiguous. If they overlap, it returns LK_OVERLAP and writes nothing. */
int lk_advance(const lk_stream *stream, const void *x, void *out);

#endif
