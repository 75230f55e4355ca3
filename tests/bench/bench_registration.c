/* Affine registration on cases with known truth, ct2mr beside elastix: the table of
** `make bench-registration`.
**
**   bench_registration [-v] [-s SERIES] [-t TOOL] CASES WORK CT2MR
**
** CASES holds fixA.nii, fixA_head.nii, movA00.nii, truth_A00.txt ... for the series
**   A  CT of the head to another CT of it       TRE: distance between where the found and the true
**   C  simulated T1 of that head to its CT           transform put a point, mean over the head
**   D  T1 of another person (Colin27) to a CT   spread: the same against the tool's own median
** (truth: fixed world -> moving world, RAS mm). A case fails where TRE > 5 mm (D: > 8 mm, of which
** 2 to 4 are two persons' difference) or nothing comes out. The noisy CT is what ct2mr bins: in
** A the moving image is given to it as the fixed one, as a job does. */
#include "base/affine.h"
#include "base/arena.h"
#include "pipeline/nifti.h"

#include <cjson/cJSON.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CASES_MAX = 1000, PATH_CHARS = 4096 };

typedef struct Run {
    bool has_transform, refused;
    Affine moving_from_fixed; /* LPS */
    double cpu_s, memory_mb;
} Run;

typedef struct Case {
    char fixed[PATH_CHARS], moving[PATH_CHARS], out[PATH_CHARS];
    bool swap; /* ct2mr gets the moving image as the fixed one */
} Case;

typedef struct Points {
    Vec3 *p;
    size_t n;
} Points;

static const char *work, *program;
static bool verbose;

static void die(const char *what, const char *which)
{
    (void)fprintf(stderr, "bench_registration: %s %s\n", what, which);
    exit(2);
}

static char *read_text(const char *path)
{
    FILE *f = fopen(path, "r");
    if (f == NULL)
        return NULL;
    enum { SIZE = 1 << 18 };
    char *text = calloc(1, SIZE);
    if (text != NULL)
        (void)fread(text, 1, SIZE - 1, f);
    (void)fclose(f);
    return text;
}

/* Exit code, or -1; fills what the run cost. */
static int run_program(char *const argv[], Run *ret)
{
    struct rusage usage;
    int status;
    pid_t pid = fork();
    if (pid < 0)
        die("no process for", argv[0]);
    if (pid == 0) {
        if (freopen("/dev/null", "w", stdout) == NULL || freopen("/dev/null", "w", stderr) == NULL)
            _exit(127);
        (void)execvp(argv[0], argv);
        _exit(127);
    }
    if (wait4(pid, &status, 0, &usage) != pid)
        return -1;
    ret->cpu_s = (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
                 1e-6 * (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
    ret->memory_mb = (double)usage.ru_maxrss / 1024;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static bool affine_of_json(const cJSON *rows, Affine *ret)
{
    for (int r = 0; r < 3; r++)
        for (int c = 0; c < 4; c++) {
            const cJSON *v = cJSON_GetArrayItem(cJSON_GetArrayItem(rows, r), c);
            if (!cJSON_IsNumber(v))
                return false;
            ret->m[r][c] = v->valuedouble;
        }
    return true;
}

static Run run_ct2mr(const Case *c)
{
    Run run = {0};
    char out[PATH_CHARS + 16];
    (void)snprintf(out, sizeof out, "%s.json", c->out);
    char *const argv[] = {(char *)program,
                          "register",
                          "--fixed",
                          (char *)(c->swap ? c->moving : c->fixed),
                          "--moving",
                          (char *)(c->swap ? c->fixed : c->moving),
                          "--out",
                          out,
                          NULL};
    (void)unlink(out);
    run.refused = run_program(argv, &run) != 0;
    char *text = read_text(out);
    cJSON *json = text != NULL ? cJSON_Parse(text) : NULL;
    const char *key = c->swap ? "fixed_from_moving" : "moving_from_fixed";
    run.has_transform = affine_of_json(cJSON_GetObjectItem(json, key), &run.moving_from_fixed);
    if (verbose && text != NULL) {
        const cJSON *q = cJSON_GetObjectItem(json, "quality");
        char *quality = q != NULL ? cJSON_PrintUnformatted(q) : NULL;
        (void)printf("    cost %.4f %s %s\n",
                     cJSON_GetNumberValue(cJSON_GetObjectItem(json, "cost")),
                     quality != NULL ? quality : "",
                     cJSON_GetStringValue(cJSON_GetObjectItem(json, "message")));
        free(quality);
    }
    cJSON_Delete(json);
    free(text);
    return run;
}

/* The numbers behind (KEY ...) of an elastix transform file. */
static bool elastix_numbers(const char *text, const char *key, int n, double *ret)
{
    char name[64];
    (void)snprintf(name, sizeof name, "(%s ", key);
    const char *at = text != NULL ? strstr(text, name) : NULL;
    if (at == NULL)
        return false;
    at += strlen(name);
    for (int i = 0; i < n; i++) {
        char *end;
        ret[i] = strtod(at, &end);
        if (end == at)
            return false;
        at = end;
    }
    return true;
}

/* x -> L (x - centre) + centre + t. For Euler angles L = Rz Rx Ry (ITK's default order). */
static bool elastix_transform(const char *path, bool is_euler, Affine *ret)
{
    double p[12], centre[3], l[3][3];
    char *text = read_text(path);
    bool good = elastix_numbers(text, "TransformParameters", is_euler ? 6 : 12, p) &&
                elastix_numbers(text, "CenterOfRotationPoint", 3, centre);
    free(text);
    if (!good)
        return false;
    const double *t = p + (is_euler ? 3 : 9);
    if (is_euler) {
        double cx = cos(p[0]), sx = sin(p[0]), cy = cos(p[1]), sy = sin(p[1]);
        double cz = cos(p[2]), sz = sin(p[2]);
        Affine x = {{{1, 0, 0, 0}, {0, cx, -sx, 0}, {0, sx, cx, 0}}};
        Affine y = {{{cy, 0, sy, 0}, {0, 1, 0, 0}, {-sy, 0, cy, 0}}};
        Affine z = {{{cz, -sz, 0, 0}, {sz, cz, 0, 0}, {0, 0, 1, 0}}};
        Affine all = affine_mul(z, affine_mul(x, y));
        for (int r = 0; r < 3; r++)
            for (int c = 0; c < 3; c++)
                l[r][c] = all.m[r][c];
    } else {
        for (int r = 0; r < 3; r++)
            for (int c = 0; c < 3; c++)
                l[r][c] = p[3 * r + c];
    }
    for (int r = 0; r < 3; r++) {
        ret->m[r][3] = centre[r] + t[r];
        for (int c = 0; c < 3; c++) {
            ret->m[r][c] = l[r][c];
            ret->m[r][3] -= l[r][c] * centre[c];
        }
    }
    return true;
}

static Run run_elastix(const Case *c)
{
    Run run = {0};
    Affine rigid, affine;
    char path[PATH_CHARS + 64];
    (void)mkdir(c->out, 0700);
    for (int i = 0; i < 2; i++) {
        (void)snprintf(path, sizeof path, "%s/TransformParameters.%d.txt", c->out, i);
        (void)unlink(path);
    }
    char *const argv[] = {"elastix",
                          "-f",
                          (char *)c->fixed,
                          "-m",
                          (char *)c->moving,
                          "-out",
                          (char *)c->out,
                          "-p",
                          "tests/bench/elastix_rigid.txt",
                          "-p",
                          "tests/bench/elastix_affine.txt",
                          NULL};
    if (run_program(argv, &run) != 0)
        return run;
    (void)snprintf(path, sizeof path, "%s/TransformParameters.0.txt", c->out);
    run.has_transform = elastix_transform(path, true, &rigid);
    (void)snprintf(path, sizeof path, "%s/TransformParameters.1.txt", c->out);
    run.has_transform = run.has_transform && elastix_transform(path, false, &affine);
    if (run.has_transform)
        run.moving_from_fixed = affine_mul(affine, rigid); /* "Compose": the rigid one first */
    return run;
}

/* Every second voxel along each axis of a mask, in LPS mm. */
static Points head_points(const char *path)
{
    Arena arena;
    Err err = {0};
    VolumeI16 head;
    if (arena_open((size_t)1 << 30, &arena, &err) != ST_OK ||
        nifti_read(path, &arena, &head, &err) != ST_OK)
        die("reading", path);
    Points points = {malloc(grid_voxels(&head.grid) / 4 * sizeof(Vec3)), 0};
    if (points.p == NULL)
        die("no memory for", path);
    const Grid *g = &head.grid;
    for (int z = 0; z < g->nz; z += 2)
        for (int y = 0; y < g->ny; y += 2)
            for (int x = 0; x < g->nx; x += 2)
                if (head.v[((size_t)z * (size_t)g->ny + (size_t)y) * (size_t)g->nx + (size_t)x] > 0)
                    points.p[points.n++] = affine_apply(g->lps_from_vox, (Vec3){x, y, z});
    arena_close(&arena);
    if (points.n == 0)
        die("no head in", path);
    return points;
}

static Affine read_truth(const char *path)
{
    Affine ras;
    char *text = read_text(path), *at = text;
    if (text == NULL)
        die("reading", path);
    for (int i = 0; i < 12; i++)
        ras.m[i / 4][i % 4] = strtod(at, &at);
    free(text);
    const double sign[4] = {-1, -1, 1, 1};
    for (int r = 0; r < 3; r++)
        for (int c = 0; c < 4; c++)
            ras.m[r][c] *= sign[r] * sign[c];
    return ras;
}

static double mean_distance_mm(const Points *points, Affine a, Affine b)
{
    double sum = 0;
    for (size_t i = 0; i < points->n; i++)
        sum += vec3_norm(vec3_sub(affine_apply(a, points->p[i]), affine_apply(b, points->p[i])));
    return sum / (double)points->n;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double quantile(const double *v, int n, double q)
{
    double sorted[CASES_MAX];
    if (n == 0)
        return (double)NAN;
    memcpy(sorted, v, (size_t)n * sizeof *v);
    qsort(sorted, (size_t)n, sizeof *sorted, compare);
    double at = q * (n - 1);
    int i = (int)at;
    return i + 1 < n ? sorted[i] + (at - i) * (sorted[i + 1] - sorted[i]) : sorted[n - 1];
}

/* Mean over the cases of the distance between a case's map and the median map (D: fixed -> the
** head's own space). */
static double spread_mm(const Points *points, const Affine *map, int n)
{
    Affine median;
    double v[CASES_MAX], sum = 0;
    for (int r = 0; r < 3; r++)
        for (int c = 0; c < 4; c++) {
            for (int i = 0; i < n; i++)
                v[i] = map[i].m[r][c];
            median.m[r][c] = quantile(v, n, 0.5);
        }
    for (int i = 0; i < n; i++) {
        double d = mean_distance_mm(points, map[i], median);
        if (verbose)
            (void)printf("deviation %d: %.3f mm\n", i, d);
        sum += d;
    }
    return n > 0 ? sum / n : (double)NAN;
}

static void run_series(char series, const char *cases, const char *tool)
{
    static double tre[CASES_MAX], cpu[CASES_MAX];
    static Affine map[CASES_MAX];
    char path[PATH_CHARS];
    char base = series == 'D' ? 'B' : 'A';
    (void)snprintf(path, sizeof path, "%s/fix%c_head.nii", cases, base);
    Points points = head_points(path);
    int n = 0, good = 0, refused = 0;
    double memory = 0;
    for (; n < CASES_MAX; n++) {
        Case c = {.swap = series == 'A'};
        (void)snprintf(c.fixed, sizeof c.fixed, "%s/fix%c.nii", cases, base);
        (void)snprintf(c.moving, sizeof c.moving, "%s/mov%c%02d.nii", cases, series, n);
        (void)snprintf(c.out, sizeof c.out, "%s/%s_%c%02d", work, tool, series, n);
        (void)snprintf(path, sizeof path, "%s/truth_%c%02d.txt", cases, series, n);
        if (access(c.moving, R_OK) != 0)
            break;
        Affine truth = read_truth(path), back;
        Run run = strcmp(tool, "ct2mr") == 0 ? run_ct2mr(&c) : run_elastix(&c);
        tre[n] = run.has_transform ? mean_distance_mm(&points, run.moving_from_fixed, truth) : 999;
        cpu[n] = run.cpu_s;
        memory = fmax(memory, run.memory_mb);
        refused += run.refused;
        if (tre[n] <= (series == 'D' ? 8 : 5) && affine_inverse(truth, &back))
            map[good++] = affine_mul(back, run.moving_from_fixed);

        if (verbose)
            (void)printf("%c%02d %s TRE %.3f mm, %.2f CPU s%s\n", series, n, tool, tre[n],
                         run.cpu_s, run.refused ? ", refused" : "");
        (void)fflush(stdout);
    }
    (void)printf(
        "| %c | %-7s | %3d | %6.3f | %6.3f | %6.3f | %6.3f | %3d | %3d | %5.2f | %4.0f |\n", series,
        tool, n, quantile(tre, n, 0.5), quantile(tre, n, 0.95), quantile(tre, n, 1),
        spread_mm(&points, map, good), n - good, refused, quantile(cpu, n, 0.5), memory);
    (void)fflush(stdout);
    free(points.p);
}

int main(int argc, char **argv)
{
    const char *series = "ACD", *only = NULL;
    for (int c; (c = getopt(argc, argv, "vs:t:")) != -1;) {
        if (c == 'v')
            verbose = true;
        else if (c == 's')
            series = optarg;
        else if (c == 't')
            only = optarg;
        else
            return 2;
    }
    if (argc - optind != 3)
        die("usage:", "bench_registration [-v] [-s SERIES] [-t TOOL] CASES WORK CT2MR");
    work = argv[optind + 1];
    program = argv[optind + 2];
    (void)printf("| series | tool | n | TRE median mm | p95 | max | spread | failures | refused | "
                 "CPU s | MB |\n|---|---|---|---|---|---|---|---|---|---|---|\n");
    (void)fflush(stdout);
    for (const char *s = series; *s != '\0'; s++) {
        static const char *const tools[] = {"ct2mr", "elastix"};
        for (int t = 0; t < 2; t++)
            if (only == NULL || strcmp(only, tools[t]) == 0)
                run_series(*s, argv[optind], tools[t]);
    }
    return 0;
}
