/* NIfTI-1 through niftilib. See nifti.h.
**
** niftilib reads and makes the headers; voxels are read in slabs and converted on the way, so that
** a volume is in memory once, and written by our own calls, because nifti_image_write() reports
** no errors. Source: nifti1.h, "3D IMAGE (VOLUME) ORIENTATION AND LOCATION IN SPACE". */
#include "pipeline/nifti.h"

#include "base/files.h"
#include "pipeline/intensity.h"

#include <errno.h>
#include <math.h>
#include <nifti/nifti1_io.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

enum { SLAB_VOXELS = 1 << 18, AXIS_MAX = 32767 };
#define VOXELS_MAX ((size_t)1 << 31)
static const char NO_EXTENSION[4] = {0};
#define AGREE_MIN 0.7    /* cosine between an axis in sform and in qform: less is another axis */
#define LEAN_MAX_DEG 0.5 /* as of a DICOM series */

typedef struct Scale {
    double slope, inter;
} Scale;

static Affine lps_from_ras_rows(mat44 ras_from_vox)
{
    Affine lps;
    for (int r = 0; r < 3; r++)
        for (int c = 0; c < 4; c++)
            lps.m[r][c] = (r < 2 ? -1.0 : 1.0) * (double)ras_from_vox.m[r][c];
    return lps;
}

static mat44 ras_rows_from_lps(Affine lps_from_vox)
{
    mat44 ras = {{{0}}};
    for (int r = 0; r < 3; r++)
        for (int c = 0; c < 4; c++)
            ras.m[r][c] = (float)((r < 2 ? -1.0 : 1.0) * lps_from_vox.m[r][c]);
    ras.m[3][3] = 1;
    return ras;
}

/* By how many degrees the worst two axes are off the right angle. */
static double lean(Affine a)
{
    double worst = 0;
    for (int i = 0; i < 3; i++) {
        int j = (i + 1) % 3;
        double dot = 0, ii = 0, jj = 0;
        for (int r = 0; r < 3; r++) {
            dot += a.m[r][i] * a.m[r][j];
            ii += a.m[r][i] * a.m[r][i];
            jj += a.m[r][j] * a.m[r][j];
        }
        worst = fmax(worst, fabs(dot) / sqrt(ii * jj));
    }
    return asin(fmin(worst, 1)) * (180 / M_PI);
}

/* nifti1.h, xyzt_units. Many programs write none and mean millimetres. */
static Status unit_mm(int unit, double *ret, Err *err)
{
    if (unit != NIFTI_UNITS_UNKNOWN && unit != NIFTI_UNITS_METER && unit != NIFTI_UNITS_MM &&
        unit != NIFTI_UNITS_MICRON)
        return err_set(err, ST_NIFTI, "NIfTI unit of length %d is not known", unit);
    *ret = unit == NIFTI_UNITS_METER ? 1000 : unit == NIFTI_UNITS_MICRON ? 0.001 : 1;
    return ST_OK;
}

/* Programs that move an image to another space write that as sform and keep the scanner's qform,
** which is turned a little. Turned a quarter or mirrored, one of the two is wrong. */
static bool forms_agree(const nifti_image *image)
{
    if (image->sform_code <= 0 || image->qform_code <= 0)
        return true;
    for (int c = 0; c < 3; c++) {
        double dot = 0, ss = 0, qq = 0;
        for (int r = 0; r < 3; r++) {
            double s = (double)image->sto_xyz.m[r][c], q = (double)image->qto_xyz.m[r][c];
            dot += s * q;
            ss += s * s;
            qq += q * q;
        }
        if (dot < AGREE_MIN * sqrt(ss * qq))
            return false;
    }
    return true;
}

static Status grid_from_header(const nifti_image *image, Grid *ret, Err *err)
{
    bool is_volume = image->nx > 1 && image->ny > 1 && image->nz > 1 && image->nt <= 1 &&
                     image->nu <= 1 && image->nv <= 1 && image->nw <= 1;
    if (!is_volume || image->nx > AXIS_MAX || image->ny > AXIS_MAX || image->nz > AXIS_MAX)
        return err_set(err, ST_NIFTI, "NIfTI file is not one 3-D volume");
    Grid g = {.nx = (int32_t)image->nx, .ny = (int32_t)image->ny, .nz = (int32_t)image->nz};
    if (grid_voxels(&g) >= VOXELS_MAX)
        return err_set(err, ST_NIFTI, "NIfTI volume is too large: %d x %d x %d", g.nx, g.ny, g.nz);
    if (image->sform_code > 0)
        g.lps_from_vox = lps_from_ras_rows(image->sto_xyz);
    else if (image->qform_code > 0)
        g.lps_from_vox = lps_from_ras_rows(image->qto_xyz);
    else
        return err_set(err, ST_NIFTI, "NIfTI file has neither sform nor qform");
    if (!forms_agree(image))
        return err_set(
            err, ST_NIFTI,
            "sform and qform of the NIfTI file name other axes, or another side: correct "
            "the wrong one");
    double mm = 1;
    TRY(unit_mm(image->xyz_units, &mm, err));
    for (int r = 0; r < 3; r++)
        for (int c = 0; c < 4; c++)
            g.lps_from_vox.m[r][c] *= mm;
    Affine inverse;
    if (!affine_inverse(g.lps_from_vox, &inverse))
        return err_set(err, ST_NIFTI, "NIfTI orientation matrix is singular");
    for (int r = 0; r < 3; r++)
        for (int c = 0; c < 4; c++)
            if (!isfinite(g.lps_from_vox.m[r][c]) || !isfinite(inverse.m[r][c]))
                return err_set(err, ST_NIFTI, "NIfTI orientation matrix is not finite");
    double lean_deg = lean(g.lps_from_vox);
    if (lean_deg > LEAN_MAX_DEG)
        return err_set(err, ST_NIFTI,
                       "NIfTI axes are %.1f degrees off the right angle, at most %.1f (a tilted "
                       "gantry?): resample it first",
                       lean_deg, LEAN_MAX_DEG);
    *ret = g;
    return ST_OK;
}

/* Of the numbers of a file, rescaled. */
typedef struct Seen {
    int64_t not_finite, not_int16;
    double largest; /* absolute */
    bool has_fractions;
} Seen;

static int16_t to_i16(double v, Scale scale, Seen *seen)
{
    v = v * scale.slope + scale.inter;
    if (!isfinite(v)) {
        seen->not_finite++;
        return 0;
    }
    seen->largest = fmax(seen->largest, fabs(v));
    seen->has_fractions = seen->has_fractions || v != rint(v);
    if (v <= INT16_MIN - 0.5 || v >= INT16_MAX + 0.5) {
        seen->not_int16++;
        return 0;
    }
    return (int16_t)lrint(v);
}

static float to_f32(double v, Scale scale)
{
    v = v * scale.slope + scale.inter;
    return isfinite(v) ? (float)v : NAN; /* outside the scanned part, as tools write it */
}

/* Where voxels go to: one of the two, at its voxel `at`. */
typedef struct Target {
    int16_t *i16;
    float *f32;
    size_t at;
    Seen *seen;
} Target;

#define CONVERT(TYPE)                                                                              \
    do {                                                                                           \
        for (size_t i = 0; i < n; i++) {                                                           \
            TYPE v;                                                                                \
            memcpy(&v, from + i * sizeof v, sizeof v);                                             \
            if (to.i16 != NULL)                                                                    \
                to.i16[to.at + i] = to_i16((double)v, scale, to.seen);                             \
            else                                                                                   \
                to.f32[to.at + i] = to_f32((double)v, scale);                                      \
        }                                                                                          \
        return true;                                                                               \
    } while (0)

/* False if the type is not a scalar. */
static bool convert(const unsigned char *from, int datatype, size_t n, Scale scale, Target to)
{
    switch (datatype) {
    case DT_UINT8:
        CONVERT(uint8_t);
    case DT_INT8:
        CONVERT(int8_t);
    case DT_INT16:
        CONVERT(int16_t);
    case DT_UINT16:
        CONVERT(uint16_t);
    case DT_INT32:
        CONVERT(int32_t);
    case DT_UINT32:
        CONVERT(uint32_t);
    case DT_INT64:
        CONVERT(int64_t);
    case DT_UINT64:
        CONVERT(uint64_t);
    case DT_FLOAT32:
        CONVERT(float);
    case DT_FLOAT64:
        CONVERT(double);
    default:
        return false;
    }
}

static Scale scale_of(const nifti_image *image)
{
    Scale scale = {(double)image->scl_slope, (double)image->scl_inter};
    if (!isfinite(scale.slope) || !isfinite(scale.inter) || scale.slope == 0)
        scale = (Scale){1, 0}; /* nifti1.h: slope 0 means not scaled */
    return scale;
}

/* A gzipped file may be whole in length and wrong. */
static Status bad_end(gzFile file, Err *err)
{
    int what;
    (void)gzerror(file, &what);
    return what == Z_DATA_ERROR
               ? err_set(err, ST_NIFTI, "compressed NIfTI file is damaged: its checksum is wrong")
               : err_set(err, ST_NIFTI, "NIfTI file is cut short");
}

static Status read_voxels(const nifti_image *image, size_t n, Scale scale, Target to, Err *err)
{
    size_t size = (size_t)image->nbyper;
    if (size < 1 || size > 8 || !convert(NULL, image->datatype, 0, scale, to))
        return err_set(err, ST_NIFTI, "NIfTI data type %d is not a scalar", image->datatype);
    unsigned char *slab = malloc(SLAB_VOXELS * size);
    if (slab == NULL)
        return err_set(err, ST_NO_MEMORY, "reading a NIfTI file");
    gzFile file = gzopen(image->iname, "rb"); /* reads what is not gzipped as it is */
    Status status = ST_OK;
    if (file == NULL || gzseek(file, image->iname_offset, SEEK_SET) < 0)
        status = err_set(err, ST_NIFTI, "NIfTI voxels cannot be read");
    for (; status == ST_OK && to.at < n; to.at += SLAB_VOXELS) {
        size_t count = n - to.at < SLAB_VOXELS ? n - to.at : SLAB_VOXELS;
        if (gzread(file, slab, (unsigned)(count * size)) != (int)(count * size)) {
            status = bad_end(file, err);
            break;
        }
        if (size > 1 && image->swapsize == (int)size && image->byteorder != nifti_short_order())
            nifti_swap_Nbytes(count, (int)size, slab);
        (void)convert(slab, image->datatype, count, scale, to);
    }
    if (status == ST_OK && to.seen->not_finite > 0)
        status =
            err_set(err, ST_NIFTI,
                    "%lld voxels of the NIfTI file are not numbers (NaN or infinite): write air "
                    "or padding as a number",
                    (long long)to.seen->not_finite);
    if (status == ST_OK) { /* a checksum is behind the last byte */
        int what;
        (void)gzread(file, slab, 1);
        (void)gzerror(file, &what);
        status = what == Z_OK || what == Z_STREAM_END ? ST_OK : bad_end(file, err);
    }
    if (file != NULL)
        (void)gzclose(file);
    free(slab);
    return status;
}

/* HU as they are; an MR's numbers once more and scaled if int16 does not do for them. */
static Status read_i16(const nifti_image *image, size_t n, Target to, double *ret_scale, Err *err)
{
    Scale scale = scale_of(image);
    TRY(read_voxels(image, n, scale, to, err));
    const Seen seen = *to.seen;
    if (ret_scale == NULL && seen.not_int16 > 0)
        return err_set(err, ST_NIFTI,
                       "%lld voxels of the NIfTI file are no Hounsfield units that 16 bits hold "
                       "(the largest is %g)",
                       (long long)seen.not_int16, seen.largest);
    if (ret_scale == NULL)
        return ST_OK;
    *ret_scale = mr_scale(seen.largest, !seen.has_fractions);
    scale = (Scale){scale.slope * *ret_scale, scale.inter * *ret_scale};
    return *ret_scale == 1 ? ST_OK : read_voxels(image, n, scale, to, err);
}

/* Header and voxels, as int16 if ret_i16 is not NULL (an MR's if ret_scale is not), else as
** float32. */
static Status read_file(const char *path, Arena *arena, Grid *ret_grid, int16_t **ret_i16,
                        double *ret_scale, float **ret_f32, Err *err)
{
    if (access(path, R_OK) != 0)
        return err_sys(err, errno, "NIfTI file %s", path);
    nifti_set_debug_level(0); /* no text on stderr */
    if (is_nifti_file(path) < 1)
        return err_set(err, ST_NIFTI, "not a NIfTI-1 file: %s", path);
    nifti_image *image = nifti_image_read(path, 0);
    if (image == NULL)
        return err_set(err, ST_NIFTI, "not a NIfTI-1 file: %s", path);
    Seen seen = {0};
    Target to = {.seen = &seen};
    size_t mark = arena_mark(arena), n = 0;
    Status status = grid_from_header(image, ret_grid, err);
    if (status == ST_OK) {
        n = grid_voxels(ret_grid);
        to.i16 = ret_i16 != NULL ? arena_alloc(arena, n, sizeof(int16_t), err) : NULL;
        to.f32 = ret_i16 == NULL ? arena_alloc(arena, n, sizeof(float), err) : NULL;
        status = to.i16 == NULL && to.f32 == NULL ? ST_LIMIT : ST_OK;
    }
    if (status == ST_OK)
        status = ret_i16 != NULL ? read_i16(image, n, to, ret_scale, err)
                                 : read_voxels(image, n, scale_of(image), to, err);
    nifti_image_free(image);
    if (status != ST_OK)
        arena_reset(arena, mark);
    else if (ret_i16 != NULL)
        *ret_i16 = to.i16;
    else
        *ret_f32 = to.f32;
    return status;
}

Status nifti_read(const char *path, Arena *arena, VolumeI16 *ret, Err *err)
{
    VolumeI16 volume;
    TRY(read_file(path, arena, &volume.grid, &volume.v, NULL, NULL, err));
    *ret = volume;
    return ST_OK;
}

Status nifti_read_mr(const char *path, Arena *arena, VolumeI16 *ret, double *ret_scale, Err *err)
{
    VolumeI16 volume;
    TRY(read_file(path, arena, &volume.grid, &volume.v, ret_scale, NULL, err));
    *ret = volume;
    return ST_OK;
}

Status nifti_read_f32(const char *path, Arena *arena, VolumeF32 *ret, Err *err)
{
    VolumeF32 volume;
    TRY(read_file(path, arena, &volume.grid, NULL, NULL, &volume.v, err));
    *ret = volume;
    return ST_OK;
}

static nifti_1_header header_of(const Grid *grid, int datatype)
{
    const int dims[8] = {3, grid->nx, grid->ny, grid->nz, 1, 1, 1, 1};
    nifti_1_header *made = nifti_make_new_header(dims, datatype);
    ASSERT(made != NULL); /* out of memory for 348 bytes */
    nifti_1_header h = *made;
    free(made);
    mat44 m = ras_rows_from_lps(grid->lps_from_vox);
    float qfac;
    nifti_mat44_to_quatern(m, &h.quatern_b, &h.quatern_c, &h.quatern_d, &h.qoffset_x, &h.qoffset_y,
                           &h.qoffset_z, &h.pixdim[1], &h.pixdim[2], &h.pixdim[3], &qfac);
    h.pixdim[0] = qfac;
    h.qform_code = h.sform_code = NIFTI_XFORM_SCANNER_ANAT;
    memcpy(h.srow_x, m.m[0], sizeof h.srow_x);
    memcpy(h.srow_y, m.m[1], sizeof h.srow_y);
    memcpy(h.srow_z, m.m[2], sizeof h.srow_z);
    h.xyzt_units = NIFTI_UNITS_MM;
    h.scl_slope = 1;
    memcpy(h.magic, "n+1", 4);
    h.vox_offset = 352;
    return h;
}

/* Compressed into the writer's file. */
static Status add_gzipped(FileWriter *writer, const nifti_1_header *header, const void *data,
                          size_t size_bytes, Err *err)
{
    int fd = dup(writer->fd); /* gzclose() closes it */
    gzFile file = fd >= 0 ? gzdopen(fd, "wb") : NULL;
    if (file == NULL) {
        if (fd >= 0)
            (void)close(fd);
        return err_set(err, ST_NO_MEMORY, "compressing %s", writer->path);
    }
    errno = 0;
    bool whole = gzwrite(file, header, sizeof *header) == (int)sizeof *header &&
                 gzwrite(file, NO_EXTENSION, sizeof NO_EXTENSION) == (int)sizeof NO_EXTENSION;
    const unsigned char *from = data;
    for (size_t at = 0; whole && at < size_bytes; at += SLAB_VOXELS) {
        size_t n = size_bytes - at < SLAB_VOXELS ? size_bytes - at : SLAB_VOXELS;
        whole = gzwrite(file, from + at, (unsigned)n) == (int)n;
    }
    int cause = errno;
    if (gzclose(file) != Z_OK && whole) {
        whole = false;
        cause = errno;
    }
    return whole ? ST_OK : err_sys(err, cause != 0 ? cause : EIO, "writing %s", writer->path);
}

static Status write_volume(const char *path, const Grid *grid, int datatype, size_t voxel_bytes,
                           const void *data, Err *err)
{
    if (grid->nx > AXIS_MAX || grid->ny > AXIS_MAX || grid->nz > AXIS_MAX)
        return err_set(err, ST_LIMIT, "NIfTI-1 axes have at most %d voxels", AXIS_MAX);
    nifti_1_header header = header_of(grid, datatype);
    size_t size_bytes = grid_voxels(grid) * voxel_bytes;
    FileWriter writer;
    TRY(file_begin_readable(path, &writer, err));
    Status status;
    if (nifti_is_gzfile(path)) {
        status = add_gzipped(&writer, &header, data, size_bytes, err);
    } else {
        status = file_add(&writer, &header, sizeof header, err);
        if (status == ST_OK)
            status = file_add(&writer, NO_EXTENSION, sizeof NO_EXTENSION, err);
        if (status == ST_OK)
            status = file_add(&writer, data, size_bytes, err);
    }
    if (status == ST_OK)
        status = file_commit(&writer, err);
    file_abandon(&writer);
    return status;
}

Status nifti_write_i16(const char *path, const VolumeI16 *volume, Err *err)
{
    return write_volume(path, &volume->grid, DT_INT16, sizeof *volume->v, volume->v, err);
}

Status nifti_write_u8(const char *path, const VolumeU8 *volume, Err *err)
{
    return write_volume(path, &volume->grid, DT_UINT8, sizeof *volume->v, volume->v, err);
}

Status nifti_write_f32(const char *path, const VolumeF32 *volume, Err *err)
{
    return write_volume(path, &volume->grid, DT_FLOAT32, sizeof *volume->v, volume->v, err);
}
