/* pipeline/geometry: one good stack, and for each rule the least change that breaks it and the
** largest that does not. Positions are built from an origin, two directions and a step, so every
** expected value is known in closed form. */
#include "tests/test.h"

#include "pipeline/geometry.h"

enum { N = 24 };
static const GeometryLimits limits = {.min_slices = 16, .max_slices = 1000};

typedef struct Series {
    Instance images[64];
    int32_t n;
} Series;

static void set_iop(Instance *in, Vec3 row, Vec3 column)
{
    double iop[6] = {row.x, row.y, row.z, column.x, column.y, column.z};
    memcpy(in->geometry.iop, iop, sizeof iop);
}

static void move(Instance *in, double x_mm, double y_mm, double z_mm)
{
    in->geometry.ipp_lps_mm[0] += x_mm;
    in->geometry.ipp_lps_mm[1] += y_mm;
    in->geometry.ipp_lps_mm[2] += z_mm;
}

/* n axial slices, 2.5 mm apart, 0.5 x 0.6 mm pixels, ascending. */
static void make(Series *s, int n)
{
    memset(s, 0, sizeof *s);
    s->n = n;
    for (int k = 0; k < n; k++) {
        Instance *in = &s->images[k];
        (void)snprintf(in->sop_uid, UID_SIZE, "1.2.3.%d", 1000 + (k * 7) % 101);
        (void)snprintf(in->sop_class_uid, UID_SIZE, "1.2.840.10008.5.1.4.1.1.2");
        (void)snprintf(in->study_uid, UID_SIZE, "1.2.4");
        (void)snprintf(in->patient_key, HEX_SIZE, "aa");
        ImageGeometry *g = &in->geometry;
        (void)snprintf(g->frame_uid, UID_SIZE, "1.2.5");
        g->rows = 512;
        g->columns = 400;
        g->pixel_spacing_mm[0] = 0.5; /* between rows */
        g->pixel_spacing_mm[1] = 0.6;
        g->has_position = true;
        set_iop(in, (Vec3){1, 0, 0}, (Vec3){0, 1, 0});
        move(in, -120, -125, 700 + 2.5 * k);
    }
}

static Status check(const Series *s, Geometry *ret, Err *err)
{
    int32_t order[64];
    return geometry_check(s->images, s->n, &limits, order, ret, err);
}

static void expect(const Series *s, Status want, const char *in_message, int line)
{
    Geometry geometry;
    Err err = {0};
    Status got = check(s, &geometry, &err);
    if (got != want || (want != ST_OK && strstr(err.msg, in_message) == NULL))
        test_fail(__FILE__, line, "%s: %s; expected %s: %s", status_name(got), err.msg,
                  status_name(want), in_message);
}
#define EXPECT(s, want, in_message) expect(s, want, in_message, __LINE__)

static void check_vec(Vec3 got, Vec3 want, double tolerance_mm)
{
    CHECK_NEAR(got.x, want.x, tolerance_mm);
    CHECK_NEAR(got.y, want.y, tolerance_mm);
    CHECK_NEAR(got.z, want.z, tolerance_mm);
}

TEST(geometry_good_stack, "grid, spacing, order and voxel positions to 1e-9 mm")
{
    Series s;
    Geometry g;
    Err err = {0};
    int32_t order[64];
    make(&s, N);
    Instance swap = s.images[3];
    s.images[3] = s.images[17];
    s.images[17] = swap;
    CHECK_OK(geometry_check(s.images, s.n, &limits, order, &g, &err), &err);
    CHECK(g.grid.nx == 400 && g.grid.ny == 512 && g.grid.nz == N && g.n_slices == N);
    CHECK_INT(g.n_dropped, 0);
    CHECK_NEAR(g.slice_spacing_mm, 2.5, 1e-9);
    CHECK_NEAR(g.tilt_deg, 0, 1e-9);
    CHECK_INT(order[3], 17);
    CHECK_INT(order[17], 3);
    CHECK_INT(order[0], 0);
    check_vec(affine_apply(g.grid.lps_from_vox, (Vec3){0, 0, 0}), (Vec3){-120, -125, 700}, 1e-9);
    check_vec(affine_apply(g.grid.lps_from_vox, (Vec3){10, 20, 4}),
              (Vec3){-120 + 6.0, -125 + 10.0, 710}, 1e-9);
    CHECK_NEAR(grid_spacing_mm(&g.grid, 0), 0.6, 1e-12);
    CHECK_NEAR(grid_spacing_mm(&g.grid, 1), 0.5, 1e-12);
}

TEST(geometry_any_single_orientation,
     "a coronal stack and an oblique one: x along the row, y down the "
     "column, z along row x column, every slice's position met")
{
    static const double angles[][3] = {{1.5707963267948966, 0, 0}, {0.3, -0.2, 0.1}};
    for (int a = 0; a < 2; a++) {
        Series s;
        Geometry g;
        Err err = {0};
        int32_t order[64];
        double cx = cos(angles[a][0]), sx = sin(angles[a][0]), cy = cos(angles[a][1]),
               sy = sin(angles[a][1]), cz = cos(angles[a][2]), sz = sin(angles[a][2]);
        Vec3 row = {cz * cy, sz * cy, -sy};
        Vec3 column = {cz * sy * sx - sz * cx, sz * sy * sx + cz * cx, cy * sx};
        Vec3 normal = vec3_cross(row, column);
        make(&s, N);
        for (int k = 0; k < N; k++) {
            set_iop(&s.images[k], row, column);
            memset(s.images[k].geometry.ipp_lps_mm, 0, sizeof(double[3]));
            double d = -3.0 * k; /* stored descending */
            move(&s.images[k], 5 + normal.x * d, 6 + normal.y * d, 7 + normal.z * d);
        }
        CHECK_OK(geometry_check(s.images, s.n, &limits, order, &g, &err), &err);
        CHECK_NEAR(g.slice_spacing_mm, 3, 1e-9);
        for (int k = 0; k < N; k++) {
            CHECK_INT(order[k], N - 1 - k);
            const double *ipp = s.images[order[k]].geometry.ipp_lps_mm;
            check_vec(affine_apply(g.grid.lps_from_vox, (Vec3){0, 0, k}),
                      (Vec3){ipp[0], ipp[1], ipp[2]}, 1e-9);
        }
        const double(*m)[4] = (const double(*)[4])g.grid.lps_from_vox.m;
        check_vec((Vec3){m[0][0], m[1][0], m[2][0]}, (Vec3){row.x * 0.6, row.y * 0.6, row.z * 0.6},
                  1e-9);
        CHECK(affine_det(g.grid.lps_from_vox) > 0);
    }
}

TEST(geometry_drops_what_is_no_slice,
     "localizers and other SOP classes are counted, not judged; with "
     "nothing else left: SERIES_NOT_CT")
{
    Series s;
    Geometry g;
    Err err = {0};
    make(&s, N + 2);
    s.images[N].geometry = (ImageGeometry){.is_localizer = true, .rows = 9};
    (void)snprintf(s.images[N + 1].sop_class_uid, UID_SIZE, "1.2.840.10008.5.1.4.1.1.7");
    CHECK_OK(check(&s, &g, &err), &err);
    CHECK(g.n_slices == N && g.n_dropped == 2);
    for (int k = 0; k < N; k++)
        s.images[k].geometry.is_localizer = true;
    EXPECT(&s, ST_SERIES_NOT_CT, "none of 26 images");
    s.n = 0;
    EXPECT(&s, ST_SERIES_NOT_CT, "no image");
    make(&s, N);
    for (int k = 0; k < N; k++)
        (void)snprintf(s.images[k].sop_class_uid, UID_SIZE, "1.2.840.10008.5.1.4.1.1.4");
    EXPECT(&s, ST_SERIES_NOT_CT, "");
}

TEST(geometry_one_patient,
     "another patient or study in one image, a localizer too, is SERIES_PATIENT "
     "and goes before everything else")
{
    Series s;
    for (int what = 0; what < 2; what++) {
        make(&s, N);
        (void)snprintf(what == 0 ? s.images[5].patient_key : s.images[5].study_uid, 10, "bb");
        s.images[5].geometry.is_localizer = what == 0;
        s.images[6].geometry.frame_uid[0] = '\0';
        s.images[7].geometry.has_position = false;
        EXPECT(&s, ST_SERIES_PATIENT, "1 of 24 images");
        CHECK(what < 2);
    }
}

TEST(geometry_one_frame, "none in one image, or two different, is SERIES_FRAME")
{
    Series s;
    make(&s, N);
    s.images[5].geometry.frame_uid[0] = '\0';
    s.images[7].geometry.has_position = false;
    EXPECT(&s, ST_SERIES_FRAME, "1 of 24 images have no frame");
    make(&s, N);
    for (int k = 0; k < N; k++)
        s.images[k].geometry.frame_uid[0] = '\0';
    EXPECT(&s, ST_SERIES_FRAME, "24 of 24 images have no frame");
    make(&s, N);
    (void)snprintf(s.images[0].geometry.frame_uid, UID_SIZE, "1.2.6");
    EXPECT(&s, ST_SERIES_FRAME, "more than one");
}

TEST(geometry_needs_position, "no position, NaN, zero spacing or no rows is DICOM_ATTRIBUTE")
{
    Series s;
    for (int what = 0; what < 6; what++) {
        make(&s, N);
        ImageGeometry *g = &s.images[9].geometry;
        if (what == 0)
            g->has_position = false;
        else if (what == 1)
            g->ipp_lps_mm[1] = (double)NAN;
        else if (what == 2)
            g->iop[5] = HUGE_VAL;
        else if (what == 3)
            g->pixel_spacing_mm[0] = 0;
        else if (what == 4)
            g->pixel_spacing_mm[1] = (double)NAN;
        else
            g->rows = 0;
        EXPECT(&s, ST_DICOM_ATTRIBUTE, "1 of 24 images lack");
    }
}

TEST(geometry_orientation, "orthonormal within 1e-3, equal within 1e-4; a rotated slice is refused "
                           "with its angle, a flipped one too")
{
    Series s;
    make(&s, N);
    for (int k = 0; k < N; k++)
        set_iop(&s.images[k], (Vec3){1.0009, 0, 0}, (Vec3){0, 1, 0});
    EXPECT(&s, ST_OK, "");
    for (int k = 0; k < N; k++)
        set_iop(&s.images[k], (Vec3){1.0011, 0, 0}, (Vec3){0, 1, 0});
    EXPECT(&s, ST_SERIES_ORIENTATION, "not orthonormal");
    for (int k = 0; k < N; k++)
        set_iop(&s.images[k], (Vec3){1, 0, 0}, (Vec3){0.002, 1, 0});
    EXPECT(&s, ST_SERIES_ORIENTATION, "not orthonormal");
    for (int k = 0; k < N; k++)
        set_iop(&s.images[k], (Vec3){0, 0, 0}, (Vec3){0, 1, 0});
    EXPECT(&s, ST_SERIES_ORIENTATION, "not orthonormal");

    make(&s, N);
    set_iop(&s.images[11], (Vec3){1, 0, 0}, (Vec3){0, 1, 0.00009});
    EXPECT(&s, ST_OK, "");
    set_iop(&s.images[11], (Vec3){1, 0, 0}, (Vec3){0, 1, 0.00011});
    EXPECT(&s, ST_SERIES_ORIENTATION, "changes within the series");
    double a = 30 * acos(-1.0) / 180;
    set_iop(&s.images[11], (Vec3){1, 0, 0}, (Vec3){0, cos(a), sin(a)});
    EXPECT(&s, ST_SERIES_ORIENTATION, "30.0 degrees");
    set_iop(&s.images[11], (Vec3){-1, 0, 0}, (Vec3){0, 1, 0});
    EXPECT(&s, ST_SERIES_ORIENTATION, "180.0 degrees");
}

TEST(geometry_grid_constant,
     "a changed matrix, or spacing by more than 1e-4, is SERIES_GRID; pixels "
     "need not be square")
{
    Series s;
    make(&s, N);
    s.images[4].geometry.rows = 256;
    EXPECT(&s, ST_SERIES_GRID, "matrix");
    make(&s, N);
    s.images[4].geometry.columns = 401;
    EXPECT(&s, ST_SERIES_GRID, "matrix");
    make(&s, N);
    s.images[4].geometry.pixel_spacing_mm[1] = 0.6 * 1.00009;
    EXPECT(&s, ST_OK, "");
    s.images[4].geometry.pixel_spacing_mm[1] = 0.6 * 1.00011;
    EXPECT(&s, ST_SERIES_GRID, "pixel spacing");
}

TEST(geometry_duplicates, "two slices less than 0.01 mm apart, position named")
{
    Series s;
    make(&s, N);
    move(&s.images[8], 0, 0, -2.5 + 0.009); /* onto slice 7 at 717.5 */
    EXPECT(&s, ST_SERIES_DUPLICATE, "1 of 24 slices repeat a position: 717.51 mm");
    make(&s, N);
    move(&s.images[8], 0, 0, -2.5 + 0.011); /* apart, but irregular */
    EXPECT(&s, ST_SERIES_SPACING, "");
    make(&s, N);
    for (int k = 0; k < N; k++)
        s.images[k].geometry.ipp_lps_mm[2] = 61.5;
    EXPECT(&s, ST_SERIES_DUPLICATE, "23 of 24 slices");
    CHECK(limits.min_slices == 16);
}

/* Shears the stack: y drifts by tan(angle) per mm of z. */
static void shear(Series *s, double angle_deg)
{
    for (int k = 0; k < s->n; k++)
        move(&s->images[k], 0, tan(angle_deg * acos(-1.0) / 180) * 2.5 * k, 0);
}

TEST(geometry_tilt, "0.49 degrees pass and the grid follows the positions; 0.51, 14 and -18.5 are "
                    "SERIES_TILT with the angle; also with a slice missing and with few slices")
{
    Series s;
    Geometry g;
    Err err = {0};
    make(&s, N);
    shear(&s, 0.49);
    CHECK_OK(check(&s, &g, &err), &err);
    CHECK_NEAR(g.tilt_deg, 0.49, 1e-9);
    for (int k = 0; k < N; k++) {
        const double *ipp = s.images[k].geometry.ipp_lps_mm;
        check_vec(affine_apply(g.grid.lps_from_vox, (Vec3){0, 0, k}),
                  (Vec3){ipp[0], ipp[1], ipp[2]}, 1e-9);
    }
    make(&s, N);
    shear(&s, 0.51);
    EXPECT(&s, ST_SERIES_TILT, "tilt of 0.5 degrees");
    make(&s, N);
    shear(&s, 14);
    EXPECT(&s, ST_SERIES_TILT, "tilt of 14.0 degrees");
    s.images[9] = s.images[--s.n];
    EXPECT(&s, ST_SERIES_TILT, "tilt of 14.0 degrees");
    make(&s, 3);
    shear(&s, -18.5);
    EXPECT(&s, ST_SERIES_TILT, "tilt of 18.5 degrees");
    /* The usual way of a scanner: the same y, the plane leaning. */
    double a = 18.5 * acos(-1.0) / 180;
    make(&s, N);
    for (int k = 0; k < N; k++)
        set_iop(&s.images[k], (Vec3){1, 0, 0}, (Vec3){0, cos(a), -sin(a)});
    EXPECT(&s, ST_SERIES_TILT, "tilt of 18.5 degrees");
}

TEST(geometry_in_plane_shift, "one slice shifted in its plane by more than 0.1 mm is "
                              "SERIES_ORIENTATION, 0.09 mm pass, rounding to 0.001 mm is no tilt")
{
    Series s;
    Geometry g;
    Err err = {0};
    make(&s, N);
    move(&s.images[12], 0.09, 0, 0);
    EXPECT(&s, ST_OK, "");
    move(&s.images[12], 0.05, 0, 0);
    EXPECT(&s, ST_SERIES_ORIENTATION,
           "shifted in its plane by 0.13 mm against the others, at 730.");
    make(&s, N);
    for (int k = 0; k < N; k++)
        move(&s.images[k], 0.0005 * (k % 2), 0.0002 * (k % 3), 0);
    CHECK_OK(check(&s, &g, &err), &err);
    CHECK(g.grid.lps_from_vox.m[0][2] == 0.0 && g.grid.lps_from_vox.m[1][2] == 0.0);
}

TEST(geometry_few_and_many, "15 of 16 slices: SERIES_FEW; 16 pass; above the maximum: LIMIT; never "
                            "fewer than 2")
{
    Series s;
    Geometry g;
    Err err = {0};
    int32_t order[64];
    make(&s, 15);
    EXPECT(&s, ST_SERIES_FEW, "15 slices, at least 16 needed");
    make(&s, 16);
    EXPECT(&s, ST_OK, "");
    GeometryLimits small = {.min_slices = 0, .max_slices = 16};
    make(&s, 17);
    CHECK_STATUS(geometry_check(s.images, s.n, &small, order, &g, &err), ST_LIMIT);
    make(&s, 1);
    CHECK_STATUS(geometry_check(s.images, s.n, &small, order, &g, &err), ST_SERIES_FEW);
    make(&s, 2);
    CHECK_OK(geometry_check(s.images, s.n, &small, order, &g, &err), &err);
    CHECK_NEAR(g.slice_spacing_mm, 2.5, 1e-12);
}

static void take_out(Series *s, int k)
{
    for (int i = k; i + 1 < s->n; i++)
        s->images[i] = s->images[i + 1];
    s->n--;
}

TEST(geometry_gap,
     "one, two neighbouring and two distant missing slices: each position named; more "
     "than 8 are counted")
{
    Series s;
    make(&s, N);
    take_out(&s, 10);
    EXPECT(&s, ST_SERIES_GAP, "1 missing of 24 slices 2.500 mm apart, at 725.00 mm");
    take_out(&s, 10);
    EXPECT(&s, ST_SERIES_GAP, "2 missing of 24 slices 2.500 mm apart, at 725.00, 727.50 mm");
    make(&s, N);
    take_out(&s, 20);
    take_out(&s, 3);
    EXPECT(&s, ST_SERIES_GAP, "2 missing of 24 slices 2.500 mm apart, at 707.50, 750.00 mm");
    make(&s, 40);
    for (int i = 0; i < 10; i++)
        take_out(&s, 12);
    EXPECT(&s, ST_SERIES_GAP,
           "at 730.00, 732.50, 735.00, 737.50, 740.00, 742.50, 745.00, 747.50 "
           "and 2 more mm");
}

TEST(geometry_spacing, "a step off by 0.9 % passes, by 1.2 % is SERIES_SPACING with the position; "
                       "unequal goes before missing; small errors must not add up")
{
    Series s;
    make(&s, N);
    for (int k = 12; k < N; k++)
        move(&s.images[k], 0, 0, 0.0225);
    EXPECT(&s, ST_OK, "");
    for (int k = 12; k < N; k++)
        move(&s.images[k], 0, 0, 0.0075);
    EXPECT(&s, ST_SERIES_SPACING, "unequal before 730.03 mm");
    take_out(&s, 3);
    EXPECT(&s, ST_SERIES_SPACING, "");
    make(&s, N); /* 4 mm, then 7 mm */
    for (int k = 0; k < N; k++)
        s.images[k].geometry.ipp_lps_mm[2] = k < 12 ? 4 * k : 44 + 7 * (k - 11);
    EXPECT(&s, ST_SERIES_SPACING, "slice spacing from 4.000 to 7.000 mm");
    make(&s, 60); /* 30 steps of 2.5, then 29 of 2.52: each within 1 % */
    for (int k = 31; k < 60; k++)
        move(&s.images[k], 0, 0, 0.02 * (k - 30));
    EXPECT(&s, ST_SERIES_SPACING, "away from a regular spacing");
    make(&s, N); /* 0.3 mm slices: 0.01 mm are allowed although they are 3 % */
    for (int k = 0; k < N; k++)
        s.images[k].geometry.ipp_lps_mm[2] = 0.3 * k + (k % 2 ? 0.004 : 0);
    EXPECT(&s, ST_OK, "");
}

TEST(geometry_order_of_messages, "the most useful first: orientation before grid before duplicates "
                                 "before tilt before few before gap")
{
    Series s;
    make(&s, 12);
    take_out(&s, 5);
    EXPECT(&s, ST_SERIES_FEW, "");
    shear(&s, 10);
    EXPECT(&s, ST_SERIES_TILT, "");
    memcpy(s.images[2].geometry.ipp_lps_mm, s.images[1].geometry.ipp_lps_mm, sizeof(double[3]));
    EXPECT(&s, ST_SERIES_DUPLICATE, "");
    s.images[3].geometry.rows = 7;
    EXPECT(&s, ST_SERIES_GRID, "");
    set_iop(&s.images[3], (Vec3){0, 1, 0}, (Vec3){1, 0, 0});
    EXPECT(&s, ST_SERIES_ORIENTATION, "");
    s.images[3].geometry.has_position = false;
    EXPECT(&s, ST_DICOM_ATTRIBUTE, "");
    s.images[3].geometry.frame_uid[0] = '\0';
    EXPECT(&s, ST_SERIES_FRAME, "");
}

/* Breaks a stack in one of several ways, chosen by `how`. */
static void break_some(Series *s, int how)
{
    int k = 1 + rand() % (s->n - 2);
    if (how == 1)
        take_out(s, k);
    else if (how == 2)
        move(&s->images[k], 0, 0, 0.4);
    else if (how == 3)
        shear(s, 5);
    else if (how == 4)
        set_iop(&s->images[k], (Vec3){1, 0, 0}, (Vec3){0, 0.8, 0.6});
    else if (how == 5)
        s->images[k].patient_key[0] = 'b';
    else if (how == 6)
        move(&s->images[k], 0, 0, -2.5);
    else if (how == 7)
        s->images[k].geometry.pixel_spacing_mm[0] = 0.7;
    else if (how ==
             8) /* tolerated noise everywhere: the reference image must not depend on order */
        for (int i = 0; i < s->n; i++) {
            move(&s->images[i], 0.01 * (rand() % 5), 0, 0.004 * (rand() % 5));
            s->images[i].geometry.iop[5] += 1e-5 * (rand() % 9);
        }
}

TEST(geometry_order_does_not_matter, "1800 shuffles of 180 stacks, good and broken in 8 ways: same "
                                     "status, message, grid bits and slice order")
{
    srand(7);
    for (int round = 0; round < 180; round++) {
        static Series s;
        Geometry first = {0}, again = {0};
        Err first_err = {0}, err = {0};
        int32_t order[64], other[64];
        make(&s, N + round % 7);
        break_some(&s, round % 9);
        Status want = geometry_check(s.images, s.n, &limits, order, &first, &first_err);
        CHECK((want == ST_OK) == (round % 9 == 0 || round % 9 == 8));
        char uids[64][UID_SIZE] = {0};
        for (int32_t k = 0; k < first.n_slices; k++)
            memcpy(uids[k], s.images[order[k]].sop_uid, UID_SIZE);
        for (int shuffle = 0; shuffle < 10; shuffle++) {
            for (int i = s.n - 1; i > 0; i--) {
                int k = rand() % (i + 1);
                Instance swap = s.images[i];
                s.images[i] = s.images[k];
                s.images[k] = swap;
            }
            CHECK_INT(geometry_check(s.images, s.n, &limits, other, &again, &err), want);
            CHECK_STR(err.msg, first_err.msg);
            CHECK(memcmp(&again.grid, &first.grid, sizeof again.grid) == 0);
            CHECK(again.slice_spacing_mm == first.slice_spacing_mm);
            for (int32_t k = 0; k < first.n_slices; k++)
                CHECK_STR(s.images[other[k]].sop_uid, uids[k]);
        }
    }
}

TEST(geometry_writes_on_success_only, "a refused series leaves order and result untouched")
{
    Series s;
    Geometry g;
    int32_t order[64];
    memset(&g, 0x5a, sizeof g);
    memset(order, 0x5a, sizeof order);
    make(&s, N);
    take_out(&s, 4);
    CHECK_STATUS(geometry_check(s.images, s.n, &limits, order, &g, NULL), ST_SERIES_GAP);
    CHECK_INT(g.n_slices, 0x5a5a5a5a);
    CHECK_INT(order[0], 0x5a5a5a5a);
}
