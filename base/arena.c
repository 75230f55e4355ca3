/* Arena over one private anonymous mapping. See arena.h. */
#include "base/arena.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

enum { ALIGN = 64 };
#define GIVE_BACK_BYTES                                                                            \
    ((size_t)1                                                                                     \
     << 20) /* smaller resets keep their pages: madvise costs more                       \
                       */

Status arena_open(size_t limit_bytes, Arena *ret, Err *err)
{
    void *base = mmap(NULL, limit_bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED)
        return err_sys(err, errno, "reserving %zu bytes", limit_bytes);
    *ret = (Arena){.base = base, .limit_bytes = limit_bytes};
    return ST_OK;
}

void arena_close(Arena *arena)
{
    if (arena == NULL || arena->base == NULL)
        return;
    (void)munmap(arena->base, arena->limit_bytes);
    *arena = (Arena){0};
}

void *arena_alloc(Arena *arena, size_t count, size_t size, Err *err)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes) || bytes > SIZE_MAX - ALIGN) {
        (void)err_set(err, ST_LIMIT, "allocation of %zu x %zu bytes overflows", count, size);
        return NULL;
    }
    bytes = (bytes + ALIGN - 1) / ALIGN * ALIGN;
    if (bytes > arena->limit_bytes - arena->used_bytes) {
        (void)err_set(err, ST_LIMIT, "job memory: %zu bytes wanted, %zu of %zu in use", bytes,
                      arena->used_bytes, arena->limit_bytes);
        return NULL;
    }
    void *p = arena->base + arena->used_bytes;
    arena->used_bytes += bytes;
    if (arena->used_bytes > arena->peak_bytes)
        arena->peak_bytes = arena->used_bytes;
    return p;
}

char *arena_strdup(Arena *arena, const char *text, Err *err)
{
    size_t n = strlen(text) + 1;
    char *copy = arena_alloc(arena, n, 1, err);
    if (copy != NULL)
        memcpy(copy, text, n);
    return copy;
}

size_t arena_mark(const Arena *arena)
{
    return arena->used_bytes;
}

void arena_reset(Arena *arena, size_t mark)
{
    ASSERT(mark <= arena->used_bytes);
    if (arena->used_bytes - mark >= GIVE_BACK_BYTES) {
        size_t page = 4096, from = (mark + page - 1) / page * page;
        if (from < arena->used_bytes)
            (void)madvise(arena->base + from, arena->used_bytes - from, MADV_DONTNEED);
    }
    arena->used_bytes = mark;
}
