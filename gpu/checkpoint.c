/* A checkpoint: a safetensors file of the parameters (NAME), their moments (adam1.NAME,
** adam2.NAME), the best epoch's parameters (best.NAME) and, as metadata, the recipe of the
** training, its position and its rows, and SHA-256 over all of these. Doubles are written with as
** many digits as they have, so that a resumed training has the same bits. */
#include "gpu/training_int.h"

#include "base/digest.h"
#include "gpu/model_write.h"
#include "gpu/train_init.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FORMAT "ct2mr-checkpoint-3"
enum {
    NAME_SIZE = TRAIN_NAME_SIZE + 20,
    ROW_NUMBERS = 9 + 2 * (1 + LOSS_TERMS),
    STATE_NUMBERS = 6 + 1 + LOSS_TERMS
};

/* ---- rows and state as JSON ---------------------------------------------------------------- */

/* With all digits: cJSON's own 15 may be another number. What is no number (a norm beyond float64)
** is the largest, so that it can be read again. The caller adds or deletes it. */
static cJSON *exact_numbers(const double *v, int n)
{
    enum { DIGITS = 32 };
    char text[ROW_NUMBERS * DIGITS + 2] = "[";
    size_t used = 1;
    ASSERT(n <= ROW_NUMBERS);
    for (int i = 0; i < n; i++) {
        used += (size_t)snprintf(text + used, DIGITS, "%.17g", isfinite(v[i]) ? v[i] : DBL_MAX);
        text[used++] = i + 1 < n ? ',' : ']';
    }
    text[used] = '\0';
    return cJSON_CreateRaw(text);
}

static void put_loss(double *at, const LossValue *value)
{
    at[0] = value->total;
    memcpy(at + 1, value->term, sizeof value->term);
}

static LossValue get_loss(const double *at)
{
    LossValue value = {.total = at[0]};
    memcpy(value.term, at + 1, sizeof value.term);
    return value;
}

static cJSON *row_json(const TrainRow *row)
{
    double v[ROW_NUMBERS] = {row->epoch,     (double)row->step, row->lr,
                             row->psnr_db,   row->ssim,         row->gradient_norm,
                             row->elapsed_s, row->waited_frac,  0};
    put_loss(v + 9, &row->training);
    put_loss(v + 10 + LOSS_TERMS, &row->validation);
    return exact_numbers(v, ROW_NUMBERS);
}

static bool get_numbers(const cJSON *list, double *ret, int n)
{
    if (!cJSON_IsArray(list) || cJSON_GetArraySize(list) != n)
        return false;
    const cJSON *item = list->child;
    for (int i = 0; i < n; i++, item = item->next) {
        if (!cJSON_IsNumber(item) || !isfinite(item->valuedouble))
            return false;
        ret[i] = item->valuedouble;
    }
    return true;
}

static bool get_row(const cJSON *json, TrainRow *ret)
{
    double v[ROW_NUMBERS];
    if (!get_numbers(json, v, ROW_NUMBERS) || !(v[0] >= 1 && v[0] < INT32_MAX) ||
        !(v[1] >= 0 && v[1] < 9e15))
        return false;
    *ret = (TrainRow){.epoch = (int32_t)v[0],
                      .step = (int64_t)v[1],
                      .lr = v[2],
                      .psnr_db = v[3],
                      .ssim = v[4],
                      .gradient_norm = v[5],
                      .elapsed_s = v[6],
                      .waited_frac = v[7],
                      .training = get_loss(v + 9),
                      .validation = get_loss(v + 10 + LOSS_TERMS)};
    return true;
}

static cJSON *state_json(const Training *t)
{
    const TrainState *s = &t->state;
    double v[STATE_NUMBERS] = {(double)s->step, (double)s->n_sum,      s->norm_sum,
                               s->waited_s,     training_elapsed_s(t), s->epochs_since_best};
    put_loss(v + 6, &s->sum);
    cJSON *json = cJSON_CreateObject();
    (void)cJSON_AddItemToObject(json, "position", exact_numbers(v, STATE_NUMBERS));
    if (t->config->precision == PRECISION_F16) {
        TrainScale scale = train_net_scale(t->net);
        const int numbers[2] = {scale.exponent, scale.n_good};
        (void)cJSON_AddItemToObject(json, "scale", cJSON_CreateIntArray(numbers, 2));
    }
    if (s->best.epoch > 0)
        (void)cJSON_AddItemToObject(json, "best", row_json(&s->best));
    cJSON *rows = cJSON_AddArrayToObject(json, "rows");
    for (int32_t i = 0; i < s->n_rows; i++)
        (void)cJSON_AddItemToArray(rows, row_json(&s->rows[i]));
    return json;
}

static Status parse_state(const cJSON *json, TrainState *ret, Err *err)
{
    double v[STATE_NUMBERS];
    const cJSON *rows = cJSON_GetObjectItemCaseSensitive(json, "rows");
    const cJSON *best = cJSON_GetObjectItemCaseSensitive(json, "best");
    int n = cJSON_IsArray(rows) ? cJSON_GetArraySize(rows) : -1;
    if (!get_numbers(cJSON_GetObjectItemCaseSensitive(json, "position"), v, STATE_NUMBERS) ||
        n < 0 || n > TRAIN_MAX_ROWS || !(v[0] >= 0 && v[0] < 9e15) || !(v[1] >= 0 && v[1] < 9e15) ||
        !(v[5] >= 0 && v[5] < INT32_MAX))
        return err_set(err, ST_CHECKPOINT, "its position is not readable");
    *ret = (TrainState){.step = (int64_t)v[0],
                        .n_sum = (int64_t)v[1],
                        .norm_sum = v[2],
                        .waited_s = v[3],
                        .elapsed_s = v[4],
                        .epochs_since_best = (int32_t)v[5],
                        .sum = get_loss(v + 6)};
    if (best != NULL && !get_row(best, &ret->best))
        return err_set(err, ST_CHECKPOINT, "its best epoch is not readable");
    ret->rows = calloc((size_t)n + 1, sizeof *ret->rows);
    if (ret->rows == NULL)
        return err_set(err, ST_NO_MEMORY, "%d epochs", n);
    ret->max_rows = n + 1;
    for (const cJSON *item = rows->child; item != NULL; item = item->next)
        if (!get_row(item, &ret->rows[ret->n_rows++]))
            return err_set(err, ST_CHECKPOINT, "row %d is not readable", ret->n_rows);
    return ST_OK;
}

static Status parse_scale(const cJSON *json, TrainNet *net, Err *err)
{
    double v[2];
    if (!get_numbers(cJSON_GetObjectItemCaseSensitive(json, "scale"), v, 2) ||
        !(v[0] >= 0 && v[0] <= TRAIN_MAX_EXPONENT) || !(v[1] >= 0 && v[1] < INT32_MAX))
        return err_set(err, ST_CHECKPOINT, "its loss scale is not readable");
    train_net_set_scale(net, (TrainScale){(int32_t)v[0], (int32_t)v[1]});
    return ST_OK;
}

/* ---- checksum ------------------------------------------------------------------------------ */

static void add_tensor(Digest *digest, const char *name, const float *values, int64_t n)
{
    digest_add(digest, name, strlen(name) + 1);
    digest_add(digest, values, (size_t)n * sizeof *values);
}

static Digest *begin_digest(const char *recipe, const char *state)
{
    Digest *digest = digest_new();
    digest_add(digest, recipe, strlen(recipe) + 1);
    digest_add(digest, state, strlen(state) + 1);
    return digest;
}

static void end_digest(Digest *digest, char ret[DIGEST_HEX_SIZE])
{
    uint8_t sum[DIGEST_SIZE];
    digest_end(digest, sum);
    (void)digest_hex(sum, ret);
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(((const NewTensor *)a)->name, ((const NewTensor *)b)->name);
}

/* ---- saving -------------------------------------------------------------------------------- */

static NewTensor tensor_of(const TrainParameter *p, const char *name, const float *values)
{
    NewTensor tensor = {.name = name, .n_dims = p->n_dims, .values = values};
    for (int32_t d = 0; d < p->n_dims; d++)
        tensor.dims[d] = p->dims[d];
    return tensor;
}

static void best_name(char ret[NAME_SIZE], const TrainParameter *p)
{
    (void)snprintf(ret, NAME_SIZE, "best.%s", p->name);
}

static void moment_name(char ret[NAME_SIZE], const TrainParameter *p, int order)
{
    (void)snprintf(ret, NAME_SIZE, "adam%d.%s", order, p->name);
}

/* The recipe and the state with everything they belong to. */
static Status write_file(const Training *t, const char *recipe, const char *state,
                         NewTensor *tensors, int n, Err *err)
{
    char sum[DIGEST_HEX_SIZE];
    const MetadataValue values[] = {
        {"format", FORMAT}, {"recipe", recipe}, {"state", state}, {"sha256", sum}};
    qsort(tensors, (size_t)n, sizeof *tensors, compare_names); /* as a reader lists them */
    Digest *digest = begin_digest(recipe, state);
    for (int i = 0; i < n; i++) {
        int64_t size = 1;
        for (int32_t d = 0; d < tensors[i].n_dims; d++)
            size *= tensors[i].dims[d];
        add_tensor(digest, tensors[i].name, tensors[i].values, size);
    }
    end_digest(digest, sum);
    return model_write_new(t->config->checkpoint, values, sizeof values / sizeof *values, tensors,
                           n, false, err);
}

static Status write_tensors(const Training *t, const char *recipe, const char *state, Err *err)
{
    const size_t most = 4 * (size_t)t->n_parameters;
    NewTensor *tensors = calloc(most, sizeof *tensors);
    char(*names)[NAME_SIZE] = calloc(most, sizeof *names);
    Status status = ST_OK;
    int k = 0;
    if (tensors == NULL || names == NULL)
        status = err_set(err, ST_NO_MEMORY, "the table of a checkpoint");
    for (int32_t i = 0; status == ST_OK && i < t->n_parameters; i++) {
        const TrainParameter *p = &t->parameters[i];
        tensors[k++] = tensor_of(p, p->name, p->value);
        for (int order = 1; order <= 2 && optimizer_moment(t->optimizer, i, order) != NULL;
             order++) {
            moment_name(names[k], p, order);
            tensors[k] = tensor_of(p, names[k], optimizer_moment(t->optimizer, i, order));
            k++;
        }
        if (t->state.best.epoch > 0) {
            best_name(names[k], p);
            tensors[k] = tensor_of(p, names[k], t->best[i]);
            k++;
        }
    }
    if (status == ST_OK)
        status = write_file(t, recipe, state, tensors, k, err);
    free(names);
    free(tensors);
    return training_write_status(status, err);
}

Status checkpoint_save(Training *t, Err *err)
{
    cJSON *recipe_json = training_recipe(t), *state = state_json(t);
    char *recipe_text = cJSON_PrintUnformatted(recipe_json);
    char *state_text = cJSON_PrintUnformatted(state);
    cJSON_Delete(recipe_json);
    cJSON_Delete(state);
    Status status = recipe_text == NULL || state_text == NULL
                        ? err_set(err, ST_NO_MEMORY, "a checkpoint's position")
                        : write_tensors(t, recipe_text, state_text, err);
    cJSON_free(recipe_text);
    cJSON_free(state_text);
    return status;
}

/* ---- loading ------------------------------------------------------------------------------- */

/* Text of an item for a message, at most 100 characters. */
static void item_text(const cJSON *item, char ret[128])
{
    char *text = item != NULL ? cJSON_PrintUnformatted(item) : NULL;
    (void)snprintf(ret, 128, "%.100s", text != NULL ? text : "nothing");
    cJSON_free(text);
}

static Status compare_recipe(const Training *t, const cJSON *then, Err *err)
{
    cJSON *now = training_recipe(t);
    Status status = ST_OK;
    const cJSON *differs = NULL;
    for (const cJSON *item = now->child; item != NULL && differs == NULL; item = item->next)
        if (!cJSON_Compare(item, cJSON_GetObjectItemCaseSensitive(then, item->string), 1))
            differs = item;
    for (const cJSON *item = cJSON_IsObject(then) ? then->child : NULL;
         item != NULL && differs == NULL; item = item->next)
        if (cJSON_GetObjectItemCaseSensitive(now, item->string) == NULL)
            differs = item;
    if (differs != NULL) {
        char was[128], is[128];
        item_text(cJSON_GetObjectItemCaseSensitive(then, differs->string), was);
        item_text(cJSON_GetObjectItemCaseSensitive(now, differs->string), is);
        if (strcmp(differs->string, "threads") == 0)
            status = err_set(err, ST_USAGE,
                             "the checkpoint is of %s threads, here are %s, whose bits would "
                             "differ: go on with --threads %s",
                             was, is, was);
        else
            status = err_set(err, ST_USAGE,
                             "the checkpoint is of another training: %s was %s and is now %s",
                             differs->string, was, is);
    }
    cJSON_Delete(now);
    return status;
}

static Status check_sum(const Model *file, Err *err)
{
    const char *name, *want = model_metadata(file, "sha256");
    char sum[DIGEST_HEX_SIZE];
    Status status = ST_OK;
    Digest *digest = begin_digest(model_metadata(file, "recipe"), model_metadata(file, "state"));
    for (int32_t i = 0; status == ST_OK && (name = model_tensor_name(file, i)) != NULL; i++) {
        const Tensor *tensor = model_tensor(file, name);
        float *values =
            tensor != NULL ? malloc((size_t)tensor->n_elements * sizeof *values + 1) : NULL;
        if (tensor == NULL)
            status = err_set(err, ST_CHECKPOINT, "tensor %s holds no numbers", name);
        else if (values == NULL)
            status = err_set(err, ST_NO_MEMORY, "tensor %s", name);
        else if ((status = model_read(file, tensor, values, err)) == ST_OK)
            add_tensor(digest, name, values, tensor->n_elements);
        free(values);
    }
    end_digest(digest, sum);
    if (status == ST_OK && strcmp(sum, want) != 0)
        status = err_set(err, ST_CHECKPOINT,
                         "it is damaged: its SHA-256 is %.12s..., %.12s... was written", sum, want);
    return status;
}

static Status read_state(Training *t, const Model *file, Err *err)
{
    const char *format = model_metadata(file, "format"), *recipe = model_metadata(file, "recipe"),
               *state = model_metadata(file, "state");
    if (format == NULL || strcmp(format, FORMAT) != 0 || recipe == NULL || state == NULL ||
        model_metadata(file, "sha256") == NULL)
        return err_set(err, ST_CHECKPOINT, "it is not a checkpoint of this version's");
    TRY(check_sum(file, err));
    cJSON *json = cJSON_Parse(recipe);
    Status status = compare_recipe(t, json, err);
    cJSON_Delete(json);
    if (status != ST_OK)
        return status;
    TrainState read = {0};
    json = cJSON_Parse(state);
    status = parse_state(json, &read, err);
    if (status == ST_OK && read.step / t->steps_per_epoch >= INT32_MAX)
        status = err_set(err, ST_CHECKPOINT, "its position is beyond any training's");
    if (status == ST_OK && t->config->precision == PRECISION_F16)
        status = parse_scale(json, t->net, err);
    cJSON_Delete(json);
    free(t->state.rows);
    t->state = read;
    return status;
}

/* Values of a tensor that belongs to a parameter. */
static Status read_tensor(const Model *file, const char *name, int64_t n, float *ret, Err *err)
{
    const Tensor *tensor = model_tensor(file, name);
    if (tensor == NULL || tensor->n_elements != n)
        return err_set(err, ST_CHECKPOINT, "tensor %s is missing or has another size", name);
    return model_read(file, tensor, ret, err);
}

static Status read_others(Training *t, const Model *file, Err *err)
{
    char name[NAME_SIZE];
    for (int32_t i = 0; i < t->n_parameters; i++) {
        const TrainParameter *p = &t->parameters[i];
        for (int order = 1; order <= 2; order++) {
            float *moment = optimizer_moment(t->optimizer, i, order);
            if (moment == NULL)
                continue;
            moment_name(name, p, order);
            TRY(read_tensor(file, name, p->n, moment, err));
        }
        best_name(name, p);
        if (t->state.best.epoch > 0)
            TRY(read_tensor(file, name, p->n, t->best[i], err));
    }
    return ST_OK;
}

static Status load_file(Training *t, const Model *file, Err *err)
{
    TRY(read_state(t, file, err));
    TRY(train_init_all(t->net, file, err));
    TRY(read_others(t, file, err));
    optimizer_set_steps(t->optimizer, t->state.step);
    return ST_OK;
}

Status checkpoint_load(Training *t, Err *err)
{
    Model *file;
    Status status = model_open_tensors(t->config->checkpoint, &file, err);
    bool is_open = status == ST_OK;
    if (is_open) {
        status = load_file(t, file, err);
        model_close(file);
    }
    if (status != ST_CHECKPOINT && status != ST_MODEL_FORMAT && status != ST_MODEL_UNFIT &&
        status != ST_MODEL_NOT_FOUND)
        return status;
    err->status = ST_CHECKPOINT; /* of a model file the remedies would be others */
    return is_open ? err_wrap(err, "checkpoint %s", t->config->checkpoint)
                   : err_wrap(err, "checkpoint");
}
