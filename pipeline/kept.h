/* What a worker that stays keeps from one job to the next: the model file, open, and its network on
** a GPU, whose start costs seconds. Nothing else of a job is kept, and of the network nothing that
** came from a patient: it is told to forget (net.h) before the job ends, or closed.
** Thread: belongs to one thread. */
#ifndef CT2MR_PIPELINE_KEPT_H
#define CT2MR_PIPELINE_KEPT_H

#include "gpu/net.h"

#include <sys/stat.h>

typedef struct Kept { /* zeroed: nothing */
    Model *model;
    char model_path[1024];
    struct stat model_file; /* as it was when it was opened */
    Net *net;               /* of model; NULL: none */
    NetOptions options;     /* of net, without its strings, which follow */
    char backend[32], precision[32];
    bool gpu_proven; /* model has been good on the GPU options.device of this process */
} Kept;

/* The model at `path`, which stays kept's: that which is kept if it is the same file, unchanged,
** else it is opened (and what is kept closed). Errors: those of model_open(). */
MUST_CHECK Status kept_model(Kept *kept, const char *path, Model **ret, Err *err);
/* A network of that model, which stays kept's; the kept one if it has these options.
** options->gpu_proven is not read. Errors: those of net_open(). */
MUST_CHECK Status kept_net(Kept *kept, const NetOptions *options, Net **ret, Err *err);
/* After each use of the network: keeps it if `stays` is true and it is on a GPU and forgets; else
** closes it. */
void kept_net_end(Kept *kept, bool stays);
void kept_close(Kept *kept);

#endif
