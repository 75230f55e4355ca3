/* Names of precisions, and their numbers. See model.h. */
#include "gpu/half.h"
#include "gpu/model.h"

#include <math.h>
#include <string.h>

static const char *const NAMES[PRECISION_COUNT] = {"f32", "bf16", "int8", "f16"};

const char *precision_name(Precision precision)
{
    return NAMES[precision];
}

bool precision_from_name(const char *name, Precision *ret)
{
    for (int i = 0; i < PRECISION_COUNT; i++)
        if (strcmp(name, NAMES[i]) == 0) {
            *ret = (Precision)i;
            return true;
        }
    return false;
}

float precision_round(Precision precision, float value)
{
    if (precision == PRECISION_F16)
        return f32_from_f16(f16_from_f32(value));
    if (precision == PRECISION_BF16 && isfinite(value))
        return f32_from_bf16(bf16_from_f32(value));
    return value;
}
