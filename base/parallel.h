/* A loop over independent items on several threads.
**
** Items are handed out in order; each must write only its own output, so that the result has the
** same bits for any number of threads. Returns when all items are done. */
#ifndef CT2MR_BASE_PARALLEL_H
#define CT2MR_BASE_PARALLEL_H

#ifdef __cplusplus
extern "C" {
#endif

/* Processors this process may use, at least 1, at most 64. */
int parallel_processors(void);
/* Calls body(context, i) for i in 0..n_items-1. n_threads <= 0: parallel_processors(). If threads
** cannot be made, the calling thread does the work. */
void parallel_for(int n_threads, int n_items, void (*body)(void *context, int item), void *context);

#ifdef __cplusplus
}
#endif
#endif
