/* pipeline/qa_picture.h: the picture, decoded again, shows an asymmetric phantom the way a
** radiologist expects it, whatever way the grid lies. Positions to 2 of 298 pixels (1 mm). */
#include "tests/test.h"

#include "base/files.h"
#include "pipeline/png_file.h"
#include "pipeline/qa_picture.h"

#include <png.h>

enum { PANEL = 298, GAP = 3, CENTRE = PANEL / 2, BALL_PX = 90, SKIN_PX = 135 };

typedef struct Image {
    int width, height;
    uint8_t rgb[920 * 920 * 3];
} Image;

static Image image;

static void read_png(const char *path)
{
    png_image png = {.version = PNG_IMAGE_VERSION};
    CHECK(png_image_begin_read_from_file(&png, path));
    png.format = PNG_FORMAT_RGB;
    CHECK(PNG_IMAGE_SIZE(png) <= sizeof image.rgb);
    image.width = (int)png.width;
    image.height = (int)png.height;
    CHECK(png_image_finish_read(&png, NULL, image.rgb, 0, NULL));
}

static const uint8_t *pixel(int row, int panel, int x, int y)
{
    int column = panel * (PANEL + GAP) + x, line = row * (PANEL + GAP) + y;
    CHECK(column >= 0 && column < image.width && line >= 0 && line < image.height);
    return image.rgb + ((size_t)line * (size_t)image.width + (size_t)column) * 3;
}

static void check_grey(int row, int panel, int x, int y, int want)
{
    const uint8_t *p = pixel(row, panel, x, y);
    CHECK_INT(p[0], p[1]);
    CHECK_INT(p[1], p[2]);
    CHECK_NEAR(p[0], want, 3);
}

static bool is_contour(const uint8_t *p)
{
    return p[0] > 200 && p[1] > 150 && p[2] < 50;
}

/* A ball of 60 mm radius at 0 HU; in it small balls at 40 mm to the patient's left (400 HU), to
** anterior (200 HU) and towards the head (-200 HU). Centre at (15, -20, 30) LPS. */
static const Vec3 middle = {15, -20, 30};

static bool near(Vec3 p, double x, double y, double z, double radius)
{
    Vec3 d = {p.x - middle.x - x, p.y - middle.y - y, p.z - middle.z - z};
    return vec3_norm(d) <= radius;
}

static Arena arena;

static void make(Grid grid, VolumeI16 *ct, VolumeU8 *mask, VolumeF32 *mr)
{
    Err err = {0};
    if (arena.base == NULL)
        CHECK_OK(arena_open((size_t)256 << 20, &arena, &err), &err);
    size_t n = grid_voxels(&grid);
    *ct = (VolumeI16){grid, arena_alloc(&arena, n, sizeof(int16_t), &err)};
    *mask = (VolumeU8){grid, arena_alloc(&arena, n, 1, &err)};
    *mr = (VolumeF32){grid, arena_alloc(&arena, n, sizeof(float), &err)};
    CHECK(ct->v != NULL && mask->v != NULL && mr->v != NULL);
    size_t i = 0;
    for (int z = 0; z < grid.nz; z++)
        for (int y = 0; y < grid.ny; y++)
            for (int x = 0; x < grid.nx; x++, i++) {
                Vec3 p = affine_apply(grid.lps_from_vox, (Vec3){x, y, z});
                bool head = near(p, 0, 0, 0, 60);
                mask->v[i] = head;
                mr->v[i] = head ? 0.8f : 0;
                ct->v[i] = (int16_t)(near(p, 40, 0, 0, 10)    ? 400
                                     : near(p, 0, -40, 0, 10) ? 200
                                     : near(p, 0, 0, 40, 10)  ? -200
                                     : head                   ? 0
                                                              : -1000);
            }
}

/* Where the contour is first met from the panel's edge towards its centre, in pixels from it. */
static int contour_radius(int panel, int step_x, int step_y)
{
    for (int r = CENTRE - 1; r > 0; r--)
        if (is_contour(pixel(0, panel, CENTRE + r * step_x, CENTRE + r * step_y)))
            return r;
    return 0;
}

static void check_picture(Grid grid)
{
    enum { BODY = 128, LEFT = 255, FRONT = 191, TOP = 64, MR = 204 };
    VolumeI16 ct;
    VolumeU8 mask;
    VolumeF32 mr;
    Err err = {0};
    char path[PATH_SIZE];
    make(grid, &ct, &mask, &mr);
    CHECK_OK(path_format(path, &err, "%s/qa.png", test_dir()), &err);
    size_t used = arena_mark(&arena);
    CHECK_OK(qa_picture_write(path, &ct, &mask, &mr, 0, 800, &err), &err);
    CHECK_INT(arena_mark(&arena), used);
    read_png(path);
    CHECK_INT(image.width, 3 * PANEL + 2 * GAP);
    CHECK_INT(image.height, 3 * PANEL + 2 * GAP);
    int c = CENTRE, d = BALL_PX;
    /* axial: patient's left on the viewer's right, anterior up */
    check_grey(0, 0, c + d, c, LEFT), check_grey(0, 0, c - d, c, BODY);
    check_grey(0, 0, c, c - d, FRONT), check_grey(0, 0, c, c + d, BODY);
    /* coronal: patient's left on the viewer's right, head up */
    check_grey(0, 1, c + d, c, LEFT), check_grey(0, 1, c - d, c, BODY);
    check_grey(0, 1, c, c - d, TOP), check_grey(0, 1, c, c + d, BODY);
    /* sagittal: anterior on the viewer's left, head up */
    check_grey(0, 2, c - d, c, FRONT), check_grey(0, 2, c + d, c, BODY);
    check_grey(0, 2, c, c - d, TOP), check_grey(0, 2, c, c + d, BODY);
    for (int panel = 0; panel < 3; panel++) {
        CHECK_NEAR(contour_radius(panel, 1, 0), SKIN_PX, 4);
        CHECK_NEAR(contour_radius(panel, -1, 0), SKIN_PX, 4);
        CHECK_NEAR(contour_radius(panel, 0, 1), SKIN_PX, 4);
        CHECK_NEAR(contour_radius(panel, 0, -1), SKIN_PX, 4);
        check_grey(0, panel, 3, 3, 0);
        check_grey(1, panel, c + d, c, MR);
        check_grey(1, panel, 3, 3, 0);
        /* checkerboard of 32 pixels: CT at the top left */
        check_grey(2, panel, 4 * 32 + 16, 4 * 32 + 16, BODY);
        check_grey(2, panel, 5 * 32 + 8, 4 * 32 + 16, MR);
    }
    check_grey(0, 0, PANEL + 1, c, 96);
}

TEST(qa_picture_axial_grid, "left, anterior and head where they belong; isotropic")
{
    check_picture((Grid){80, 80, 60, {{{2, 0, 0, -65}, {0, 2, 0, -100}, {0, 0, 3, -58}}}});
}

TEST(qa_picture_feet_first_grid, "slices from head to feet, rows reversed")
{
    check_picture((Grid){80, 80, 60, {{{-2, 0, 0, 94}, {0, 2, 0, -100}, {0, 0, -3, 118}}}});
}

TEST(qa_picture_sagittal_grid, "voxel axes posterior, feet, left; 1.5 x 2 x 3 mm")
{
    check_picture((Grid){100, 80, 56, {{{0, 0, 3, -68}, {1.5, 0, 0, -95}, {0, -2, 0, 110}}}});
}

TEST(qa_picture_oblique_grid, "a grid turned by 20 degrees about two axes")
{
    double a = 0.35, c = cos(a), s = sin(a);
    Affine about_x = {{{1, 0, 0, 0}, {0, c, -s, 0}, {0, s, c, 0}}};
    Affine about_z = {{{c, -s, 0, middle.x}, {s, c, 0, middle.y}, {0, 0, 1, middle.z}}};
    Affine scale = {{{1.6, 0, 0, -80}, {0, 1.6, 0, -80}, {0, 0, 2.4, -80}}};
    check_picture((Grid){101, 101, 68, affine_mul(about_z, affine_mul(about_x, scale))});
}

TEST(qa_picture_ct_alone, "without MR and mask: one row, no contour; NaN in an MR is black")
{
    VolumeI16 ct;
    VolumeU8 mask;
    VolumeF32 mr;
    Err err = {0};
    char path[PATH_SIZE];
    make((Grid){60, 60, 60, {{{2.5, 0, 0, -60}, {0, 2.5, 0, -95}, {0, 0, 2.5, -45}}}}, &ct, &mask,
         &mr);
    CHECK_OK(path_format(path, &err, "%s/qa.png", test_dir()), &err);
    CHECK_OK(qa_picture_write(path, &ct, NULL, NULL, 0, 800, &err), &err);
    read_png(path);
    CHECK_INT(image.height, PANEL);
    for (int y = 0; y < PANEL; y++)
        for (int x = 0; x < PANEL; x++)
            CHECK(!is_contour(pixel(0, 0, x, y)));
    check_grey(0, 0, CENTRE + BALL_PX, CENTRE, 255);
    for (size_t i = 0; i < grid_voxels(&mr.grid); i++)
        mr.v[i] = NAN;
    CHECK_OK(qa_picture_write(path, &ct, &mask, &mr, 0, 800, &err), &err);
    read_png(path);
    check_grey(1, 0, CENTRE, CENTRE, 0);
    CHECK(qa_picture_write("/nonexistent/folder/qa.png", &ct, NULL, NULL, 0, 800, NULL) != ST_OK);
}

TEST(qa_mask_shows_what_was_left_out, "two rows with the contour; in the second, left out is red")
{
    VolumeI16 ct;
    VolumeU8 mask;
    VolumeF32 mr;
    Err err = {0};
    char path[PATH_SIZE];
    make((Grid){60, 60, 60, {{{2.5, 0, 0, -60}, {0, 2.5, 0, -95}, {0, 0, 2.5, -45}}}}, &ct, &mask,
         &mr);
    for (size_t i = 0; i < grid_voxels(&ct.grid); i++)
        mask.v[i] = mask.v[i] && ct.v[i] != 400; /* the ball at the left is left out */
    CHECK_OK(path_format(path, &err, "%s/mask.png", test_dir()), &err);
    CHECK_OK(qa_mask_write(path, &ct, &mask, 0, 800, &err), &err);
    read_png(path);
    CHECK_INT(image.height, 2 * PANEL + GAP);
    const uint8_t *out = pixel(1, 0, CENTRE + BALL_PX, CENTRE);
    CHECK(out[0] == 255 && out[1] < 128 && out[2] < 128);
    check_grey(0, 0, CENTRE + BALL_PX, CENTRE, 255);
    check_grey(1, 0, CENTRE, CENTRE, 159); /* 0 HU in -1000..600 */
    check_grey(1, 0, CENTRE - BALL_PX, CENTRE, 159);
    check_grey(1, 0, 3, 3, 0); /* air is left out and stays black */
    for (int row = 0; row < 2; row++) {
        int at = CENTRE - 1;
        while (at > 0 && !is_contour(pixel(row, 0, CENTRE - at, CENTRE)))
            at--;
        CHECK_NEAR(at, SKIN_PX, 4);
    }
}

/* The moving image is the fixed one, 10 mm towards the patient's left. */
static void register_picture(double told_mm, bool is_ct)
{
    VolumeI16 fixed, moving;
    VolumeU8 mask;
    VolumeF32 mr;
    Err err = {0};
    char path[PATH_SIZE];
    Grid g = {80, 80, 60, {{{2, 0, 0, -65}, {0, 2, 0, -100}, {0, 0, 3, -58}}}};
    make(g, &fixed, &mask, &mr);
    make(g, &moving, &mask, &mr);
    moving.grid.lps_from_vox.m[0][3] += 10;
    for (size_t i = 0; !is_ct && i < grid_voxels(&g); i++)
        moving.v[i] = moving.v[i] == 0 ? 500 : moving.v[i] == 400 ? 1000 : 0;
    Affine moving_from_fixed = affine_identity();
    moving_from_fixed.m[0][3] = told_mm;
    CHECK_OK(path_format(path, &err, "%s/register.png", test_dir()), &err);
    size_t used = arena_mark(&arena);
    CHECK_OK(qa_register_write(path, (QaVolume){&fixed, true}, (QaVolume){&moving, is_ct},
                               moving_from_fixed, &arena, &err),
             &err);
    CHECK_INT(arena_mark(&arena), used);
    read_png(path);
    CHECK_INT(image.height, 3 * PANEL + 2 * GAP);
}

TEST(qa_register_right_and_wrong,
     "right: both rows alike, outlines on the skin; wrong: 10 mm aside")
{
    enum { BODY = 77, FRONT = 204, IN_BALL = CENTRE + BALL_PX - 14 };
    register_picture(10, true);
    for (int row = 0; row < 3; row++) {
        check_grey(row, 0, CENTRE, CENTRE, BODY);
        check_grey(row, 0, CENTRE, CENTRE - BALL_PX, FRONT);
        check_grey(row, 0, IN_BALL, CENTRE, 255);
    }
    for (int row = 0; row < 2; row++)
        CHECK(is_contour(pixel(row, 0, CENTRE + SKIN_PX, CENTRE)) ||
              is_contour(pixel(row, 0, CENTRE + SKIN_PX - 1, CENTRE)) ||
              is_contour(pixel(row, 0, CENTRE + SKIN_PX + 1, CENTRE)));
    register_picture(0, true);
    check_grey(0, 0, IN_BALL, CENTRE, 255);
    check_grey(1, 0, IN_BALL, CENTRE, BODY);
    register_picture(10, false); /* an MR: 2 % of it may be white, and the ball is less */
    check_grey(1, 0, CENTRE, CENTRE, 255);
    check_grey(1, 0, IN_BALL, CENTRE, 255);
    check_grey(1, 0, CENTRE, CENTRE - BALL_PX, 0);
}

/* A picture of one colour as libpng writes it, with an optional gAMA chunk behind its header. */
static void write_plain_png(const char *path, int colour_type, int depth, uint32_t gamma)
{
    FILE *f = fopen(path, "wb");
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
    png_infop info = png_create_info_struct(png);
    unsigned char row[8 * 8] = {0};
    memset(row, 100, sizeof row);
    CHECK(f != NULL && png != NULL && info != NULL);
    if (setjmp(png_jmpbuf(png)) != 0)
        test_fail(__FILE__, __LINE__, "libpng");
    png_init_io(png, f);
    png_set_IHDR(png, info, 8, 4, depth, colour_type, PNG_INTERLACE_NONE,
                 PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    if (gamma != 0)
        png_set_gAMA_fixed(png, info, (png_fixed_point)gamma);
    png_write_info(png, info);
    for (int y = 0; y < 4; y++)
        png_write_row(png, row);
    png_write_end(png, info);
    png_destroy_write_struct(&png, &info);
    CHECK(fclose(f) == 0);
}

TEST(png_samples_come_as_they_are,
     "8 bits of grey or colour; 16 bits, alpha, another gamma: refused")
{
    static const struct {
        int colour_type, depth;
        uint32_t gamma;
        const char *says; /* NULL: good */
    } CASES[] = {{PNG_COLOR_TYPE_GRAY, 8, 0, NULL},
                 {PNG_COLOR_TYPE_RGB, 8, 0, NULL},
                 {PNG_COLOR_TYPE_GRAY, 8, 45455, NULL},
                 {PNG_COLOR_TYPE_GRAY, 16, 0, "16 bits a sample"},
                 {PNG_COLOR_TYPE_GRAY_ALPHA, 8, 0, "transparency"},
                 {PNG_COLOR_TYPE_RGBA, 8, 0, "transparency"},
                 {PNG_COLOR_TYPE_GRAY, 8, 100000, "gamma is 1.00000"}};
    char path[PATH_SIZE];
    Err err = {0};
    CHECK_OK(path_format(path, &err, "%s/plain.png", test_dir()), &err);
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        uint8_t *pixels;
        int32_t width, height;
        write_plain_png(path, CASES[i].colour_type, CASES[i].depth, CASES[i].gamma);
        Status status = png_read_grey(path, 100, &pixels, &width, &height, &err);
        if (CASES[i].says != NULL) {
            CHECK_INT(status, ST_UNSUPPORTED);
            CHECK(strstr(err.msg, CASES[i].says) != NULL);
            continue;
        }
        CHECK_OK(status, &err);
        CHECK(width == 8 && height == 4);
        for (int k = 0; k < 32; k++)
            CHECK_INT(pixels[k], 100);
        free(pixels);
    }
}

TEST(qa_png_grey_round_trip, "every pixel comes back, rows top to bottom")
{
    enum { W = 37, H = 21 };
    uint8_t grey[W * H];
    char path[PATH_SIZE];
    Err err = {0};
    for (int i = 0; i < W * H; i++)
        grey[i] = (uint8_t)(i * 7 + i / W);
    CHECK_OK(path_format(path, &err, "%s/grey.png", test_dir()), &err);
    CHECK_OK(png_write_grey(path, grey, W, H, &err), &err);
    read_png(path);
    CHECK(image.width == W && image.height == H);
    for (int i = 0; i < W * H; i++)
        CHECK(image.rgb[i * 3] == grey[i] && image.rgb[i * 3 + 2] == grey[i]);
}
