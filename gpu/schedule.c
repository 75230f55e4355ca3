/* See schedule.h. */
#include "gpu/schedule.h"

#include <math.h>
#include <string.h>

static const char *const NAMES[] = {"constant", "cosine", "step"};

const char *schedule_name(ScheduleKind kind)
{
    return NAMES[kind];
}

bool schedule_from_name(const char *name, ScheduleKind *ret)
{
    for (int i = 0; i < 3; i++)
        if (strcmp(NAMES[i], name) == 0) {
            *ret = (ScheduleKind)i;
            return true;
        }
    return false;
}

double schedule_lr(const Schedule *schedule, int64_t s, int32_t epoch, double done)
{
    double lr = schedule->lr;
    done = done < 0 ? 0 : done > 1 ? 1 : done;
    if (schedule->kind == SCHEDULE_COSINE)
        lr = schedule->lr_min + 0.5 * (lr - schedule->lr_min) * (1 + cos(M_PI * done));
    else if (schedule->kind == SCHEDULE_STEP)
        lr *= pow(schedule->step_factor, epoch / schedule->step_epochs);
    if (s < schedule->warmup_steps)
        lr *= (double)(s + 1) / (double)schedule->warmup_steps;
    return lr;
}
