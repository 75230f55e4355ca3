/* The model's envelope: is this CT like what the model was trained on?
**
** The limits travel in the model file. What the CT does not say (age, kVp, body part) cannot be
** checked and passes here; that it shows a head is then decided by registration and mask. */
#include "pipeline/steps.h"

#include <string.h>

static Status in_range(const ModelRange *range, double value, const char *what, const char *unit,
                       Err *err)
{
    if (!range->present || (value >= range->low - 1e-6 && value <= range->high + 1e-6))
        return ST_OK;
    return err_set(err, ST_MODEL_ENVELOPE, "%s %.4g %s, the model was trained on %.4g to %.4g",
                   what, value, unit, range->low, range->high);
}

Status envelope_check(const ModelInfo *model, const CtHeader *header, double slice_spacing_mm,
                      Err *err)
{
    const ImageGeometry *geometry = &header->instance.geometry;
    if (model->body_part[0] != '\0' && header->body_part[0] != '\0' &&
        strcmp(model->body_part, header->body_part) != 0 &&
        !(strcmp(model->body_part, "HEAD") == 0 && strcmp(header->body_part, "BRAIN") == 0))
        return err_set(err, ST_MODEL_ENVELOPE, "body part %s, the model was trained on %s",
                       header->body_part, model->body_part);
    if (header->age_years >= 0)
        TRY(in_range(&model->age_years, header->age_years, "age", "years", err));
    if (header->kvp > 0)
        TRY(in_range(&model->kvp, header->kvp, "tube voltage", "kV", err));
    TRY(in_range(&model->slice_thickness_mm, slice_spacing_mm, "slice spacing", "mm", err));
    if (geometry->slice_thickness_mm > 0)
        TRY(in_range(&model->slice_thickness_mm, geometry->slice_thickness_mm, "slice thickness",
                     "mm", err));
    for (int i = 0; i < 2; i++)
        TRY(in_range(&model->pixel_spacing_mm, geometry->pixel_spacing_mm[i], "pixel spacing", "mm",
                     err));
    return ST_OK;
}
