/* One slice is one thread's work: the loop that the CPU backends share. See backend.h. */
#include "gpu/backend.h"

#include "base/parallel.h"

#include <pthread.h>
#include <stdatomic.h>

typedef struct SliceLoop {
    BackendSlice *slice;
    void *state;
    int32_t n;
    atomic_int next;
    atomic_bool failed;
    pthread_mutex_t lock; /* guards what follows; held for copies only */
    int32_t failed_slice;
    Err err;
} SliceLoop;

static void run_worker(void *context, int worker)
{
    SliceLoop *loop = context;
    for (int32_t i;
         !atomic_load(&loop->failed) && (i = atomic_fetch_add(&loop->next, 1)) < loop->n;) {
        Err err = {0};
        if (loop->slice(loop->state, worker, i, &err) == ST_OK)
            continue;
        (void)pthread_mutex_lock(&loop->lock);
        if (!atomic_load(&loop->failed) || i < loop->failed_slice) {
            loop->failed_slice = i;
            loop->err = err;
        }
        atomic_store(&loop->failed, true);
        (void)pthread_mutex_unlock(&loop->lock);
    }
}

Status backend_each_slice(int32_t n_workers, int32_t n, BackendSlice *slice, void *state, Err *err)
{
    SliceLoop loop = {.slice = slice, .state = state, .n = n, .lock = PTHREAD_MUTEX_INITIALIZER};
    int32_t busy = n < n_workers ? n : n_workers;
    parallel_for(busy, busy, run_worker, &loop);
    if (!atomic_load(&loop.failed))
        return ST_OK;
    if (err != NULL)
        *err = loop.err;
    return loop.err.status;
}
