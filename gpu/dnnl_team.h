/* oneDNN's own threads, for its work and for loops of ours between: one set of threads, so that
** none waits spinning while another computes. Debian's oneDNN takes them from GNU OpenMP, which it
** links but we do not; hence its functions are looked up by name. */
#ifndef CT2MR_GPU_DNNL_TEAM_H
#define CT2MR_GPU_DNNL_TEAM_H

#include "base/err.h"

#include <stdint.h>

typedef struct DnnlTeam {
    int32_t threads;
    int (*omp_get_max_threads)(void); /* all NULL: oneDNN was built without threads */
    void (*omp_set_num_threads)(int);
    int (*omp_get_thread_num)(void);
    int (*omp_get_num_threads)(void);
    void (*gomp_parallel)(void (*body)(void *data), void *data, unsigned threads, unsigned flags);
} DnnlTeam;

/* Errors: BACKEND (a oneDNN with other threads). */
MUST_CHECK Status dnnl_team_find(int32_t threads, DnnlTeam *ret, Err *err);
/* The setting belongs to the calling thread: enter before oneDNN is called, leave after, with what
** enter returned. */
int dnnl_team_enter(const DnnlTeam *team);
void dnnl_team_leave(const DnnlTeam *team, int before);
/* Calls body(context, part) for part in 0..team->threads-1, each on one of the threads; parts are
** the same however many threads there really are. */
void dnnl_team_run(const DnnlTeam *team, void (*body)(void *context, int32_t part), void *context);

#endif
