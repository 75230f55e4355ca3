/* Small files that spare a worker what it found out before: plans of a GPU.
**
** One file for one key; text: a line with the SHA-256 of the rest, the key, then the body. A file
** that is damaged, of another key or unreadable counts as absent. It is written whole and renamed
** into place. The folder: $CT2MR_CACHE_DIR, else systemd's $CACHE_DIRECTORY, else
** $XDG_CACHE_HOME/ct2mr or $HOME/.cache/ct2mr; without any of them there is no cache.
** Thread: any; several processes may share a folder. */
#ifndef CT2MR_GPU_CUDA_CACHE_FILE_H
#define CT2MR_GPU_CUDA_CACHE_FILE_H

#include "base/files.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { CACHE_KEY_SIZE = 1024 };

typedef struct CacheFile {
    const char *magic;    /* names the format; static */
    char path[PATH_SIZE]; /* "": no folder */
    char key[CACHE_KEY_SIZE];
} CacheFile;

/* kind: begins the file's name, as "plans". key: one line. */
void cache_file_name(const char *kind, const char *magic, const char *key, CacheFile *ret);
/* The body, to be freed; NULL if there is no file. Errors: why it does not count. */
MUST_CHECK Status cache_file_read(const CacheFile *cache, char **ret, Err *err);
/* False if it could not be written. */
bool cache_file_write(const CacheFile *cache, const char *body);

#ifdef __cplusplus
}
#endif
#endif
