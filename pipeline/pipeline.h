/* The pipeline: one job, its steps in one table, the runner. Read this file first.
**
**   load -> align -> mask -> window -> infer -> restore -> check -> write
**
** Each step reads fields of the Job that earlier steps filled and fills its own; it never calls
** back. The daemon's worker and `ct2mr run` run this same table, so the same input gives the same
** bits. Results live in the job's arena; temporaries in scratch, which is reset after every step.
** Thread: a Job belongs to one thread; steps use their own threads inside. */
#ifndef CT2MR_PIPELINE_PIPELINE_H
#define CT2MR_PIPELINE_PIPELINE_H

#include "base/arena.h"
#include "base/files.h"
#include "gpu/net.h"
#include "pipeline/kept.h"
#include "pipeline/load.h"
#include "pipeline/mask.h"
#include "pipeline/window.h"
#include "registration/register.h"

#include <stdint.h>

/* What a job is to do. Plain values: it travels as JSON from the daemon to a worker (job_file.h).
 */
typedef struct JobOptions {
    char model_path[1024], backend[32], precision[32], reference_path[1024];
    int32_t batch, threads; /* threads 0: all processors */
    int32_t winograd_mib;   /* NetOptions */
    int32_t device;         /* which GPU, where one is used */
    bool envelope_refuse;   /* false: a breach of the model's envelope is noted only */
    bool synthetic_data;    /* write (0008,001C) */
    int32_t series_number_offset, memory_mib, slice_jump_percent;
    GeometryLimits geometry;
    char out_dir[PATH_SIZE]; /* must exist; gets MR0001.dcm ..., qa.png */
} JobOptions;

/* What the check step measured; the gate's limits are in check.c. */
typedef struct CheckResult {
    double inside_mean; /* mean intensity inside the mask, 0..1 */
    double inside_sd;
    double continuity_max; /* largest excess of a slice's jump over its neighbours', 0..1 */
    int32_t continuity_at; /* the slice after that jump */
} CheckResult;

typedef struct OutputFile {
    char file[FILE_NAME_SIZE], sop_uid[UID_SIZE];
} OutputFile;

typedef struct Job {
    JobOptions options;
    Arena arena, scratch;
    Kept kept;  /* may come from the job before, see job_take_kept() */
    bool stays; /* the network is to be kept */

    /* load */
    CtSeries series;
    Model *model;            /* kept's */
    const ModelInfo *wanted; /* what the slices are made for: the model's, or a model's to come */
    VolumeI16 reference;
    char reference_digest[HEX_SIZE];
    /* align: identity for a model trained in the scanner's pose, where registration only gates */
    RegResult registration;
    Affine ref_from_ct;
    /* mask, on the CT's grid */
    VolumeU8 mask;
    MaskResult mask_result;
    /* window: HU and mask on the model's grid; its slices are the network's input slices */
    VolumeI16 model_hu;
    VolumeU8 model_mask;
    Window window;
    Affine model_from_ct; /* LPS mm of the CT -> mm of the model grid's space */
    /* infer: 0..1 on the model's grid */
    VolumeF32 model_mr;
    /* restore: 0..1 on the CT's grid */
    VolumeF32 mr;
    /* check */
    CheckResult check;
    /* write */
    char recipe[512], mr_series_uid[UID_SIZE];
    OutputFile *outputs; /* [n_slices] */

    char alert[ERR_MSG_SIZE];     /* infer: why a backend is out of service, "" if none is */
    char note[ERR_MSG_SIZE + 32]; /* what the last step wants said in its event, "" if nothing */
} Job;

/* Called after each step. */
typedef void (*StepReport)(void *context, const char *step, Status status, double seconds,
                           const char *note);

typedef struct Step {
    const char *name, *purpose;
    Status (*run)(Job *job, Err *err);
} Step;

extern const Step pipeline_steps[]; /* ends with name == NULL */

/* Opens the arenas. */
MUST_CHECK Status job_open(const JobOptions *options, Job *ret, Err *err);
void job_close(Job *job); /* accepts a zeroed Job */
/* What stays for the next job, which is given it in job.kept; before job_close(). */
Kept job_take_kept(Job *job);

/* Runs load on paths[0..n), then the steps up to and including `last` (NULL: all). Stops at the
** first failure, whose error it returns. */
MUST_CHECK Status pipeline_run(Job *job, const char *const *paths, int32_t n, const char *last,
                               StepReport report, void *context, Err *err);
/* The same for all DICOM files of a folder. */
MUST_CHECK Status pipeline_run_dir(Job *job, const char *dir, const char *last, StepReport report,
                                   void *context, Err *err);

#endif
