/* See volume_io.h. */
#include "pipeline/volume_io.h"

#include "base/parallel.h"
#include "pipeline/load.h"
#include "pipeline/mr_io.h"
#include "pipeline/nifti.h"
#include "pipeline/turn.h"

#include <errno.h>
#include <math.h>
#include <string.h>
#include <sys/stat.h>

/* Intensities as they are where int16 can tell them apart. */
static Status to_i16(const VolumeF32 *mr, Arena *arena, VolumeI16 *ret, Err *err)
{
    size_t n = grid_voxels(&mr->grid);
    VolumeI16 volume = {mr->grid, arena_alloc(arena, n, sizeof *volume.v, err)};
    float largest = 0;
    if (volume.v == NULL)
        return ST_LIMIT;
    for (size_t i = 0; i < n; i++)
        largest = fmaxf(largest, fabsf(mr->v[i]));
    float scale = (float)mr_scale((double)largest, false);
    for (size_t i = 0; i < n; i++)
        volume.v[i] = (int16_t)lrintf(scale * mr->v[i]);
    *ret = volume;
    return ST_OK;
}

static Status read_mr_folder(const char *path, Arena *arena, VolumeI16 *ret, MrSource *ret_source,
                             Err *err)
{
    VolumeF32 mr;
    TRY(mr_read(path, parallel_processors(), arena, &mr, ret_source, err));
    return to_i16(&mr, arena, ret, err);
}

static Status read_folder(const char *path, Modality said, Arena *arena, VolumeI16 *ret,
                          Modality *ret_modality, Err *err)
{
    /* Offline, a person chose the series: only what is no volume at all is refused. */
    static const GeometryLimits limits = {.min_slices = 3, .max_slices = 4096};
    CtSeries series;
    Err no_ct = {0};
    if (said != MODALITY_MR) {
        Status status = load_series_dir(path, &limits, 0, arena, &series, &no_ct);
        if (status == ST_OK) {
            *ret = series.ct;
            *ret_modality = MODALITY_CT;
            return ST_OK;
        }
        if (status != ST_SERIES_NOT_CT || said == MODALITY_CT) {
            if (err != NULL)
                *err = no_ct;
            return status;
        }
    }
    MrSource source;
    Status status = read_mr_folder(path, arena, ret, &source, err);
    if (status == ST_SERIES_NOT_MR && said == MODALITY_UNKNOWN)
        return err_set(err, ST_SERIES_NOT_CT, "%s, nor MR Image Storage", no_ct.msg);
    if (status == ST_OK)
        *ret_modality = MODALITY_MR;
    return status;
}

static Status read_nifti(const char *path, Modality said, Arena *arena, VolumeI16 *ret,
                         Modality *ret_modality, Err *err)
{
    VolumeI16 volume;
    double scale = 1;
    Modality modality = said;
    if (said == MODALITY_CT) {
        TRY(nifti_read(path, arena, &volume, err));
    } else {
        TRY(nifti_read_mr(path, arena, &volume, &scale, err));
        if (said == MODALITY_UNKNOWN)
            modality = modality_of(volume.v, grid_voxels(&volume.grid), scale);
        if (modality == MODALITY_CT && scale != 1) /* HU are not scaled: to say what does not fit */
            TRY(nifti_read(path, arena, &volume, err));
    }
    *ret = volume;
    *ret_modality = modality;
    return ST_OK;
}

Status volume_read(const char *path, Arena *arena, VolumeI16 *ret, Modality *modality, Err *err)
{
    struct stat st;
    Modality said = modality != NULL ? *modality : MODALITY_UNKNOWN, is = said;
    if (stat(path, &st) != 0)
        return err_sys(err, errno, "reading %s", path);
    TRY((S_ISDIR(st.st_mode) ? read_folder : read_nifti)(path, said, arena, ret, &is, err));
    if (modality != NULL)
        *modality = is;
    return ST_OK;
}

static void digest_volume(const VolumeI16 *volume, char ret[DIGEST_HEX_SIZE])
{
    const Grid *g = &volume->grid;
    const int32_t dims[3] = {g->nx, g->ny, g->nz};
    uint8_t bytes[DIGEST_SIZE];
    Digest *digest = digest_new();
    digest_add(digest, dims, sizeof dims);
    digest_add(digest, &g->lps_from_vox, sizeof g->lps_from_vox);
    digest_add(digest, volume->v, grid_voxels(g) * sizeof *volume->v);
    digest_end(digest, bytes);
    (void)digest_hex(bytes, ret);
}

static Status read_reference(const char *path, Arena *arena, VolumeI16 *ret,
                             char ret_digest[DIGEST_HEX_SIZE], Err *err)
{
    struct stat st;
    VolumeI16 mr;
    double scale;
    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode)) {
        MrSource source;
        TRY(read_mr_folder(path, arena, ret, &source, err));
        if (source.is_synthetic)
            return err_set(err, ST_REFERENCE,
                           "it says that it was computed from other images, a measured MR is "
                           "needed: %s",
                           path);
        digest_volume(ret, ret_digest);
        return ST_OK;
    }
    TRY(nifti_read_mr(path, arena, &mr, &scale, err));
    Modality modality = modality_of(mr.v, grid_voxels(&mr.grid), scale);
    if (modality == MODALITY_CT)
        return err_set(err, ST_REFERENCE, "it is a CT, an MR is needed: %s", path);
    if (modality != MODALITY_MR)
        return err_set(err, ST_REFERENCE,
                       "it is not clearly an MR (many values are below 0 or are one value, or are "
                       "those of a CT that "
                       "was cut at 0 or is in another unit): %s",
                       path);
    *ret = mr;
    return digest_file(path, ret_digest, err);
}

/* Its slices as those of training run, whatever order its voxels are stored in. */
static Status turn_reference(const char *axes, Arena *arena, VolumeI16 *reference, Err *err)
{
    char own[3];
    bool to_head = reference->grid.lps_from_vox.m[2][2] > 0; /* or the last bits would differ */
    if (axes[0] == '\0' || (grid_axes(&reference->grid, own) && strcmp(own, axes) == 0 && to_head))
        return ST_OK;
    VolumeI16 turned;
    TRY(volume_turn(reference, axes, arena, &turned, err));
    if (!grid_axes(&turned.grid, own) || strcmp(own, axes) != 0)
        return err_set(err, ST_REFERENCE, "no turning makes its slices axial (they are oblique)");
    *reference = turned;
    return ST_OK;
}

Status reference_read(const char *path, const char *axes, Arena *arena, VolumeI16 *ret,
                      char ret_digest[DIGEST_HEX_SIZE], Err *err)
{
    Err own = {0};
    Status status = read_reference(path, arena, ret, ret_digest, &own);
    if (status == ST_OK)
        status = turn_reference(axes, arena, ret, &own);
    if (status != ST_OK && status != ST_NOT_FOUND && status != ST_LIMIT && status != ST_NO_MEMORY &&
        status != ST_IO)
        status = own.status = ST_REFERENCE;
    if (status != ST_OK && err != NULL)
        *err = own;
    return status;
}
