/* The step table and the runner. See pipeline.h. */
#include "pipeline/pipeline.h"

#include "base/clock.h"
#include "pipeline/steps.h"

#include <string.h>

const Step pipeline_steps[] = {
    {"load", "decode, order, gate geometry, slices and the model's envelope", step_load},
    {"align", "affine registration of the CT to the reference head", step_align},
    {"mask", "head without couch and holder, by watershed", step_mask},
    {"gate", "the whole head, in Hounsfield units?", step_gate},
    {"window", "onto the model's grid, ready for the HU window", step_window},
    {"infer", "HU window, normalisation, network", step_infer},
    {"restore", "back onto the CT's own grid, mask applied", step_restore},
    {"check", "finite, range, geometry, continuity between slices", step_check},
    {"write", "MR Image instances and the QA picture", step_write},
    {NULL, NULL, NULL},
};

Status job_open(const JobOptions *options, Job *ret, Err *err)
{
    memset(ret, 0, sizeof *ret);
    ret->options = *options;
    size_t limit_bytes = (size_t)options->memory_mib << 20;
    TRY(arena_open(limit_bytes, &ret->arena, err));
    Status status = arena_open(limit_bytes, &ret->scratch, err);
    if (status != ST_OK)
        arena_close(&ret->arena);
    return status;
}

void job_close(Job *job)
{
    kept_close(&job->kept);
    job->model = NULL;
    arena_close(&job->scratch);
    arena_close(&job->arena);
}

Kept job_take_kept(Job *job)
{
    Kept kept = job->kept;
    job->kept = (Kept){0};
    return kept;
}

static void report_step(StepReport report, void *context, const char *step, Status status,
                        double start_s, const Job *job, const Err *err)
{
    if (report != NULL)
        report(context, step, status, clock_monotonic_s() - start_s,
               status == ST_OK ? job->note : err->msg);
}

static Status run_steps(Job *job, const char *last, double start_s, StepReport report,
                        void *context, Err *err)
{
    for (const Step *step = pipeline_steps; step->name != NULL; step++) {
        job->note[0] = '\0';
        Status status = step->run(job, err);
        arena_reset(&job->scratch, 0);
        report_step(report, context, step->name, status, start_s, job, err);
        if (status != ST_OK)
            return status;
        if (last != NULL && strcmp(step->name, last) == 0)
            return ST_OK;
        start_s = clock_monotonic_s();
    }
    return ST_OK;
}

Status pipeline_run(Job *job, const char *const *paths, int32_t n, const char *last,
                    StepReport report, void *context, Err *err)
{
    double start_s = clock_monotonic_s();
    Err local = {0};
    Err *e = err != NULL ? err : &local;
    Status status = load_series(paths, n, &job->options.geometry, job->options.threads, &job->arena,
                                &job->series, e);
    if (status != ST_OK) {
        report_step(report, context, "load", status, start_s, job, e);
        return status;
    }
    return run_steps(job, last, start_s, report, context, e);
}

Status pipeline_run_dir(Job *job, const char *dir, const char *last, StepReport report,
                        void *context, Err *err)
{
    double start_s = clock_monotonic_s();
    Err local = {0};
    Err *e = err != NULL ? err : &local;
    Status status = load_series_dir(dir, &job->options.geometry, job->options.threads, &job->arena,
                                    &job->series, e);
    if (status != ST_OK) {
        report_step(report, context, "load", status, start_s, job, e);
        return status;
    }
    return run_steps(job, last, start_s, report, context, e);
}
