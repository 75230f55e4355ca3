/* See cuda_cache.h. The file:
**
**   ct2mr-plans-1 SHA256-OF-ALL-THAT-FOLLOWS
**   KEY
**   plan LENGTH SHAPE          as often as there are plans
**   LENGTH bytes of JSON and a line feed */
#include "gpu/cuda_cache.h"

#include "base/digest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAGIC "ct2mr-plans-1 "
enum { HEAD_SIZE = sizeof MAGIC - 1 + DIGEST_HEX_SIZE /* with the line feed */ };
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

void plan_cache_open(const char *key, PlanCache *ret)
{
    char dir[PATH_SIZE], hex[DIGEST_HEX_SIZE], *data;
    size_t size = 0, key_size = strlen(key);
    *ret = (PlanCache){0};
    (void)snprintf(ret->key, sizeof ret->key, "%s", key);
    digest_text(ret->key, hex);
    if (!folder(dir) || path_format(ret->path, NULL, "%s/plans-%.24s.txt", dir, hex) != ST_OK) {
        ret->path[0] = '\0';
        return;
    }
    if (file_read(ret->path, MAX_FILE_BYTES, &data, &size, NULL) != ST_OK)
        return;
    bool good = size > HEAD_SIZE + key_size && strlen(data) == size &&
                strncmp(data, MAGIC, sizeof MAGIC - 1) == 0 && data[HEAD_SIZE - 1] == '\n' &&
                strncmp(data + HEAD_SIZE, ret->key, key_size) == 0 &&
                data[HEAD_SIZE + key_size] == '\n';
    if (good) {
        digest_memory(data + HEAD_SIZE, size - HEAD_SIZE, hex);
        good = strncmp(data + sizeof MAGIC - 1, hex, DIGEST_HEX_SIZE - 1) == 0;
    }
    if (good)
        ret->text = strdup(data + HEAD_SIZE + key_size + 1);
    free(data);
}

char *plan_cache_find(const PlanCache *cache, const ConvShape *shape)
{
    char want[96];
    (void)conv_shape_text(shape, want);
    size_t want_size = strlen(want);
    for (const char *at = cache->text; at != NULL && strncmp(at, "plan ", 5) == 0;) {
        char *name;
        unsigned long size = strtoul(at + 5, &name, 10);
        const char *line = strchr(name, '\n');
        if (line == NULL || *name != ' ' || size == 0 || strlen(line + 1) < size + 1)
            return NULL;
        if ((size_t)(line - name) == want_size + 1 && strncmp(name + 1, want, want_size) == 0)
            return strndup(line + 1, size);
        at = line + 1 + size + 1;
    }
    return NULL;
}

void plan_cache_write(const PlanCache *cache, const ConvPlan *plans, int n)
{
    char dir[PATH_SIZE], hex[DIGEST_HEX_SIZE], shape[96], *body = NULL, *file = NULL;
    size_t body_size = 0, file_size = 0;
    if (cache->path[0] == '\0' || !folder(dir) || dir_make(dir, NULL) != ST_OK)
        return;
    FILE *out = open_memstream(&body, &body_size);
    if (out == NULL)
        return;
    (void)fprintf(out, "%s\n", cache->key);
    for (int i = 0; i < n; i++)
        (void)fprintf(out, "plan %zu %s\n%s\n", strlen(plans[i].json),
                      conv_shape_text(&plans[i].shape, shape), plans[i].json);
    bool good = fclose(out) == 0;
    if (good && (out = open_memstream(&file, &file_size)) != NULL) {
        digest_memory(body, body_size, hex);
        (void)fprintf(out, MAGIC "%s\n%s", hex, body);
        good = fclose(out) == 0;
        if (good && file_write_durable(cache->path, file, file_size, NULL) != ST_OK)
            good = false; /* a cache that cannot be written is no error */
    }
    free(body);
    free(file);
}

void plan_cache_close(PlanCache *cache)
{
    free(cache->text);
    cache->text = NULL;
}
