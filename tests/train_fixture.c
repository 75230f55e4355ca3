/* See train_fixture.h. */
#include "tests/train_fixture.h"

#include "tests/model_file.h"
#include "tests/test.h"

TrainCase train_open_graph(Graph *graph, const TrainOptions *options)
{
    TrainCase c = {.graph = graph};
    Err err = {0};
    c.n_in = (size_t)graph_value_elements(&graph->values[graph->input]);
    c.n_out = (size_t)graph_value_elements(&graph->values[graph->output]);
    CHECK_OK(train_net_open(graph, options, &c.net, &err), &err);
    return c;
}

TrainCase train_open(ModelArch arch, int32_t width, int32_t h, int32_t w,
                     const TrainOptions *options)
{
    Graph *graph = malloc(sizeof *graph);
    Err err = {0};
    CHECK(graph != NULL);
    const ModelInfo info = {.arch = arch, .width = width, .activation = ACTIVATION_LINEAR};
    CHECK_OK(network_build(&info, h, w, graph, &err), &err);
    return train_open_graph(graph, options);
}

void train_close(TrainCase *c)
{
    train_net_close(c->net);
    free(c->graph);
}

void train_load(TrainNet *net, const char *path)
{
    Err err = {0};
    Model *model;
    int32_t n;
    TrainParameter *parameters = train_net_parameters(net, &n);
    CHECK_OK(model_open(path, &model, &err), &err);
    for (int32_t i = 0; i < n; i++) {
        TrainParameter *p = &parameters[i];
        const Tensor *tensor = model_tensor(model, p->name);
        if (tensor == NULL)
            test_fail(__FILE__, __LINE__, "the model has no %s", p->name);
        CHECK(tensor->n_dims == p->n_dims && tensor->n_elements == p->n);
        for (int32_t k = 0; k < p->n_dims; k++)
            CHECK(tensor->dims[k] == p->dims[k]);
        CHECK_OK(model_read(model, tensor, p->value, &err), &err);
    }
    model_close(model);
    CHECK_OK(train_net_changed(net, &err), &err);
}

void train_load_random(TrainNet *net, ModelArch arch, int32_t width)
{
    char path[512];
    (void)snprintf(path, sizeof path, "%s/random.safetensors", test_dir());
    model_file_write_random(path, arch, width);
    train_load(net, path);
}

const TrainParameter *train_parameter(TrainNet *net, const char *name)
{
    int32_t n;
    const TrainParameter *parameters = train_net_parameters(net, &n);
    for (int32_t i = 0; i < n; i++)
        if (strcmp(parameters[i].name, name) == 0)
            return &parameters[i];
    test_fail(__FILE__, __LINE__, "no parameter %s", name);
}

void train_decide_gates(TrainNet *net, float margin)
{
    int32_t n;
    Err err = {0};
    TrainParameter *p = train_net_parameters(net, &n);
    for (int32_t i = 0; i + 1 < n; i++) {
        const char *leaf = strrchr(p[i].name, '.');
        bool is_beta = strcmp(leaf, ".bias") == 0 && strstr(p[i + 1].name, "running_mean") != NULL;
        for (int64_t k = 0; is_beta && k < p[i].n; k++)
            p[i].value[k] = (k % 3 == 1 ? -margin : margin) * p[i - 1].value[k];
    }
    CHECK_OK(train_net_changed(net, &err), &err);
}

float *train_random(size_t n, uint64_t seed)
{
    float *x = malloc(n * sizeof *x);
    CHECK(x != NULL);
    for (size_t i = 0; i < n; i++)
        x[i] = (float)(4 * model_file_random(&seed) - 2);
    return x;
}

double train_distance(const float *a, const float *b, size_t n)
{
    double difference = 0, size = 0;
    for (size_t i = 0; i < n; i++) {
        double d = (double)a[i] - (double)b[i];
        difference += d * d;
        size += (double)b[i] * (double)b[i];
    }
    double ratio = sqrt(difference / (size > 0 ? size : 1));
    return isnan(ratio) ? HUGE_VAL : ratio;
}
