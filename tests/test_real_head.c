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
                    .envelope_refuse = true,
                    .synthetic_data = true,
                    .series_number_offset = 9000,
                    .memory_mib = 2048,
                    .geometry = {16, 1000}};
    (void)snprintf(o.model_path, sizeof o.model_path, "etc/models/demo-t1-w16.safetensors");
    (void)snprintf(o.backend, sizeof o.backend, "auto");
    (void)snprintf(o.precision, sizeof o.precision, "auto");
    (void)snprintf(o.reference_path, sizeof o.reference_path, REFERENCE);
    (void)snprintf(o.out_dir, sizeof o.out_dir, "%s", out_dir);
    return o;
}

/* The part of the CT above -300 HU that is connected to its centre in its slice row: enough to
** leave the couch out, which lies apart from the head. Rows are filled between their ends. */
static bool ct_shows_head(const VolumeI16 *ct, const VolumeU8 *mask, size_t i)
{
    return ct->v[i] > -300 && mask->v[i] != 0;
}

static void tally_slice(const Job *job, int32_t z, Tally *t)
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
        bool in_ct = ct_shows_head(&job->series.ct, &job->mask, i), in_mr = mr > 40;
        t->both += in_ct && in_mr;
        t->ct_only += in_ct && !in_mr;
        t->mr_only += !in_ct && in_mr && hu < -600;
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
    for (int32_t z = 0; z < head.grid.nz; z++)
        tally_slice(&job, z, &t);
    double overlap = (double)t.both / (double)(t.both + t.ct_only + t.mr_only);
    double bone = t.bone_sum / (double)t.bone, brain = t.brain_sum / (double)t.brain;
    (void)printf("# overlap %.4f, bone %.0f, brain %.0f of 4095\n", overlap, bone, brain);
    CHECK(overlap > 0.95);
    CHECK(bone < 0.5 * brain);
    job_close(&job);
    arena_close(&arena);
}
