/* Arena: one reserved range of addresses from which a job takes its memory, freed in one step.
**
** arena_open() reserves `limit_bytes` of address space; pages are committed when first touched.
** arena_alloc() is a pointer bump; memory is zero on first use after open, undefined after a
** reset. The limit is the job's memory limit: exceeding it is ST_LIMIT, not a crash.
** Returned pointers are aligned to 64 bytes and valid until reset below their mark, or close.
**
** Thread: an Arena belongs to one thread. */
#ifndef CT2MR_BASE_ARENA_H
#define CT2MR_BASE_ARENA_H

#include "base/err.h"

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct Arena {
    unsigned char *base;
    size_t used_bytes, peak_bytes, limit_bytes;
} Arena;

MUST_CHECK Status arena_open(size_t limit_bytes, Arena *ret, Err *err);
/* Accepts a zeroed Arena. */
void arena_close(Arena *arena);
/* count * size bytes (checked multiplication). NULL and err set (ST_LIMIT) when it does not fit. */
MUST_CHECK void *arena_alloc(Arena *arena, size_t count, size_t size, Err *err);
/* A copy of the string. */
MUST_CHECK char *arena_strdup(Arena *arena, const char *text, Err *err);
/* mark/reset: memory taken since the mark is given back, its pages to the kernel if large. */
size_t arena_mark(const Arena *arena);
void arena_reset(Arena *arena, size_t mark);

#ifdef __cplusplus
}
#endif
#endif
