/* Plans on disk, so that a worker need not ask cuDNN's heuristics again.
**
** One file for one key (model, network, shape, GPU, driver, cuDNN); text: a line with the SHA-256
** of the rest, the key, then the plans in cuDNN's own words. A file that is damaged, of another key
** or unreadable counts as absent; each plan is checked again when it is loaded (cuda_plan.h). It is
** written whole and renamed into place. The folder: $CT2MR_CACHE_DIR, else systemd's
** $CACHE_DIRECTORY, else $XDG_CACHE_HOME/ct2mr or $HOME/.cache/ct2mr; without any of them there is
** no cache. A cache that cannot be read or written is no error.
**
** Thread: one per PlanCache; several processes may share a folder. */
#ifndef CT2MR_GPU_CUDA_CACHE_H
#define CT2MR_GPU_CUDA_CACHE_H

#include "base/files.h"
#include "gpu/cuda_plan.h"

typedef struct PlanCache {
    char path[PATH_SIZE]; /* "": no folder */
    char key[1024];
    char *text; /* the plans of the file, NULL if it does not count; owned */
} PlanCache;

/* key: one line. */
void plan_cache_open(const char *key, PlanCache *ret);
/* The plan for that shape, to be freed; NULL if there is none. */
char *plan_cache_find(const PlanCache *cache, const ConvShape *shape);
void plan_cache_write(const PlanCache *cache, const ConvPlan *plans, int n);
void plan_cache_close(PlanCache *cache);

#endif
