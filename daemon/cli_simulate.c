/* ct2mr simulate: a CT simulated from the Colin27 head, for demonstrations and tests.
**
** --ct, --mr: the head's CT and MR as volumes. --pack: cases for training, each the head with other
** tissue HU, tilted otherwise, in slices 1 mm apart. --slices: cases of so many single slices in
** which everything is random (pose, size, deformation, thickness, noise, blur, a couch); from the
** second on the ventricles have another width. */
#include "daemon/cli.h"
#include "daemon/cli_volume.h"

#include "base/parallel.h"
#include "gpu/pack_file.h"
#include "pipeline/nifti.h"
#include "pipeline/pack.h"
#include "pipeline/simulate.h"
#include "pipeline/turn.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ARENA_BYTES ((size_t)8 << 30) /* address space; memory is taken as it is touched */
#define TEMPLATES "/usr/share/mricron/templates/"
enum { SIDE = 256, PIXELS = SIDE * SIDE, FIRST_VOX = 8, LAST_VOX = 12 /* from the top */ };
/* Streams of the seed: 1 and 2 make the recipes, 3 the ventricles. */
enum { SLICES_STREAM = 1 << 20, CASES_STREAM = 4 };

typedef struct Arguments {
    const char *t1, *brain, *ct, *mr, *pack;
    int64_t cases, slices, seed; /* cases, seed: 0, -1 until given */
    TissueHu tissue;
    bool has_tissue, overwrite, json;
} Arguments;

/* ---- volumes --------------------------------------------------------------------------------- */

static Status write_volumes(const Arguments *a, const SimulatedHead *head, Arena *arena, Err *err)
{
    if (a->ct != NULL) {
        VolumeI16 ct;
        TRY(simulate_ct(head, &a->tissue, &ct, arena, err));
        TRY(nifti_write_i16(a->ct, &ct, err));
    }
    return a->mr == NULL ? ST_OK : nifti_write_f32(a->mr, &head->t1, err);
}

/* ---- slices ---------------------------------------------------------------------------------- */

typedef struct Drawing {
    SimulatedHead head;         /* of the case: the template, or one with other ventricles */
    const SliceRecipe *recipes; /* [n] */
    uint64_t seed, stream;
    int16_t *hu;
    uint8_t *mask;
    uint16_t *mr; /* [n][PIXELS] each */
    Err *errors;
} Drawing;

static void draw_one(void *context, int i)
{
    const Drawing *d = context;
    size_t at = (size_t)i * PIXELS;
    Random random = random_stream(d->seed, d->stream, (uint64_t)i);
    Arena scratch = {0};
    Status status = arena_open((size_t)64 << 20, &scratch, &d->errors[i]);
    if (status == ST_OK)
        status = simulate_slice(&d->head, &d->recipes[i], SIDE, &random, d->hu + at, d->mask + at,
                                d->mr + at, &scratch, &d->errors[i]);
    arena_close(&scratch);
    if (status != ST_OK)
        d->errors[i].status = status;
}

static Status draw_case(PackWriter *writer, const char *id, double spacing_mm, Drawing *d,
                        int32_t n, Err *err)
{
    memset(d->errors, 0, (size_t)n * sizeof *d->errors);
    parallel_for(0, n, draw_one, d);
    TRY(pack_begin_case(writer, id, spacing_mm, err));
    for (int32_t i = 0; i < n; i++) {
        size_t at = (size_t)i * PIXELS;
        if (d->errors[i].status != ST_OK)
            return err_set(err, d->errors[i].status, "%s", d->errors[i].msg);
        TRY(pack_add_slice(writer, d->hu + at, d->mask + at, d->mr + at, err));
    }
    return ST_OK;
}

/* The head with tissue of its own and tilted at random, in slices 1 mm apart. */
static void make_recipes(const Arguments *a, const Grid *grid, int64_t number, int32_t n,
                         SliceRecipe *ret)
{
    static const double scale[2] = {1, 1}, shift[2] = {0, 0};
    Random random = random_stream((uint64_t)a->seed, 1, (uint64_t)number);
    TissueHu tissue = simulate_random_tissue(&random);
    double turn[3] = {0.10 * random_normal(&random), 0.06 * random_normal(&random), 0};
    for (int32_t i = 0; i < n; i++)
        ret[i] = (SliceRecipe){.thick = 1,
                               .tissue = tissue,
                               .vox_from_pixel =
                                   simulate_pose(grid, SIDE, turn, scale, shift, FIRST_VOX + i)};
}

static void make_single_recipes(const Arguments *a, const Grid *grid, int64_t number, int32_t n,
                                SliceRecipe *ret)
{
    for (int32_t i = 0; i < n; i++) {
        Random random = random_stream((uint64_t)a->seed, 2, (uint64_t)(number * n + i));
        ret[i] = simulate_random_recipe(grid, SIDE, &random);
    }
}

/* What makes a case of single slices another head than the template. */
static Status vary_head(const Arguments *a, const SimulatedHead *head, int64_t number,
                        SimulatedHead *ret, Arena *arena, Arena *scratch, Err *err)
{
    Random random = random_stream((uint64_t)a->seed, 3, (uint64_t)number);
    *ret = *head;
    return number == 0 ? ST_OK
                       : simulate_ventricles(head, random_between(&random, -2, 10), 0, ret, arena,
                                             scratch, err);
}

static Status draw_cases(const Arguments *a, const SimulatedHead *head, Drawing *d,
                         SliceRecipe *recipes, int32_t n, PackWriter *writer, Arena *arena,
                         Arena *scratch, Err *err)
{
    char name[64], id[PACK_ID_SIZE]; /* of the seed and the number, whatever slices there are */
    d->head = *head;
    d->seed = (uint64_t)a->seed;
    d->recipes = recipes;
    for (int64_t c = 0; c < a->cases; c++) {
        bool single = a->slices > 0;
        size_t mark = arena_mark(arena);
        if (single) {
            TRY(vary_head(a, head, c, &d->head, arena, scratch, err));
            make_single_recipes(a, &head->t1.grid, c, n, recipes);
        } else
            make_recipes(a, &head->t1.grid, c, n, recipes);
        d->stream = (single ? SLICES_STREAM : CASES_STREAM) + (uint64_t)c;
        (void)snprintf(name, sizeof name, "seed %lld %s %lld", (long long)a->seed,
                       single ? "slices" : "case", (long long)c);
        pack_case_id("simulated", name, id);
        TRY(draw_case(writer, id, single ? 0 : 1, d, n, err));
        arena_reset(arena, mark);
    }
    return ST_OK;
}

static Status write_pack(const Arguments *a, const SimulatedHead *head, Arena *arena,
                         Arena *scratch, Err *err)
{
    const Grid *grid = &head->t1.grid;
    PackInfo info = {.pixels = SIDE,
                     .spacing_mm = grid_spacing_mm(grid, 0),
                     .window_level_hu = 40,
                     .window_width_hu = 80,
                     .pose = POSE_REFERENCE,
                     .mask = MASK_HEAD,
                     .target = "T1"};
    if (!grid_axes(grid, info.axes))
        return err_set(err, ST_NIFTI, "the template's slices are not axial");
    int32_t n = a->slices > 0 ? (int32_t)a->slices : grid->nz - LAST_VOX - FIRST_VOX;
    if (n < 1)
        return err_set(err, ST_NIFTI, "the template has %d slices", grid->nz);
    size_t all = (size_t)n * PIXELS;
    SliceRecipe *recipes = arena_alloc(arena, (size_t)n, sizeof *recipes, err);
    Drawing d = {.hu = arena_alloc(arena, all, sizeof *d.hu, err),
                 .mask = arena_alloc(arena, all, 1, err),
                 .mr = arena_alloc(arena, all, sizeof *d.mr, err),
                 .errors = arena_alloc(arena, (size_t)n, sizeof *d.errors, err)};
    if (recipes == NULL || d.hu == NULL || d.mask == NULL || d.mr == NULL || d.errors == NULL)
        return ST_LIMIT;
    PackWriter *writer;
    char text[128];
    TRY(pack_create(a->pack, &info, &writer, err));
    Status status = draw_cases(a, head, &d, recipes, n, writer, arena, scratch, err);
    if (status != ST_OK) {
        pack_abandon(writer);
        return status;
    }
    (void)snprintf(text, sizeof text,
                   "{\"software\":\"ct2mr " CT2MR_VERSION
                   "\",\"kind\":\"simulated\",\"seed\":%lld}",
                   (long long)a->seed);
    return pack_end(writer, text, err);
}

/* ---- the command ----------------------------------------------------------------------------- */

static Status simulate(const Arguments *a, Arena *arena, Arena *scratch, Err *err)
{
    SimulatedHead head;
    TRY(simulate_head(a->t1, a->brain, 0, &head, arena, scratch, err));
    TRY(write_volumes(a, &head, arena, err));
    return a->pack != NULL ? write_pack(a, &head, arena, scratch, err) : ST_OK;
}

static bool is_hu(double hu)
{
    return hu >= -1024 && hu <= 3071;
}

static bool parse_tissue(const char *text, TissueHu *ret)
{
    char copy[128], *fields[3];
    if (strlen(text) >= sizeof copy)
        return false;
    memcpy(copy, text, strlen(text) + 1);
    char *p = copy;
    for (int i = 0; i < 3; i++) {
        fields[i] = p;
        p = p != NULL ? strchr(p, ',') : NULL;
        if (p != NULL)
            *p++ = '\0';
        else if (i < 2)
            return false;
    }
    return p == NULL && cli_parse_double(fields[0], &ret->fluid) &&
           cli_parse_double(fields[1], &ret->grey) && cli_parse_double(fields[2], &ret->white) &&
           is_hu(ret->fluid) && is_hu(ret->grey) && is_hu(ret->white);
}

/* What does not go together; defaults for what was not given. */
static int check(const Arguments *given, Arguments *ret)
{
    Arguments a = *given;
    const char *const files[] = {a.ct, a.mr, a.pack};
    if (a.pack == NULL && (a.cases > 0 || a.slices > 0 || a.seed >= 0))
        return cli_usage("simulate", "--cases, --slices and --seed are for --pack");
    if (a.ct == NULL && a.has_tissue)
        return cli_usage("simulate", "--tissue is for --ct; cases have tissue of their own");
    if (cli_same_output(a.ct, a.mr) || cli_same_output(a.ct, a.pack) ||
        cli_same_output(a.mr, a.pack))
        return cli_usage("simulate", "two outputs are one file");
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++)
        if (files[i] != NULL && !a.overwrite && cli_exists(files[i]))
            return cli_usage("simulate", "%.200s exists: --overwrite replaces it", files[i]);
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++)
        if (cli_same_file(files[i], a.t1) || cli_same_file(files[i], a.brain))
            return cli_usage("simulate", "an output is one of the files to be read");
    if (a.pack != NULL && !cli_may_replace(a.pack, PACK_MAGIC))
        return cli_usage("simulate", "%.200s exists and is no packed file: give another name",
                         a.pack);
    if (a.cases == 0)
        a.cases = a.slices > 0 ? 1 : 8;
    if (a.seed < 0)
        a.seed = 1;
    *ret = a;
    return CLI_OK;
}

static int parse(int argc, char **argv, Arguments *ret)
{
    static const struct option options[] = {
        {"t1", required_argument, NULL, 't'},     {"brain", required_argument, NULL, 'b'},
        {"ct", required_argument, NULL, 'c'},     {"mr", required_argument, NULL, 'm'},
        {"pack", required_argument, NULL, 'p'},   {"cases", required_argument, NULL, 'n'},
        {"slices", required_argument, NULL, 's'}, {"seed", required_argument, NULL, 'e'},
        {"tissue", required_argument, NULL, 'u'}, {"overwrite", no_argument, NULL, 'w'},
        {"json", no_argument, NULL, 'j'},         {NULL, 0, NULL, 0}};
    Arguments a = {.t1 = TEMPLATES "ch2.nii.gz",
                   .brain = TEMPLATES "ch2bet.nii.gz",
                   .seed = -1,
                   .tissue = {8, 38, 29}};
    optind = 0;
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        const char **text = c == 't'   ? &a.t1
                            : c == 'b' ? &a.brain
                            : c == 'c' ? &a.ct
                            : c == 'm' ? &a.mr
                            : c == 'p' ? &a.pack
                                       : NULL;
        if (text != NULL)
            *text = optarg;
        else if (c == 'n' && !cli_parse_int(optarg, 1, 1000, &a.cases))
            return cli_usage("simulate", "--cases wants a number in 1..1000");
        else if (c == 's' && !cli_parse_int(optarg, 1, 10000, &a.slices))
            return cli_usage("simulate", "--slices wants a number in 1..10000");
        else if (c == 'e' && !cli_parse_int(optarg, 0, INT64_MAX, &a.seed))
            return cli_usage("simulate", "--seed wants a number from 0");
        else if (c == 'u' && !(a.has_tissue = parse_tissue(optarg, &a.tissue)))
            return cli_usage("simulate", "--tissue wants FLUID,GREY,WHITE in HU, -1024 to 3071");
        else if (c == 'w')
            a.overwrite = true;
        else if (c == 'j')
            a.json = true;
        else if (c == '?')
            return cli_usage("simulate", "unknown option or missing value");
    }
    if (optind != argc || (a.ct == NULL && a.mr == NULL && a.pack == NULL))
        return cli_usage("simulate", "--ct, --mr or --pack is needed, and nothing else");
    return check(&a, ret);
}

int cli_simulate(int argc, char **argv)
{
    Arguments a;
    Err err = {0};
    Arena arena = {0}, scratch = {0};
    int code = parse(argc, argv, &a);
    if (code != CLI_OK)
        return code;
    Status status = arena_open(ARENA_BYTES, &arena, &err);
    if (status == ST_OK)
        status = arena_open(ARENA_BYTES, &scratch, &err);
    if (status == ST_OK)
        status = simulate(&a, &arena, &scratch, &err);
    arena_close(&scratch);
    arena_close(&arena);
    if (status != ST_OK)
        return cli_fail(&err, a.json);
    if (a.json) {
        cJSON *json = cJSON_CreateObject();
        (void)cJSON_AddStringToObject(json, "ct", a.ct);
        (void)cJSON_AddStringToObject(json, "mr", a.mr);
        (void)cJSON_AddStringToObject(json, "pack", a.pack);
        cli_print_json(json);
    }
    return CLI_OK;
}
