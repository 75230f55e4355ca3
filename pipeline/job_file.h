/* A job on its way between processes, as JSON files in the job's folder.
**
** job.json   daemon -> worker: options and the CT files
** result.json worker -> daemon: identity and files of the result; written durably, last
** send.json  daemon -> send child: destination and files
** Both sides are ours, but a file may be damaged: reading checks every field.
** Errors: IO, DISK_FULL; reading also INTERNAL (a field is missing or wrong). Thread: any. */
#ifndef CT2MR_PIPELINE_JOB_FILE_H
#define CT2MR_PIPELINE_JOB_FILE_H

#include "dicom/send.h"
#include "pipeline/pipeline.h"

typedef struct PathList { /* malloc'ed; path_list_free() */
    char **items;
    int32_t n;
} PathList;
void path_list_free(PathList *list);

MUST_CHECK Status job_file_write(const char *path, const JobOptions *options,
                                 const char *const *images, int32_t n, Err *err);
MUST_CHECK Status job_file_read(const char *path, JobOptions *ret, PathList *ret_images, Err *err);

typedef struct JobResult { /* outputs malloc'ed by job_result_read(): the caller frees */
    char model_digest[HEX_SIZE], mr_series_uid[UID_SIZE];
    OutputFile *outputs;
    int32_t n_outputs;
} JobResult;
MUST_CHECK Status job_result_write(const char *path, const Job *job, Err *err);
MUST_CHECK Status job_result_read(const char *path, JobResult *ret, Err *err);

MUST_CHECK Status send_file_write(const char *path, const Destination *destination,
                                  const char *const *images, int32_t n, Err *err);
MUST_CHECK Status send_file_read(const char *path, Destination *ret, PathList *ret_images,
                                 Err *err);

#endif
