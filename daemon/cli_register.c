/* ct2mr register: the registration of the pipeline on two volumes a person names.
**
**   ct2mr register --fixed A --moving B --out T.json [--fixed-is ct|mr] [--moving-is ct|mr]
**                  [--dof 6|7|9|12] [--png FILE] [--json]
**
** The registration bins the fixed image, which must be the CT of a CT and an MR (see
** registration/register.h); for an MR as fixed and a CT as moving the two are swapped inside and
** the result is inverted, so that T.json means what the options say.
**
** T.json: {"verdict": "OK" or a status's name, "message", "fixed_is" and "moving_is" (CT or MR),
** "moving_from_fixed", "fixed_from_moving", "cost", "quality" (with "score_mm" and "grade": pass,
** warn, refuse), "seconds"}; of these only the first four if there is no transform. The verdict is
** that of a job's own gate; the exit code says the same. An older T.json and picture are removed
** first: after a failure without a verdict there is none. */
#include "daemon/cli.h"
#include "daemon/cli_volume.h"

#include "base/affine.h"
#include "base/arena.h"
#include "base/files.h"
#include "pipeline/qa_picture.h"
#include "pipeline/steps.h"
#include "registration/register.h"

#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define ARENA_BYTES ((size_t)8 << 30) /* address space; memory is taken as it is touched */

typedef struct Arguments {
    const char *fixed, *moving, *out, *png; /* png may be NULL */
    Modality fixed_is, moving_is;           /* UNKNOWN: not said */
    int32_t dof;
    bool json;
} Arguments;

/* The direction asked for, and its inverse; and what the gate of a job says about it. */
typedef struct Answer {
    bool has_transform;
    Affine moving_from_fixed, fixed_from_moving;
    Modality fixed_is, moving_is;
    RegResult result;
    Err verdict; /* ST_OK, REG_QUALITY or REG_OVERLAP */
} Answer;

static cJSON *json_of_affine(Affine a)
{
    cJSON *rows = cJSON_CreateArray();
    for (int r = 0; r < 4; r++) {
        const double last[4] = {0, 0, 0, 1};
        cJSON_AddItemToArray(rows, cJSON_CreateDoubleArray(r < 3 ? a.m[r] : last, 4));
    }
    return rows;
}

static cJSON *json_of(const Answer *answer)
{
    const RegResult *r = &answer->result;
    cJSON *json = cJSON_CreateObject();
    cJSON_AddStringToObject(json, "verdict", status_name(answer->verdict.status));
    cJSON_AddStringToObject(json, "message", answer->verdict.msg);
    cJSON_AddStringToObject(json, "fixed_is", modality_name(answer->fixed_is));
    cJSON_AddStringToObject(json, "moving_is", modality_name(answer->moving_is));
    if (!answer->has_transform)
        return json;
    cJSON_AddItemToObject(json, "moving_from_fixed", json_of_affine(answer->moving_from_fixed));
    cJSON_AddItemToObject(json, "fixed_from_moving", json_of_affine(answer->fixed_from_moving));
    cJSON_AddNumberToObject(json, "cost", r->cost);
    cJSON *quality = cJSON_AddObjectToObject(json, "quality");
    cJSON_AddNumberToObject(quality, "overlap", r->overlap_frac);
    cJSON_AddNumberToObject(quality, "runner_up_mm", r->runner_up_mm);
    if (isfinite(r->inverse_mm)) {
        cJSON_AddNumberToObject(quality, "inverse_mm", r->inverse_mm);
        cJSON_AddNumberToObject(quality, "score_mm", r->score_mm);
    }
    if (isfinite(r->turned_nats))
        cJSON_AddNumberToObject(quality, "turned_nats", r->turned_nats);
    cJSON_AddStringToObject(quality, "grade",
                            answer->verdict.status != ST_OK ? "refuse"
                            : align_doubtful(r)             ? "warn"
                                                            : "pass");
    cJSON_AddNumberToObject(quality, "determinant", r->determinant);
    cJSON_AddNumberToObject(quality, "scale_min", r->scale_min);
    cJSON_AddNumberToObject(quality, "scale_max", r->scale_max);
    cJSON_AddNumberToObject(json, "seconds", r->seconds);
    return json;
}

static bool parse_modality(const char *text, Modality *ret)
{
    *ret = strcasecmp(text, "ct") == 0   ? MODALITY_CT
           : strcasecmp(text, "mr") == 0 ? MODALITY_MR
                                         : MODALITY_UNKNOWN;
    return *ret != MODALITY_UNKNOWN;
}

/* CLI_OK, or the exit code after a complaint. */
static int parse(int argc, char **argv, Arguments *ret)
{
    static const struct option options[] = {
        {"fixed", required_argument, NULL, 'f'},
        {"moving", required_argument, NULL, 'm'},
        {"out", required_argument, NULL, 'o'},
        {"fixed-is", required_argument, NULL, 'F'},
        {"moving-is", required_argument, NULL, 'M'},
        {"dof", required_argument, NULL, 'd'},
        {"png", required_argument, NULL, 'p'},
        {"json", no_argument, NULL, 'j'},
        {NULL, 0, NULL, 0},
    };
    Arguments a = {.dof = 12};
    int64_t dof;
    optind = 0;
    for (int c; (c = getopt_long(argc, argv, "+", options, NULL)) != -1;) {
        switch (c) {
        case 'f':
            a.fixed = optarg;
            break;
        case 'm':
            a.moving = optarg;
            break;
        case 'o':
            a.out = optarg;
            break;
        case 'F':
        case 'M':
            if (!parse_modality(optarg, c == 'F' ? &a.fixed_is : &a.moving_is))
                return cli_usage("register", "--%s-is is ct or mr", c == 'F' ? "fixed" : "moving");
            break;
        case 'd':
            if (!cli_parse_int(optarg, 6, 12, &dof) ||
                (dof != 6 && dof != 7 && dof != 9 && dof != 12))
                return cli_usage("register", "--dof is 6, 7, 9 or 12");
            a.dof = (int32_t)dof;
            break;
        case 'p':
            a.png = optarg;
            break;
        case 'j':
            a.json = true;
            break;
        default:
            return cli_usage("register", "unknown option, or its value is missing");
        }
    }
    if (a.fixed == NULL || a.moving == NULL || a.out == NULL || optind != argc)
        return cli_usage("register", "--fixed, --moving and --out are needed, and nothing else");
    if (cli_would_spoil(a.out, a.fixed) || cli_would_spoil(a.out, a.moving) ||
        cli_would_spoil(a.png, a.fixed) || cli_would_spoil(a.png, a.moving))
        return cli_usage("register", "--out or --png is, or lies in, what would be read");
    if (cli_same_output(a.out, a.png))
        return cli_usage("register", "--out and --png are one file");
    *ret = a;
    return CLI_OK;
}

/* Turns the result of a registration whose two images were swapped. */
static void swap_back(Answer *answer)
{
    RegResult *r = &answer->result;
    double least = r->scale_min;
    answer->moving_from_fixed = answer->fixed_from_moving;
    answer->fixed_from_moving = r->moving_from_fixed;
    r->determinant = 1 / r->determinant;
    r->scale_min = 1 / r->scale_max;
    r->scale_max = 1 / least;
}

/* A negative verdict is in ret->verdict; what is returned are failures without one. */
static Status run(const Arguments *a, Arena *arena, Answer *ret, Err *err)
{
    VolumeI16 fixed, moving;
    Answer answer = {.fixed_is = a->fixed_is, .moving_is = a->moving_is};
    TRY(cli_read_volume(a->fixed, "--fixed-is ct|mr", arena, &fixed, &answer.fixed_is, err));
    TRY(cli_read_volume(a->moving, "--moving-is ct|mr", arena, &moving, &answer.moving_is, err));
    TRY(cli_turn(&fixed, answer.fixed_is, arena, err));
    TRY(cli_turn(&moving, answer.moving_is, arena, err));
    bool fixed_is_ct = answer.fixed_is == MODALITY_CT;
    bool moving_is_ct = answer.moving_is == MODALITY_CT;
    RegOptions options = {.dof = a->dof};
    bool swap = !fixed_is_ct && moving_is_ct;
    options.fixed_modality = fixed_is_ct || swap ? REG_CT : REG_MR;
    options.moving_modality = moving_is_ct && !swap ? REG_CT : REG_MR;
    Status status = reg_affine(swap ? &moving : &fixed, swap ? &fixed : &moving, &options,
                               &answer.result, arena, &answer.verdict);
    if (status != ST_OK && status != ST_REG_OVERLAP && status != ST_REG_QUALITY) {
        *err = answer.verdict;
        return status;
    }
    answer.moving_from_fixed = answer.result.moving_from_fixed;
    if (status == ST_OK && !affine_inverse(answer.moving_from_fixed, &answer.fixed_from_moving))
        status = err_set(&answer.verdict, ST_REG_QUALITY, "the result cannot be inverted");
    if (status == ST_OK) {
        answer.has_transform = true;
        (void)align_gate(&answer.result, &answer.verdict); /* as it was made, before it is turned */
        if (swap)
            swap_back(&answer);
    }
    if (answer.has_transform && a->png != NULL)
        TRY(qa_register_write(a->png, (QaVolume){&fixed, fixed_is_ct},
                              (QaVolume){&moving, moving_is_ct}, answer.moving_from_fixed, arena,
                              err));
    *ret = answer;
    return ST_OK;
}

static Status write_json(const char *path, const cJSON *json, Err *err)
{
    char *text = cJSON_Print(json);
    if (text == NULL)
        return err_set(err, ST_NO_MEMORY, "formatting the result");
    Status status = file_write_durable(path, text, strlen(text), err);
    free(text);
    return status;
}

static void print_numbers(const Answer *answer, const char *out)
{
    const RegResult *r = &answer->result;
    const char *grade = answer->verdict.status != ST_OK ? " (refused)"
                        : align_doubtful(r)             ? " (doubtful: look at it)"
                                                        : "";
    (void)printf("score %.1f mm%s, cost %.4f, overlap %.2f, runner-up %.2f mm, determinant %.3f, "
                 "scale %.3f-%.3f, "
                 "%.2f s: %s\n",
                 r->score_mm, grade, r->cost, r->overlap_frac, r->runner_up_mm, r->determinant,
                 r->scale_min, r->scale_max, r->seconds, out);
}

static int report(const Arguments *a, const Answer *answer)
{
    Err err = {0};
    cJSON *json = json_of(answer);
    if (write_json(a->out, json, &err) != ST_OK) {
        cJSON_Delete(json);
        return cli_fail(&err, a->json);
    }
    if (a->png != NULL && !answer->has_transform)
        (void)fprintf(stderr, "ct2mr: no picture: there is no transform\n");
    bool good = answer->verdict.status == ST_OK;
    if (a->json) {
        cli_print_json(json);
        return good ? CLI_OK : CLI_NEGATIVE;
    }
    cJSON_Delete(json);
    (void)printf("fixed is %s, moving is %s\n", modality_name(answer->fixed_is),
                 modality_name(answer->moving_is));
    if (answer->has_transform)
        print_numbers(answer, a->out);
    return good ? CLI_OK : cli_fail(&answer->verdict, false);
}

int cli_register(int argc, char **argv)
{
    Arguments arguments = {0};
    Arena arena = {0};
    Answer answer = {0};
    Err err = {0};
    int code = parse(argc, argv, &arguments);
    if (code != CLI_OK)
        return code;
    Status status = cli_remove_old(arguments.out, &err);
    if (status == ST_OK)
        status = cli_remove_old(arguments.png, &err);
    if (status == ST_OK)
        status = arena_open(ARENA_BYTES, &arena, &err);
    if (status == ST_OK)
        status = run(&arguments, &arena, &answer, &err);
    arena_close(&arena);
    return status == ST_OK ? report(&arguments, &answer) : cli_fail(&err, arguments.json);
}
