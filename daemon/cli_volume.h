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

#endif
