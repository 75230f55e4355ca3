/* One pair of volumes into the packed file: see pack.h. */
#include "pipeline/pack.h"

#include "pipeline/mr_io.h"
#include "pipeline/qa_picture.h"
#include "pipeline/slice_gate.h"
#include "pipeline/steps.h"
#include "pipeline/volume_io.h"
#include "registration/resample.h"

#include <math.h>
#include <string.h>
#include <sys/stat.h>

#define SLICE_JUMP_MAX 2.5      /* as series.slice_jump_percent by default */
#define UNCOVERED_MAX_FRAC 0.02 /* of a slice's mask without MR */
#define NO_MR (-1e30f)          /* beyond the MR; where its file has no number it is NaN */
#define BLANK_MIN_FRAC 0.95    /* a brain alone fills more than a twentieth of any slice it is in */
#define PARTIAL_MIN_FRAC 0.2   /* air and bone that a scanner set to 0 are less */
#define REGISTER_LEVELS 4000.0 /* the MR's range for its registration, which takes int16 */
enum { MEMORY_MIB = 16384 };   /* address space; memory is taken as it is touched */

static Status read_ct(Job *job, const char *path, char ret_patient_key[HEX_SIZE], Err *err)
{
    struct stat st;
    SliceFit fit;
    ret_patient_key[0] = '\0';
    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode)) {
        TRY(load_series_dir(path, &job->options.geometry, job->options.threads, &job->arena,
                            &job->series, err));
        memcpy(ret_patient_key, job->series.headers[0].instance.patient_key, HEX_SIZE);
    } else {
        Modality modality = MODALITY_UNKNOWN;
        TRY(volume_read(path, &job->arena, &job->series.ct, &modality, err));
        if (modality != MODALITY_CT)
            return err_set(err, ST_HU_SCALE,
                           "the CT does not hold HU with air, fat and soft tissue in their places");
    }
    return slice_gate(&job->series.ct, SLICE_JUMP_MAX, job->options.threads, &fit, err);
}

/* An error of reading names the list's column instead of the path, which names patients. */
static Status in_column(Status status, const char *column, const char *path, Err *err)
{
    if (status != ST_OK) {
        err_replace(err, path, "the path given");
        (void)err_wrap(err, "column %s", column);
    }
    return status;
}

/* mr_from_ct, by registration; the MR as int16 between its own percentiles. */
static Status register_mr(const PackSpec *spec, Job *job, const VolumeF32 *mr, RegResult *ret,
                          Err *err)
{
    size_t n = grid_voxels(&mr->grid);
    size_t mark = arena_mark(&job->scratch);
    double low, high;
    VolumeI16 levels = {mr->grid, arena_alloc(&job->scratch, n, sizeof(int16_t), err)};
    if (levels.v == NULL)
        return ST_LIMIT;
    if (!pack_percentiles(mr->v, NULL, n, 0.1, 99.9, &low, &high))
        return err_set(err, ST_PACK_CASE, "the MR has one intensity everywhere");
    for (size_t i = 0; i < n; i++) {
        double v = ((double)mr->v[i] - low) / (high - low);
        levels.v[i] = (int16_t)lrint(REGISTER_LEVELS * fmin(fmax(v, 0), 1)); /* NaN: 0 */
    }
    const RegOptions options = {.fixed_modality = REG_CT,
                                .moving_modality = REG_MR,
                                .dof = spec->dof,
                                .threads = spec->threads};
    TRY(reg_affine(&job->series.ct, &levels, &options, ret, &job->scratch, err));
    arena_reset(&job->scratch, mark);
    return pack_registration_gate(ret, err);
}

/* ---- slices ---------------------------------------------------------------------------------- */

typedef struct Slices { /* on the job's model grid */
    const int16_t *hu;
    uint8_t *mask;
    float *mr;     /* intensities, then 0..1; NO_MR or NaN where there is none */
    bool *is_kept; /* [nz] */
    int32_t nx, ny, nz, side, left, top; /* the square that is packed */
} Slices;

static Status resample_pair(Job *job, const VolumeF32 *mr, Affine mr_from_ct, Slices *s, Err *err)
{
    const Grid *grid = &job->model_hu.grid;
    size_t n = grid_voxels(grid);
    Affine ct_from_model;
    if (!affine_inverse(job->model_from_ct, &ct_from_model))
        return err_set(err, ST_REG_QUALITY, "the registration's matrix is singular");
    VolumeF32 out = {*grid, arena_alloc(&job->arena, n, sizeof(float), err)};
    VolumeU8 mask = {*grid, arena_alloc(&job->arena, n, 1, err)};
    bool *is_kept = arena_alloc(&job->arena, (size_t)grid->nz, sizeof *is_kept, err);
    if (out.v == NULL || mask.v == NULL || is_kept == NULL)
        return ST_LIMIT;
    resample_f32(mr, affine_mul(mr_from_ct, ct_from_model), NO_MR, job->options.threads, &out);
    /* the job's own mask goes on beyond the CT's ends: no training there */
    resample_mask(&job->mask, ct_from_model, job->options.threads, &mask);
    int32_t side = job->wanted->grid_pixels;
    *s = (Slices){job->model_hu.v,
                  mask.v,
                  out.v,
                  is_kept,
                  grid->nx,
                  grid->ny,
                  grid->nz,
                  side,
                  (grid->nx - side) / 2,
                  (grid->ny - side) / 2};
    return ST_OK;
}

static bool in_square(const Slices *s, int32_t x, int32_t y)
{
    return x >= s->left && x < s->left + s->side && y >= s->top && y < s->top + s->side;
}

/* Which slices are packed; from the mask of those goes what has no MR. A slice that has one value
** nearly everywhere in the head has none: so padding was read. */
static void choose_slices(const Slices *s, PackFacts *facts)
{
    size_t pixels = (size_t)s->nx * (size_t)s->ny;
    facts->n_all = s->nz;
    for (int32_t z = 0; z < s->nz; z++) {
        uint8_t *mask = s->mask + (size_t)z * pixels;
        const float *mr = s->mr + (size_t)z * pixels;
        size_t inside = 0, wide = 0, uncovered = 0;
        for (int32_t y = 0; y < s->ny; y++)
            for (int32_t x = 0; x < s->nx; x++) {
                size_t i = (size_t)y * (size_t)s->nx + (size_t)x;
                if (mask[i] == 0)
                    continue;
                inside++;
                wide += !in_square(s, x, y);
                mask[i] = mr[i] > NO_MR;
                uncovered += mask[i] == 0;
            }
        double one_value = pack_one_value_frac(mr, mask, pixels);
        bool has_mr =
            (double)uncovered <= UNCOVERED_MAX_FRAC * (double)inside && one_value < BLANK_MIN_FRAC;
        s->is_kept[z] = inside > 0 && wide == 0 && has_mr;
        facts->n_slices += s->is_kept[z];
        facts->n_partial += s->is_kept[z] && one_value >= PARTIAL_MIN_FRAC;
        facts->n_empty += inside == 0;
        facts->n_wide += wide > 0;
        facts->n_uncovered += inside > 0 && wide == 0 && !has_mr;
        if (!s->is_kept[z])
            memset(mask, 0, pixels);
    }
}

static Status write_slices(const char *id, const Slices *s, Job *job, PackWriter *writer, Err *err)
{
    size_t side = (size_t)s->side, n = side * side;
    int16_t *hu = arena_alloc(&job->scratch, n, sizeof *hu, err);
    uint8_t *mask = arena_alloc(&job->scratch, n, 1, err);
    uint16_t *mr = arena_alloc(&job->scratch, n, sizeof *mr, err);
    if (hu == NULL || mask == NULL || mr == NULL)
        return ST_LIMIT;
    TRY(pack_begin_case(writer, id, grid_spacing_mm(&job->model_hu.grid, 2), err));
    for (int32_t z = 0; z < s->nz; z++) {
        if (!s->is_kept[z])
            continue;
        for (size_t i = 0; i < n; i++) {
            size_t y = (size_t)s->top + i / side, x = (size_t)s->left + i % side;
            size_t at = ((size_t)z * (size_t)s->ny + y) * (size_t)s->nx + x;
            hu[i] = s->hu[at];
            mask[i] = s->mask[at];
            mr[i] = (uint16_t)lrintf(65535.0f * s->mr[at]);
        }
        TRY(pack_add_slice(writer, hu, mask, mr, err));
    }
    return ST_OK;
}

static Status draw_sheet(const PackSpec *spec, const char *id, const Slices *s, Job *job, Err *err)
{
    char path[PATH_SIZE];
    if (spec->sheet_dir == NULL)
        return ST_OK;
    const VolumeU8 mask = {job->model_hu.grid, s->mask};
    const VolumeF32 mr = {job->model_hu.grid, s->mr};
    TRY(path_format(path, err, "%s/%s.png", spec->sheet_dir, id));
    return qa_picture_write(path, &job->model_hu, &mask, &mr, spec->wanted.window_level_hu,
                            spec->wanted.window_width_hu, err);
}

/* ---- one case -------------------------------------------------------------------------------- */

/* A job's own, from the volume to its place on the model's grid. */
static Status run_steps(Job *job, Err *err)
{
    TRY(step_align(job, err));
    TRY(step_mask(job, err));
    TRY(step_gate(job, err));
    TRY(step_window(job, err));
    arena_reset(&job->scratch, 0);
    return ST_OK;
}

static Status prepare_pair(const PackSpec *spec, const char *id, const char *ct_path,
                           const char *mr_path, Job *job, Slices *ret, PackFacts *facts, Err *err)
{
    char ct_patient[HEX_SIZE];
    MrSource source;
    VolumeF32 mr;
    TRY(in_column(read_ct(job, ct_path, ct_patient, err), "ct", ct_path, err));
    TRY(in_column(mr_read(mr_path, spec->threads, &job->arena, &mr, &source, err), "mr", mr_path,
                  err));
    if (source.is_synthetic)
        return err_set(
            err, ST_PACK_CASE,
            "the MR says that it was computed from other images: train on measured ones");
    if (!spec->any_patient && ct_patient[0] != '\0' && source.patient_key[0] != '\0' &&
        strcmp(ct_patient, source.patient_key) != 0)
        return err_set(err, ST_SERIES_PATIENT, "CT and MR state different patients");
    if (!spec->any_patient)
        memcpy(facts->patient, ct_patient[0] != '\0' ? ct_patient : source.patient_key, HEX_SIZE);
    TRY(pack_mr_gate(mr.v, grid_voxels(&mr.grid), err));
    TRY(pack_mr_slices_gate(&mr, err));
    facts->ct_content = pack_content_hu(job->series.ct.v, grid_voxels(&job->series.ct.grid));
    facts->mr_content = pack_content(mr.v, grid_voxels(&mr.grid));
    const Grid *grid = &job->series.ct.grid;
    pack_sketch(job->series.ct.v, (size_t)grid->nx * (size_t)grid->ny, grid->nz, facts->ct_sketch);
    TRY(pack_seen_check(spec->seen, facts, err));
    TRY(run_steps(job, err));
    facts->reference = job->registration;
    facts->mask_ml = job->mask_result.volume_ml;
    facts->pair = (RegResult){
        .moving_from_fixed = affine_identity(), .determinant = 1, .scale_min = 1, .scale_max = 1};
    if (!spec->is_registered)
        TRY(register_mr(spec, job, &mr, &facts->pair, err));
    TRY(resample_pair(job, &mr, facts->pair.moving_from_fixed, ret, err));
    choose_slices(ret, facts);
    if (facts->n_slices == 0)
        return err_set(err, ST_PACK_CASE,
                       "no slice is left: %d without mask, %d wider than the grid, %d without MR",
                       facts->n_empty, facts->n_wide, facts->n_uncovered);
    TRY(pack_pair_gate(ret->hu, ret->mr, ret->mask, grid_voxels(&job->model_hu.grid), err));
    TRY(pack_scale_mr(spec, ret->mask, grid_voxels(&job->model_hu.grid), ret->mr, facts, err));
    return draw_sheet(spec, id, ret, job, err);
}

Status pack_pair(const PackSpec *spec, const char *id, const char *ct_path, const char *mr_path,
                 PackWriter *writer, PackFacts *ret, Err *err)
{
    static Job job; /* too large for the stack */
    JobOptions options = {.threads = spec->threads,
                          .memory_mib = MEMORY_MIB,
                          .geometry = {.min_slices = 3, .max_slices = 4096}};
    PackFacts facts = {0};
    Slices slices = {0};
    memcpy(facts.id, id, PACK_ID_SIZE);
    TRY(job_open(&options, &job, err));
    job.wanted = &spec->wanted;
    job.reference = *spec->reference;
    Status status = prepare_pair(spec, id, ct_path, mr_path, &job, &slices, &facts, err);
    if (status == ST_LIMIT)
        status = pack_case_limit(err);
    if (status == ST_OK)
        status = write_slices(id, &slices, &job, writer, err);
    job_close(&job);
    if (status == ST_OK)
        *ret = facts;
    return status;
}
