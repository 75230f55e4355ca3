/* pipeline/evaluate and its report. Claims: against its own output a network scores perfectly, with
** a known difference exactly that; what does not fit is refused; the report is one file with all
** its pictures; pictures are turned as people expect; the first layer is what its tensors say. */
#include "tests/test.h"

#include "base/files.h"
#include "gpu/metrics.h"
#include "gpu/model_write.h"
#include "pipeline/eval_pictures.h"
#include "pipeline/eval_report.h"
#include "pipeline/png_file.h"
#include "pipeline/window.h"
#include "tests/model_file.h"

#include <unistd.h>

enum { SIDE = 64, PIXELS = SIDE * SIDE, N = 6, SHIFT = 10 };

typedef struct Fixture {
    char model_path[PATH_SIZE], pack_path[PATH_SIZE];
    Model *model;
    Net *net;
    Pack *pack;
} Fixture;

static int16_t hu_at(int slice, int i)
{
    return (int16_t)(40 + 30 * sin(0.3 * (i % SIDE) + slice) * cos(0.2 * (i / SIDE)));
}

/* Cases of 2 and 4 slices, MR `mr` (grey levels), mask = where mr < 245, less in slice 5. */
static void write_pack(const Fixture *f, const uint8_t *mr)
{
    const ModelInfo *m = model_info(f->model);
    PackInfo info = {.pixels = SIDE,
                     .spacing_mm = m->grid_spacing_mm,
                     .window_level_hu = m->window_level_hu,
                     .window_width_hu = m->window_width_hu,
                     .pose = m->pose,
                     .mask = m->mask,
                     .axes = "RA"};
    static int16_t hu[PIXELS];
    static uint8_t mask[PIXELS];
    static uint16_t wide[PIXELS];
    PackWriter *w;
    Err err = {0};
    (void)snprintf(info.target, sizeof info.target, "%s", m->target);
    CHECK_OK(pack_create(f->pack_path, &info, &w, &err), &err);
    for (int s = 0; s < N; s++) {
        if (s == 0 || s == 2)
            CHECK_OK(pack_begin_case(w, s == 0 ? "00000000000000aa" : "00000000000000ab", 1, &err),
                     &err);
        for (int i = 0; i < PIXELS; i++) {
            hu[i] = hu_at(s, i);
            mask[i] = s < 5 ? mr[s * PIXELS + i] < 245 : i == 0;
            wide[i] = (uint16_t)(257 * mr[s * PIXELS + i]);
        }
        CHECK_OK(pack_add_slice(w, hu, mask, wide, &err), &err);
    }
    CHECK_OK(pack_end(w, "{}", &err), &err);
}

static void open_pack(Fixture *f)
{
    Err err = {0};
    pack_close(f->pack);
    f->pack = NULL;
    CHECK_OK(pack_open(f->pack_path, &f->pack, &err), &err);
}

/* A model, and a packed file whose MR is the model's own picture less `shift` grey levels, without
** mask in the first `cut` rows. */
static Fixture fixture_cut(int shift, int cut)
{
    Fixture f = {0};
    Err err = {0};
    const NetOptions options = {
        .backend = "cpu", .batch = 1, .height = SIDE, .width = SIDE, .precision = "f32"};
    static uint8_t mr[N * PIXELS], drawn[N * PIXELS];
    static const int32_t slices[N] = {0, 1, 2, 3, 4, 5};
    CHECK_OK(path_format(f.model_path, &err, "%s/m.safetensors", test_dir()), &err);
    CHECK_OK(path_format(f.pack_path, &err, "%s/p.pack", test_dir()), &err);
    model_file_write_random(f.model_path, ARCH_DRUNET34, 8);
    CHECK_OK(model_open(f.model_path, &f.model, &err), &err);
    CHECK_OK(net_open(f.model, &options, &f.net, &err), &err);
    /* all else masked, so that the input is seen; then the mask only hides what is too bright */
    for (int i = 0; i < N * PIXELS; i++)
        mr[i] = i % PIXELS < cut * SIDE ? 250 : 100;
    write_pack(&f, mr);
    open_pack(&f);
    CHECK_OK(evaluate_pictures(f.net, model_info(f.model), f.pack, slices, N, drawn, &err), &err);
    for (int i = 0; i < N * PIXELS; i++)
        mr[i] = (uint8_t)(drawn[i] >= SHIFT ? drawn[i] - shift : 250);
    write_pack(&f, mr);
    open_pack(&f);
    return f;
}

static Fixture fixture(int shift)
{
    return fixture_cut(shift, 0);
}

static void close_fixture(Fixture *f)
{
    net_close(f->net);
    model_close(f->model);
    pack_close(f->pack);
}

/* The mask has an influence on the input (its floor outside), so the picture is asked for anew. */
static double worst_difference(const Fixture *f, int32_t slice)
{
    static uint8_t drawn[PIXELS];
    Err err = {0};
    double worst = 0;
    CHECK_OK(evaluate_pictures(f->net, model_info(f->model), f->pack, &slice, 1, drawn, &err),
             &err);
    for (int i = 0; i < PIXELS; i++)
        worst = fmax(worst, fabs(drawn[i] - pack_mr(f->pack, slice)[i] / 257.0));
    return worst;
}

TEST(evaluate_known_difference, "own output scores 100 dB and SSIM 1; 10 grey levels less, 10")
{
    Fixture f = fixture(0);
    Evaluation e;
    Err err = {0};
    for (int32_t s = 0; s < 5; s++)
        CHECK_NEAR(worst_difference(&f, s), 0, 0);
    CHECK_OK(evaluate(f.net, model_info(f.model), f.pack, NULL, 0.05, &e, &err), &err);
    CHECK_INT(e.n, 5);
    CHECK_INT(e.n_left_out, 1);
    CHECK_INT(e.n_cases, 2);
    for (int i = 0; i < e.n; i++) {
        CHECK_NEAR(e.scores[i].value[EVAL_PSNR], EVAL_PSNR_MAX_DB, 0);
        CHECK_NEAR(e.scores[i].value[EVAL_SSIM], 1, 1e-12);
        CHECK_NEAR(e.scores[i].value[EVAL_RMSE], 0, 0);
        CHECK_NEAR(e.scores[i].value[EVAL_TENENGRAD], e.scores[i].value[EVAL_TENENGRAD_REAL], 0);
    }
    evaluation_free(&e);
    close_fixture(&f);

    f = fixture_cut(SHIFT, SIDE / 2);
    CHECK_OK(evaluate(f.net, model_info(f.model), f.pack, NULL, 0.05, &e, &err), &err);
    for (int i = 0; i < e.n; i++) {
        double inside = (double)pack_info(f.pack)->statistics[e.scores[i].slice].masked_frac;
        CHECK(inside > 0.3 && inside < 0.6);
        CHECK_NEAR(e.scores[i].value[EVAL_RMSE], SHIFT * sqrt(inside), 1e-3);
        CHECK_NEAR(e.scores[i].value[EVAL_PSNR_MASKED], 20 * log10(255.0 / SHIFT), 1e-3);
    }
    Summary s = evaluation_slices(&e, EVAL_PSNR_MASKED), c = evaluation_cases(&e, EVAL_PSNR_MASKED);
    CHECK(s.n == 5 && c.n == 2);
    CHECK_NEAR(s.mean, c.mean, 1e-3);
    evaluation_free(&e);
    const bool second[2] = {false, true};
    CHECK_OK(evaluate(f.net, model_info(f.model), f.pack, second, 0.05, &e, &err), &err);
    CHECK_INT(e.n, 3);
    CHECK_INT(e.scores[0].slice, 2);
    evaluation_free(&e);
    CHECK_STATUS(evaluate(f.net, model_info(f.model), f.pack, NULL, 1.1, &e, &err), ST_USAGE);
    close_fixture(&f);
}

TEST(evaluate_tenengrad, "sharpness of each image by itself: a flat MR has none, its picture has")
{
    Fixture f = fixture(0);
    Evaluation e;
    Err err = {0};
    static uint8_t mr[N * PIXELS], drawn[PIXELS];
    static float picture[PIXELS];
    memset(mr, 100, sizeof mr);
    write_pack(&f, mr);
    open_pack(&f);
    CHECK_OK(evaluate(f.net, model_info(f.model), f.pack, NULL, 0.05, &e, &err), &err);
    for (int s = 0; s < 5; s++) {
        int32_t slice = s;
        CHECK_OK(evaluate_pictures(f.net, model_info(f.model), f.pack, &slice, 1, drawn, &err),
                 &err);
        for (int i = 0; i < PIXELS; i++)
            picture[i] = (float)drawn[i] / 255;
        double want = metric_tenengrad(picture, SIDE, SIDE, EVAL_TENENGRAD_GREY);
        CHECK(want > EVAL_TENENGRAD_GREY);
        CHECK_NEAR(e.scores[s].value[EVAL_TENENGRAD], want, 1e-9);
        CHECK_NEAR(e.scores[s].value[EVAL_TENENGRAD_REAL], 0, 0);
    }
    evaluation_free(&e);
    close_fixture(&f);
}

TEST(evaluate_refuses, "another target, window, spacing, size, pose or turn is refused and named")
{
    Fixture f = fixture(0);
    Err err = {0};
    PackInfo info = *pack_info(f.pack);
    ModelInfo model = *model_info(f.model);
    model.grid_pixels = info.pixels; /* the fixture's grids differ */
    CHECK_OK(evaluate_fits(&model, &info, &err), &err);
    info.window_width_hu += 1;
    CHECK_STATUS(evaluate_fits(&model, &info, &err), ST_MODEL_UNFIT);
    CHECK(strstr(err.msg, "window") != NULL);
    info = *pack_info(f.pack);
    info.spacing_mm *= 1.01;
    CHECK_STATUS(evaluate_fits(&model, &info, &err), ST_MODEL_UNFIT);
    CHECK(strstr(err.msg, "mm wide") != NULL);
    info = *pack_info(f.pack);
    info.pixels += 32;
    CHECK_STATUS(evaluate_fits(&model, &info, &err), ST_MODEL_UNFIT);
    CHECK(strstr(err.msg, "pixels a side") != NULL);
    info = *pack_info(f.pack);
    info.pose = info.pose == POSE_NATIVE ? POSE_REFERENCE : POSE_NATIVE;
    CHECK_STATUS(evaluate_fits(&model, &info, &err), ST_MODEL_UNFIT);
    info = *pack_info(f.pack);
    info.interpolation = INTERPOLATION_CUBIC;
    CHECK_STATUS(evaluate_fits(&model, &info, &err), ST_MODEL_UNFIT);
    info = *pack_info(f.pack);
    info.target[1] = info.target[1] == '1' ? '2' : '1';
    CHECK_STATUS(evaluate_fits(&model, &info, &err), ST_MODEL_UNFIT);
    info = *pack_info(f.pack);
    info.mask = info.mask == MASK_HEAD ? MASK_BRAIN : MASK_HEAD;
    CHECK_STATUS(evaluate_fits(&model, &info, &err), ST_MODEL_UNFIT);
    ModelInfo turned = model;
    info = *pack_info(f.pack);
    turned.pose = info.pose = POSE_REFERENCE;
    (void)snprintf(turned.axes, sizeof turned.axes, "LP");
    CHECK_STATUS(evaluate_fits(&turned, &info, &err), ST_MODEL_UNFIT);
    CHECK(strstr(err.msg, "LP") != NULL && strstr(err.msg, "RA") != NULL);
    (void)snprintf(info.axes, sizeof info.axes, "LP");
    CHECK_OK(evaluate_fits(&turned, &info, &err), &err);
    close_fixture(&f);
}

static int count(const char *text, const char *what)
{
    int n = 0;
    for (; (text = strstr(text, what)) != NULL; text++)
        n++;
    return n;
}

enum { LARGEST = 3 };

/* Takes rows from the masks of all slices but one. */
static void cut_masks(Fixture *f)
{
    static uint8_t mr[N * PIXELS];
    for (int i = 0; i < N * PIXELS; i++) {
        int slice = i / PIXELS, row = i % PIXELS / SIDE;
        bool is_cut = row < (slice == LARGEST ? 1 : 2 + slice);
        mr[i] = is_cut ? 250 : (uint8_t)(pack_mr(f->pack, slice)[i % PIXELS] / 257);
    }
    write_pack(f, mr);
    open_pack(f);
}

/* Two pictures of each of 2 to 4 slices, and the two of the first layer. */
static void check_pngs(void)
{
    static const char *const NAMES[] = {"filters.png", "feature-maps.png"};
    char path[PATH_SIZE];
    int n_slices = 0, n_profiles = 0;
    for (int s = 0; s < N; s++) {
        (void)snprintf(path, sizeof path, "%s/slice-%d.png", test_dir(), s);
        n_slices += access(path, R_OK) == 0;
        (void)snprintf(path, sizeof path, "%s/profile-%d.png", test_dir(), s);
        n_profiles += access(path, R_OK) == 0;
    }
    CHECK(n_slices >= 2 && n_slices <= 4 && n_slices == n_profiles);
    for (int k = 0; k < 2; k++) {
        uint8_t *grey;
        int32_t width, height;
        Err err = {0};
        (void)snprintf(path, sizeof path, "%s/%s", test_dir(), NAMES[k]);
        CHECK_OK(png_read_grey(path, 4096, &grey, &width, &height, &err), &err);
        CHECK(width > 100 && height > 30);
        free(grey);
    }
}

TEST(evaluate_report, "one HTML file: tables, comparison, pictures within; JSON says the same")
{
    Fixture f = fixture(SHIFT);
    Evaluation e;
    Err err = {0};
    char path[PATH_SIZE], *html, text[64];
    size_t bytes;
    cut_masks(&f);
    CHECK_OK(evaluate(f.net, model_info(f.model), f.pack, NULL, 0.05, &e, &err), &err);
    static const CaseUse use[2] = {CASE_TRAINED, CASE_HELD_OUT}, fresh[2] = {CASE_NEW, CASE_NEW};
    const EvalSubject other = {f.model, f.net, &e, fresh, true};
    EvalReport report = {f.pack, 0.05, {f.model, f.net, &e, use, true}, &other, test_dir()};
    CHECK_OK(path_format(path, &err, "%s/r.html", test_dir()), &err);
    CHECK_OK(eval_report_write(path, &report, &err), &err);
    CHECK_OK(file_read(path, (size_t)64 << 20, &html, &bytes, &err), &err);
    CHECK_INT(count(html, "data:image/png;base64,iVBORw0KGgo"), 2 * (2 + 2) + 2);
    CHECK_INT(count(html, "<img"), 2 * (2 + 2) + 2);
    check_pngs();
    CHECK_INT(count(html, "http"), 0);
    CHECK_INT(count(html, "degrees of freedom"), 4);
    CHECK_INT(count(html, "<h3>paired t-test"), 1);
    CHECK_INT(count(html, "<h3>t-test for independent samples"), 1);
    (void)snprintf(text, sizeof text, "<td>%.2f &plusmn;", evaluation_slices(&e, EVAL_PSNR).mean);
    CHECK(count(html, text) >= 1);
    CHECK_INT(count(html, "NOT A TEST: the model was trained on 1 of these 2 cases (1 held out"),
              1);
    CHECK_INT(count(html, "none of these 2 cases is known to have been trained on"), 1);
    CHECK_INT(count(html, "(trained on)"), 1);
    (void)snprintf(text, sizeof text, "What they make of slice %d,", LARGEST);
    CHECK_INT(count(html, text), 1);
    free(html);
    cJSON *json = eval_report_json(&report);
    const cJSON *psnr = cJSON_GetObjectItem(cJSON_GetObjectItem(json, "over_slices"), "psnr_db");
    CHECK_NEAR(cJSON_GetNumberValue(cJSON_GetObjectItem(psnr, "mean")),
               evaluation_slices(&e, EVAL_PSNR).mean, 1e-12);
    CHECK_INT(cJSON_GetArraySize(cJSON_GetObjectItem(json, "slices")), 5);
    CHECK_INT(cJSON_GetArraySize(cJSON_GetObjectItem(json, "cases")), 2);
    const cJSON *compare = cJSON_GetObjectItem(cJSON_GetObjectItem(json, "compare"), "over_slices");
    CHECK_NEAR(
        cJSON_GetNumberValue(cJSON_GetObjectItem(cJSON_GetObjectItem(compare, "tenengrad"), "p")),
        1, 1e-9);
    compare = cJSON_GetObjectItem(json, "compare"); /* with itself: no differences to test */
    CHECK(cJSON_IsNull(
        cJSON_GetObjectItem(cJSON_GetObjectItem(compare, "paired_over_slices"), "tenengrad")));
    const cJSON *known = cJSON_GetObjectItem(json, "known_cases");
    CHECK(cJSON_IsFalse(cJSON_GetObjectItem(known, "is_test")));
    CHECK_INT(cJSON_GetNumberValue(cJSON_GetObjectItem(known, "trained")), 1);
    known = cJSON_GetObjectItem(cJSON_GetObjectItem(json, "compare"), "known_cases");
    CHECK(cJSON_IsNull(cJSON_GetObjectItem(known, "is_test"))); /* cases that it does not know */
    const cJSON *one = cJSON_GetArrayItem(cJSON_GetObjectItem(json, "cases"), 0);
    CHECK_STR(cJSON_GetStringValue(cJSON_GetObjectItem(one, "use")), "trained");
    cJSON_Delete(json);
    evaluation_free(&e);
    close_fixture(&f);
}

TEST(evaluate_compares_pairs,
     "B is A less 1 dB with a little scatter: paired p is small, independent p is not; n = 1 is -")
{
    enum { N_SCORES = 8, N_CASES = 2 };
    SliceScore a[N_SCORES] = {0}, b[N_SCORES] = {0};
    double mean_a[N_CASES] = {30, 34}, mean_b[N_CASES] = {29, 33.1};
    int32_t cases[N_CASES] = {0, 1};
    Evaluation x = {.n = N_SCORES, .n_cases = N_CASES, .scores = a, .case_index = cases}, y = x;
    TTest t;
    Err err = {0};
    for (int i = 0; i < N_SCORES; i++) {
        a[i].slice = b[i].slice = i;
        a[i].value[EVAL_PSNR] = 30 + i;
        b[i].value[EVAL_PSNR] = 29 + i + 0.01 * (i % 3);
    }
    y.scores = b;
    x.case_mean[EVAL_PSNR] = mean_a;
    y.case_mean[EVAL_PSNR] = mean_b;
    CHECK_OK(evaluation_compare(&x, &y, EVAL_PSNR, EVAL_INDEPENDENT, false, &t, &err), &err);
    CHECK(t.p > 0.3 && t.dof == 14);
    CHECK_OK(evaluation_compare(&x, &y, EVAL_PSNR, EVAL_PAIRED, false, &t, &err), &err);
    CHECK(t.p < 1e-10 && t.dof == 7);
    CHECK_NEAR(t.difference, 1 - 0.07 / 8, 1e-12);
    CHECK_OK(evaluation_compare(&x, &y, EVAL_PSNR, EVAL_PAIRED, true, &t, &err), &err);
    CHECK(t.dof == 1 && t.a.mean == 32);
    x.n_cases = y.n_cases = 1;
    CHECK_STATUS(evaluation_compare(&x, &y, EVAL_PSNR, EVAL_PAIRED, true, &t, &err), ST_LIMIT);
    CHECK(isnan(evaluation_cases(&x, EVAL_PSNR).deviation));
    b[3].slice = 9;
    CHECK_STATUS(evaluation_compare(&x, &y, EVAL_PSNR, EVAL_PAIRED, false, &t, &err), ST_USAGE);
}

TEST(evaluate_report_compares,
     "B is brighter by 1 dB and a little: A - B and t are below 0, in all")
{
    Fixture f = fixture(SHIFT);
    Evaluation a, b;
    Err err = {0};
    char path[PATH_SIZE], *html, text[128];
    size_t bytes;
    CHECK_OK(evaluate(f.net, model_info(f.model), f.pack, NULL, 0.05, &a, &err), &err);
    CHECK_OK(evaluate(f.net, model_info(f.model), f.pack, NULL, 0.05, &b, &err), &err);
    for (int i = 0; i < b.n; i++)
        b.scores[i].value[EVAL_PSNR] += 1 + 0.01 * i;
    for (int c = 0; c < b.n_cases; c++)
        b.case_mean[EVAL_PSNR][c] += 1.5 + 0.01 * c;
    static const CaseUse fresh[2] = {CASE_NEW, CASE_NEW};
    const EvalSubject other = {f.model, f.net, &b, fresh, true};
    const EvalReport report = {f.pack, 0.05, {f.model, f.net, &a, fresh, true}, &other, NULL};
    CHECK_OK(path_format(path, &err, "%s/c.html", test_dir()), &err);
    CHECK_OK(eval_report_write(path, &report, &err), &err);
    CHECK_OK(file_read(path, (size_t)64 << 20, &html, &bytes, &err), &err);
    for (int test = 0; test < EVAL_TESTS; test++)
        for (int over_cases = 0; over_cases < 2; over_cases++) {
            TTest t;
            CHECK_OK(
                evaluation_compare(&a, &b, EVAL_PSNR, (EvalTest)test, over_cases == 1, &t, &err),
                &err);
            CHECK_NEAR(t.difference, over_cases == 1 ? -1.505 : -1.02, 1e-9);
            CHECK(t.t < 0 && t.low < t.difference && t.difference < t.high);
            (void)snprintf(text, sizeof text,
                           "<td>%.4g</td><td>%.4g to %.4g</td><td>%.3f</td><td>%.0f</td>",
                           t.difference, t.low, t.high, t.t, t.dof);
            CHECK_INT(count(html, text), 1);
        }
    (void)snprintf(text, sizeof text, "<td>%.2f &plusmn; %.2f</td>",
                   evaluation_cases(&b, EVAL_PSNR).mean, evaluation_cases(&b, EVAL_PSNR).deviation);
    CHECK_INT(count(html, text), 1);
    (void)snprintf(text, sizeof text, "<td>%.2f &plusmn; %.2f</td>",
                   evaluation_slices(&b, EVAL_PSNR).mean,
                   evaluation_slices(&b, EVAL_PSNR).deviation);
    CHECK_INT(count(html, text), 1);
    free(html);
    evaluation_free(&a);
    evaluation_free(&b);
    close_fixture(&f);
}

TEST(evaluate_says_what_it_is_a_test_of, "one case held out, one trained on, one that is new")
{
    const EvalUse none = {.is_stated = true, .n = {[CASE_NEW] = 3}},
                  held = {.is_stated = true, .n = {[CASE_NEW] = 2, [CASE_HELD_OUT] = 1}},
                  trained = {.is_stated = true, .n = {[CASE_NEW] = 2, [CASE_TRAINED] = 1}},
                  unknown = {.n = {[CASE_NEW] = 3}};
    char text[EVAL_USE_SIZE];
    CHECK(strncmp(eval_use_text(&none, text), "none of these 3 cases is known", 30) == 0);
    CHECK(strncmp(eval_use_text(&held, text), "trained on 0 of these 3 cases; 1 held out", 41) ==
          0);
    CHECK(strncmp(eval_use_text(&trained, text), "NOT A TEST: the model was trained on 1 of", 41) ==
          0);
    CHECK(strncmp(eval_use_text(&unknown, text), "whether this is a test cannot be told", 37) == 0);
}

static bool find_use(const Fixture *f, const char *cases, const char *training, CaseUse ret[2])
{
    const MetadataValue values[] = {{TRAINED_CASES_KEY, cases}, {"training", training}};
    char path[PATH_SIZE];
    Model *model;
    Err err = {0};
    CHECK_OK(path_format(path, &err, "%s.trained", f->model_path), &err);
    CHECK_OK(model_write_metadata(f->model_path, values, 2, path, &err), &err);
    CHECK_OK(model_open(path, &model, &err), &err);
    bool stated = trained_cases_find(model, f->pack, ret);
    model_close(model);
    return stated;
}

TEST(
    evaluate_knows_trained_cases,
    "by ID, by the CT under another ID, held out, by the file alone; what is not said is not known")
{
    Fixture f = fixture(0);
    CaseUse use[2];
    char text[256], ct[PACK_ID_SIZE], *made;
    Err err = {0};
    CHECK(!find_use(&f, NULL, NULL, use));
    CHECK(use[0] == CASE_NEW && use[1] == CASE_NEW);
    CHECK(find_use(&f,
                   "{\"trained\":{\"00000000000000aa\":\"x\"},\"held_out\":{\"00000000000000ab\":"
                   "\"y\"}}",
                   NULL, use));
    CHECK(use[0] == CASE_TRAINED && use[1] == CASE_HELD_OUT);
    pack_ct_digest(f.pack, 1, ct);
    (void)snprintf(text, sizeof text, "{\"trained\":{\"%s\":\"%s\"},\"held_out\":{}}",
                   "1111111111111111", ct);
    CHECK(find_use(&f, text, NULL, use));
    CHECK(use[0] == CASE_NEW && use[1] == CASE_TRAINED);
    (void)snprintf(text, sizeof text, "{\"data\":\"%s\"}", pack_info(f.pack)->digest);
    CHECK(find_use(&f, NULL, text, use));
    CHECK(use[0] == CASE_TRAINED && use[1] == CASE_TRAINED);
    CHECK(!find_use(&f, NULL, "{\"data\":\"another\"}", use));
    static const bool held[2] = {true, false};
    CHECK_OK(trained_cases_text(f.pack, held, NULL, &made, &err), &err);
    CHECK(find_use(&f, made, NULL, use));
    CHECK(use[0] == CASE_HELD_OUT && use[1] == CASE_TRAINED);
    cJSON_free(made);
    close_fixture(&f);
}

TEST(evaluate_picture_turned, "axes RA: the file's first pixel is the picture's lower right one")
{
    Fixture f = fixture(0);
    Err err = {0};
    Canvas canvas;
    static uint8_t synthetic[PIXELS];
    synthetic[1] = 200; /* column 1, row 0 */
    CHECK_OK(eval_picture_slice(f.pack, 0, synthetic, &canvas, &err), &err);
    CHECK_INT(canvas.width, 4 * SIDE + 3 * 4);
    const uint8_t *at = canvas.rgb + ((SIDE - 1) * canvas.width + 2 * (SIDE + 4) + SIDE - 2) * 3;
    CHECK(at[0] == 200 && at[1] == 200 && at[2] == 200);
    canvas_close(&canvas);
    Colour hot = colour_difference(1), cold = colour_difference(-0.5), none = colour_difference(0);
    CHECK(hot.r == 255 && hot.g == 255 && hot.b == 0);
    CHECK(cold.r == 0 && cold.g == 0 && cold.b == 255);
    CHECK(none.r == 0 && none.g == 0 && none.b == 0);
    close_fixture(&f);
}

enum { LEFT = 8, RIGHT = 39, TOP = 20, BOTTOM = 51, MR_GREY = 100, ZOOMED = 4 };

/* MR_GREY and mask in a rectangle of the file; the picture is the file turned by 180 degrees. */
static void write_rectangle(Fixture *f)
{
    static uint8_t mr[N * PIXELS];
    for (int i = 0; i < N * PIXELS; i++) {
        int x = i % SIDE, y = i % PIXELS / SIDE;
        bool is_in = x >= LEFT && x <= RIGHT && y >= TOP && y <= BOTTOM;
        mr[i] = is_in ? MR_GREY : 250;
    }
    write_pack(f, mr);
    open_pack(f);
}

static Colour at(const Canvas *canvas, int x, int y)
{
    const uint8_t *p = canvas->rgb + (y * canvas->width + x) * 3;
    return (Colour){p[0], p[1], p[2]};
}

static bool is(Colour a, Colour b)
{
    return a.r == b.r && a.g == b.g && a.b == b.b;
}

TEST(evaluate_picture_panels,
     "difference: red too bright, blue too dark; the square below is the marked one, four times")
{
    enum { PANEL = SIDE + 4, BOX_X = 39 - SIDE / 8, BOX_Y = 27 - SIDE / 8 };
    Fixture f = fixture(0);
    Err err = {0};
    Canvas canvas;
    static uint8_t synthetic[PIXELS];
    write_rectangle(&f);
    for (int i = 0; i < PIXELS; i++)
        synthetic[i] = (uint8_t)(i % SIDE * 3 + i / SIDE); /* 0 to 252 */
    CHECK_OK(eval_picture_slice(f.pack, 0, synthetic, &canvas, &err), &err);
    CHECK_INT(canvas.height, 2 * SIDE + 4);
    for (int y = 0; y < SIDE; y++)
        for (int x = 0; x < SIDE; x++) {
            int column = SIDE - 1 - x, row = SIDE - 1 - y, drawn = column * 3 + row;
            bool is_in = column >= LEFT && column <= RIGHT && row >= TOP && row <= BOTTOM;
            int real = is_in ? MR_GREY : 0;
            Colour c = at(&canvas, 3 * PANEL + x, y);
            CHECK(drawn > real ? c.r > 0 && c.b == 0 : drawn == real || (c.b > 0 && c.r == 0));
            CHECK(is(at(&canvas, 2 * PANEL + x, y), colour_grey((uint8_t)drawn)));
            column = SIDE - 1 - (BOX_X + x / ZOOMED), row = SIDE - 1 - (BOX_Y + y / ZOOMED);
            CHECK(is(at(&canvas, 2 * PANEL + x, PANEL + y),
                     colour_grey((uint8_t)(column * 3 + row))));
        }
    enum { BOX = SIDE / ZOOMED };
    const Colour frame = at(&canvas, PANEL + BOX_X - 1, BOX_Y - 1); /* around the square */
    CHECK(!is(frame, colour_grey(MR_GREY)));
    CHECK(is(frame, at(&canvas, PANEL + BOX_X + BOX, BOX_Y + BOX)));
    CHECK(is(at(&canvas, PANEL + BOX_X, BOX_Y), colour_grey(MR_GREY)));
    CHECK(is(at(&canvas, PANEL + BOX_X + BOX - 1, BOX_Y + BOX - 1), colour_grey(MR_GREY)));
    CHECK(is(at(&canvas, PANEL, 27), at(&canvas, 2 * PANEL - 5, 27))); /* the profile's ends */
    CHECK(!is(at(&canvas, PANEL, 27), at(&canvas, PANEL, 29)));
    canvas_close(&canvas);
    close_fixture(&f);
}

TEST(evaluate_picture_profile,
     "real MR a level black line, a synthetic ramp red: as high as they are")
{
    enum { WIDTH = 800, HEIGHT = 260, MARGIN = 8, N_POINTS = 30 };
    Fixture f = fixture(0);
    Err err = {0};
    Canvas canvas;
    static uint8_t synthetic[PIXELS];
    write_rectangle(&f);
    for (int i = 0; i < PIXELS; i++)
        synthetic[i] = (uint8_t)(254 - 4 * (SIDE - 1 - i % SIDE)); /* falls from left to right */
    CHECK_OK(eval_picture_profile(f.pack, 0, synthetic, &canvas, &err), &err);
    CHECK(canvas.width == WIDTH && canvas.height == HEIGHT);
    for (int i = 0; i < N_POINTS; i++) {
        double x_at = i + 0.75, grey = 254 - 4 * (SIDE - 1 - RIGHT + x_at); /* between pixels */
        double across = (double)(WIDTH - 2 * MARGIN) / (RIGHT - LEFT);
        int x = (int)lround(MARGIN + across * x_at);
        int up = (int)lround(HEIGHT - MARGIN - (double)(HEIGHT - 2 * MARGIN) * grey / 255);
        int level = (int)lround(HEIGHT - MARGIN - (double)(HEIGHT - 2 * MARGIN) * MR_GREY / 255);
        Colour red = at(&canvas, x, up), black = at(&canvas, x, level);
        CHECK(red.r > 128 && red.g < 128 && red.b < 128);
        if (abs(up - level) > 8)
            CHECK(black.r < 64 && black.g < 64 && black.b < 64);
    }
    canvas_close(&canvas);
    close_fixture(&f);
}

static float *read_tensor(const Model *model, const char *name)
{
    const Tensor *t = model_tensor(model, name);
    CHECK(t != NULL);
    float *v = malloc((size_t)t->n_elements * sizeof *v);
    CHECK(v != NULL);
    CHECK_STATUS(model_read(model, t, v, NULL), ST_OK);
    return v;
}

TEST(evaluate_first_layer,
     "a feature map is the filter, normalised, above 0; worked out at a pixel")
{
    enum { C = 3, X = 11, Y = 7, K = 7 }; /* a channel and a place of the map, half as large */
    Fixture f = fixture(0);
    Err err = {0};
    FirstLayer layer;
    static float x[3 * PIXELS];
    for (int i = 0; i < 3 * PIXELS; i++)
        x[i] = (float)sin(0.01 * i);
    CHECK_OK(first_layer(f.model, x, SIDE, SIDE, &layer, &err), &err);
    CHECK(layer.c == 8 && layer.kernel == K && layer.h == SIDE / 2 && layer.w == SIDE / 2);
    float *w = read_tensor(f.model, "conv1.weight"), *gamma = read_tensor(f.model, "bn1.weight");
    float *beta = read_tensor(f.model, "bn1.bias"),
          *mean = read_tensor(f.model, "bn1.running_mean");
    float *variance = read_tensor(f.model, "bn1.running_var");
    CHECK(memcmp(w, layer.filters, sizeof(float) * 8 * 3 * K * K) == 0);
    for (int c = 0; c < 8; c++) {
        double sum = 0;
        for (int i = 0; i < 3; i++)
            for (int ky = 0; ky < K; ky++)
                for (int kx = 0; kx < K; kx++)
                    sum += (double)w[((c * 3 + i) * K + ky) * K + kx] *
                           (double)x[i * PIXELS + (2 * Y + ky - 3) * SIDE + 2 * X + kx - 3];
        double want =
            ((sum - (double)mean[c]) / sqrt((double)variance[c] + 1e-5)) * (double)gamma[c] +
            (double)beta[c];
        CHECK_NEAR(layer.maps[(c * layer.h + Y) * layer.w + X], want > 0 ? want : 0, 1e-4);
    }
    free(w), free(gamma), free(beta), free(mean), free(variance);
    first_layer_free(&layer);
    close_fixture(&f);
}
