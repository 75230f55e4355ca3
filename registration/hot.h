/* HOT_CLONES for the loops of this folder. */
#ifndef CT2MR_REGISTRATION_HOT_H
#define CT2MR_REGISTRATION_HOT_H

#include "base/hot.h"

#endif
