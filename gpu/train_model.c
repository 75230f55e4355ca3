/* The model file that a training writes, and the recipe by which one training knows itself again.
**
** Numbers of the metadata that follow from time or machine are left out, so that the same training
** gives the same file. */
#include "gpu/training_int.h"

#include "gpu/imagenet.h"
#include "gpu/model_int.h"
#include "gpu/model_write.h"
#include "gpu/network.h"
#include "gpu/trained_cases.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TEXT_SIZE = 256, MAX_VALUES = 18 };

static void add_text(cJSON *json, const char *key, const char *text)
{
    (void)cJSON_AddStringToObject(json, key, text);
}

static void add_number(cJSON *json, const char *key, double value)
{
    (void)cJSON_AddNumberToObject(json, key, value);
}

/* Rounded to what is worth saying. */
static double rounded(double value, double unit)
{
    return round(value / unit) * unit;
}

static void add_augment(cJSON *json, unsigned kinds)
{
    cJSON *list = cJSON_AddArrayToObject(json, "augment");
    for (int k = 0; k < AUGMENT_KINDS; k++)
        if ((kinds & 1u << k) != 0)
            (void)cJSON_AddItemToArray(list, cJSON_CreateString(augment_name(k)));
}

static void add_optimizer(cJSON *json, const TrainConfig *c)
{
    const Schedule *s = &c->schedule;
    add_text(json, "schedule", schedule_name(s->kind));
    add_number(json, "lr", s->lr);
    if (s->kind == SCHEDULE_COSINE)
        add_number(json, "lr_min", s->lr_min);
    if (s->kind == SCHEDULE_STEP) {
        add_number(json, "step_epochs", s->step_epochs);
        add_number(json, "step_factor", s->step_factor);
    }
    add_number(json, "warmup", (double)s->warmup_steps);
    add_number(json, "weight_decay", c->optimizer.weight_decay);
    add_number(json, "clip", c->optimizer.clip);
}

static void add_common(cJSON *json, const Training *t)
{
    const TrainConfig *c = t->config;
    char seed[24];
    (void)snprintf(seed, sizeof seed, "%llu", (unsigned long long)c->seed);
    add_text(json, "data", t->pack->digest);
    add_text(json, "loss", c->loss);
    if (t->spec.weight[LOSS_CONTEXTUAL] > 0)
        add_text(json, "features", t->vgg_digest[0] != '\0' ? t->vgg_digest : "patches");
    if (t->encoder_digest[0] != '\0')
        add_text(json, "encoder", t->encoder_digest);
    add_text(json, "seed", seed); /* 64 bits do not fit a JSON number */
    add_number(json, "batch", t->batch);
    add_augment(json, c->augment);
    add_optimizer(json, c);
    add_text(json, "precision", precision_name(c->precision));
}

cJSON *training_recipe(const Training *t)
{
    const TrainConfig *c = t->config;
    cJSON *json = cJSON_CreateObject();
    add_text(json, "arch", network_name(c->arch));
    add_number(json, "width", c->width);
    add_text(json, "activation", c->activation == ACTIVATION_SIGMOID ? "sigmoid" : "linear");
    add_common(json, t);
    add_number(json, "epoch_slices", c->epoch_slices);
    add_number(json, "validation", c->validation_frac);
    add_number(json, "fold", c->fold);
    if (t->n_folds > 0)
        add_number(json, "folds", t->n_folds);
    add_text(json, "backend", c->backend);
    if (strcmp(c->backend, "cpu") == 0)
        add_number(json, "threads", t->threads); /* they decide the last bits */
    return json;
}

/* The caller frees with cJSON_free(). */
static char *provenance(const Training *t, const TrainRow *row)
{
    cJSON *json = cJSON_CreateObject();
    add_text(json, "software", "ct2mr " CT2MR_VERSION);
    add_number(json, "cases", t->n_training_cases);
    add_number(json, "slices", t->n_training);
    add_number(json, "validation_cases", t->n_validation_cases);
    add_number(json, "fold", t->config->fold);
    if (t->n_folds > 0)
        add_number(json, "folds", t->n_folds);
    add_common(json, t);
    add_number(json, "epochs", row != NULL ? row->epoch : 0);
    add_number(json, "steps", row != NULL ? (double)row->step : 0);
    if (row != NULL && t->n_validation > 0) {
        add_number(json, "validation_psnr_db", rounded(row->psnr_db, 1e-3));
        add_number(json, "validation_ssim", rounded(row->ssim, 1e-5));
    }
    char *text = cJSON_PrintUnformatted(json);
    cJSON_Delete(json);
    return text;
}

typedef struct Metadata {
    MetadataValue values[MAX_VALUES];
    int n;
    char width[16], grid[TEXT_SIZE], window[TEXT_SIZE], mean[TEXT_SIZE], std[TEXT_SIZE];
    char *training; /* owned */
} Metadata;

static void set(Metadata *m, const char *key, const char *value)
{
    ASSERT(m->n < MAX_VALUES);
    m->values[m->n++] = (MetadataValue){key, value};
}

static void three(char ret[TEXT_SIZE], const float v[3])
{
    (void)snprintf(ret, TEXT_SIZE, "[%.9g,%.9g,%.9g]", (double)v[0], (double)v[1], (double)v[2]);
}

/* ret->training is to be freed. */
static void make_metadata(const Training *t, const TrainRow *row, Metadata *ret)
{
    const TrainConfig *c = t->config;
    const PackInfo *p = t->pack;
    *ret = (Metadata){.training = provenance(t, row)};
    (void)snprintf(ret->width, sizeof ret->width, "%d", c->width);
    (void)snprintf(ret->grid, TEXT_SIZE, "{\"pixels\":%d,\"spacing_mm\":%.17g}", p->pixels,
                   p->spacing_mm);
    (void)snprintf(ret->window, TEXT_SIZE, "{\"level_hu\":%.17g,\"width_hu\":%.17g}",
                   p->window_level_hu, p->window_width_hu);
    three(ret->mean, IMAGENET_MEAN);
    three(ret->std, IMAGENET_STD);
    set(ret, "format", "ct2mr-model-1");
    set(ret, "arch", network_name(c->arch));
    set(ret, "width", ret->width);
    set(ret, "target", p->target);
    set(ret, "pose", p->pose == POSE_REFERENCE ? "reference" : "native");
    set(ret, "interpolation",
        p->interpolation == INTERPOLATION_CUBIC ? "cubic" : NULL); /* linear where it is not said */
    set(ret, "axes", p->pose == POSE_REFERENCE ? p->axes : NULL);
    set(ret, "grid", ret->grid);
    set(ret, "window", ret->window);
    set(ret, "mean", ret->mean);
    set(ret, "std", ret->std);
    set(ret, "activation", c->activation == ACTIVATION_SIGMOID ? "sigmoid" : "linear");
    set(ret, "mask", p->mask == MASK_HEAD ? "head" : "brain");
    set(ret, "envelope", c->envelope);
    set(ret, "label", c->label);
    set(ret, "licence", c->licence);
    set(ret, "training", ret->training);
    set(ret, TRAINED_CASES_KEY, t->cases_text);
}

Status training_check_metadata(const Training *t, Err *err)
{
    Metadata m;
    ModelInfo info;
    make_metadata(t, NULL, &m);
    cJSON *json = cJSON_CreateObject();
    for (int i = 0; i < m.n; i++)
        if (m.values[i].value != NULL)
            add_text(json, m.values[i].key, m.values[i].value);
    Status status = model_metadata_parse(json, &info, err);
    cJSON_Delete(json);
    cJSON_free(m.training);
    return status;
}

Status training_write_status(Status status, Err *err)
{
    if (status != ST_MODEL_FORMAT) /* of model_write_new(): a number that is none */
        return status;
    err->status = ST_TRAIN_DIVERGED;
    return ST_TRAIN_DIVERGED;
}

Status training_write_model(const Training *t, Err *err)
{
    NewTensor *tensors = calloc((size_t)t->n_parameters, sizeof *tensors);
    if (tensors == NULL)
        return err_set(err, ST_NO_MEMORY, "the table of %d tensors", t->n_parameters);
    for (int32_t i = 0; i < t->n_parameters; i++) {
        const TrainParameter *p = &t->parameters[i];
        tensors[i] = (NewTensor){.name = p->name, .n_dims = p->n_dims, .values = t->best[i]};
        for (int32_t d = 0; d < p->n_dims; d++)
            tensors[i].dims[d] = p->dims[d];
    }
    Metadata m;
    make_metadata(t, &t->state.best, &m);
    Status status = model_write_new(t->config->model, m.values, m.n, tensors, t->n_parameters,
                                    t->config->is_f16, err);
    cJSON_free(m.training);
    free(tensors);
    return training_write_status(status, err);
}
