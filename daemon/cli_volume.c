/* See cli_volume.h. */
#include "daemon/cli_volume.h"

Status cli_read_volume(const char *path, const char *option, Arena *arena, VolumeI16 *ret,
                       Modality *modality, Err *err)
{
    VolumeI16 volume;
    TRY(volume_read(path, arena, &volume, modality, err));
    if (*modality == MODALITY_UNKNOWN)
        return err_set(err, ST_NIFTI,
                       "the numbers are neither clearly a CT's in HU nor an MR's (say it with %s): "
                       "%s",
                       option, path);
    *ret = volume;
    return ST_OK;
}

Status cli_read_ct(const char *path, bool is_ct, Arena *arena, VolumeI16 *ret, Err *err)
{
    VolumeI16 volume;
    Modality modality = is_ct ? MODALITY_CT : MODALITY_UNKNOWN;
    TRY(cli_read_volume(path, "--is-ct", arena, &volume, &modality, err));
    if (modality != MODALITY_CT)
        return err_set(err, ST_HU_SCALE, "this is an MR, a CT is needed: %s", path);
    *ret = volume;
    return ST_OK;
}
