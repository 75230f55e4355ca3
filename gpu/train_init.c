/* See train_init.h. */
#include "gpu/train_init.h"

#include "base/random.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static bool ends_in(const char *name, const char *end)
{
    size_t n = strlen(name), k = strlen(end);
    return n >= k && strcmp(name + n - k, end) == 0;
}

void train_init_values(const char *name, int32_t n_dims, const int64_t *dims, uint64_t seed,
                       int32_t index, float *ret)
{
    int64_t n = 1;
    for (int32_t d = 0; d < n_dims; d++)
        n *= dims[d];
    if (n_dims == 4) {
        Random random = random_stream(seed, 0x696e6974, (uint64_t)index);
        double deviation = sqrt(2 / ((double)n / (double)dims[0]));
        for (int64_t k = 0; k < n; k++)
            ret[k] = (float)(deviation * random_normal(&random));
        return;
    }
    float value = ends_in(name, ".weight") || ends_in(name, ".running_var") ? 1 : 0;
    for (int64_t k = 0; k < n; k++)
        ret[k] = value;
}

/* The norm in front of a block's sum: of bn1, bn2, ... of one prefix the last, not the only one. */
static bool is_last_norm(const TrainParameter *parameters, int32_t n, const char *name)
{
    char next[TRAIN_NAME_SIZE];
    const char *number = strstr(name, ".bn");
    if (number == NULL || number[3] < '2' || strcmp(number + 4, ".weight") != 0)
        return false;
    (void)snprintf(next, sizeof next, "%s", name);
    next[number - name + 3]++;
    for (int32_t i = 0; i < n; i++)
        if (strcmp(parameters[i].name, next) == 0)
            return false;
    return true;
}

void train_init_random(TrainNet *net, uint64_t seed)
{
    int32_t n;
    TrainParameter *p = train_net_parameters(net, &n);
    for (int32_t i = 0; i < n; i++) {
        train_init_values(p[i].name, p[i].n_dims, p[i].dims, seed, i, p[i].value);
        if (is_last_norm(p, n, p[i].name))
            memset(p[i].value, 0, (size_t)p[i].n * sizeof *p[i].value);
    }
}

static Status read_parameter(TrainParameter *p, const Model *file, const Tensor *tensor, Err *err)
{
    bool same = tensor->n_dims == p->n_dims;
    for (int32_t d = 0; same && d < p->n_dims; d++)
        same = tensor->dims[d] == p->dims[d];
    if (!same) {
        char have[64] = "", want[64] = "";
        for (int32_t d = 0; d < tensor->n_dims; d++)
            (void)snprintf(have + strlen(have), sizeof have - strlen(have), "%s%lld",
                           d > 0 ? "," : "", (long long)tensor->dims[d]);
        for (int32_t d = 0; d < p->n_dims; d++)
            (void)snprintf(want + strlen(want), sizeof want - strlen(want), "%s%lld",
                           d > 0 ? "," : "", (long long)p->dims[d]);
        return err_set(err, ST_MODEL_UNFIT, "%s: tensor %s has shape (%s), the network (%s)",
                       model_info(file)->name, p->name, have, want);
    }
    return model_read(file, tensor, p->value, err);
}

Status train_init_all(TrainNet *net, const Model *file, Err *err)
{
    int32_t n;
    TrainParameter *parameters = train_net_parameters(net, &n);
    for (int32_t i = 0; i < n; i++) {
        const Tensor *tensor = model_tensor(file, parameters[i].name);
        if (tensor == NULL)
            return err_set(err, ST_MODEL_FORMAT, "%s: tensor %s is missing", model_info(file)->name,
                           parameters[i].name);
        TRY(read_parameter(&parameters[i], file, tensor, err));
    }
    return ST_OK;
}

Status train_init_encoder(TrainNet *net, const Model *file, int32_t *ret_n, Err *err)
{
    int32_t n, n_read = 0;
    TrainParameter *parameters = train_net_parameters(net, &n);
    for (int32_t i = 0; i < n; i++) {
        const Tensor *tensor = model_tensor(file, parameters[i].name);
        if (tensor == NULL)
            continue;
        TRY(read_parameter(&parameters[i], file, tensor, err));
        n_read++;
    }
    if (n_read == 0)
        return err_set(err, ST_MODEL_UNFIT, "%s: none of its tensors is one of the network's",
                       model_info(file)->name);
    *ret_n = n_read;
    return ST_OK;
}
