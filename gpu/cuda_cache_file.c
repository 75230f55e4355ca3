/* See cuda_cache_file.h. The file: MAGIC, a space, the SHA-256 of all that follows the line; KEY;
** body. */
#include "gpu/cuda_cache_file.h"

#include "base/digest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_FILE_BYTES = 8 << 20 };

static bool folder(char ret[PATH_SIZE])
{
    const char *own = getenv("CT2MR_CACHE_DIR"), *unit = getenv("CACHE_DIRECTORY");
    const char *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    if (own != NULL && own[0] != '\0')
        return path_format(ret, NULL, "%s", own) == ST_OK;
    if (unit != NULL && unit[0] == '/' && strchr(unit, ':') == NULL)
        return path_format(ret, NULL, "%s", unit) == ST_OK;
    if (xdg != NULL && xdg[0] == '/')
        return path_format(ret, NULL, "%s/ct2mr", xdg) == ST_OK;
    return home != NULL && home[0] == '/' &&
           path_format(ret, NULL, "%s/.cache/ct2mr", home) == ST_OK;
}

void cache_file_name(const char *kind, const char *magic, const char *key, CacheFile *ret)
{
    char dir[PATH_SIZE], hex[DIGEST_HEX_SIZE];
    *ret = (CacheFile){.magic = magic};
    (void)snprintf(ret->key, sizeof ret->key, "%s", key);
    digest_text(ret->key, hex);
    if (!folder(dir) || path_format(ret->path, NULL, "%s/%s-%.24s.txt", dir, kind, hex) != ST_OK)
        ret->path[0] = '\0';
}

/* What follows the first line if that line is ours and its digest right; else NULL. */
static const char *checked_rest(const CacheFile *cache, const char *data, size_t size)
{
    char hex[DIGEST_HEX_SIZE], want[128];
    const char *end = strchr(data, '\n');
    if (end == NULL || strlen(data) != size)
        return NULL;
    digest_memory(end + 1, size - (size_t)(end + 1 - data), hex);
    int n = snprintf(want, sizeof want, "%s %s\n", cache->magic, hex);
    return n == (int)(end + 1 - data) && strncmp(data, want, (size_t)n) == 0 ? end + 1 : NULL;
}

Status cache_file_read(const CacheFile *cache, char **ret, Err *err)
{
    char *data;
    size_t size = 0, key_size = strlen(cache->key);
    Status status = ST_OK;
    *ret = NULL;
    if (cache->path[0] == '\0' || access(cache->path, F_OK) != 0)
        return ST_OK;
    TRY(file_read(cache->path, MAX_FILE_BYTES, &data, &size, err));
    const char *rest = checked_rest(cache, data, size);
    if (rest == NULL)
        status = err_set(err, ST_IO, "it is damaged: its SHA-256 is another");
    else if (strncmp(rest, cache->key, key_size) != 0 || rest[key_size] != '\n')
        status = err_set(err, ST_IO, "it was made for another model, GPU, driver or cuDNN");
    else if ((*ret = strdup(rest + key_size + 1)) == NULL)
        status = err_set(err, ST_NO_MEMORY, "reading it");
    free(data);
    return status;
}

bool cache_file_write(const CacheFile *cache, const char *body)
{
    char dir[PATH_SIZE], hex[DIGEST_HEX_SIZE], *rest = NULL, *file = NULL;
    if (cache->path[0] == '\0' || !folder(dir) || dir_make(dir, NULL) != ST_OK ||
        asprintf(&rest, "%s\n%s", cache->key, body) < 0)
        return false;
    digest_memory(rest, strlen(rest), hex);
    int size = asprintf(&file, "%s %s\n%s", cache->magic, hex, rest);
    bool good = size > 0 && file_write_durable(cache->path, file, (size_t)size, NULL) == ST_OK;
    free(rest);
    if (size > 0)
        free(file);
    return good;
}
