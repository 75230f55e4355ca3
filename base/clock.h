/* Clocks. Deadlines inside one process use the monotonic clock; what is stored uses wall time.
** Thread: any. */
#ifndef CT2MR_BASE_CLOCK_H
#define CT2MR_BASE_CLOCK_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { CLOCK_TEXT_SIZE = 32 };

int64_t clock_monotonic_ms(void);
double clock_monotonic_s(void);
int64_t clock_wall_ms(void); /* since 1970-01-01 UTC */
/* "2026-01-31T12:00:00.000Z" of a wall time. Returns ret. */
const char *clock_text(int64_t wall_ms, char ret[CLOCK_TEXT_SIZE]);

#ifdef __cplusplus
}
#endif
#endif
