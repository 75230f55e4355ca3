/* See cuda_cache.h. The body, as often as there are plans:
**
**   plan LENGTH SHAPE
**   LENGTH bytes of JSON and a line feed */
#include "gpu/cuda_cache.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void plan_cache_open(const char *key, PlanCache *ret)
{
    *ret = (PlanCache){0};
    cache_file_name("plans", "ct2mr-plans-1", key, &ret->file);
    if (cache_file_read(&ret->file, &ret->text, &ret->set_aside) != ST_OK)
        ret->text = NULL; /* all plans are made anew */
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
    char shape[96], *body = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&body, &size);
    if (out == NULL)
        return;
    for (int i = 0; i < n; i++)
        (void)fprintf(out, "plan %zu %s\n%s\n", strlen(plans[i].json),
                      conv_shape_text(&plans[i].shape, shape), plans[i].json);
    if (fclose(out) == 0) /* a cache that cannot be written is no error */
        (void)cache_file_write(&cache->file, body);
    free(body);
}

void plan_cache_close(PlanCache *cache)
{
    free(cache->text);
    cache->text = NULL;
}
