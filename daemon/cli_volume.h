/* Volumes that a person names on the command line. Private to daemon/. Thread: one. */
#ifndef CT2MR_DAEMON_CLI_VOLUME_H
#define CT2MR_DAEMON_CLI_VOLUME_H

#include "pipeline/volume_io.h"

/* volume_read(), and NIFTI where the numbers do not tell what it is.
**   option  what the person can say it with: it is named then */
MUST_CHECK Status cli_read_volume(const char *path, const char *option, Arena *arena,
                                  VolumeI16 *ret, Modality *modality, Err *err);
/* A CT; HU_SCALE if it is none. is_ct: the person says that it is (--is-ct). */
MUST_CHECK Status cli_read_ct(const char *path, bool is_ct, Arena *arena, VolumeI16 *ret, Err *err);
/* Whole axes turned as a job's volumes lie (a CT as DICOM's, an MR as Colin27), so that the result
** of a registration does not depend on the order of a file's voxels. Errors: LIMIT. */
MUST_CHECK Status cli_turn(VolumeI16 *volume, Modality modality, Arena *arena, Err *err);

/* Whether writing to out (NULL: nothing is) would replace what is read or add to a folder of it. */
bool cli_would_spoil(const char *out, const char *read);
/* Whether two outputs (NULL: none) are one file, there or not. */
bool cli_same_output(const char *a, const char *b);
/* Removes an older result, so that what is there afterwards is of this run. Errors: IO. */
MUST_CHECK Status cli_remove_old(const char *path, Err *err);

#endif
