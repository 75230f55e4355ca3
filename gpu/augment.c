/* See augment.h. A pixel (X, Y) of the result, from the slice's centre, comes from
** M (X + e(X, Y)) + shift of the source, z slices away, z = tilt . (X, Y). */
#include "gpu/augment.h"

#include "gpu/augment_int.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define THICKNESS_MAX_MM 5.0 /* of slices averaged */
enum { THICKNESS_MAX_SLICES = 10 };

static const char *const NAMES[AUGMENT_KINDS] = {"rotate90",  "flip",  "pose", "elastic",
                                                 "thickness", "noise", "blur", "contrast"};

const char *augment_name(int kind)
{
    return kind >= 0 && kind < AUGMENT_KINDS ? NAMES[kind] : NULL;
}

static bool find_kind(const char *text, size_t n, unsigned *kinds)
{
    for (int k = 0; k < AUGMENT_KINDS; k++)
        if (strlen(NAMES[k]) == n && memcmp(NAMES[k], text, n) == 0) {
            *kinds |= 1u << k;
            return true;
        }
    return false;
}

Status augment_parse(const char *text, unsigned *ret, Err *err)
{
    unsigned kinds = 0;
    bool is_word = strcmp(text, "all") == 0 || strcmp(text, "none") == 0;
    for (const char *p = text; !is_word;) {
        size_t n = strcspn(p, ",");
        if (!find_kind(p, n, &kinds))
            return err_set(err, ST_USAGE,
                           "augmentation \"%.*s\" is none of rotate90, flip, pose, elastic, "
                           "thickness, noise, blur, contrast, all, none",
                           (int)(n < 40 ? n : 40), p);
        if (p[n] == '\0')
            break;
        p += n + 1;
    }
    *ret = strcmp(text, "all") == 0 ? AUGMENT_ALL : kinds;
    return ST_OK;
}

Status augment_work_open(int32_t pixels, AugmentWork **ret, Err *err)
{
    AugmentWork *work = calloc(1, sizeof *work);
    size_t n = (size_t)pixels * (size_t)pixels;
    if (work != NULL) {
        work->pixels = pixels;
        work->hu = calloc(n, sizeof *work->hu);
        work->mask = calloc(n, sizeof *work->mask);
        work->mr = calloc(n, sizeof *work->mr);
        work->value = calloc(n, sizeof *work->value);
        work->spare = calloc(n, sizeof *work->spare);
        work->noise = calloc(n, sizeof *work->noise);
    }
    if (work == NULL || work->hu == NULL || work->mask == NULL || work->mr == NULL ||
        work->value == NULL || work->spare == NULL || work->noise == NULL) {
        augment_work_close(work);
        return err_set(err, ST_NO_MEMORY, "a training pair of %d x %d", pixels, pixels);
    }
    *ret = work;
    return ST_OK;
}

void augment_work_close(AugmentWork *work)
{
    if (work == NULL)
        return;
    free(work->hu);
    free(work->mask);
    free(work->mr);
    free(work->value);
    free(work->spare);
    free(work->noise);
    free(work);
}

/* ---- what to do ---------------------------------------------------------------------------- */

static Random stream_of(Random random, enum AugmentKind kind)
{
    return random_stream(random.key, (uint64_t)kind, 1);
}

static void turn(AugmentMove *move, double cosine, double sine)
{
    const double m[2][2] = {{move->m[0][0], move->m[0][1]}, {move->m[1][0], move->m[1][1]}};
    for (int r = 0; r < 2; r++) {
        move->m[r][0] = m[r][0] * cosine + m[r][1] * sine;
        move->m[r][1] = m[r][1] * cosine - m[r][0] * sine;
    }
}

static void draw_pose(AugmentMove *move, Random random, double spacing_mm, double slice_mm)
{
    double angle = 0.08 * random_normal(&random), scale = random_between(&random, 0.9, 1.1);
    turn(move, cos(angle), sin(angle));
    for (int axis = 0; axis < 2; axis++) {
        double s = scale * random_between(&random, 0.97, 1.03);
        move->m[0][axis] *= s;
        move->m[1][axis] *= s;
    }
    for (int axis = 0; axis < 2; axis++) {
        double tilt = 0.05 * random_normal(&random);
        move->shift[axis] = 4 / spacing_mm * random_normal(&random);
        move->tilt[axis] = slice_mm > 0 ? tilt * spacing_mm / slice_mm : 0;
    }
}

static AugmentMove draw_move(const PackCase *c, double spacing_mm, unsigned kinds, Random random)
{
    static const int COSINE[4] = {1, 0, -1, 0};
    AugmentMove move = {.m = {{1, 0}, {0, 1}}, .thickness = 1};
    if ((kinds & 1u << AUGMENT_ROTATE90) != 0) {
        Random r = stream_of(random, AUGMENT_ROTATE90);
        uint32_t quarter = random_below(&r, 4);
        turn(&move, COSINE[quarter], COSINE[(quarter + 3) % 4]);
    }
    if ((kinds & 1u << AUGMENT_FLIP) != 0) {
        Random r = stream_of(random, AUGMENT_FLIP);
        double sign = random_below(&r, 2) != 0 ? -1 : 1;
        move.m[0][0] *= sign;
        move.m[1][0] *= sign;
    }
    if ((kinds & 1u << AUGMENT_POSE) != 0)
        draw_pose(&move, stream_of(random, AUGMENT_POSE), spacing_mm, c->slice_spacing_mm);
    if ((kinds & 1u << AUGMENT_THICKNESS) != 0 && c->slice_spacing_mm > 0) {
        Random r = stream_of(random, AUGMENT_THICKNESS);
        double most = fmin(THICKNESS_MAX_MM / c->slice_spacing_mm + 1e-6, THICKNESS_MAX_SLICES);
        move.thickness = 1 + (most > 1 ? (int)random_below(&r, (uint32_t)most) : 0);
    }
    if ((kinds & 1u << AUGMENT_ELASTIC) != 0) {
        Random r = stream_of(random, AUGMENT_ELASTIC);
        double amplitude = random_between(&r, 0, 3) / spacing_mm;
        move.is_elastic = true;
        for (int axis = 0; axis < 2; axis++)
            for (int k = 0; k < ELASTIC_KNOTS * ELASTIC_KNOTS; k++)
                move.knots[axis][k] = amplitude * random_normal(&r);
    }
    return move;
}

static bool is_still(const AugmentMove *move)
{
    return move->m[0][0] == 1 && move->m[1][1] == 1 && move->m[0][1] == 0 && move->m[1][0] == 0 &&
           move->shift[0] == 0 && move->shift[1] == 0 && move->thickness == 1 && !move->is_elastic;
}

static const PackCase *case_of(const PackInfo *info, int32_t slice)
{
    const PackCase *c = info->cases;
    while (slice >= c->first_slice + c->n_slices)
        c++;
    return c;
}

AugmentPair augment_pair(AugmentWork *work, const Pack *pack, int32_t slice, unsigned kinds,
                         Random random)
{
    const PackInfo *info = pack_info(pack);
    const PackCase *c = case_of(info, slice);
    AugmentMove move = draw_move(c, info->spacing_mm, kinds, random);
    const int32_t n = work->pixels * work->pixels;
    if (is_still(&move)) {
        const int16_t *hu = pack_hu(pack, slice);
        const uint16_t *mr = pack_mr(pack, slice);
        memcpy(work->mask, pack_mask(pack, slice), (size_t)n);
        for (int32_t i = 0; i < n; i++) {
            work->value[i] = hu[i];
            work->mr[i] = (float)mr[i] * (1 / 65535.0f);
        }
    } else {
        augment_sample(work, pack, c, slice, &move);
    }
    if ((kinds & 1u << AUGMENT_CONTRAST) != 0)
        augment_contrast(work, stream_of(random, AUGMENT_CONTRAST));
    if ((kinds & 1u << AUGMENT_BLUR) != 0)
        augment_blur(work, stream_of(random, AUGMENT_BLUR));
    if ((kinds & 1u << AUGMENT_NOISE) != 0)
        augment_noise(work, stream_of(random, AUGMENT_NOISE));
    for (int32_t i = 0; i < n; i++) {
        float v = work->value[i];
        v = v < -1024 ? -1024 : v > 3071 ? 3071 : v;
        work->hu[i] = (int16_t)(v < 0 ? v - 0.5f : v + 0.5f);
    }
    return (AugmentPair){work->hu, work->mask, work->mr};
}
