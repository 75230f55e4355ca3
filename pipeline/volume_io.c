/* See volume_io.h. */
#include "pipeline/volume_io.h"

#include "base/parallel.h"
#include "pipeline/load.h"
#include "pipeline/mr_io.h"
#include "pipeline/nifti.h"

#include <errno.h>
#include <math.h>
#include <sys/stat.h>

/* A volume of air-free tissue does not exist in a CT of a person; MR has no negative values. */
#define CT_LEAST_HU (-500) /* where research volumes are often clipped */
#define AXIAL_MIN 0.8      /* cosine between an axis of the volume and that of the patient */

static bool has_air(const VolumeI16 *volume)
{
    size_t n = grid_voxels(&volume->grid);
    for (size_t i = 0; i < n; i++)
        if (volume->v[i] <= CT_LEAST_HU)
            return true;
    return false;
}

Status volume_read(const char *path, Arena *arena, VolumeI16 *ret, bool *ret_is_ct, Err *err)
{
    /* Offline, a person chose the series: only what is no volume at all is refused. */
    static const GeometryLimits limits = {.min_slices = 3, .max_slices = 4096};
    struct stat st;
    if (stat(path, &st) != 0)
        return err_sys(err, errno, "reading %s", path);
    if (S_ISDIR(st.st_mode)) {
        CtSeries series;
        TRY(load_series_dir(path, &limits, 0, arena, &series, err));
        *ret = series.ct;
        if (ret_is_ct != NULL)
            *ret_is_ct = true;
        return ST_OK;
    }
    VolumeI16 volume;
    TRY(nifti_read(path, arena, &volume, err));
    *ret = volume;
    if (ret_is_ct != NULL)
        *ret_is_ct = has_air(&volume);
    return ST_OK;
}

static char letter_of(const Grid *grid, int axis, char positive, char negative)
{
    double along = grid->lps_from_vox.m[axis][axis] / grid_spacing_mm(grid, axis);
    return fabs(along) < AXIAL_MIN ? '\0' : along > 0 ? positive : negative;
}

bool grid_axes(const Grid *grid, char ret[3])
{
    ret[0] = letter_of(grid, 0, 'L', 'R');
    ret[1] = letter_of(grid, 1, 'P', 'A');
    ret[2] = '\0';
    return ret[0] != '\0' && ret[1] != '\0';
}

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
    float scale = largest > 0 && (largest < 255 || largest > INT16_MAX) ? 4095 / largest : 1;
    for (size_t i = 0; i < n; i++)
        volume.v[i] = (int16_t)lrintf(scale * mr->v[i]);
    *ret = volume;
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
    VolumeF32 mr;
    char patient_key[HEX_SIZE];
    if (stat(path, &st) != 0 || !S_ISDIR(st.st_mode)) {
        TRY(nifti_read(path, arena, ret, err));
        return digest_file(path, ret_digest, err);
    }
    TRY(mr_read(path, parallel_processors(), arena, &mr, patient_key, err));
    TRY(to_i16(&mr, arena, ret, err));
    digest_volume(ret, ret_digest);
    return ST_OK;
}

Status reference_read(const char *path, Arena *arena, VolumeI16 *ret,
                      char ret_digest[DIGEST_HEX_SIZE], Err *err)
{
    Err own = {0};
    Status status = read_reference(path, arena, ret, ret_digest, &own);
    if (status != ST_OK && status != ST_NOT_FOUND && status != ST_LIMIT && status != ST_NO_MEMORY &&
        status != ST_IO)
        status = own.status = ST_REFERENCE;
    if (status != ST_OK && err != NULL)
        *err = own;
    return status;
}
