/* See kept.h. */
#include "pipeline/kept.h"

#include <stdio.h>
#include <string.h>

static bool same_time(struct timespec a, struct timespec b)
{
    return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

static bool same_file(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
           same_time(a->st_mtim, b->st_mtim) && same_time(a->st_ctim, b->st_ctim);
}

Status kept_model(Kept *kept, const char *path, Model **ret, Err *err)
{
    struct stat now = {0};
    bool known = stat(path, &now) == 0; /* if not, model_open() says why */
    if (kept->model == NULL || !known || strcmp(kept->model_path, path) != 0 ||
        !same_file(&kept->model_file, &now)) {
        kept_close(kept);
        TRY(model_open(path, &kept->model, err));
        kept->model_file = now; /* if the file was replaced since, it is another one next time */
        (void)snprintf(kept->model_path, sizeof kept->model_path, "%s", path);
    }
    *ret = kept->model;
    return ST_OK;
}

static bool same_net(const Kept *kept, const NetOptions *o)
{
    const NetOptions *k = &kept->options;
    return strcmp(kept->backend, o->backend) == 0 && strcmp(kept->precision, o->precision) == 0 &&
           k->batch == o->batch && k->height == o->height && k->width == o->width &&
           k->threads == o->threads && k->winograd_mib == o->winograd_mib &&
           k->without == o->without && k->device == o->device;
}

static void close_net(Kept *kept)
{
    net_close(kept->net);
    kept->net = NULL;
}

Status kept_net(Kept *kept, const NetOptions *options, Net **ret, Err *err)
{
    if (kept->net == NULL || !same_net(kept, options)) {
        close_net(kept);
        kept->gpu_proven = kept->gpu_proven && kept->options.device == options->device &&
                           kept->options.batch == options->batch &&
                           kept->options.without == options->without;
        kept->options = *options;
        kept->options.backend = kept->options.precision = NULL;
        (void)snprintf(kept->backend, sizeof kept->backend, "%s", options->backend);
        (void)snprintf(kept->precision, sizeof kept->precision, "%s", options->precision);
        NetOptions o = *options;
        o.gpu_proven = kept->gpu_proven;
        TRY(net_open(kept->model, &o, &kept->net, err));
    }
    *ret = kept->net;
    return ST_OK;
}

void kept_net_end(Kept *kept, bool stays)
{
    if (kept->net == NULL)
        return;
    kept->gpu_proven = stays && strcmp(net_backend(kept->net), "cuda") == 0 &&
                       net_forget(kept->net, NULL) == ST_OK;
    if (!kept->gpu_proven)
        close_net(kept);
}

void kept_close(Kept *kept)
{
    close_net(kept);
    model_close(kept->model);
    *kept = (Kept){0};
}
