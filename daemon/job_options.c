/* See job_options.h. */
#include "daemon/job_options.h"

#include <stdio.h>
#include <string.h>

Status job_options_from_config(const Config *config, const char *out_dir, JobOptions *ret, Err *err)
{
    JobOptions o = {
        .batch = config->model_batch,
        .threads = config->model_threads,
        .winograd_mib = config->model_winograd_mib,
        .envelope_refuse = strcmp(config->model_envelope, "refuse") == 0,
        .synthetic_data = config->mr_synthetic_data,
        .series_number_offset = config->mr_series_number_offset,
        .memory_mib = config->job_memory_mib,
        .slice_jump_percent = config->slice_jump_percent,
        .geometry = {.min_slices = config->min_slices, .max_slices = config->max_slices},
    };
    (void)snprintf(o.model_path, sizeof o.model_path, "%s", config->model_path);
    (void)snprintf(o.backend, sizeof o.backend, "%s", config->model_backend);
    (void)snprintf(o.precision, sizeof o.precision, "%s", config->model_precision);
    (void)snprintf(o.reference_path, sizeof o.reference_path, "%s", config->align_reference);
    TRY(path_format(o.out_dir, err, "%s", out_dir));
    *ret = o;
    return ST_OK;
}
