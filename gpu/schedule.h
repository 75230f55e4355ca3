/* The learning rate over a training. Thread: pure function. */
#ifndef CT2MR_GPU_SCHEDULE_H
#define CT2MR_GPU_SCHEDULE_H

#include "base/err.h"

#include <stdint.h>

typedef enum ScheduleKind { SCHEDULE_CONSTANT, SCHEDULE_COSINE, SCHEDULE_STEP } ScheduleKind;

typedef struct Schedule {
    ScheduleKind kind;
    double lr, lr_min;    /* cosine: from lr to lr_min (Loshchilov and Hutter 2017, no restarts) */
    double step_factor;   /* step: lr times this after each step_epochs */
    int32_t step_epochs;  /* >= 1 */
    int64_t warmup_steps; /* all: times (s + 1) / warmup_steps while step s is below it */
} Schedule;

const char *schedule_name(ScheduleKind kind);
bool schedule_from_name(const char *name, ScheduleKind *ret); /* constant, cosine, step */
/* For step s (0..) of epoch `epoch` (0..), when `done` (0..1) of the training is over. */
double schedule_lr(const Schedule *schedule, int64_t s, int32_t epoch, double done);

#endif
