/* The geometry gate. See geometry.h; the rules and what they are for:
**
**   one patient and study     patient safety, judged over all images, dropped ones too
**   one frame of reference    the result takes it over, so there must be exactly one
**   one orientation           IOP orthonormal to 1e-3 and equal to 1e-4
**   one matrix, one spacing   equal to 1e-4 relative
**   distinct positions        0.01 mm apart along the normal
**   no tilt                   positions on a line that leans at most 0.5 degrees against the normal
**                             and off that line by at most 0.1 mm
**   regular spacing           each step within max(1 %, 0.01 mm) of the median step, and each slice
**                             within max(1 %, 0.1 mm) of its place in the regular stack
**
** Slice position is IPP . normal (PS3.3 C.7.6.2.1.1), never Slice Location or Instance Number.
** The 0.01 mm and 1 % are the values of common DICOM volume loaders; positions are written with at
** least three decimals by the scanners in the test data. */
#include "pipeline/geometry.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double ORTHONORMAL_TOLERANCE = 1e-3, IOP_TOLERANCE = 1e-4, GRID_TOLERANCE = 1e-4;
static const double DUPLICATE_MM = 0.01, TILT_MAX_DEG = 0.5, DRIFT_MAX_MM = 0.1;
static const double STEP_TOLERANCE = 0.01, STEP_TOLERANCE_MM = 0.01, PLACE_TOLERANCE_MM = 0.1;
enum { POSITIONS_IN_MESSAGE = 8 };

typedef struct Slice {
    const Instance *image;
    int32_t index;                      /* into the caller's array */
    double position_mm, in_plane_mm[2]; /* IPP along the normal, a row, a column */
} Slice;

typedef struct Stack {
    Slice *slices; /* ascending position once sorted */
    int32_t n;
    Vec3 row, column, normal; /* orthonormal, from the reference image */
    double lean[2];           /* in-plane mm per mm along the normal */
} Stack;

/* Positions for a message: "61.50, 66.50, ... and 3 more". */
typedef struct PositionText {
    char text[200];
    size_t used;
    int32_t n;
} PositionText;

static void position_add(PositionText *list, double position_mm)
{
    if (list->n++ >= POSITIONS_IN_MESSAGE)
        return;
    int n = snprintf(list->text + list->used, sizeof list->text - list->used, "%s%.2f",
                     list->used > 0 ? ", " : "", position_mm);
    if (n > 0 && (size_t)n < sizeof list->text - list->used)
        list->used += (size_t)n;
}

static const char *position_text(PositionText *list)
{
    if (list->n > POSITIONS_IN_MESSAGE)
        (void)snprintf(list->text + list->used, sizeof list->text - list->used, " and %d more",
                       list->n - POSITIONS_IN_MESSAGE);
    return list->text;
}

/* The image that stands for the series where all agree to a tolerance: the one with the least UID,
** so that the order of arrival does not matter. */
static const Instance *reference_of(const Slice *slices, int32_t n)
{
    const Instance *least = slices[0].image;
    for (int32_t i = 1; i < n; i++)
        if (strcmp(slices[i].image->sop_uid, least->sop_uid) < 0)
            least = slices[i].image;
    return least;
}

static Status check_patient(const Instance *images, int32_t n, Err *err)
{
    int32_t n_least = 0; /* belonging to the least (patient, study): for an order-free message */
    const Instance *least = &images[0];
    for (int32_t i = 0; i < n; i++) {
        int by_patient = strcmp(images[i].patient_key, least->patient_key);
        int order = by_patient != 0 ? by_patient : strcmp(images[i].study_uid, least->study_uid);
        if (order < 0)
            least = &images[i];
        n_least = order == 0 ? n_least + 1 : (order < 0 ? 1 : n_least);
    }
    if (n_least == n)
        return ST_OK;
    int32_t n_fewer = n_least < n - n_least ? n_least : n - n_least;
    return err_set(err, ST_SERIES_PATIENT,
                   "%d of %d images belong to another patient or study than the rest", n_fewer, n);
}

static bool is_volume_image(const Instance *image, const GeometryLimits *limits)
{
    const char *wanted = limits->is_mr ? UID_MR_IMAGE : UID_CT_IMAGE;
    return strcmp(image->sop_class_uid, wanted) == 0 && !image->geometry.is_localizer;
}

static Status check_frame(const Slice *slices, int32_t n, Err *err)
{
    int32_t n_none = 0, n_other = 0;
    const char *frame_uid = reference_of(slices, n)->geometry.frame_uid;
    for (int32_t i = 0; i < n; i++) {
        const char *uid = slices[i].image->geometry.frame_uid;
        n_none += uid[0] == '\0';
        n_other += strcmp(uid, frame_uid) != 0;
    }
    if (n_none > 0)
        return err_set(err, ST_SERIES_FRAME, "%d of %d images have no frame of reference", n_none,
                       n);
    if (n_other > 0)
        return err_set(err, ST_SERIES_FRAME, "more than one frame of reference in %d images", n);
    return ST_OK;
}

static Status check_attributes(const Slice *slices, int32_t n, Err *err)
{
    int32_t n_bad = 0;
    for (int32_t i = 0; i < n; i++) {
        const ImageGeometry *g = &slices[i].image->geometry;
        bool good = g->has_position && g->rows > 0 && g->columns > 0;
        for (int k = 0; k < 2; k++)
            good = good && isfinite(g->pixel_spacing_mm[k]) && g->pixel_spacing_mm[k] > 0;
        for (int k = 0; k < 3; k++)
            good = good && isfinite(g->ipp_lps_mm[k]);
        for (int k = 0; k < 6; k++)
            good = good && isfinite(g->iop[k]);
        n_bad += !good;
    }
    if (n_bad > 0)
        return err_set(err, ST_DICOM_ATTRIBUTE,
                       "%d of %d images lack position, orientation or pixel spacing", n_bad, n);
    return ST_OK;
}

static Vec3 row_of(const ImageGeometry *g)
{
    return (Vec3){g->iop[0], g->iop[1], g->iop[2]};
}

static Vec3 column_of(const ImageGeometry *g)
{
    return (Vec3){g->iop[3], g->iop[4], g->iop[5]};
}

static Vec3 unit(Vec3 v)
{
    double norm = vec3_norm(v);
    return (Vec3){v.x / norm, v.y / norm, v.z / norm};
}

static double degrees(double radians)
{
    return radians * (180.0 / acos(-1.0));
}

/* Sets the stack's axes. */
static Status check_orientation(Stack *stack, Err *err)
{
    double least[6] = {0}, most[6] = {0}, angle_deg = 0;
    const ImageGeometry *reference = &reference_of(stack->slices, stack->n)->geometry;
    Vec3 reference_normal = vec3_cross(row_of(reference), column_of(reference));
    for (int32_t i = 0; i < stack->n; i++) {
        const ImageGeometry *g = &stack->slices[i].image->geometry;
        Vec3 row = row_of(g), column = column_of(g);
        double off = fmax(fabs(vec3_norm(row) - 1), fabs(vec3_norm(column) - 1));
        off = fmax(off, fabs(vec3_dot(row, column)));
        if (!(off <= ORTHONORMAL_TOLERANCE))
            return err_set(err, ST_SERIES_ORIENTATION,
                           "an image's row and column directions are not orthonormal");
        for (int k = 0; k < 6; k++) {
            least[k] = i == 0 ? g->iop[k] : fmin(least[k], g->iop[k]);
            most[k] = i == 0 ? g->iop[k] : fmax(most[k], g->iop[k]);
        }
        Vec3 normal = vec3_cross(row, column);
        double across = vec3_norm(vec3_cross(reference_normal, normal));
        angle_deg = fmax(angle_deg, degrees(atan2(across, vec3_dot(reference_normal, normal))));
    }
    for (int k = 0; k < 6; k++)
        if (!(most[k] - least[k] <= IOP_TOLERANCE))
            return err_set(err, ST_SERIES_ORIENTATION,
                           "orientation changes within the series (normals up to %.1f degrees "
                           "apart)",
                           angle_deg);
    stack->row = unit(row_of(reference));
    stack->normal = unit(reference_normal);
    stack->column = vec3_cross(stack->normal, stack->row);
    return ST_OK;
}

static Status check_grid(const Slice *slices, int32_t n, Err *err)
{
    const ImageGeometry *first = &reference_of(slices, n)->geometry;
    double least[2] = {HUGE_VAL, HUGE_VAL}, most[2] = {0, 0};
    for (int32_t i = 0; i < n; i++) {
        const ImageGeometry *g = &slices[i].image->geometry;
        if (g->rows != first->rows || g->columns != first->columns)
            return err_set(err, ST_SERIES_GRID, "the matrix changes within the series");
        for (int k = 0; k < 2; k++) {
            least[k] = fmin(least[k], g->pixel_spacing_mm[k]);
            most[k] = fmax(most[k], g->pixel_spacing_mm[k]);
        }
    }
    for (int k = 0; k < 2; k++)
        if (!(most[k] - least[k] <= GRID_TOLERANCE * least[k]))
            return err_set(err, ST_SERIES_GRID,
                           "pixel spacing changes within the series (%.4f to %.4f mm)", least[k],
                           most[k]);
    return ST_OK;
}

static int compare_slices(const void *a, const void *b)
{
    const Slice *p = a, *q = b;
    if (p->position_mm != q->position_mm)
        return p->position_mm < q->position_mm ? -1 : 1;
    return strcmp(p->image->sop_uid, q->image->sop_uid);
}

static void sort_stack(Stack *stack)
{
    for (int32_t i = 0; i < stack->n; i++) {
        Slice *slice = &stack->slices[i];
        const double *ipp = slice->image->geometry.ipp_lps_mm;
        Vec3 p = {ipp[0], ipp[1], ipp[2]};
        slice->position_mm = vec3_dot(p, stack->normal);
        slice->in_plane_mm[0] = vec3_dot(p, stack->row);
        slice->in_plane_mm[1] = vec3_dot(p, stack->column);
    }
    qsort(stack->slices, (size_t)stack->n, sizeof *stack->slices, compare_slices);
}

static double step_mm(const Stack *stack, int32_t i)
{
    return stack->slices[i + 1].position_mm - stack->slices[i].position_mm;
}

static Status check_duplicates(const Stack *stack, Err *err)
{
    PositionText at = {0};
    for (int32_t i = 0; i + 1 < stack->n; i++)
        if (step_mm(stack, i) < DUPLICATE_MM)
            position_add(&at, stack->slices[i + 1].position_mm);
    if (at.n == 0)
        return ST_OK;
    return err_set(err, ST_SERIES_DUPLICATE, "%d of %d slices repeat a position: %s mm", at.n,
                   stack->n, position_text(&at));
}

/* Fits the line on which the positions lie: in-plane = mean + lean * (position - mean). */
static void fit_lean(Stack *stack, double ret_mean_mm[3])
{
    double mean[3] = {0, 0, 0}, variance = 0, covariance[2] = {0, 0};
    for (int32_t i = 0; i < stack->n; i++) {
        const Slice *s = &stack->slices[i];
        mean[0] += s->in_plane_mm[0] / stack->n;
        mean[1] += s->in_plane_mm[1] / stack->n;
        mean[2] += s->position_mm / stack->n;
    }
    for (int32_t i = 0; i < stack->n; i++) {
        const Slice *s = &stack->slices[i];
        double d = s->position_mm - mean[2];
        variance += d * d;
        for (int k = 0; k < 2; k++)
            covariance[k] += d * (s->in_plane_mm[k] - mean[k]);
    }
    for (int k = 0; k < 2; k++)
        stack->lean[k] = variance > 0 ? covariance[k] / variance : 0;
    memcpy(ret_mean_mm, mean, sizeof mean);
}

static Status check_tilt(Stack *stack, double *ret_tilt_deg, Err *err)
{
    double mean[3], drift_mm = 0, drift_at_mm = 0;
    fit_lean(stack, mean);
    double tilt_deg = degrees(atan(hypot(stack->lean[0], stack->lean[1])));
    if (tilt_deg > TILT_MAX_DEG)
        return err_set(err, ST_SERIES_TILT, "gantry tilt of %.1f degrees, at most %.1f allowed",
                       tilt_deg, TILT_MAX_DEG);
    for (int32_t i = 0; i < stack->n; i++) {
        const Slice *s = &stack->slices[i];
        double d = s->position_mm - mean[2], off[2];
        for (int k = 0; k < 2; k++)
            off[k] = s->in_plane_mm[k] - mean[k] - stack->lean[k] * d;
        if (hypot(off[0], off[1]) > drift_mm) {
            drift_mm = hypot(off[0], off[1]);
            drift_at_mm = s->position_mm;
        }
    }
    if (drift_mm > DRIFT_MAX_MM)
        return err_set(err, ST_SERIES_ORIENTATION,
                       "a slice is shifted in its plane by %.2f mm against the others, at %.2f mm",
                       drift_mm, drift_at_mm);
    double length_mm = stack->slices[stack->n - 1].position_mm - stack->slices[0].position_mm;
    if (hypot(stack->lean[0], stack->lean[1]) * length_mm < DRIFT_MAX_MM)
        stack->lean[0] = stack->lean[1] = 0; /* rounding of decimal strings, not a tilt */
    *ret_tilt_deg = tilt_deg;
    return ST_OK;
}

static int compare_doubles(const void *a, const void *b)
{
    double p = *(const double *)a, q = *(const double *)b;
    return (p > q) - (p < q);
}

/* The lower of the two in the middle: a gap makes steps larger, never smaller. */
static Status median_step(const Stack *stack, double *ret_mm, Err *err)
{
    int32_t n = stack->n - 1;
    double *steps = malloc((size_t)n * sizeof *steps);
    if (steps == NULL)
        return err_set(err, ST_NO_MEMORY, "geometry of %d slices", stack->n);
    for (int32_t i = 0; i < n; i++)
        steps[i] = step_mm(stack, i);
    qsort(steps, (size_t)n, sizeof *steps, compare_doubles);
    *ret_mm = steps[(n - 1) / 2];
    free(steps);
    return ST_OK;
}

/* Steps near the median are good, near a multiple of it a gap, all others unequal. Unequal goes
** first, because no missing slice can mend it. */
static Status check_steps(const Stack *stack, double median_mm, Err *err)
{
    PositionText missing = {0}, unequal = {0};
    double tolerance_mm = fmax(STEP_TOLERANCE * median_mm, STEP_TOLERANCE_MM);
    double least = HUGE_VAL, most = 0;
    for (int32_t i = 0; i + 1 < stack->n; i++) {
        double step = step_mm(stack, i), multiple = fmax(1, round(step / median_mm));
        least = fmin(least, step);
        most = fmax(most, step);
        if (fabs(step - multiple * median_mm) > multiple * tolerance_mm) {
            position_add(&unequal, stack->slices[i + 1].position_mm);
            continue;
        }
        int32_t n_missing = (int32_t)fmin(multiple, 10000) - 1;
        for (int32_t k = 1; k <= n_missing; k++)
            position_add(&missing, stack->slices[i].position_mm + k * step / multiple);
    }
    if (unequal.n > 0)
        return err_set(err, ST_SERIES_SPACING,
                       "slice spacing from %.3f to %.3f mm, median %.3f; unequal before %s mm",
                       least, most, median_mm, position_text(&unequal));
    if (missing.n > 0)
        return err_set(err, ST_SERIES_GAP, "%d missing of %d slices %.3f mm apart, at %s mm",
                       missing.n, stack->n + missing.n, median_mm, position_text(&missing));
    return ST_OK;
}

/* Small differences of one sign add up: the slices must lie where a regular stack has them. */
static Status check_places(const Stack *stack, double spacing_mm, Err *err)
{
    PositionText away = {0};
    double tolerance_mm = fmax(STEP_TOLERANCE * spacing_mm, PLACE_TOLERANCE_MM), worst = 0;
    for (int32_t i = 0; i < stack->n; i++) {
        double place_mm = stack->slices[0].position_mm + i * spacing_mm;
        double off = fabs(stack->slices[i].position_mm - place_mm);
        worst = fmax(worst, off);
        if (off > tolerance_mm)
            position_add(&away, stack->slices[i].position_mm);
    }
    if (away.n == 0)
        return ST_OK;
    return err_set(err, ST_SERIES_SPACING,
                   "slices up to %.2f mm away from a regular spacing of %.3f mm, at %s mm", worst,
                   spacing_mm, position_text(&away));
}

static Grid make_grid(const Stack *stack, double spacing_mm)
{
    const ImageGeometry *first = &stack->slices[0].image->geometry;
    const double *ipp = first->ipp_lps_mm;
    const double dx = first->pixel_spacing_mm[1], dy = first->pixel_spacing_mm[0];
    const double row[3] = {stack->row.x, stack->row.y, stack->row.z};
    const double column[3] = {stack->column.x, stack->column.y, stack->column.z};
    const double normal[3] = {stack->normal.x, stack->normal.y, stack->normal.z};
    Grid grid = {.nx = first->columns, .ny = first->rows, .nz = stack->n};
    for (int i = 0; i < 3; i++) {
        double lean = stack->lean[0] * row[i] + stack->lean[1] * column[i];
        grid.lps_from_vox.m[i][0] = row[i] * dx;
        grid.lps_from_vox.m[i][1] = column[i] * dy;
        grid.lps_from_vox.m[i][2] = (normal[i] + lean) * spacing_mm;
        grid.lps_from_vox.m[i][3] = ipp[i];
    }
    return grid;
}

static Status check_stack(Stack *stack, const GeometryLimits *limits, Geometry *ret, Err *err)
{
    int32_t min_slices = limits->min_slices > 2 ? limits->min_slices : 2;
    double tilt_deg = 0, median_mm = 0;
    TRY(check_frame(stack->slices, stack->n, err));
    TRY(check_attributes(stack->slices, stack->n, err));
    TRY(check_orientation(stack, err));
    TRY(check_grid(stack->slices, stack->n, err));
    sort_stack(stack);
    TRY(check_duplicates(stack, err));
    if (stack->n >= 2)
        TRY(check_tilt(stack, &tilt_deg, err));
    if (stack->n < min_slices)
        return err_set(err, ST_SERIES_FEW, "%d slices, at least %d needed", stack->n, min_slices);
    TRY(median_step(stack, &median_mm, err));
    TRY(check_steps(stack, median_mm, err));
    double length_mm = stack->slices[stack->n - 1].position_mm - stack->slices[0].position_mm;
    double spacing_mm = length_mm / (stack->n - 1);
    TRY(check_places(stack, spacing_mm, err));
    ret->grid = make_grid(stack, spacing_mm);
    ret->n_slices = stack->n;
    ret->slice_spacing_mm = spacing_mm;
    ret->tilt_deg = tilt_deg;
    return ST_OK;
}

Status geometry_check(const Instance *images, int32_t n, const GeometryLimits *limits,
                      int32_t *ret_order, Geometry *ret, Err *err)
{
    if (n <= 0)
        return err_set(err, ST_SERIES_NOT_CT, "no image");
    TRY(check_patient(images, n, err));
    int32_t n_volume = 0;
    for (int32_t i = 0; i < n; i++)
        n_volume += is_volume_image(&images[i], limits);
    if (n_volume == 0)
        return err_set(err, limits->is_mr ? ST_SERIES_NOT_MR : ST_SERIES_NOT_CT,
                       "none of %d images is a %s slice", n, limits->is_mr ? "MR" : "CT");
    if (n_volume > limits->max_slices)
        return err_set(err, ST_LIMIT, "%d slices, at most %d allowed", n_volume,
                       limits->max_slices);
    Stack stack = {.slices = calloc((size_t)n_volume, sizeof *stack.slices)};
    if (stack.slices == NULL)
        return err_set(err, ST_NO_MEMORY, "geometry of %d slices", n_volume);
    for (int32_t i = 0; i < n; i++)
        if (is_volume_image(&images[i], limits))
            stack.slices[stack.n++] = (Slice){.image = &images[i], .index = i};
    Geometry geometry = {.n_dropped = n - n_volume};
    Status status = check_stack(&stack, limits, &geometry, err);
    if (status == ST_OK) {
        for (int32_t i = 0; i < stack.n; i++)
            ret_order[i] = stack.slices[i].index;
        *ret = geometry;
    }
    free(stack.slices);
    return status;
}
