/* ct2mr pack: paired CT and MR become one file that a model is trained on.
**
** A case that cannot be packed is reported and left out (exit code 5), or stops it all (--strict).
** Cases are named in reports by their line in the list (pictures by their place) or their hash,
** never by their name or path. */
#include "daemon/cli.h"

#include "pipeline/pack.h"
#include "pipeline/turn.h"
#include "pipeline/volume_io.h"

#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#define ARENA_BYTES ((size_t)4 << 30) /* address space; memory is taken as it is touched */

typedef struct Arguments {
    const char *cases, *png_ct, *png_mr, *out, *like, *reference, *salt_file;
    PackSpec spec;
    bool strict, overwrite, json;
} Arguments;

typedef struct Packing {
    const Arguments *a;
    PackSpec spec;
    PackWriter *writer;
    char salt[DIGEST_HEX_SIZE], reference_digest[DIGEST_HEX_SIZE];
    PackSeen seen;
    cJSON *done, *failed; /* arrays */
    int n_odd;            /* pictures among the failed */
} Packing;

/* ---- what is said about a case --------------------------------------------------------------- */

static cJSON *json_of_registration(const RegResult *r)
{
    cJSON *json = cJSON_CreateObject();
    (void)cJSON_AddNumberToObject(json, "cost", r->cost);
    (void)cJSON_AddNumberToObject(json, "overlap", r->overlap_frac);
    (void)cJSON_AddNumberToObject(json, "determinant", r->determinant);
    (void)cJSON_AddItemToObject(json, "matrix", /* 3x4, row by row, LPS mm, from the CT */
                                cJSON_CreateDoubleArray(&r->moving_from_fixed.m[0][0], 12));
    return json;
}

static void add_done(Packing *p, const PackFacts *f)
{
    cJSON *json = cJSON_CreateObject();
    (void)cJSON_AddStringToObject(json, "id", f->id);
    (void)cJSON_AddNumberToObject(json, "slices", f->n_slices);
    (void)cJSON_AddNumberToObject(json, "of_slices", f->n_all);
    (void)cJSON_AddNumberToObject(json, "without_mask", f->n_empty);
    (void)cJSON_AddNumberToObject(json, "too_wide", f->n_wide);
    (void)cJSON_AddNumberToObject(json, "without_mr", f->n_uncovered);
    (void)cJSON_AddNumberToObject(json, "partial_mr", f->n_partial);
    (void)cJSON_AddNumberToObject(json, "mr_low", f->mr_low);
    (void)cJSON_AddNumberToObject(json, "mr_high", f->mr_high);
    if (p->a->png_ct == NULL) {
        (void)cJSON_AddNumberToObject(json, "mask_ml", f->mask_ml);
        (void)cJSON_AddItemToObject(json, "reference", json_of_registration(&f->reference));
        if (!p->spec.is_registered)
            (void)cJSON_AddItemToObject(json, "mr", json_of_registration(&f->pair));
    }
    (void)cJSON_AddItemToArray(p->done, json);
    if (p->a->json)
        return;
    (void)printf(
        "%s: %d of %d slices (left out: %d without mask, %d too wide, %d without MR), MR %g to "
        "%g",
        f->id, f->n_slices, f->n_all, f->n_empty, f->n_wide, f->n_uncovered, f->mr_low, f->mr_high);
    if (p->a->png_ct == NULL && !p->spec.is_registered)
        (void)printf(", CT to reference %.3f, MR to CT %.3f", f->reference.cost, f->pair.cost);
    else if (p->a->png_ct == NULL)
        (void)printf(", CT to reference %.3f", f->reference.cost);
    (void)printf("\n");
    (void)fflush(stdout);
}

/* Reports the failure of that line of the list or case of pictures (from 1); what to return for
** it. */
static Status add_failed(Packing *p, int32_t number, Status status, const Err *why, Err *err)
{
    cJSON *json = cJSON_CreateObject();
    (void)cJSON_AddNumberToObject(json, p->seen.unit, number);
    (void)cJSON_AddStringToObject(json, "code", status_name(status));
    (void)cJSON_AddStringToObject(json, "message", why->msg);
    (void)cJSON_AddItemToArray(p->failed, json);
    if (p->a->strict)
        return err_set(err, status, "%s %d: %.300s", p->seen.unit, number, why->msg);
    (void)fprintf(stderr, "ct2mr: %s %d left out: %s: %s\n", p->seen.unit, number,
                  status_name(status), why->msg);
    return ST_OK;
}

/* Of the whole, not of one case: no use in going on. LIMIT: of the file. */
static bool is_fatal(const Packing *p, Status status)
{
    return pack_has_failed(p->writer) || status == ST_DISK_FULL || status == ST_NO_MEMORY ||
           status == ST_LIMIT || status == ST_INTERNAL;
}

static Status take_result(Packing *p, int32_t number, const PackFacts *facts, Status status,
                          const Err *why, Err *err)
{
    if (status == ST_OK) {
        add_done(p, facts);
        if (facts->n_partial > 0)
            (void)fprintf(stderr,
                          "ct2mr: note: %s %d (%s): in %d of %d slices a fifth or more of the mask "
                          "has one and the same MR value; is the MR cut or stripped there? Look at "
                          "its picture\n",
                          p->seen.unit, number, facts->id, facts->n_partial, facts->n_slices);
        if (facts->mr_white > facts->ct_white)
            (void)fprintf(stderr,
                          "ct2mr: note: %s %d (%s): its MR has more white than its CT, where bone "
                          "is white: are the folders exchanged? Look at its picture\n",
                          p->seen.unit, number, facts->id);
        return pack_seen_add(&p->seen, number, facts, err);
    }
    if (is_fatal(p, status))
        return err_set(err, status, "%s %d: %.300s", p->seen.unit, number, why->msg);
    return add_failed(p, number, status, why, err);
}

/* ---- cases ----------------------------------------------------------------------------------- */

static Status pack_volumes(Packing *p, Err *err)
{
    PackPair *pairs;
    int32_t n;
    Status status = pack_list_read(p->a->cases, &pairs, &n, err);
    if (status != ST_OK)
        return status;
    for (int32_t i = 0; i < n && status == ST_OK; i++) {
        char id[PACK_ID_SIZE];
        PackFacts facts = {0};
        Err why = {0};
        pack_case_id(p->salt, pairs[i].name, id);
        Status done = pack_pair(&p->spec, id, pairs[i].ct, pairs[i].mr, p->writer, &facts, &why);
        status = take_result(p, pairs[i].line, &facts, done, &why, err);
    }
    free(pairs);
    return status;
}

/* As add_failed(), of a picture that belongs to no pair. */
static Status add_odd(Packing *p, const PngOdd *odd, Err *err)
{
    const char *folder = odd->is_mr ? "MR" : "CT";
    cJSON *json = cJSON_CreateObject();
    (void)cJSON_AddNumberToObject(json, "picture", odd->number);
    (void)cJSON_AddStringToObject(json, "folder", folder);
    (void)cJSON_AddStringToObject(json, "code", status_name(ST_PACK_CASE));
    (void)cJSON_AddStringToObject(json, "message", odd->why);
    (void)cJSON_AddItemToArray(p->failed, json);
    p->n_odd++;
    if (p->a->strict)
        return err_set(err, ST_PACK_CASE, "PNG file %d by name in the %s folder: %s", odd->number,
                       folder, odd->why);
    (void)fprintf(stderr, "ct2mr: PNG file %d by name in the %s folder left out: %s\n", odd->number,
                  folder, odd->why);
    return ST_OK;
}

static Status pack_listed(Packing *p, const PngList *list, Err *err)
{
    const PngPair *pairs = list->pairs;
    const int32_t n = list->n;
    int32_t number = 0;
    Status status = ST_OK;
    for (int32_t i = 0; i < list->n_odd && status == ST_OK; i++)
        status = add_odd(p, &list->odd[i], err);
    for (int32_t i = 0, end; i < n && status == ST_OK; i = end) {
        char id[PACK_ID_SIZE];
        PackFacts facts = {0};
        Err why = {0};
        for (end = i + 1; end < n && strcmp(pairs[end].name, pairs[i].name) == 0; end++)
            ;
        pack_case_id(p->salt, pairs[i].name, id);
        Status done = pack_png_case(&p->spec, id, pairs + i, end - i, p->writer, &facts, &why);
        status = take_result(p, ++number, &facts, done, &why, err);
    }
    return status;
}

static Status pack_pictures(Packing *p, Err *err)
{
    PngList list;
    if (p->spec.wanted.mask == MASK_BRAIN)
        return err_set(err, ST_USAGE, "pictures are masked by the head, not by the brain");
    Status status = pack_png_list(p->a->png_ct, p->a->png_mr, &list, err);
    if (status == ST_OK)
        status = pack_listed(p, &list, err);
    pack_png_list_free(&list);
    return status;
}

/* ---- the file -------------------------------------------------------------------------------- */

static Status make_salt(Packing *p, Err *err)
{
    char *text;
    size_t size;
    if (p->a->salt_file != NULL) {
        TRY(file_read(p->a->salt_file, 4096, &text, &size, err));
        digest_memory(text, size, p->salt);
        free(text);
        return size >= 16 ? ST_OK
                          : err_set(err, ST_USAGE,
                                    "the salt file holds %zu bytes, at least 16 "
                                    "are needed",
                                    size);
    }
    uint8_t random[DIGEST_SIZE];
    if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random)
        return err_set(err, ST_INTERNAL, "no random numbers");
    (void)digest_hex(random, p->salt);
    return ST_OK;
}

static char *provenance_of(const Packing *p)
{
    cJSON *json = cJSON_CreateObject();
    (void)cJSON_AddStringToObject(json, "software", "ct2mr " CT2MR_VERSION);
    (void)cJSON_AddStringToObject(json, "kind", p->a->png_ct != NULL ? "pictures" : "volumes");
    (void)cJSON_AddStringToObject(json, "reference", p->reference_digest);
    (void)cJSON_AddNumberToObject(json, "dof", p->spec.is_registered ? 0 : p->spec.dof);
    if (!p->spec.has_range) {
        const double percent[2] = {p->spec.low_percent, p->spec.high_percent};
        (void)cJSON_AddItemToObject(json, "mr_percentiles", cJSON_CreateDoubleArray(percent, 2));
    }
    (void)cJSON_AddItemReferenceToObject(json, "cases", p->done);
    (void)cJSON_AddNumberToObject(json, "cases_left_out", cJSON_GetArraySize(p->failed) - p->n_odd);
    (void)cJSON_AddNumberToObject(json, "pictures_left_out", p->n_odd);
    char *text = cJSON_PrintUnformatted(json);
    cJSON_Delete(json);
    return text;
}

static Status pack_all(Packing *p, Err *err)
{
    PackInfo info;
    TRY(make_salt(p, err));
    if (p->spec.sheet_dir != NULL)
        TRY(dir_make(p->spec.sheet_dir, err));
    TRY(pack_info_for(&p->spec, &info, err));
    TRY(pack_create(p->a->out, &info, &p->writer, err));
    if (!p->a->overwrite)
        pack_must_be_new(p->writer);
    TRY((p->a->png_ct != NULL ? pack_pictures : pack_volumes)(p, err));
    if (cJSON_GetArraySize(p->done) == 0)
        return err_set(err, ST_PACK_CASE, "none of %d cases could be packed",
                       cJSON_GetArraySize(p->failed) - p->n_odd);
    char *text = provenance_of(p);
    if (text == NULL)
        return err_set(err, ST_NO_MEMORY, "provenance");
    PackWriter *writer = p->writer;
    p->writer = NULL;
    Status status = pack_end(writer, text, err);
    cJSON_free(text);
    return status;
}

/* What the slices are made for: a model file's, or what the options say. */
static Status fill_wanted(const Arguments *a, PackSpec *spec, Err *err)
{
    Model *model;
    if (a->like == NULL)
        return ST_OK;
    TRY(model_open(a->like, &model, err));
    spec->wanted = *model_info(model);
    model_close(model);
    return ST_OK;
}

/* A sagittal T1, say: the model's slices become what a CT's are. */
static Status make_axial(VolumeI16 *reference, Arena *arena, Err *err)
{
    char axes[3];
    VolumeI16 turned;
    if (grid_axes(&reference->grid, axes))
        return ST_OK;
    TRY(volume_turn(reference, "LP", arena, &turned, err));
    *reference = turned;
    return ST_OK;
}

static Status with_reference(Packing *p, Arena *arena, Err *err)
{
    static Config config; /* too large for the stack */
    VolumeI16 reference;
    const char *path = p->a->reference;
    if (path == NULL) {
        TRY(cli_load_config_offline(NULL, &config, err));
        path = config.align_reference;
    }
    TRY(fill_wanted(p->a, &p->spec, err));
    TRY(reference_read(path, p->spec.wanted.axes, arena, &reference, p->reference_digest, err));
    TRY(make_axial(&reference, arena, err));
    p->spec.reference = &reference;
    return pack_all(p, err);
}

/* Names the cases that fit worse than the others; adds them to `list`. */
static void note_odd(const Packing *p, cJSON *list)
{
    const PackSeen *seen = &p->seen;
    bool *odd = calloc((size_t)seen->n + 1, sizeof *odd);
    if (odd == NULL || pack_seen_odd(seen, odd, NULL) != ST_OK) {
        free(odd);
        return;
    }
    for (int32_t i = 0; i < seen->n; i++) {
        const PackSeenCase *c = &seen->cases[i];
        if (!odd[i])
            continue;
        cJSON *json = cJSON_CreateObject();
        (void)cJSON_AddNumberToObject(json, seen->unit, c->number);
        (void)cJSON_AddStringToObject(json, "id", c->id);
        (void)cJSON_AddNumberToObject(json, "cost", c->cost);
        (void)cJSON_AddItemToArray(list, json);
        (void)fprintf(stderr,
                      "ct2mr: note: %s %d (%s): MR to CT %.3f, more than twice the others' median; "
                      "is it this head's MR? Look at its picture\n",
                      seen->unit, c->number, c->id, c->cost);
    }
    free(odd);
}

static int finish(Packing *p, Status status, const Err *err)
{
    int n_failed = cJSON_GetArraySize(p->failed);
    cJSON *json = cJSON_CreateObject();
    (void)cJSON_AddStringToObject(json, "file", p->a->out);
    (void)cJSON_AddItemToObject(json, "cases", p->done);
    (void)cJSON_AddItemToObject(json, "left_out", p->failed);
    if (status != ST_OK) {
        cJSON_Delete(json);
        return cli_fail(err, p->a->json);
    }
    int n_done = cJSON_GetArraySize(p->done);
    note_odd(p, cJSON_AddArrayToObject(json, "doubtful"));
    if (p->a->json) {
        cli_print_json(json);
        return n_failed > 0 ? CLI_PARTIAL : CLI_OK;
    }
    cJSON_Delete(json);
    (void)printf("%s: %d cases%s", p->a->out, n_done, n_failed == 0 ? "\n" : "");
    if (n_failed > 0)
        (void)printf(", %d left out\n", n_failed);
    return n_failed > 0 ? CLI_PARTIAL : CLI_OK;
}

static int run(const Arguments *a)
{
    Err err = {0};
    Arena arena = {0};
    Packing p = {
        .a = a, .spec = a->spec, .done = cJSON_CreateArray(), .failed = cJSON_CreateArray()};
    p.seen.unit = a->png_ct != NULL ? "case" : "line";
    p.spec.seen = &p.seen;
    Status status = arena_open(ARENA_BYTES, &arena, &err);
    if (status == ST_OK)
        status = with_reference(&p, &arena, &err);
    pack_abandon(p.writer);
    arena_close(&arena);
    int code = finish(&p, status, &err);
    pack_seen_free(&p.seen);
    return code;
}

/* ---- options --------------------------------------------------------------------------------- */

/* "LOW,HIGH" */
static bool parse_two(const char *text, double *ret_low, double *ret_high)
{
    char first[64];
    const char *comma = strchr(text, ',');
    if (comma == NULL || (size_t)(comma - text) >= sizeof first)
        return false;
    memcpy(first, text, (size_t)(comma - text));
    first[comma - text] = '\0';
    return cli_parse_double(first, ret_low) && cli_parse_double(comma + 1, ret_high) &&
           *ret_low < *ret_high;
}

/* An option that is a number; false if it is out of range. */
static bool parse_number(int c, const char *text, PackSpec *spec)
{
    int64_t whole = 0;
    double number = 0;
    if (c == 'D' || c == 'P') {
        if (!cli_parse_int(text, 6, 2048, &whole))
            return false;
        *(c == 'D' ? &spec->dof : &spec->wanted.grid_pixels) = (int32_t)whole;
        return c == 'D' ? whole == 6 || whole == 12 : whole % 32 == 0;
    }
    if (!cli_parse_double(text, &number))
        return false;
    *(c == 'S'   ? &spec->wanted.grid_spacing_mm
      : c == 'L' ? &spec->wanted.window_level_hu
                 : &spec->wanted.window_width_hu) = number;
    return c == 'S' ? number >= 0.01 && number <= 100
                    : fabs(number) <= 32767 && (c == 'L' || number >= 1);
}

static bool parse_word(int c, const char *text, ModelInfo *wanted)
{
    const struct {
        int option, value;
        const char *text;
    } words[] = {{'T', 1, "T1"},
                 {'T', 2, "T2"},
                 {'O', POSE_REFERENCE, "reference"},
                 {'O', POSE_NATIVE, "native"},
                 {'K', MASK_HEAD, "head"},
                 {'K', MASK_BRAIN, "brain"}};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (words[i].option != c || strcmp(words[i].text, text) != 0)
            continue;
        if (c == 'T')
            (void)snprintf(wanted->target, sizeof wanted->target, "%s", text);
        else if (c == 'O')
            wanted->pose = (ModelPose)words[i].value;
        else
            wanted->mask = (ModelMask)words[i].value;
        return true;
    }
    return false;
}

static const struct option OPTIONS[] = {{"cases", required_argument, NULL, 'c'},
                                        {"png", required_argument, NULL, 'g'},
                                        {"out", required_argument, NULL, 'o'},
                                        {"like", required_argument, NULL, 'l'},
                                        {"reference", required_argument, NULL, 'r'},
                                        {"salt-file", required_argument, NULL, 'a'},
                                        {"sheets", required_argument, NULL, 'h'},
                                        {"percentiles", required_argument, NULL, 'p'},
                                        {"mr-range", required_argument, NULL, 'm'},
                                        {"registered", no_argument, NULL, 'e'},
                                        {"any-patient", no_argument, NULL, 'y'},
                                        {"strict", no_argument, NULL, 't'},
                                        {"overwrite", no_argument, NULL, 'w'},
                                        {"json", no_argument, NULL, 'j'},
                                        {"target", required_argument, NULL, 'T'},
                                        {"pose", required_argument, NULL, 'O'},
                                        {"mask", required_argument, NULL, 'K'},
                                        {"pixels", required_argument, NULL, 'P'},
                                        {"spacing", required_argument, NULL, 'S'},
                                        {"level", required_argument, NULL, 'L'},
                                        {"width", required_argument, NULL, 'W'},
                                        {"dof", required_argument, NULL, 'D'},
                                        {NULL, 0, NULL, 0}};

/* False if the value is none. */
static bool take_option(int c, Arguments *a)
{
    PackSpec *spec = &a->spec;
    switch (c) {
    case 'c':
        a->cases = optarg;
        return true;
    case 'g':
        a->png_ct = optarg;
        return true;
    case 'o':
        a->out = optarg;
        return true;
    case 'l':
        a->like = optarg;
        return true;
    case 'r':
        a->reference = optarg;
        return true;
    case 'a':
        a->salt_file = optarg;
        return true;
    case 'h':
        spec->sheet_dir = optarg;
        return true;
    case 'p':
        return parse_two(optarg, &spec->low_percent, &spec->high_percent) &&
               spec->low_percent >= 0 && spec->high_percent <= 100;
    case 'm':
        return spec->has_range = parse_two(optarg, &spec->low, &spec->high);
    case 'e':
        return spec->is_registered = true;
    case 'y':
        return spec->any_patient = true;
    case 't':
        return a->strict = true;
    case 'w':
        return a->overwrite = true;
    case 'j':
        return a->json = true;
    case 'T':
    case 'O':
    case 'K':
        return parse_word(c, optarg, &spec->wanted);
    default:
        return parse_number(c, optarg, spec);
    }
}

/* What the options that take few values or a range may have. */
static const char *values_of(int c)
{
    switch (c) {
    case 'T':
        return "T1, T2";
    case 'O':
        return "reference, native";
    case 'K':
        return "head, brain";
    case 'D':
        return "6, 12";
    case 'P':
        return "multiples of 32 up to 2048";
    case 'S':
        return "mm, 0.01 to 100";
    case 'L':
        return "HU, -32767 to 32767";
    case 'W':
        return "HU, 1 to 32767";
    default:
        return "LOW,HIGH"; /* percentiles, 0 to 100; intensities */
    }
}

/* What does not go together, and what exists. given: letters of the options that were given. */
static int check(const Arguments *a, const char *given)
{
    if (a->out == NULL || (a->cases != NULL) == (a->png_mr != NULL))
        return cli_usage("pack", "--out and either --cases LIST.csv or --png CT_DIR MR_DIR are "
                                 "needed, and nothing else");
    if (a->like == NULL && strchr(given, 'T') == NULL)
        return cli_usage("pack", "--target T1 or T2 is needed, or --like MODEL");
    if (a->like != NULL && strpbrk(given, "TOKPSLW") != NULL)
        return cli_usage("pack",
                         "--like says target, pose, mask, pixels, spacing, level and width");
    if (a->spec.is_registered && strchr(given, 'D') != NULL)
        return cli_usage("pack", "--registered means no registration, --dof one: give one of them");
    if (strchr(given, 'p') != NULL && strchr(given, 'm') != NULL)
        return cli_usage("pack", "--percentiles or --mr-range, not both");
    if (a->png_mr != NULL && strpbrk(given, "Dey") != NULL)
        return cli_usage("pack", "--dof, --registered and --any-patient are for --cases");
    if (!a->overwrite && cli_exists(a->out))
        return cli_usage("pack", "%.200s exists: --overwrite replaces it", a->out);
    if (!cli_may_replace(a->out, PACK_MAGIC)) /* the list, say, or one of its images */
        return cli_usage("pack", "%.200s exists and is no packed file: give another name", a->out);
    if (!cli_folder_writable(a->out))
        return cli_usage(
            "pack", "--out names no file, or one in a folder that is not there or not writable");
    return CLI_OK;
}

static int parse(int argc, char **argv, Arguments *ret)
{
    /* the paper's field of view in the demonstration model's pixels; the brain window */
    Arguments a = {.spec = {.dof = 6,
                            .low_percent = 0.5,
                            .high_percent = 99.5,
                            .wanted = {.target = "",
                                       .grid_pixels = 256,
                                       .grid_spacing_mm = 1,
                                       .window_level_hu = 40,
                                       .window_width_hu = 80,
                                       .mean = {0.485f, 0.456f, 0.406f},
                                       .std = {0.229f, 0.224f, 0.225f},
                                       .pose = POSE_REFERENCE,
                                       .mask = MASK_HEAD}}};
    char given[sizeof OPTIONS / sizeof OPTIONS[0]] = "";
    int index = 0;
    optind = 0;
    for (int c; (c = getopt_long(argc, argv, "", OPTIONS, &index)) != -1;) {
        if (c == '?')
            return cli_usage("pack", "unknown option or missing value");
        if (!take_option(c, &a))
            return cli_usage("pack", "--%s has no such value; it has %s", OPTIONS[index].name,
                             values_of(c));
        if (strchr(given, c) == NULL)
            given[strlen(given)] = (char)c;
    }
    if (a.png_ct != NULL && optind + 1 == argc)
        a.png_mr = argv[optind++];
    if (optind != argc)
        return cli_usage("pack", "unexpected argument");
    int code = check(&a, given);
    *ret = a;
    return code;
}

int cli_pack(int argc, char **argv)
{
    Arguments a;
    int code = parse(argc, argv, &a);
    return code == CLI_OK ? run(&a) : code;
}
