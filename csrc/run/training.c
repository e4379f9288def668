/* training.c - layer_record and layer_backward on one thread or several. */
#include <stddef.h>
#include "run/dispatch.h"
#include "run/float_control.h"

enum {
    ALONE_NS = 50000,      /* of work in a call, up to where one thread does it, */
    ALONE_STEP_NS = 1500,  /* and in a step, where threads would share units and meet in each */
    OWN_ROWS = 3,          /* a thread's rows, at least, for rows to be shared out; */
    FAR_BYTES = 3 << 19    /* but not where W_hh is more: each thread would read all of it from far away */
};

typedef struct {
    const lk_kernels *kernels;
    const lk_layer *layer; /* of layer_record */
    const lk_tape *tape;
    const lk_gradients *gradients; /* of layer_backward */
    void *work;
    lk_barrier barrier;
    int by_units;
} training_job;

static void run_part(void *job_, int rank, int size)
{
    training_job *job = job_;
    const lk_team team = {rank, size, job->by_units && size > 1, &job->barrier, lk_meet};
    if (job->gradients)
        job->kernels->layer_backward(job->tape, job->gradients, &team, job->work);
    else
        job->kernels->layer_record(job->layer, job->tape, &team, job->work);
}

/* Roughly, from the products of forward at 50 GFLOP/s. */
static int run(training_job *job, int64_t I, int64_t H, int64_t R)
{
    const lk_tape *tape = job->tape;
    const int64_t w_hh_bytes = 4 * H * R * job->kernels->itemsize, step_ns = tape->B * 8 * H * (I + R) / 50;
    int threads = tape->threads;
    job->by_units = w_hh_bytes > FAR_BYTES || tape->B < (int64_t)OWN_ROWS * threads;
    if (step_ns * (tape->last - tape->first) < ALONE_NS || (job->by_units && step_ns < ALONE_STEP_NS))
        threads = 1;
    const lk_float_control callers = lk_enter_kernel();
    lk_run(threads, run_part, job);
    lk_leave_kernel(callers);
    return LK_OK;
}

int lk_layer_record(const lk_kernels *kernels, const lk_layer *layer, const lk_tape *tape, void *work)
{
    if (!kernels)
        return LK_UNUSABLE;
    training_job job = {.kernels = kernels, .layer = layer, .tape = tape, .work = work};
    return run(&job, layer->input_size, layer->hidden_size, layer->proj_size ? layer->proj_size : layer->hidden_size);
}

int lk_layer_backward(const lk_kernels *kernels, const lk_tape *tape, const lk_gradients *gradients, void *work)
{
    if (!kernels)
        return LK_UNUSABLE;
    training_job job = {.kernels = kernels, .tape = tape, .gradients = gradients, .work = work};
    const int64_t R = gradients->proj_size ? gradients->proj_size : gradients->hidden_size;
    return run(&job, gradients->input_size, gradients->hidden_size, R);
}

int64_t lk_record_workspace(const lk_kernels *kernels, const lk_layer *layer, const lk_tape *tape)
{
    return kernels->record_workspace(layer, tape);
}

int64_t lk_backward_workspace(const lk_kernels *kernels, const lk_tape *tape, const lk_gradients *gradients)
{
    return kernels->backward_workspace(tape, gradients);
}
