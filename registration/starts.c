/* See starts_int.h. */
#include "registration/starts_int.h"

#include "base/parallel.h"

#include <math.h>

typedef struct Search {
    const MetricLevel *level;
    OptimizeOptions options;
    Start *start;
    int n;
    Mutual *ranker; /* [STARTS_RANKERS] */
} Search;

/* Where the vertex or the base is cut off, the centroid says little about the height; and the
** average heads that serve as reference are larger than many patients' (Colin27 by a tenth). */
static void place_one(void *context, int item)
{
    static const double height_mm[] = {0, -25, 25, -50, 50}, scale[] = {1, 1.15};
    const Search *search = context;
    Start *s = &search->start[item];
    const Start first = *s;
    const Vec3 centre = search->level->centre_lps;
    const Vec3 image = affine_apply(first.moving_from_fixed, centre);
    s->cost = HUGE_VAL;
    for (int i = 0; i < 5; i++)
        for (int k = 0; k < (search->options.dof == 6 ? 1 : 2); k++) {
            Affine t = first.moving_from_fixed;
            for (int r = 0; r < 3; r++)
                for (int c = 0; c < 3; c++)
                    t.m[r][c] *= scale[k];
            Vec3 back = vec3_sub(image, affine_apply(t, centre));
            t.m[0][3] += back.x;
            t.m[1][3] += back.y;
            t.m[2][3] += back.z + height_mm[i];
            MetricCost at;
            metric_cost(search->level, t, 1, &at);
            if (at.cost < s->cost) {
                s->cost = at.cost;
                s->moving_from_fixed = t;
            }
        }
}

static void refine_one(void *context, int item)
{
    const Search *search = context;
    Start *s = &search->start[item];
    s->cost = optimize_affine(search->level, &search->options, &s->moving_from_fixed);
}

/* By cost; equal costs keep their order. */
static void sort_starts(Start *start, int n)
{
    for (int i = 1; i < n; i++) {
        Start moved = start[i];
        int j = i;
        for (; j > 0 && start[j - 1].cost > moved.cost; j--)
            start[j] = start[j - 1];
        start[j] = moved;
    }
}

static void rank_some(void *context, int ranker)
{
    const Search *search = context;
    for (int i = ranker; i < search->n; i += STARTS_RANKERS) {
        Start *s = &search->start[i];
        MetricCost at;
        if (s->cost >= METRIC_REJECTED)
            continue;
        metric_cost(search->level, s->moving_from_fixed, 1, &at);
        s->cost = mutual_cost(&search->ranker[ranker], s->moving_from_fixed, 1) +
                  metric_penalty(at.overlap_frac);
    }
}

static void refine_mutual_one(void *context, int item)
{
    const Search *search = context;
    Start *s = &search->start[item];
    if (s->cost < METRIC_REJECTED)
        (void)optimize_mutual(&search->ranker[item], &search->options, &s->moving_from_fixed);
}

double starts_distance_mm(const MetricLevel *level, Affine a, Affine b)
{
    double sum = 0;
    size_t i = 0;
    for (int z = 0; z < level->fixed.nz; z++)
        for (int y = 0; y < level->fixed.ny; y++)
            for (int x = 0; x < level->fixed.nx; x++)
                if (level->head[i++] != 0) {
                    Vec3 p = affine_apply(level->fixed.lps_from_vox, (Vec3){x, y, z});
                    sum += vec3_norm(vec3_sub(affine_apply(a, p), affine_apply(b, p)));
                }
    return level->n_head > 0 ? sum / level->n_head : 0;
}

void starts_place(const MetricLevel *level, int dof, int threads, int n, Start *start)
{
    Search search = {.level = level, .options.dof = dof, .start = start};
    parallel_for(threads, n, place_one, &search);
}

Status starts_refine(const MetricLevel *level, const Image *moving, const OptimizeOptions *options,
                     StartWay way, int n, Arena *arena, Start *start, Err *err)
{
    Mutual ranker[STARTS_RANKERS]; /* histograms: one to a thread */
    size_t mark = arena_mark(arena);
    for (int r = 0; r < STARTS_RANKERS; r++)
        TRY(mutual_open(level, moving->low, moving->high, arena, &ranker[r], err));
    Search search = {level, *options, start, n, ranker};
    search.options.threads = 1;
    ASSERT(way == START_BY_CORRELATION_RATIO || n <= STARTS_RANKERS);
    parallel_for(options->threads, n,
                 way == START_BY_CORRELATION_RATIO ? refine_one : refine_mutual_one, &search);
    parallel_for(options->threads, STARTS_RANKERS, rank_some, &search);
    sort_starts(start, n);
    arena_reset(arena, mark);
    return ST_OK;
}
