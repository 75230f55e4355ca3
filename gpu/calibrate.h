/* Which precisions a model may be computed in: measured on a department's own slices.
**
** int8 keeps as few of the last convolutions in floats as it takes to be good enough.
** The f32 network is run over the slices, the range of every convolution's output is noted (int8's
** scales), then bf16, int8 and, on a GPU, f16 are run over the same slices and compared with f32.
** One that reaches CALIBRATE_PSNR_DB and CALIBRATE_SSIM in the mean over slices, the two limits for
** the worst slice in every one, and on a synthetic slice what verify.h wants, is written into the
** model file as allowed (metadata precisions, int8, and calibration, which names the tensors that
** it is of: model.h); the file's digest changes with that, and so every UID made with it.
** Thread: one call at a time; parallel inside. Processes may write one file at the same time: the
** last one's is left, whole. */
#ifndef CT2MR_GPU_CALIBRATE_H
#define CT2MR_GPU_CALIBRATE_H

#include "gpu/net.h"

#define CALIBRATE_PSNR_DB 45.0
#define CALIBRATE_SSIM 0.995
#define CALIBRATE_WORST_PSNR_DB 40.0
#define CALIBRATE_WORST_SSIM 0.98

typedef struct CalibrateData {
    int32_t n, height, width; /* slices */
    void *context;
    void (*fill)(void *context, int32_t i, float *ret_x); /* as NetFeed's */
} CalibrateData;

typedef struct CalibrateResult {  /* of one precision, against f32 */
    bool measured;                /* false: this machine cannot compute in it */
    double psnr_db, ssim;         /* means over slices */
    double psnr_min_db, ssim_min; /* of the worst slice each */
    int32_t worst;                /* the slice of psnr_min_db */
    bool allowed;
    int32_t n_float;        /* int8: how many of the last convolutions stay in floats */
    char why[ERR_MSG_SIZE]; /* it was not measured, or a synthetic slice forbids it; else "" */
} CalibrateResult;

/* Fewer say nothing of the worst slice of a head. */
enum { CALIBRATE_MIN_SLICES = 8 };

/* Is this what the model computes in service: windowed CT slices of a head on its grid, normalised
** as it says?
** Each slice: three channels of one picture of 0..1, a thousandth of it or more above 0,
** neighbouring pixels alike (correlation 0.4; noise has 0). Errors: MODEL_UNFIT (not trained),
** UNSUPPORTED (the slice is named), LIMIT, NO_MEMORY. */
MUST_CHECK Status calibrate_check(const ModelInfo *model, const CalibrateData *data, Err *err);

/* Do these figures reach the four limits? */
bool calibrate_allows(const CalibrateResult *result);

/* Writes `to` (may be `from`) with what was found; ret[Precision]: that of f32 is exact. Errors:
** those of net_open(), model_write_metadata(), LIMIT (no slices), UNSUPPORTED
** (slices with values that are no numbers). */
MUST_CHECK Status calibrate_model(const char *from, const CalibrateData *data, int32_t threads,
                                  const char *to, CalibrateResult ret[PRECISION_COUNT], Err *err);

#endif
