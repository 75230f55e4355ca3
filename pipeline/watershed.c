/* See watershed.h. A queue of one level is a list through next[]: a voxel is in one queue at most,
** so one array holds all 256. */
#include "pipeline/watershed.h"

#include "base/err.h"

enum { LEVELS = 256 };

typedef struct Queues {
    const uint8_t *level;
    uint8_t *label;
    int32_t *next;
    int32_t head[LEVELS], tail[LEVELS];
} Queues;

static inline void push(Queues *q, int32_t voxel, int level)
{
    q->next[voxel] = -1;
    if (q->head[level] < 0)
        q->head[level] = voxel;
    else
        q->next[q->tail[level]] = voxel;
    q->tail[level] = voxel;
}

static inline void flood(Queues *q, int32_t voxel, uint8_t label, int current)
{
    if (q->label[voxel] != 0)
        return;
    q->label[voxel] = label;
    push(q, voxel, q->level[voxel] < current ? current : q->level[voxel]);
}

/* Only markers with something to flood: the inside of a marker would pass through the queue for
** nothing. */
static void push_markers(const Grid *grid, Queues *q)
{
    int32_t nx = grid->nx, ny = grid->ny, nz = grid->nz, nxy = nx * ny, i = 0;
    const uint8_t *l = q->label;
    for (int32_t z = 0; z < nz; z++)
        for (int32_t y = 0; y < ny; y++)
            for (int32_t x = 0; x < nx; x++, i++) {
                if (l[i] == 0)
                    continue;
                if ((x > 0 && l[i - 1] == 0) || (x < nx - 1 && l[i + 1] == 0) ||
                    (y > 0 && l[i - nx] == 0) || (y < ny - 1 && l[i + nx] == 0) ||
                    (z > 0 && l[i - nxy] == 0) || (z < nz - 1 && l[i + nxy] == 0))
                    push(q, i, q->level[i]);
            }
}

void watershed_flood(const Grid *grid, const uint8_t *level, uint8_t *label, int32_t *next)
{
    ASSERT(grid_voxels(grid) <= INT32_MAX);
    int32_t nx = grid->nx, ny = grid->ny, nz = grid->nz, nxy = nx * ny;
    Queues q = {.level = level, .label = label, .next = next};
    for (int i = 0; i < LEVELS; i++)
        q.head[i] = -1;
    push_markers(grid, &q);
    for (int current = 0; current < LEVELS;) {
        int32_t i = q.head[current];
        if (i < 0) {
            current++;
            continue;
        }
        q.head[current] = next[i];
        uint8_t l = label[i];
        int32_t z = i / nxy, in_plane = i - z * nxy, y = in_plane / nx, x = in_plane - y * nx;
        if (x > 0)
            flood(&q, i - 1, l, current);
        if (x < nx - 1)
            flood(&q, i + 1, l, current);
        if (y > 0)
            flood(&q, i - nx, l, current);
        if (y < ny - 1)
            flood(&q, i + nx, l, current);
        if (z > 0)
            flood(&q, i - nxy, l, current);
        if (z < nz - 1)
            flood(&q, i + nxy, l, current);
    }
}
