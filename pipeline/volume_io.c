/* See volume_io.h. */
#include "pipeline/volume_io.h"

#include "pipeline/load.h"
#include "pipeline/nifti.h"

#include <errno.h>
#include <sys/stat.h>

/* A volume of air-free tissue does not exist in a CT of a person; MR has no negative values. */
#define CT_LEAST_HU (-500) /* where research volumes are often clipped */

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

Status reference_read(const char *path, Arena *arena, VolumeI16 *ret, Err *err)
{
    Err own = {0};
    Status status = nifti_read(path, arena, ret, &own);
    if (status == ST_NIFTI)
        status = own.status = ST_REFERENCE;
    if (status != ST_OK && err != NULL)
        *err = own;
    return status;
}
