/* From configuration to a job's options: the one place, so that `ct2mr run -c` and the daemon
** agree. Thread: pure. */
#ifndef CT2MR_DAEMON_JOB_OPTIONS_H
#define CT2MR_DAEMON_JOB_OPTIONS_H

#include "daemon/config.h"
#include "pipeline/pipeline.h"

/* Errors: LIMIT (out_dir too long). */
MUST_CHECK Status job_options_from_config(const Config *config, const char *out_dir,
                                          JobOptions *ret, Err *err);

#endif
