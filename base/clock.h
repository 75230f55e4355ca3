/* Clocks. Deadlines inside one process use the monotonic clock; what is stored uses wall time.
** Thread: any; clock_steady_ms() is first called before there are others. */
#ifndef CT2MR_BASE_CLOCK_H
#define CT2MR_BASE_CLOCK_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { CLOCK_TEXT_SIZE = 32 };

int64_t clock_monotonic_ms(void);
double clock_monotonic_s(void);
double clock_thread_s(void); /* processor time of the calling thread: other load does not count */
int64_t clock_wall_ms(void); /* since 1970-01-01 UTC */
/* Wall time as it was at this process's first call, plus what has passed since by the monotonic
** clock: a clock that is set while the process runs changes no wait and no deadline. */
int64_t clock_steady_ms(void);
/* "2026-01-31T12:00:00.000Z" of a wall time. Returns ret. */
const char *clock_text(int64_t wall_ms, char ret[CLOCK_TEXT_SIZE]);

#ifdef __cplusplus
}
#endif
#endif
