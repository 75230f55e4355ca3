/* Plans on disk, so that a worker need not ask cuDNN's heuristics again.
**
** One cache file (cuda_cache_file.h) for one key: model, network, shape, GPU, driver, cuDNN. Its
** body is the plans in cuDNN's own words; each is checked again when it is loaded (cuda_plan.h). A
** cache that cannot be read or written is no error.
**
** Thread: one per PlanCache; several processes may share a folder. */
#ifndef CT2MR_GPU_CUDA_CACHE_H
#define CT2MR_GPU_CUDA_CACHE_H

#include "gpu/cuda_cache_file.h"
#include "gpu/cuda_plan.h"

typedef struct PlanCache {
    CacheFile file;
    char *text;    /* the plans of the file, NULL if it does not count; owned */
    Err set_aside; /* why it does not count although it is there, or a plan of it; else ST_OK */
} PlanCache;

/* key: one line. */
void plan_cache_open(const char *key, PlanCache *ret);
/* The plan for that shape, to be freed; NULL if there is none. */
char *plan_cache_find(const PlanCache *cache, const ConvShape *shape);
void plan_cache_write(const PlanCache *cache, const ConvPlan *plans, int n);
void plan_cache_close(PlanCache *cache);

#endif
