/* training.c - layer_record and layer_backward on one thread or several. */
#include <stddef.h>
#include "kernels/sizes.h"
#include "run/dispatch.h"
#include "run/float_control.h"
#include "run/plan.h"

/* layer is for layer_record, gradients are for layer_backward. The other one is NULL. */
typedef struct {
    const lk_kernels *kernels;
    const lk_layer *layer;
    const lk_tape *tape;
    const lk_gradients *gradients;
    void *work;
    int by_units;
    int pieces; /* of a thread's share of a phase */
} training_job;

/* A piece of a share of rows has PIECE_ROWS or more. There are several, because rows are sorted, longest first: equal
 * shares of them are unequal work. */
enum { PIECE_ROWS = 64, MOST_ROW_PIECES = 8 };

static int pieces_of(const lk_tape *tape, lk_training_plan plan)
{
    if (plan.by_units)
        return lk_pieces(plan.ns / (double)(2 * (tape->last - tape->first)));
    return (int)larger(1, smaller(MOST_ROW_PIECES, tape->B / (plan.threads * PIECE_ROWS)));
}

static void run_kernel(const training_job *job, lk_team *team)
{
    if (job->gradients)
        job->kernels->layer_backward(job->tape, job->gradients, job->by_units, team, job->work);
    else
        job->kernels->layer_record(job->layer, job->tape, job->by_units, team, job->work);
}

static void run_share(void *job, int rank, int size)
{
    lk_team team = lk_join_team(0, size, rank, rank);
    team.pieces = ((const training_job *)job)->pieces;
    run_kernel(job, &team);
    if (rank == 0)
        lk_end_meetings();
}

static void run_alone(training_job *job)
{
    lk_team alone = {.size = 1};
    run_kernel(job, &alone);
}

static int run(training_job *job, int64_t I, int64_t H, int64_t R)
{
    const lk_tape *tape = job->tape;
    const lk_training_plan plan = lk_plan_training(job->kernels, tape, I, H, R);
    job->by_units = plan.by_units;
    job->pieces = pieces_of(tape, plan);
    const lk_float_control callers = lk_enter_kernel();
    if (plan.threads <= 1 || !lk_run(plan.threads, run_share, job))
        run_alone(job);
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

int64_t lk_packed_bytes(const lk_kernels *kernels, const lk_gradients *gradients)
{
    return kernels->packed_bytes(gradients);
}

int64_t lk_backward_workspace(const lk_kernels *kernels, const lk_tape *tape, const lk_gradients *gradients)
{
    return kernels->backward_workspace(tape, gradients);
}
