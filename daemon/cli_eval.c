/* ct2mr eval: how good is a model on a packed file; is it better than another. */
#include "daemon/cli_eval.h"

#include "daemon/out_folder.h"
#include "pipeline/eval_report.h"
#include "pipeline/kfold.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct Subject {
    Model *model;
    Net *net;
    CaseUse *use; /* [cases of the pack] */
    bool is_stated;
    Evaluation evaluation;
} Subject;

static void close_subject(Subject *s)
{
    evaluation_free(&s->evaluation);
    net_close(s->net);
    model_close(s->model);
    free(s->use);
    *s = (Subject){0};
}

Status cli_eval_open_net(const EvalArguments *a, const Model *model, const Pack *pack, Net **ret,
                         Err *err)
{
    const NetOptions options = {.backend = a->backend,
                                .batch = 4,
                                .height = pack_info(pack)->pixels,
                                .width = pack_info(pack)->pixels,
                                .precision = a->precision};
    return net_open(model, &options, ret, err);
}

static Status open_subject(const EvalArguments *a, const char *path, const Pack *pack, Subject *s,
                           Err *err)
{
    TRY(model_open(path, &s->model, err));
    TRY(evaluate_fits(model_info(s->model), pack_info(pack), err));
    s->use = calloc((size_t)pack_info(pack)->n_cases, sizeof *s->use);
    if (s->use == NULL)
        return err_set(err, ST_NO_MEMORY, "the list of cases");
    s->is_stated = trained_cases_find(s->model, pack, s->use);
    return cli_eval_open_net(a, s->model, pack, &s->net, err);
}

/* --unseen: of the wanted cases those go that the model was trained on. */
static Status drop_trained(const Subject *s, const PackInfo *info, bool *wanted, Err *err)
{
    int32_t n = 0;
    if (!s->is_stated)
        return err_set(err, ST_USAGE, "--unseen: %s does not say which cases it was trained on",
                       model_info(s->model)->name);
    for (int32_t c = 0; c < info->n_cases; c++) {
        wanted[c] = wanted[c] && s->use[c] != CASE_TRAINED;
        n += wanted[c];
    }
    return n > 0 ? ST_OK
                 : err_set(err, ST_USAGE, "--unseen: %s was trained on all of these cases",
                           model_info(s->model)->name);
}

static Status score(const EvalArguments *a, const Pack *pack, const bool *wanted, Subject *s,
                    Err *err)
{
    return evaluate(s->net, model_info(s->model), pack, wanted, a->min_masked_percent / 100,
                    &s->evaluation, err);
}

/* --cases: comma-separated beginnings of ids, each of which names exactly one case. */
static Status choose_cases(const char *text, const PackInfo *info, bool *ret, Err *err)
{
    if (text[0] == '\0')
        return err_set(err, ST_USAGE, "--cases names no case");
    for (const char *p = text; *p != '\0';) {
        size_t n = strcspn(p, ",");
        int32_t found = -1, count = 0;
        for (int32_t c = 0; c < info->n_cases && n > 0; c++)
            if (strncmp(info->cases[c].id, p, n) == 0) {
                found = c;
                count++;
            }
        if (count != 1)
            return err_set(err, ST_USAGE, "--cases: entry at character %d names %d cases",
                           (int)(p - text) + 1, count);
        ret[found] = true;
        p += n + (p[n] == ',');
    }
    return ST_OK;
}

static const EvalMetric SHOWN[] = {EVAL_PSNR,      EVAL_PSNR_MASKED,    EVAL_SSIM,
                                   EVAL_TENENGRAD, EVAL_TENENGRAD_REAL, EVAL_RMSE};
enum { N_SHOWN = sizeof SHOWN / sizeof SHOWN[0], NAME_SIZE = 80 };

void cli_eval_print_deviation(Summary s)
{
    if (s.n > 1)
        (void)printf(" +- %7.4f", s.deviation);
    else
        (void)printf(" +- %7s", "-");
}

/* With some of its digest: two models may have one file name. Returns ret. */
static const char *name_of(const Subject *s, char ret[NAME_SIZE])
{
    (void)snprintf(ret, NAME_SIZE, "%s (%.8s)", model_info(s->model)->name,
                   model_info(s->model)->digest);
    return ret;
}

static void print_subject(const Subject *s)
{
    const Evaluation *e = &s->evaluation;
    char name[NAME_SIZE];
    (void)printf("%s on backend %s in %s: %d slices of %d cases scored, %d with too little mask "
                 "left out\n",
                 name_of(s, name), net_backend(s->net), precision_name(net_precision(s->net)), e->n,
                 e->n_cases, e->n_left_out);
    const EvalSubject subject = {s->model, s->net, e, s->use, s->is_stated};
    EvalUse use = eval_use(&subject);
    char text[EVAL_USE_SIZE];
    (void)printf("  %s\n", eval_use_text(&use, text));
    for (size_t i = 0; i < N_SHOWN; i++) {
        Summary slices = evaluation_slices(e, SHOWN[i]), cases = evaluation_cases(e, SHOWN[i]);
        (void)printf("  %-24s %9.4f", eval_metric_title(SHOWN[i]), slices.mean);
        cli_eval_print_deviation(slices);
        (void)printf(" over slices, %9.4f", cases.mean);
        cli_eval_print_deviation(cases);
        (void)printf(" over cases\n");
    }
}

static void print_tests(const Evaluation *a, const Evaluation *b, EvalTest test)
{
    for (int over_cases = 0; over_cases < 2; over_cases++)
        for (size_t i = 0; i < N_SHOWN; i++) {
            TTest t;
            Err why = {0};
            if (SHOWN[i] == EVAL_TENENGRAD_REAL)
                continue;
            (void)printf("  %-24s over %s: ", eval_metric_title(SHOWN[i]),
                         over_cases ? "cases " : "slices");
            if (evaluation_compare(a, b, SHOWN[i], test, over_cases != 0, &t, &why) == ST_OK)
                (void)printf("difference %.4g (95 %% %.4g to %.4g), t %.3f, p %.3g\n", t.difference,
                             t.low, t.high, t.t, t.p);
            else
                (void)printf("%s\n", why.msg);
        }
}

static Status report(const EvalArguments *a, const EvalReport *r, const Subject *s,
                     const Subject *other, Err *err)
{
    if (a->json) {
        if (a->out != NULL)
            TRY(eval_report_write(a->out, r, err));
        cli_print_json(eval_report_json(r));
        return ST_OK;
    }
    print_subject(s);
    if (other != NULL) {
        print_subject(other);
        for (int test = 0; test < EVAL_TESTS; test++) {
            char names[2][NAME_SIZE];
            (void)printf("%s less %s, %s:\n", name_of(s, names[0]), name_of(other, names[1]),
                         eval_test_title((EvalTest)test));
            print_tests(&s->evaluation, &other->evaluation, (EvalTest)test);
        }
    }
    if (a->out == NULL)
        return ST_OK;
    (void)fflush(stdout); /* the figures, whatever becomes of the report */
    TRY(eval_report_write(a->out, r, err));
    (void)printf("report: %s\n", a->out);
    return ST_OK;
}

static Status with_pack(const EvalArguments *a, const Pack *pack, bool *wanted, Err *err)
{
    Subject first = {0}, second = {0};
    const PackInfo *info = pack_info(pack);
    Status status = ST_OK;
    for (int32_t c = 0; c < info->n_cases; c++)
        wanted[c] = a->cases == NULL;
    if (a->cases != NULL)
        status = choose_cases(a->cases, info, wanted, err);
    if (status == ST_OK)
        status = open_subject(a, a->model, pack, &first, err);
    if (status == ST_OK && a->compare != NULL)
        status = open_subject(a, a->compare, pack, &second, err);
    if (status == ST_OK && a->unseen)
        status = drop_trained(&first, info, wanted, err);
    if (status == ST_OK && a->unseen && a->compare != NULL)
        status = drop_trained(&second, info, wanted, err);
    if (status == ST_OK)
        status = score(a, pack, wanted, &first, err);
    if (status == ST_OK && a->compare != NULL)
        status = score(a, pack, wanted, &second, err);
    if (status == ST_OK) {
        const EvalSubject other = {second.model, second.net, &second.evaluation, second.use,
                                   second.is_stated};
        const EvalReport r = {
            .pack = pack,
            .min_masked_frac = a->min_masked_percent / 100,
            .subject = {first.model, first.net, &first.evaluation, first.use, first.is_stated},
            .other = a->compare != NULL ? &other : NULL,
            .png_dir = a->png_part};
        status = report(a, &r, &first, a->compare != NULL ? &second : NULL, err);
    }
    close_subject(&first);
    close_subject(&second);
    return status;
}

static Status run(const EvalArguments *a, Err *err)
{
    Pack *pack;
    TRY(pack_open(a->data, &pack, err));
    if (a->n_models > 0) {
        Status done = cli_eval_kfold(a, pack, err);
        pack_close(pack);
        return done;
    }
    bool *wanted = calloc((size_t)pack_info(pack)->n_cases, sizeof *wanted);
    Status status = wanted == NULL ? err_set(err, ST_NO_MEMORY, "the list of cases")
                                   : with_pack(a, pack, wanted, err);
    free(wanted);
    pack_close(pack);
    return status;
}

static int parse(int argc, char **argv, EvalArguments *ret)
{
    static const struct option options[] = {{"model", required_argument, NULL, 'm'},
                                            {"compare", required_argument, NULL, 'c'},
                                            {"data", required_argument, NULL, 'd'},
                                            {"out", required_argument, NULL, 'o'},
                                            {"cases", required_argument, NULL, 's'},
                                            {"min-masked", required_argument, NULL, 'a'},
                                            {"backend", required_argument, NULL, 'b'},
                                            {"precision", required_argument, NULL, 'p'},
                                            {"json", no_argument, NULL, 'j'},
                                            {"kfold", no_argument, NULL, 'k'},
                                            {"unseen", no_argument, NULL, 'u'},
                                            {"png", required_argument, NULL, 'g'},
                                            {NULL, 0, NULL, 0}};
    EvalArguments a = {.backend = "auto", .precision = "f32", .min_masked_percent = 5};
    bool kfold = false;
    optind = 0;
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (c == 'm')
            a.model = optarg;
        else if (c == 'c')
            a.compare = optarg;
        else if (c == 'd')
            a.data = optarg;
        else if (c == 'o')
            a.out = optarg;
        else if (c == 'g')
            a.png = optarg;
        else if (c == 's')
            a.cases = optarg;
        else if (c == 'a' && !(cli_parse_double(optarg, &a.min_masked_percent) &&
                               a.min_masked_percent >= 0 && a.min_masked_percent <= 100))
            return cli_usage("eval", "--min-masked wants per cent of the image, 0..100");
        else if (c == 'b')
            a.backend = optarg;
        else if (c == 'p')
            a.precision = optarg;
        else if (c == 'k')
            kfold = true;
        else if (c == 'u')
            a.unseen = true;
        else if (c == 'j')
            a.json = true;
        else if (c == '?')
            return cli_usage("eval", "unknown option or missing value");
    }
    if (kfold) {
        a.models = argv + optind;
        a.n_models = argc - optind;
        optind = argc;
        if (a.n_models < 2 || a.n_models > KFOLD_MAX || a.model != NULL || a.compare != NULL ||
            a.cases != NULL || a.unseen || a.out != NULL || a.png != NULL)
            return cli_usage("eval",
                             "--kfold wants 2 to %d models, and no --model, --compare, "
                             "--cases, --unseen, --out, --png",
                             KFOLD_MAX);
    }
    if (a.png != NULL && a.out == NULL)
        return cli_usage("eval", "--png has the pictures of --out REPORT.html");
    if (optind != argc || (a.model == NULL && !kfold) || a.data == NULL)
        return cli_usage("eval", "--data and --model, or --kfold and models, are needed");
    if (!cli_knows_precision(a.precision))
        return cli_usage("eval", "--precision is none of " CLI_PRECISIONS);
    if (!cli_knows_backend(a.backend))
        return cli_usage("eval", "--backend is none of " CLI_BACKENDS);
    if (cli_same_file(a.out, a.model) || cli_same_file(a.out, a.compare) ||
        cli_same_file(a.out, a.data))
        return cli_usage("eval", "--out is one of the files to be read");
    if (a.out != NULL && !cli_may_replace(a.out, EVAL_REPORT_BEGIN))
        return cli_usage("eval", "%.200s exists and is no report: give another name", a.out);
    if (a.out != NULL && !cli_folder_writable(a.out))
        return cli_usage(
            "eval", "--out names no file, or one in a folder that is not there or not writable");
    *ret = a;
    return CLI_OK;
}

/* With the pictures in a folder of their own: all of them or none. */
static Status run_with_pictures(EvalArguments *a, Err *err)
{
    OutFolder folder;
    TRY(out_folder_open(a->png, &folder, err));
    a->png_part = folder.part;
    Status status = run(a, err);
    if (status == ST_OK)
        status = out_folder_publish(&folder, err);
    out_folder_close(&folder);
    return status;
}

int cli_eval(int argc, char **argv)
{
    EvalArguments a;
    Err err = {0};
    int code = parse(argc, argv, &a);
    if (code != CLI_OK)
        return code;
    cli_watch_mapped();
    Status status = a.png != NULL ? run_with_pictures(&a, &err) : run(&a, &err);
    return status == ST_OK ? CLI_OK : cli_fail(&err, a.json);
}
