/* What all kinds of cases share: see pack.h. */
#include "pipeline/pack.h"

#include "pipeline/turn.h"

#include <string.h>

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

Status pack_case_limit(Err *err)
{
    if (err != NULL)
        err->status = ST_PACK_CASE;
    return ST_PACK_CASE;
}
