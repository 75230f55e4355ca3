/* The worker: a job, load to write, then result.json; where it stays, the next. See roles.h.
**
** No state passes from patient to patient: a Job is made anew, its arenas are unmapped, freed heap
** goes back to the kernel; what is kept (pipeline/kept.h) holds nothing of a patient. */
#include "daemon/roles.h"

#include "base/message.h"
#include "pipeline/job_file.h"

#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

static void report(const RoleReport *r)
{
    if (message_send(ROLE_CHANNEL_FD, r, sizeof *r, NULL, 0) < 0)
        _exit(1); /* the daemon has gone: it will start this job again */
}

static void step_ended(void *context, const char *step, Status status, double seconds,
                       const char *note)
{
    const Job *job = context;
    RoleReport r = {.type = ROLE_STEP,
                    .status = (int32_t)status,
                    .duration_ms = (int64_t)(seconds * 1000.0 + 0.5)};
    (void)snprintf(r.step, sizeof r.step, "%s", step);
    (void)snprintf(r.text, sizeof r.text, "%s", note);
    report(&r);
    if (strcmp(step, "infer") == 0 && job->alert[0] != '\0') {
        r.type = ROLE_ALERT;
        r.status = (int32_t)ST_SELF_TEST;
        (void)snprintf(r.text, sizeof r.text, "%s", job->alert);
        report(&r);
    }
    if (strcmp(step, "infer") == 0 && job->kept.net != NULL) {
        const RoleReport gpus = {.type = ROLE_GPUS, .index = net_gpus()};
        report(&gpus);
    }
}

static Status run(const char *job_file, Kept *kept, Err *err)
{
    JobOptions options;
    PathList images;
    TRY(job_file_read(job_file, &options, &images, err));
    Job job;
    Status status = job_open(&options, &job, err);
    if (status == ST_OK) {
        job.kept = *kept;
        job.stays = true;
        status = pipeline_run(&job, (const char *const *)images.items, images.n, NULL, step_ended,
                              &job, err);
        char path[PATH_SIZE];
        if (status == ST_OK)
            status = path_format(path, err, "%s/result.json", options.out_dir);
        if (status == ST_OK)
            status = job_result_write(path, &job, err);
        *kept = job_take_kept(&job);
        job_close(&job);
    }
    path_list_free(&images);
    return status;
}

/* Waits for the next job's file; false at the end of the channel. */
static bool next_job(char ret_path[PATH_SIZE])
{
    long n = message_receive(ROLE_CHANNEL_FD, ret_path, PATH_SIZE, NULL, NULL);
    return n > 0 && ret_path[n - 1] == '\0';
}

int role_worker(const char *job_file)
{
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)prctl(PR_SET_NAME, "ct2mr-worker");
    struct rlimit none = {0, 0};
    (void)setrlimit(RLIMIT_CORE, &none); /* a core would hold the patient's pixels */
    Kept kept = {0};
    char path[PATH_SIZE];
    bool stays = path_format(path, NULL, "%s", job_file) == ST_OK;
    while (stays) {
        Err err = {0};
        RoleReport end = {.type = ROLE_END, .status = (int32_t)run(path, &kept, &err)};
        /* A failure that may go away by itself may be this process's own. */
        stays = kept.net != NULL && !status_retryable((Status)end.status);
        end.index = stays;
        (void)snprintf(end.text, sizeof end.text, "%s", err.msg);
        (void)malloc_trim(0);
        report(&end);
        stays = stays && next_job(path);
    }
    kept_close(&kept);
    return 0;
}
