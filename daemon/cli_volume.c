/* See cli_volume.h. */
#include "daemon/cli_volume.h"

#include "base/files.h"
#include "daemon/cli.h"
#include "pipeline/turn.h"

#include <errno.h>
#include <libgen.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

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

Status cli_turn(VolumeI16 *volume, Modality modality, Arena *arena, Err *err)
{
    VolumeI16 turned;
    TRY(volume_turn(volume, modality == MODALITY_MR ? "RA" : "LP", arena, &turned, err));
    *volume = turned;
    return ST_OK;
}

/* The folder that a path's last part is in. False: the path is too long. */
static bool folder_of(const char *path, char ret[PATH_SIZE])
{
    char copy[PATH_SIZE];
    if (path_format(copy, NULL, "%s", path) != ST_OK)
        return false;
    return path_format(ret, NULL, "%s", dirname(copy)) == ST_OK;
}

bool cli_would_spoil(const char *out, const char *read)
{
    char folder[PATH_SIZE];
    if (out == NULL || read == NULL)
        return false;
    return cli_same_file(out, read) || (folder_of(out, folder) && cli_same_file(folder, read));
}

bool cli_same_output(const char *a, const char *b)
{
    char in_a[PATH_SIZE], in_b[PATH_SIZE], name_a[PATH_SIZE], name_b[PATH_SIZE];
    if (a == NULL || b == NULL)
        return false;
    if (cli_same_file(a, b))
        return true;
    if (path_format(name_a, NULL, "%s", a) != ST_OK || path_format(name_b, NULL, "%s", b) != ST_OK)
        return false;
    return folder_of(a, in_a) && folder_of(b, in_b) && cli_same_file(in_a, in_b) &&
           strcmp(basename(name_a), basename(name_b)) == 0;
}

Status cli_remove_old(const char *path, Err *err)
{
    struct stat st;
    if (path != NULL)
        TRY(file_check_target(path, err));
    if (path == NULL || lstat(path, &st) != 0 || !S_ISREG(st.st_mode) || unlink(path) == 0)
        return ST_OK;
    return err_sys(err, errno, "removing the old %s", path);
}
