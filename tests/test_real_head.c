/* The whole pipeline on the real head CT, judged from the MR files alone: read back byte by byte,
** without the code that wrote them, and laid on the CT by Image Position.
**   overlap      the head that an MR intensity shows against the head a CT threshold shows > 0.95
**   anatomy      cortical bone (> 700 HU) is dark and the brain (20..45 HU deep inside) bright at
** the
**                very same voxels: a shift or flip of some voxels would mix them
** Skipped where invesalius-examples or mricron-data is not installed. */
#include "tests/ct_file.h"
#include "tests/test.h"

#include "dicom/write.h"
#include "pipeline/components.h"
#include "pipeline/import.h"
#include "pipeline/pipeline.h"

#include <unistd.h>

#define CRANIUM "/usr/share/doc/invesalius-examples/examples/Cranium.inv3"
#define REFERENCE "/usr/share/mricron/templates/ch2.nii.gz"

typedef struct Tally {
    int64_t both, ct_only, mr_only;
    int64_t bone, brain;
    double bone_sum, brain_sum;
} Tally;

static JobOptions options_into(const char *out_dir)
{
    JobOptions o = {.batch = 4,
                    .slice_jump_percent = 250,
                    .envelope_refuse = true,
                    .synthetic_data = true,
                    .series_number_offset = 9000,
                    .memory_mib = 2048,
                    .geometry = {.min_slices = 16, .max_slices = 1000}};
    (void)snprintf(o.model_path, sizeof o.model_path, "etc/models/demo-t1-w16.safetensors");
    (void)snprintf(o.backend, sizeof o.backend, "auto");
    (void)snprintf(o.precision, sizeof o.precision, "auto");
    (void)snprintf(o.reference_path, sizeof o.reference_path, REFERENCE);
    (void)snprintf(o.out_dir, sizeof o.out_dir, "%s", out_dir);
    return o;
}

/* The head in the CT, found without the job's own mask: what is above -300 HU, without what is
** thinner than 6 mm (the couch's shell, one dilation gives the skin back), its largest part, rows
** filled between their ends. In coarse voxels of the CT's own grid. */
typedef struct CtHead {
    uint8_t *v;
    Grid grid;
} CtHead;

static void erode_or_dilate(const Grid *g, const uint8_t *from, uint8_t *to, bool dilate)
{
    for (int32_t z = 0; z < g->nz; z++)
        for (int32_t y = 0; y < g->ny; y++)
            for (int32_t x = 0; x < g->nx; x++) {
                bool any = false, all = true;
                for (int32_t k = -3; k <= 3; k++)
                    for (int axis = 0; axis < 2; axis++) { /* a cross of 7 voxels in the slice */
                        int32_t u = x + (axis == 0 ? k : 0), v = y + (axis == 1 ? k : 0);
                        bool in = u >= 0 && u < g->nx && v >= 0 && v < g->ny;
                        bool set =
                            in && from[((size_t)z * (size_t)g->ny + (size_t)v) * (size_t)g->nx +
                                       (size_t)u] != 0;
                        any = any || set;
                        all = all && (set || !in);
                    }
                to[((size_t)z * (size_t)g->ny + (size_t)y) * (size_t)g->nx + (size_t)x] =
                    dilate ? any : all;
            }
}

static CtHead find_ct_head(const VolumeI16 *ct)
{
    const Grid *g = &ct->grid;
    size_t n = grid_voxels(g), nx = (size_t)g->nx;
    uint8_t *a = malloc(n), *b = malloc(n);
    int32_t *queue = malloc(n * sizeof *queue);
    CHECK(a != NULL && b != NULL && queue != NULL);
    for (size_t i = 0; i < n; i++)
        a[i] = ct->v[i] > -300;
    erode_or_dilate(g, a, b, false);
    (void)component_keep_largest(g, b, queue);
    erode_or_dilate(g, b, a, true);
    for (size_t row = 0; row < n / nx; row++) {
        uint8_t *r = a + row * nx;
        size_t first = nx, last = 0;
        for (size_t x = 0; x < nx; x++)
            if (r[x] != 0) {
                first = first == nx ? x : first;
                last = x;
            }
        for (size_t x = first; x < nx && x <= last; x++)
            r[x] = 1;
    }
    free(b);
    free(queue);
    return (CtHead){a, *g};
}

static void tally_slice(const Job *job, const CtHead *head, int32_t z, Tally *t)
{
    char path[PATH_SIZE];
    size_t size, length, n = (size_t)job->mr.grid.nx * (size_t)job->mr.grid.ny;
    (void)snprintf(path, sizeof path, "%.3000s/%s", job->options.out_dir, job->outputs[z].file);
    const uint8_t *data = ct_file_load(path, &size);
    const uint8_t *pixels = ct_file_find(data, size, 0x7fe0, 0x0010, &length);
    CHECK(pixels != NULL && length == 2 * n);
    double ipp[3];
    CHECK(sscanf(ct_file_text(data, size, 0x0020, 0x0032), "%lf\\%lf\\%lf", &ipp[0], &ipp[1],
                 &ipp[2]) == 3);
    Vec3 corner = affine_apply(job->series.ct.grid.lps_from_vox, (Vec3){0, 0, z});
    CHECK_NEAR(ipp[0], corner.x, 1e-3);
    CHECK_NEAR(ipp[1], corner.y, 1e-3);
    CHECK_NEAR(ipp[2], corner.z, 1e-3);
    for (size_t k = 0; k < n; k++) {
        size_t i = (size_t)z * n + k;
        int mr = pixels[2 * k] | pixels[2 * k + 1] << 8;
        int16_t hu = job->series.ct.v[i];
        bool in_ct = head->v[i] != 0, in_mr = mr != 0;
        t->both += in_ct && in_mr;
        t->ct_only += in_ct && !in_mr;
        t->mr_only += !in_ct && in_mr;
        if (in_ct && hu > 700 && z > 40) {
            t->bone++;
            t->bone_sum += mr;
        } else if (in_ct && hu > 20 && hu < 45 && z > 40) {
            t->brain++;
            t->brain_sum += mr;
        }
    }
}

TEST_TIMEOUT(mr_of_the_real_head_lies_on_the_ct, "overlap > 0.95, bone dark, brain bright", 240)
{
    if (access(CRANIUM, R_OK) != 0 || access(REFERENCE, R_OK) != 0)
        SKIP("invesalius-examples or mricron-data is not installed");
    static Job job;
    Err err = {0};
    VolumeI16 head;
    char ct_dir[PATH_SIZE], out_dir[PATH_SIZE];
    Arena arena;
    CHECK_OK(path_format(ct_dir, &err, "%s/ct", test_dir()), &err);
    CHECK_OK(path_format(out_dir, &err, "%s/mr", test_dir()), &err);
    CHECK_OK(dir_make(ct_dir, &err), &err);
    CHECK_OK(dir_make(out_dir, &err), &err);
    CHECK_OK(arena_open((size_t)1 << 30, &arena, &err), &err);
    CHECK_OK(import_inv3(CRANIUM, &arena, &head, &err), &err);
    CHECK_OK(dicom_write_ct(&head, "HFS", ct_dir, &err), &err);

    JobOptions options = options_into(out_dir);
    CHECK_OK(job_open(&options, &job, &err), &err);
    CHECK_OK(pipeline_run_dir(&job, ct_dir, NULL, NULL, NULL, &err), &err);
    CHECK_INT(job.series.geometry.n_slices, head.grid.nz);
    Tally t = {0};
    CtHead ct_head = find_ct_head(&job.series.ct);
    for (int32_t z = 0; z < head.grid.nz; z++)
        tally_slice(&job, &ct_head, z, &t);
    free(ct_head.v);
    double overlap = (double)t.both / (double)(t.both + t.ct_only + t.mr_only);
    double bone = t.bone_sum / (double)t.bone, brain = t.brain_sum / (double)t.brain;
    (void)printf("# overlap %.4f, bone %.0f, brain %.0f of 4095\n", overlap, bone, brain);
    CHECK(overlap > 0.95);
    CHECK(bone < 0.5 * brain);
    job_close(&job);
    arena_close(&arena);
}
