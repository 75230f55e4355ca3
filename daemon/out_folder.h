/* The folder that `ct2mr run` writes to: either the whole result of one run or nothing.
**
** The run writes into DIR/.part; publishing moves the files up. A DIR that holds anything is
** refused, so that no two series (two patients!) meet in it. Thread: one. */
#ifndef CT2MR_DAEMON_OUT_FOLDER_H
#define CT2MR_DAEMON_OUT_FOLDER_H

#include "base/files.h"

#include <stdbool.h>

typedef struct OutFolder {
    const char *dir;      /* borrowed */
    char part[PATH_SIZE]; /* where the run writes */
    bool made_dir;
} OutFolder;

/* Makes DIR and DIR/.part. Errors: USAGE (DIR is not empty), IO, DISK_FULL, LIMIT. */
MUST_CHECK Status out_folder_open(const char *dir, OutFolder *ret, Err *err);
/* Moves what the run wrote into DIR; on failure nothing of it is left there. */
MUST_CHECK Status out_folder_publish(OutFolder *out, Err *err);
/* Removes DIR/.part with all in it, and DIR if open() made it and it is empty. */
void out_folder_close(OutFolder *out);

#endif
