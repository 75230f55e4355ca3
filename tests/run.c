/* The test runner: one process per test, own deadline, TAP, honest exit status.
**
**   run [-l] [-j N] [-f TEXT[,TEXT...]] [SCRIPT.sh ...]
**
** -l lists; -f runs only tests whose name or file contains a TEXT, and none with a TEXT after "-".
** -j runs so many beside each other (1): each one's output comes in one piece when it ends, it may
** take three times as long, and the scripts come first, as they are the long ones and mostly wait.
** Each SCRIPT is an end-to-end test: it is run by bash with a scratch folder as $TEST_DIR; exit 0
** passes, 77 skips (its last line says why), anything else fails. Its deadline in seconds is the
** number in its line `# timeout: N`. Exit status 1 if a test failed or none ran. */
#include "tests/test.h"

#include "base/clock.h"
#include "base/files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { EXIT_SKIP = 77, BESIDE_MAX = 16, BESIDE_PATIENCE = 3 };

static Test *first;
static char scratch[PATH_SIZE];

typedef struct Tally {
    int number, passed, failed, skipped;
} Tally;

/* A process: of a test, or of a script. */
typedef struct Running {
    pid_t pid; /* 0: none */
    const Test *test;
    const char *script;
    double start_s;
    int timeout_s;
    FILE *output; /* a nameless file; NULL: the runner's own */
    char scratch[PATH_SIZE];
} Running;

typedef struct Runner {
    Running beside[BESIDE_MAX];
    int n_beside;
    Tally tally;
} Runner;

void test_register(Test *test)
{
    Test **at = &first; /* sorted by file, then in order of definition reversed by constructors */
    while (*at != NULL && strcmp((*at)->file, test->file) <= 0)
        at = &(*at)->next;
    test->next = *at;
    *at = test;
}

const char *test_dir(void)
{
    return scratch;
}

const char *test_shared(const char *name)
{
    static char path[PATH_SIZE];
    const char *root = getenv("CT2MR_SHARED");
    if (path_format(path, NULL, "%s/%s", root ? root : "../shared", name) != ST_OK ||
        access(path, R_OK) != 0)
        test_skip("shared measurement data not here");
    return path;
}

void test_fail(const char *file, int line, const char *format, ...)
{
    (void)printf("# %s:%d: ", file, line);
    va_list args;
    va_start(args, format);
    (void)vprintf(format, args);
    va_end(args);
    (void)printf("\n");
    (void)fflush(stdout);
    _exit(1);
}

void test_skip(const char *why)
{
    (void)printf("# skipped: %s\n", why);
    (void)fflush(stdout);
    _exit(EXIT_SKIP);
}

/* Processor time: of the test and of the children that it waited for. */
static void report(Tally *tally, const char *name, int result, double seconds, double processor_s)
{
    tally->number++;
    if (result == 0)
        tally->passed++;
    else if (result == EXIT_SKIP)
        tally->skipped++;
    else
        tally->failed++;
    (void)printf("%s %d - %s (%.2f s, processor %.2f s)%s\n",
                 result == 0 || result == EXIT_SKIP ? "ok" : "not ok", tally->number, name, seconds,
                 processor_s, result == EXIT_SKIP ? " # SKIP" : "");
    (void)fflush(stdout);
}

__attribute__((noreturn)) static void become_test(const Running *r)
{
    char cache[PATH_SIZE + 8];
    (void)setpgid(0, 0);
    if (r->output != NULL) {
        (void)dup2(fileno(r->output), 1);
        (void)dup2(fileno(r->output), 2);
        (void)close(fileno(r->output));
    }
    (void)snprintf(scratch, sizeof scratch, "%s", r->scratch);
    (void)snprintf(cache, sizeof cache, "%s/cache", scratch);
    (void)setenv("CT2MR_CACHE_DIR", cache, 1); /* not the user's own */
    if (r->test != NULL) {
        r->test->run();
        (void)fflush(stdout);
        exit(0); /* exit, not _exit: the leak checker runs */
    }
    (void)setenv("TEST_DIR", scratch, 1);
    int null = open("/dev/null", O_RDONLY);
    (void)dup2(null, 0);
    (void)dup2(1, 2);
    (void)execlp("bash", "bash", r->script, (char *)NULL);
    _exit(127);
}

static void start(Running *r, const Test *test, const char *script, int timeout_s, bool is_alone)
{
    const char *tmp = getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp";
    *r = (Running){.test = test, .script = script, .timeout_s = timeout_s};
    if (!is_alone)
        r->timeout_s *= BESIDE_PATIENCE;
    (void)snprintf(r->scratch, sizeof r->scratch, "%s/ct2mr-test-XXXXXX", tmp);
    if (mkdtemp(r->scratch) == NULL) {
        perror("mkdtemp");
        exit(1);
    }
    if (!is_alone && (r->output = tmpfile()) == NULL) {
        perror("the output of a test");
        exit(1);
    }
    if (!is_alone)
        (void)fcntl(fileno(r->output), F_SETFD, FD_CLOEXEC); /* not for the other tests */
    r->start_s = clock_monotonic_s();
    (void)fflush(stdout);
    r->pid = fork();
    if (r->pid == 0)
        become_test(r);
    (void)setpgid(r->pid, r->pid);
}

static void copy_output(FILE *output)
{
    char text[4096];
    size_t n;
    rewind(output);
    while ((n = fread(text, 1, sizeof text, output)) > 0)
        (void)fwrite(text, 1, n, stdout);
    (void)fclose(output);
}

static double seconds_of(struct timeval t)
{
    return (double)t.tv_sec + 1e-6 * (double)t.tv_usec;
}

/* If it has ended, by itself or at its deadline: reports it, and r is free. */
static void poll_one(Running *r, Tally *tally)
{
    int status = 0;
    bool is_late = clock_monotonic_s() - r->start_s > r->timeout_s;
    struct rusage used;
    if (wait4(r->pid, &status, WNOHANG, &used) != r->pid) {
        if (!is_late)
            return;
        (void)kill(-r->pid, SIGKILL);
        (void)wait4(r->pid, &status, 0, &used);
    } else {
        is_late = false;
    }
    (void)kill(-r->pid, SIGKILL); /* whatever the test left running */
    double seconds = clock_monotonic_s() - r->start_s;
    if (r->output != NULL)
        copy_output(r->output);
    if (is_late)
        (void)printf("# deadline of %d s passed\n", r->timeout_s);
    else if (WIFSIGNALED(status))
        (void)printf("# killed by signal %d\n", WTERMSIG(status));
    (void)dir_remove(r->scratch, NULL);
    report(tally, r->test ? r->test->name : r->script,
           is_late || WIFSIGNALED(status) ? 1 : WEXITSTATUS(status), seconds,
           seconds_of(used.ru_utime) + seconds_of(used.ru_stime));
    r->pid = 0;
}

/* Until at most `most` run. */
static void wait_until(Runner *runner, int most)
{
    for (;;) {
        int running = 0;
        for (int i = 0; i < runner->n_beside; i++) {
            if (runner->beside[i].pid != 0)
                poll_one(&runner->beside[i], &runner->tally);
            running += runner->beside[i].pid != 0;
        }
        if (running <= most)
            return;
        (void)usleep(2000);
    }
}

static void run_one(Runner *runner, const Test *test, const char *script, int timeout_s)
{
    wait_until(runner, runner->n_beside - 1);
    Running *r = runner->beside;
    while (r->pid != 0)
        r++;
    start(r, test, script, timeout_s, runner->n_beside == 1);
}

static int script_timeout(const char *path)
{
    FILE *f = fopen(path, "r");
    int seconds = 60;
    char line[256];
    while (f != NULL && fgets(line, sizeof line, f) != NULL)
        if (sscanf(line, "# timeout: %d", &seconds) == 1)
            break;
    if (f != NULL)
        (void)fclose(f);
    return seconds;
}

/* filter: TEXT,TEXT,-TEXT; none without '-' is all. file: "" of a script. */
static bool is_chosen(const char *filter, const char *name, const char *file)
{
    char words[1024], *rest = words, *word;
    bool wants_some = false, is_wanted = false;
    (void)snprintf(words, sizeof words, "%s", filter);
    while ((word = strsep(&rest, ",")) != NULL) {
        bool is_against = word[0] == '-';
        const char *text = word + is_against;
        bool is_met = text[0] != '\0' && (strstr(name, text) != NULL || strstr(file, text) != NULL);
        if (is_against && is_met)
            return false;
        wants_some |= !is_against && text[0] != '\0';
        is_wanted |= !is_against && is_met;
    }
    return is_wanted || !wants_some;
}

static int beside_of(const char *text)
{
    int n = atoi(text);
    return n < 1 ? 1 : n > BESIDE_MAX ? BESIDE_MAX : n;
}

static void run_scripts(Runner *runner, const char *filter, char **scripts)
{
    for (; *scripts != NULL; scripts++)
        if (is_chosen(filter, *scripts, ""))
            run_one(runner, NULL, *scripts, script_timeout(*scripts));
}

static void run_tests(Runner *runner, const char *filter, bool list)
{
    for (const Test *test = first; test != NULL; test = test->next) {
        if (!is_chosen(filter, test->name, test->file))
            continue;
        if (list)
            (void)printf("%s: %s (%s)\n", test->name, test->claim, test->file);
        else
            run_one(runner, test, NULL, test->timeout_s);
    }
}

int main(int argc, char **argv)
{
    static Runner runner = {.n_beside = 1};
    const char *filter = "";
    int option;
    bool list = false;
    while ((option = getopt(argc, argv, "lj:f:")) != -1) {
        if (option == 'l')
            list = true;
        else if (option == 'j')
            runner.n_beside = beside_of(optarg);
        else if (option == 'f')
            filter = optarg;
        else
            return 2;
    }
    bool scripts_first = runner.n_beside > 1;
    if (scripts_first && !list)
        run_scripts(&runner, filter, argv + optind);
    run_tests(&runner, filter, list);
    if (list)
        return 0;
    if (!scripts_first)
        run_scripts(&runner, filter, argv + optind);
    wait_until(&runner, 0);
    const Tally *tally = &runner.tally;
    (void)printf("1..%d\n%d passed, %d failed, %d skipped\n", tally->number, tally->passed,
                 tally->failed, tally->skipped);
    return tally->failed > 0 || tally->passed == 0 ? 1 : 0;
}
