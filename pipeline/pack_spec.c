/* What all kinds of cases share: see pack.h. */
#include "pipeline/pack.h"

#include "pipeline/turn.h"

#include <stdlib.h>
#include <string.h>

enum { SAMPLES_MAX = 1000000 };

Status pack_axes(const PackSpec *spec, char ret[3], Err *err)
{
    char axes[3] = "LP";
    if (spec->wanted.pose == POSE_REFERENCE && !grid_axes(&spec->reference->grid, axes))
        return err_set(err, ST_REFERENCE, "the reference's slices are not axial");
    memcpy(ret, axes, sizeof axes);
    return ST_OK;
}

Status pack_info_for(const PackSpec *spec, PackInfo *ret, Err *err)
{
    const ModelInfo *m = &spec->wanted;
    PackInfo info = {.pixels = m->grid_pixels,
                     .spacing_mm = m->grid_spacing_mm,
                     .window_level_hu = m->window_level_hu,
                     .window_width_hu = m->window_width_hu,
                     .pose = m->pose,
                     .interpolation = m->interpolation,
                     .mask = m->mask};
    memcpy(info.target, m->target, sizeof info.target);
    TRY(pack_axes(spec, info.axes, err));
    *ret = info;
    return ST_OK;
}

void pack_case_id(const char *salt, const char *name, char ret[PACK_ID_SIZE])
{
    uint8_t sum[DIGEST_SIZE];
    char hex[DIGEST_HEX_SIZE];
    Digest *digest = digest_new();
    digest_add(digest, salt, strlen(salt) + 1);
    digest_add(digest, name, strlen(name));
    digest_end(digest, sum);
    (void)digest_hex(sum, hex);
    memcpy(ret, hex, PACK_ID_SIZE - 1);
    ret[PACK_ID_SIZE - 1] = '\0';
}

static int compare_floats(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

bool pack_percentiles(const float *values, const uint8_t *mask, size_t n, double low_percent,
                      double high_percent, double *ret_low, double *ret_high)
{
    size_t inside = 0, seen = 0, taken = 0;
    for (size_t i = 0; i < n; i++)
        inside += mask == NULL || mask[i] != 0;
    size_t step = inside / SAMPLES_MAX + 1, room = inside / step + 1;
    float *sample = malloc(room * sizeof *sample);
    ASSERT(sample != NULL);
    for (size_t i = 0; i < n; i++)
        if ((mask == NULL || mask[i] != 0) && seen++ % step == 0)
            sample[taken++] = values[i];
    bool ok = false;
    if (taken > 0) {
        qsort(sample, taken, sizeof *sample, compare_floats);
        *ret_low = (double)sample[(size_t)((double)(taken - 1) * low_percent / 100)];
        *ret_high = (double)sample[(size_t)((double)(taken - 1) * high_percent / 100)];
        ok = *ret_high > *ret_low;
    }
    free(sample);
    return ok;
}
