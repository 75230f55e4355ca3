/* See dnnl_team.h. GOMP_parallel is what GCC makes of `#pragma omp parallel`: part of libgomp's
** binary interface since GCC 4.9. */
#include "gpu/dnnl_team.h"

#include <dlfcn.h>
#include <oneapi/dnnl/dnnl.h>
#include <string.h>

Status dnnl_team_find(int32_t threads, DnnlTeam *ret, Err *err)
{
    *ret = (DnnlTeam){.threads = threads};
    unsigned runtime = dnnl_version()->cpu_runtime;
    if (runtime == DNNL_RUNTIME_SEQ)
        return ST_OK;
    void *const found[5] = {
        dlsym(RTLD_DEFAULT, "omp_get_max_threads"), dlsym(RTLD_DEFAULT, "omp_set_num_threads"),
        dlsym(RTLD_DEFAULT, "omp_get_thread_num"), dlsym(RTLD_DEFAULT, "omp_get_num_threads"),
        dlsym(RTLD_DEFAULT, "GOMP_parallel")};
    for (int i = 0; i < 5; i++)
        if (runtime != DNNL_RUNTIME_OMP || found[i] == NULL)
            return err_set(err, ST_BACKEND, "oneDNN with thread runtime %u; GNU OpenMP is wanted",
                           runtime);
    memcpy(&ret->omp_get_max_threads, &found[0], sizeof found[0]); /* C has no such cast */
    memcpy(&ret->omp_set_num_threads, &found[1], sizeof found[1]);
    memcpy(&ret->omp_get_thread_num, &found[2], sizeof found[2]);
    memcpy(&ret->omp_get_num_threads, &found[3], sizeof found[3]);
    memcpy(&ret->gomp_parallel, &found[4], sizeof found[4]);
    return ST_OK;
}

int dnnl_team_enter(const DnnlTeam *team)
{
    if (team->omp_set_num_threads == NULL)
        return 1;
    int before = team->omp_get_max_threads();
    if (before != team->threads)
        team->omp_set_num_threads(team->threads);
    return before;
}

void dnnl_team_leave(const DnnlTeam *team, int before)
{
    if (team->omp_set_num_threads != NULL && before != team->threads)
        team->omp_set_num_threads(before);
}

typedef struct Region {
    const DnnlTeam *team;
    void (*body)(void *context, int32_t part);
    void *context;
} Region;

static void run_thread(void *data)
{
    const Region *r = data;
    int32_t step = r->team->omp_get_num_threads();
    for (int32_t part = r->team->omp_get_thread_num(); part < r->team->threads; part += step)
        r->body(r->context, part);
}

void dnnl_team_run(const DnnlTeam *team, void (*body)(void *context, int32_t part), void *context)
{
    Region region = {team, body, context};
    if (team->gomp_parallel != NULL && team->threads > 1) {
        team->gomp_parallel(run_thread, &region, (unsigned)team->threads, 0);
        return;
    }
    for (int32_t part = 0; part < team->threads; part++)
        body(context, part);
}
