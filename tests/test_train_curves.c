/* pipeline/train_curves. Claims: the table holds each value of each epoch in its column; each panel
** of the picture shows its own values, upwards. */
#include "tests/test.h"

#include "base/files.h"
#include "pipeline/png_file.h"
#include "pipeline/train_curves.h"

enum { EPOCHS = 5 };

/* Training's loss falls by 1 from 9, the held-out one is 2 and once 6, PSNR rises, SSIM falls. */
static const TrainRow *rows_of_a_training(void)
{
    static TrainRow rows[EPOCHS];
    for (int i = 0; i < EPOCHS; i++)
        rows[i] = (TrainRow){.epoch = i + 1,
                             .step = 10LL * (i + 1),
                             .lr = 0.25,
                             .training = {.total = 9 - i},
                             .validation = {.total = i == 1 ? 6 : 2},
                             .psnr_db = 20 + i,
                             .ssim = 0.9 - 0.125 * i,
                             .gradient_norm = 0.5,
                             .elapsed_s = 60,
                             .waited_frac = 0.0625};
    return rows;
}

static const char *in_dir(const char *name)
{
    static char path[PATH_SIZE];
    (void)snprintf(path, sizeof path, "%s/%s", test_dir(), name);
    return path;
}

TEST(curves_table, "a line per epoch: loss and its terms, PSNR, SSIM, norm, time, each where named")
{
    LossSpec spec = {.weight = {0}};
    TrainRow rows[EPOCHS];
    char *text;
    size_t bytes;
    Err err = {0};
    memcpy(rows, rows_of_a_training(), sizeof rows);
    spec.weight[LOSS_MSE] = 1;
    rows[1].training.term[LOSS_MSE] = 3.5;
    rows[1].validation.term[LOSS_MSE] = 4.5;
    CHECK_OK(train_curves_csv(in_dir("c.csv"), &spec, rows, 2, true, &err), &err);
    CHECK_OK(file_read(in_dir("c.csv"), 1 << 16, &text, &bytes, &err), &err);
    CHECK_STR(text, "epoch,step,learning_rate,training_loss,training_mse,validation_loss,"
                    "validation_mse,psnr_db,ssim,gradient_norm,elapsed_s,waited_frac\n"
                    "1,10,0.25,9,0,2,0,20.0000,0.90000,0.5,60.0,0.0625\n"
                    "2,20,0.25,8,3.5,6,4.5,21.0000,0.77500,0.5,60.0,0.0625\n");
    free(text);
    CHECK_OK(train_curves_csv(in_dir("c.csv"), &spec, rows, 1, false, &err), &err);
    CHECK_OK(file_read(in_dir("c.csv"), 1 << 16, &text, &bytes, &err), &err);
    CHECK_STR(text, "epoch,step,learning_rate,training_loss,training_mse,gradient_norm,elapsed_s,"
                    "waited_frac\n1,10,0.25,9,0,0.5,60.0,0.0625\n");
    free(text);
}

typedef struct Picture {
    uint8_t *grey;
    int32_t width, height;
} Picture;

/* Mean row of the lines of a panel (of 3) at an epoch, from the panel's lower end, in pixels; lines
** are darker than the grid and lighter than the frame. `darker`: training's, else all others'. */
static double height_at(const Picture *p, int panel, double epoch, bool darker)
{
    const int32_t left = 90, right = p->width - 20, tall = p->height / 3;
    int32_t x = (int32_t)lround(left + (epoch - 1) / (EPOCHS - 1) * (right - left));
    double sum = 0, n = 0;
    for (int32_t y = 34; y < tall - 44; y++) { /* within the axes */
        int v = p->grey[(panel * tall + y) * p->width + x];
        if (darker ? v > 60 && v < 95 : v >= 95 && v < 160) {
            sum += tall - y;
            n++;
        }
    }
    CHECK(n > 0);
    return sum / n;
}

TEST(curves_picture, "loss, PSNR and SSIM of epochs, each in its panel; without held-out cases one")
{
    Picture p;
    Err err = {0};
    CHECK_OK(train_curves_png(in_dir("c.png"), rows_of_a_training(), EPOCHS, true, &err), &err);
    CHECK_OK(png_read_grey(in_dir("c.png"), 4096, &p.grey, &p.width, &p.height, &err), &err);
    /* axes: 2 to 9, 20 to 24, 0.4 to 0.9, each a tenth longer; 222 pixels high */
    const double per_loss = 222 / 7.7, per_psnr = 222 / 4.4, per_ssim = 222 / 0.55;
    for (double e = 1.5; e < EPOCHS; e += 0.75) {
        double later = e + 0.25;
        double loss = height_at(&p, 0, later, true) - height_at(&p, 0, e, true);
        double psnr = height_at(&p, 1, later, false) - height_at(&p, 1, e, false);
        double ssim = height_at(&p, 2, later, false) - height_at(&p, 2, e, false);
        CHECK_NEAR(loss, -0.25 * per_loss, 2.5);
        CHECK_NEAR(psnr, 0.25 * per_psnr, 2.5);
        CHECK_NEAR(ssim, -0.25 * 0.125 * per_ssim, 2.5);
    }
    double peak = height_at(&p, 0, 2, false) - height_at(&p, 0, 4, false);
    CHECK_NEAR(peak, 4 * per_loss, 3);
    free(p.grey);
    int32_t height = p.height;
    CHECK_OK(train_curves_png(in_dir("c.png"), rows_of_a_training(), EPOCHS, false, &err), &err);
    CHECK_OK(png_read_grey(in_dir("c.png"), 4096, &p.grey, &p.width, &p.height, &err), &err);
    CHECK_INT(p.height, height / 3);
    free(p.grey);
}
