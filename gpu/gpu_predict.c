/* See gpu_predict.h. */
#include "gpu/gpu_predict.h"

enum { HALF_BYTES = 2, PADDED_CHANNELS = 8 };

static double weights(const Graph *graph, const Op *op)
{
    double k = graph_conv_kernel(op);
    return op->kind == OP_CONV
               ? k * k * (double)graph->values[op->input].c * (double)graph->values[op->output].c
               : 0;
}

static double elements(const Graph *graph, int32_t value)
{
    return value >= 0 ? (double)graph_value_elements(&graph->values[value]) : 0;
}

static int64_t all_elements(const Graph *graph, const Op *op)
{
    int64_t second = op->second >= 0 ? graph_value_elements(&graph->values[op->second]) : 0;
    return graph_value_elements(&graph->values[op->input]) + second +
           graph_value_elements(&graph->values[op->output]);
}

GpuKernelBytes gpu_kernel_bytes(const Graph *graph)
{
    const Value *in = &graph->values[graph->input], *last = &graph->values[graph->output];
    const int64_t float_bytes = sizeof(float);
    GpuKernelBytes ret = {0};
    ret.pack =
        (int64_t)in->h * in->w * (in->c * float_bytes + (int64_t)PADDED_CHANNELS * HALF_BYTES);
    ret.unpack = graph_value_elements(last) * float_bytes;
    for (int32_t i = 0; i < graph->n_ops; i++) {
        const Op *op = &graph->ops[i];
        if (op->kind == OP_MAXPOOL)
            ret.maxpool += HALF_BYTES * all_elements(graph, op);
        if (op->kind == OP_CONCAT || op->kind == OP_UP2)
            ret.concat += HALF_BYTES * all_elements(graph, op);
        if (op->kind == OP_CONV) /* the last one's output is what is unpacked */
            last = &graph->values[op->output];
    }
    ret.unpack += (int64_t)last->h * last->w * PADDED_CHANNELS * HALF_BYTES;
    return ret;
}

GpuPrediction gpu_predict(const Graph *graph, int32_t batch, const GpuCard *card)
{
    GpuPrediction ret = {0};
    double peak = card->half_tflops * 1e12, bandwidth = card->bandwidth_gbs * 1e9;
    double weight_bytes = 0, n = batch;
    for (int32_t i = 0; i < graph->n_ops; i++) {
        const Op *op = &graph->ops[i];
        double operations = 2 * (double)graph_op_macs(graph, op);
        double w = HALF_BYTES * weights(graph, op);
        double bytes =
            w / n + HALF_BYTES * (elements(graph, op->input) + elements(graph, op->second) +
                                  elements(graph, op->output));
        double compute_s = operations / (GPU_PREDICT_COMPUTE * peak);
        double memory_s = bytes / (GPU_PREDICT_BANDWIDTH * bandwidth);
        ret.floor_ms += 1e3 * operations / peak;
        ret.predicted_ms += 1e3 * (compute_s > memory_s ? compute_s : memory_s);
        weight_bytes += w;
    }
    double values = (double)graph->arena_bytes * HALF_BYTES / (double)sizeof(float);
    double slots = 2 * sizeof(float) * /* two batches on their way */
                   (elements(graph, graph->input) + elements(graph, graph->output));
    ret.memory_bytes = (int64_t)(weight_bytes + n * (values + slots));
    return ret;
}
