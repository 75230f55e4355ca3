/* ct2mr window: a CT's HU window as a NIfTI volume of 0..1, offline.
**
** JSON: {"volume", "level_hu", "width_hu", "mean"}: mean of the windowed values. */
#include "daemon/cli.h"
#include "daemon/cli_volume.h"

#include "base/parallel.h"
#include "pipeline/nifti.h"
#include "pipeline/window.h"

#include <getopt.h>
#include <math.h>
#include <stdio.h>

static const double LEVEL_MAX_HU = 32768, WIDTH_MAX_HU = 65536;
static const size_t ARENA_BYTES = (size_t)8 << 30; /* reserved, not used */

typedef struct WindowArguments {
    const char *ct, *out;
    double level_hu, width_hu;
    bool is_ct, json;
} WindowArguments;

typedef struct WindowJob {
    const WindowArguments *arguments;
    const VolumeI16 *ct;
    float *out;
    double *slice_sum; /* [nz] */
} WindowJob;

static void window_one(void *context, int slice)
{
    const WindowJob *job = context;
    size_t n = (size_t)job->ct->grid.nx * (size_t)job->ct->grid.ny, at = (size_t)slice * n;
    double sum = 0;
    for (size_t i = at; i < at + n; i++) {
        job->out[i] =
            (float)window_norm(job->arguments->level_hu, job->arguments->width_hu, job->ct->v[i]);
        sum += (double)job->out[i];
    }
    job->slice_sum[slice] = sum;
}

static Status make_window(const WindowArguments *a, Arena *arena, double *ret_mean, Err *err)
{
    VolumeI16 ct;
    TRY(cli_read_ct(a->ct, a->is_ct, arena, &ct, err));
    size_t n = grid_voxels(&ct.grid);
    VolumeF32 out = {ct.grid, arena_alloc(arena, n, sizeof(float), err)};
    double *slice_sum = arena_alloc(arena, (size_t)ct.grid.nz, sizeof *slice_sum, err);
    if (out.v == NULL || slice_sum == NULL)
        return ST_LIMIT;
    WindowJob job = {a, &ct, out.v, slice_sum};
    parallel_for(0, ct.grid.nz, window_one, &job);
    TRY(nifti_write_f32(a->out, &out, err));
    double sum = 0;
    for (int32_t z = 0; z < ct.grid.nz; z++)
        sum += slice_sum[z];
    *ret_mean = sum / (double)n;
    return ST_OK;
}

static int run(const WindowArguments *a)
{
    Err err = {0};
    Arena arena = {0};
    double mean = 0;
    Status status = cli_remove_old(a->out, &err);
    if (status == ST_OK)
        status = arena_open(ARENA_BYTES, &arena, &err);
    if (status == ST_OK)
        status = make_window(a, &arena, &mean, &err);
    arena_close(&arena);
    if (status != ST_OK)
        return cli_fail(&err, a->json);
    if (a->json) {
        cJSON *o = cJSON_CreateObject();
        (void)cJSON_AddStringToObject(o, "volume", a->out);
        (void)cJSON_AddNumberToObject(o, "level_hu", a->level_hu);
        (void)cJSON_AddNumberToObject(o, "width_hu", a->width_hu);
        (void)cJSON_AddNumberToObject(o, "mean", mean);
        cli_print_json(o);
    } else {
        (void)printf("window level %g width %g HU, in %s\n", a->level_hu, a->width_hu, a->out);
    }
    return CLI_OK;
}

int cli_window(int argc, char **argv)
{
    static const struct option options[] = {{"out", required_argument, NULL, 'o'},
                                            {"preset", required_argument, NULL, 'p'},
                                            {"level", required_argument, NULL, 'l'},
                                            {"width", required_argument, NULL, 'w'},
                                            {"is-ct", no_argument, NULL, 'i'},
                                            {"json", no_argument, NULL, 'j'},
                                            {0}};
    WindowArguments a = {0};
    const char *preset = NULL, *level = NULL, *width = NULL;
    optind = 0;
    opterr = 0;
    for (int c; (c = getopt_long(argc, argv, "o:p:l:w:j", options, NULL)) != -1;) {
        if (c == 'o')
            a.out = optarg;
        else if (c == 'p')
            preset = optarg;
        else if (c == 'l')
            level = optarg;
        else if (c == 'w')
            width = optarg;
        else if (c == 'i')
            a.is_ct = true;
        else if (c == 'j')
            a.json = true;
        else
            return cli_usage("window", "unknown option or missing value");
    }
    if (a.out == NULL)
        return cli_usage("window", "--out W.nii.gz is missing");
    if (optind + 1 != argc)
        return cli_usage("window", "name one CT: a NIfTI file or a DICOM folder");
    if ((level == NULL) != (width == NULL) || (preset != NULL && level != NULL))
        return cli_usage("window", "give --preset, or both --level and --width");
    const WindowPreset *p = window_preset(preset != NULL ? preset : "brain");
    if (p == NULL)
        return cli_usage("window", "presets are brain, stroke, subdural, soft, bone");
    a.level_hu = p->level_hu;
    a.width_hu = p->width_hu;
    if (level != NULL &&
        (!cli_parse_double(level, &a.level_hu) || !cli_parse_double(width, &a.width_hu)))
        return cli_usage("window", "--level and --width are numbers of HU");
    if (!(fabs(a.level_hu) <= LEVEL_MAX_HU && a.width_hu >= 1 && a.width_hu <= WIDTH_MAX_HU))
        return cli_usage("window", "--level is -32768 to 32768 HU, --width 1 to 65536");
    a.ct = argv[optind];
    if (cli_would_spoil(a.out, a.ct))
        return cli_usage("window", "--out is, or lies in, what would be read");
    return run(&a);
}
