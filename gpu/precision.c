/* Names of precisions. See model.h. */
#include "gpu/model.h"

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
