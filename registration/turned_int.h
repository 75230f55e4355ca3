/* Between the files of the registration: does the head fit better facing another way?
**
** A header that names the wrong patient position turns the whole head by 180 degrees. The search
** for the transform does not go there, and a vertex, front and back alike, is explained well
** enough the wrong way round. So the result competes with itself turned. */
#ifndef CT2MR_REGISTRATION_TURNED_INT_H
#define CT2MR_REGISTRATION_TURNED_INT_H

#include "registration/starts_int.h"

/* level: [PYRAMID_LEVELS]; best: the result at 4 mm with its cost by mutual information.
**   ret_nats  how much less mutual information the best of the turned ones has: negative, if one
**             of them fits better; HUGE_VAL if none overlaps
** Errors: LIMIT. */
MUST_CHECK Status turned_compare(const MetricLevel *level, const Image *moving, const Start *best,
                                 int dof, int threads, Arena *arena, double *ret_nats, Err *err);

#endif
