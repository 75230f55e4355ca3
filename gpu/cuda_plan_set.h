/* The plans of a network, each shape once.
**
** Ownership: plan_set_drop() frees them all. Thread: one. */
#ifndef CT2MR_GPU_CUDA_PLAN_SET_H
#define CT2MR_GPU_CUDA_PLAN_SET_H

#include "gpu/cuda_cache.h"
#include "gpu/graph.h"

enum { PLAN_SET_MAX = 3 * GRAPH_MAX_OPS };

typedef struct PlanSet { /* large: not for stacks; begins zeroed */
    ConvPlan plans[PLAN_SET_MAX];
    int32_t n;
    size_t workspace_bytes; /* of the plan that needs most */
    bool changed;           /* a plan is not from the cache */
} PlanSet;

typedef struct PlanMaker { /* borrowed */
    PlanCache *cache;      /* set_aside: why a plan of it does not count */
    const char *profile;   /* of the device (cuda_desc.h) */
    cudnnHandle_t handle;  /* see conv_load() */
} PlanMaker;

/* Index of the plan for that shape, which is made if it is not there: from the cache if that has
** a good one. Errors: BACKEND, NO_MEMORY. */
MUST_CHECK Status plan_set_add(PlanSet *set, const PlanMaker *maker, const ConvShape *shape,
                               int32_t *ret, Err *err);
void plan_set_drop(PlanSet *set);

#endif
