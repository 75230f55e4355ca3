/* See parallel.h. Threads live for one call: the calls are few and take milliseconds or more. */
#include "base/parallel.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

enum { MAX_THREADS = 64 };

typedef struct Loop {
    atomic_int next;
    int n_items;
    void (*body)(void *context, int item);
    void *context;
} Loop;

int parallel_processors(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0)
        return 1;
    int n = CPU_COUNT(&set);
    return n < 1 ? 1 : n > MAX_THREADS ? MAX_THREADS : n;
}

static void *run(void *argument)
{
    Loop *loop = argument;
    for (int i; (i = atomic_fetch_add(&loop->next, 1)) < loop->n_items;)
        loop->body(loop->context, i);
    return NULL;
}

void parallel_for(int n_threads, int n_items, void (*body)(void *context, int item), void *context)
{
    if (n_threads <= 0)
        n_threads = parallel_processors();
    if (n_threads > n_items)
        n_threads = n_items;
    if (n_threads > MAX_THREADS)
        n_threads = MAX_THREADS;
    Loop loop = {.n_items = n_items, .body = body, .context = context};
    pthread_t threads[MAX_THREADS];
    int started = 0;
    while (started < n_threads - 1 && pthread_create(&threads[started], NULL, run, &loop) == 0)
        started++;
    (void)run(&loop);
    for (int i = 0; i < started; i++)
        (void)pthread_join(threads[i], NULL);
}
