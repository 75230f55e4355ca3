/* ct2mr mask: the head (or brain) of a CT as a NIfTI mask, offline. With --reference the reference
** head is registered first and helps, as in a job; a registration that a job would refuse ends it.
** A volume that a job would refuse is an error after the files are written: look at them.
**
** JSON: {"mask", "kind", "volume_ml", "seconds", "size": [x,y,z], "spacing_mm": [x,y,z]}. */
#include "daemon/cli.h"
#include "daemon/cli_volume.h"

#include "pipeline/mask.h"
#include "pipeline/nifti.h"
#include "pipeline/qa_picture.h"
#include "pipeline/steps.h"

#include <getopt.h>
#include <stdio.h>

static const size_t ARENA_BYTES = (size_t)8 << 30; /* reserved, not used */

typedef struct MaskArguments {
    const char *ct, *out, *reference, *png; /* the last two may be NULL */
    bool brain, is_ct, json;
} MaskArguments;

static Status read_reference(const char *path, const VolumeI16 *ct, VolumeI16 *ret_image,
                             MaskReference *ret, Arena *arena, Arena *scratch, Err *err)
{
    RegResult result;
    const RegOptions options = {.fixed_modality = REG_CT, .moving_modality = REG_MR, .dof = 12};
    char digest[DIGEST_HEX_SIZE];
    TRY(reference_read(path, "", arena, ret_image, digest, err));
    TRY(cli_turn(ret_image, MODALITY_MR, arena, err));
    TRY(reg_affine(ct, ret_image, &options, &result, scratch, err));
    TRY(align_gate(&result, err));
    *ret = (MaskReference){ret_image, result.moving_from_fixed};
    return ST_OK;
}

static Status make_mask(const MaskArguments *a, Arena *arena, Arena *scratch, VolumeU8 *ret,
                        MaskResult *ret_result, Err *err)
{
    VolumeI16 ct;
    TRY(cli_read_ct(a->ct, a->is_ct, arena, &ct, err));
    VolumeU8 mask = {0};
    MaskResult result = {0};
    VolumeI16 image;
    MaskReference reference;
    if (a->reference != NULL)
        TRY(read_reference(a->reference, &ct, &image, &reference, arena, scratch, err));
    const MaskReference *helper = a->reference != NULL ? &reference : NULL;
    TRY((a->brain ? mask_brain : mask_head)(&ct, helper, 0, &mask, &result, arena, scratch, err));
    if (a->png != NULL) /* first: without a picture there is no mask that nobody looked at */
        TRY(qa_mask_write(a->png, &ct, &mask, 40, a->brain ? 120 : 400, err));
    TRY(nifti_write_u8(a->out, &mask, err));
    *ret = mask;
    *ret_result = result;
    return ST_OK;
}

static void print_result(const MaskArguments *a, const Grid *grid, const MaskResult *result)
{
    const char *kind = a->brain ? "brain" : "head";
    if (!a->json) {
        (void)printf("%s %.0f ml in %.2f s, in %s\n", kind, result->volume_ml, result->seconds,
                     a->out);
        return;
    }
    const int size[3] = {grid->nx, grid->ny, grid->nz};
    const double mm[3] = {grid_spacing_mm(grid, 0), grid_spacing_mm(grid, 1),
                          grid_spacing_mm(grid, 2)};
    cJSON *o = cJSON_CreateObject();
    (void)cJSON_AddStringToObject(o, "mask", a->out);
    (void)cJSON_AddStringToObject(o, "kind", kind);
    (void)cJSON_AddNumberToObject(o, "volume_ml", result->volume_ml);
    (void)cJSON_AddNumberToObject(o, "seconds", result->seconds);
    (void)cJSON_AddItemToObject(o, "size", cJSON_CreateIntArray(size, 3));
    (void)cJSON_AddItemToObject(o, "spacing_mm", cJSON_CreateDoubleArray(mm, 3));
    cli_print_json(o);
}

static int run(const MaskArguments *a)
{
    Err err = {0};
    Arena arena = {0}, scratch = {0};
    VolumeU8 mask = {0};
    MaskResult result = {0};
    Status status = cli_remove_old(a->out, &err);
    if (status == ST_OK)
        status = cli_remove_old(a->png, &err);
    if (status == ST_OK)
        status = arena_open(ARENA_BYTES, &arena, &err);
    if (status == ST_OK)
        status = arena_open(ARENA_BYTES, &scratch, &err);
    if (status == ST_OK)
        status = make_mask(a, &arena, &scratch, &mask, &result, &err);
    if (status == ST_OK) {
        print_result(a, &mask.grid, &result);
        status = mask_gate(a->brain ? MASK_BRAIN : MASK_HEAD, result.volume_ml,
                           a->brain ? result.volume_ml : 0, &err);
    }
    arena_close(&scratch);
    arena_close(&arena);
    return status == ST_OK ? CLI_OK : cli_fail(&err, a->json);
}

int cli_mask(int argc, char **argv)
{
    static const struct option options[] = {{"out", required_argument, NULL, 'o'},
                                            {"png", required_argument, NULL, 'p'},
                                            {"reference", required_argument, NULL, 'r'},
                                            {"brain", no_argument, NULL, 'b'},
                                            {"is-ct", no_argument, NULL, 'i'},
                                            {"json", no_argument, NULL, 'j'},
                                            {0}};
    MaskArguments a = {0};
    optind = 0;
    opterr = 0;
    for (int c; (c = getopt_long(argc, argv, "o:p:r:bj", options, NULL)) != -1;) {
        if (c == 'o')
            a.out = optarg;
        else if (c == 'p')
            a.png = optarg;
        else if (c == 'r')
            a.reference = optarg;
        else if (c == 'b')
            a.brain = true;
        else if (c == 'i')
            a.is_ct = true;
        else if (c == 'j')
            a.json = true;
        else
            return cli_usage("mask", "unknown option or missing value");
    }
    if (a.out == NULL)
        return cli_usage("mask", "--out MASK.nii.gz is missing");
    if (optind + 1 != argc)
        return cli_usage("mask", "name one CT: a NIfTI file or a DICOM folder");
    a.ct = argv[optind];
    if (cli_would_spoil(a.out, a.ct) || cli_would_spoil(a.out, a.reference) ||
        cli_would_spoil(a.png, a.ct) || cli_would_spoil(a.png, a.reference))
        return cli_usage("mask", "--out or --png is, or lies in, what would be read");
    if (cli_same_output(a.out, a.png))
        return cli_usage("mask", "--out and --png are one file");
    return run(&a);
}
