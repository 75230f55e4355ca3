/* The worker: one job, load to write, then result.json. See roles.h. */
#include "daemon/roles.h"

#include "base/message.h"
#include "pipeline/job_file.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

static void report(RoleReportType type, const char *step, Status status, double seconds,
                   const char *text)
{
    RoleReport r = {
        .type = type, .status = (int32_t)status, .duration_ms = (int64_t)(seconds * 1000.0 + 0.5)};
    (void)snprintf(r.step, sizeof r.step, "%s", step);
    (void)snprintf(r.text, sizeof r.text, "%s", text);
    if (message_send(ROLE_CHANNEL_FD, &r, sizeof r, NULL, 0) < 0)
        _exit(1); /* the daemon has gone: it will start this job again */
}

static void step_ended(void *context, const char *step, Status status, double seconds,
                       const char *note)
{
    (void)context;
    report(ROLE_STEP, step, status, seconds, note);
}

static Status run(const char *job_file, Err *err)
{
    JobOptions options;
    PathList images;
    TRY(job_file_read(job_file, &options, &images, err));
    Job job;
    Status status = job_open(&options, &job, err);
    if (status == ST_OK) {
        status = pipeline_run(&job, (const char *const *)images.items, images.n, NULL, step_ended,
                              NULL, err);
        char path[PATH_SIZE];
        if (status == ST_OK)
            status = path_format(path, err, "%s/result.json", options.out_dir);
        if (status == ST_OK)
            status = job_result_write(path, &job, err);
        job_close(&job);
    }
    path_list_free(&images);
    return status;
}

int role_worker(const char *job_file)
{
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)prctl(PR_SET_NAME, "ct2mr-worker");
    struct rlimit none = {0, 0};
    (void)setrlimit(RLIMIT_CORE, &none); /* a core would hold the patient's pixels */
    Err err = {0};
    Status status = run(job_file, &err);
    report(ROLE_END, "", status, 0, err.msg);
    return 0;
}
