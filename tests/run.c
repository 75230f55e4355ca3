/* The test runner: one process per test, own deadline, TAP, honest exit status.
**
**   run [-l] [-f TEXT[,TEXT...]] [SCRIPT.sh ...]
**
** -l lists, -f runs only tests whose name or file contains a TEXT. Each SCRIPT is an end-to-end
** test: it is run by bash with a scratch folder as $TEST_DIR; exit 0 passes, 77 skips (its last
** line says why), anything else fails. Its deadline in seconds is the number in its line
** `# timeout: N`. Exit status 1 if a test failed or none ran. */
#include "tests/test.h"

#include "base/clock.h"
#include "base/files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { EXIT_SKIP = 77 };

static Test *first;
static char scratch[PATH_SIZE];

typedef struct Tally {
    int number, passed, failed, skipped;
} Tally;

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

static int wait_with_deadline(pid_t pid, int timeout_s)
{
    int64_t end = clock_monotonic_ms() + (int64_t)timeout_s * 1000;
    int status;
    for (;;) {
        pid_t done = waitpid(pid, &status, WNOHANG);
        if (done == pid)
            break;
        if (clock_monotonic_ms() > end) {
            (void)printf("# deadline of %d s passed\n", timeout_s);
            (void)kill(-pid, SIGKILL);
            (void)waitpid(pid, &status, 0);
            return 1;
        }
        (void)usleep(2000);
    }
    (void)kill(-pid, SIGKILL); /* whatever the test left running */
    if (WIFSIGNALED(status)) {
        (void)printf("# killed by signal %d\n", WTERMSIG(status));
        return 1;
    }
    return WEXITSTATUS(status);
}

static void report(Tally *tally, const char *name, int result, double seconds)
{
    tally->number++;
    if (result == 0)
        tally->passed++;
    else if (result == EXIT_SKIP)
        tally->skipped++;
    else
        tally->failed++;
    (void)printf("%s %d - %s (%.2f s)%s\n", result == 0 || result == EXIT_SKIP ? "ok" : "not ok",
                 tally->number, name, seconds, result == EXIT_SKIP ? " # SKIP" : "");
    (void)fflush(stdout);
}

static void run_one(Tally *tally, const Test *test, const char *script, int timeout_s)
{
    const char *tmp = getenv("TMPDIR");
    (void)snprintf(scratch, sizeof scratch, "%s/ct2mr-test-XXXXXX", tmp ? tmp : "/tmp");
    if (mkdtemp(scratch) == NULL) {
        perror("mkdtemp");
        exit(1);
    }
    double start = clock_monotonic_s();
    (void)fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        char cache[sizeof scratch + 8];
        (void)setpgid(0, 0);
        (void)snprintf(cache, sizeof cache, "%s/cache", scratch);
        (void)setenv("CT2MR_CACHE_DIR", cache, 1); /* not the user's own */
        if (test != NULL) {
            test->run();
            (void)fflush(stdout);
            exit(0); /* exit, not _exit: the leak checker runs */
        }
        (void)setenv("TEST_DIR", scratch, 1);
        int null = open("/dev/null", O_RDONLY);
        (void)dup2(null, 0);
        (void)dup2(1, 2);
        (void)execlp("bash", "bash", script, (char *)NULL);
        _exit(127);
    }
    (void)setpgid(pid, pid);
    int result = wait_with_deadline(pid, timeout_s);
    (void)dir_remove(scratch, NULL);
    char name[PATH_SIZE];
    (void)snprintf(name, sizeof name, "%s", script ? script : test->name);
    report(tally, name, result, clock_monotonic_s() - start);
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

/* filter: TEXT,TEXT; "" is in every name. */
static bool is_chosen(const char *filter, const char *name)
{
    char words[1024], *rest = words, *word;
    (void)snprintf(words, sizeof words, "%s", filter);
    while ((word = strsep(&rest, ",")) != NULL)
        if (strstr(name, word) != NULL)
            return true;
    return false;
}

int main(int argc, char **argv)
{
    const char *filter = "";
    int option;
    bool list = false;
    while ((option = getopt(argc, argv, "lf:")) != -1) {
        if (option == 'l')
            list = true;
        else if (option == 'f')
            filter = optarg;
        else
            return 2;
    }
    Tally tally = {0};
    for (const Test *test = first; test != NULL; test = test->next) {
        if (!is_chosen(filter, test->name) && !is_chosen(filter, test->file))
            continue;
        if (list)
            (void)printf("%s: %s (%s)\n", test->name, test->claim, test->file);
        else
            run_one(&tally, test, NULL, test->timeout_s);
    }
    for (int i = optind; i < argc; i++)
        if (is_chosen(filter, argv[i]) && !list)
            run_one(&tally, NULL, argv[i], script_timeout(argv[i]));
    if (list)
        return 0;
    (void)printf("1..%d\n%d passed, %d failed, %d skipped\n", tally.number, tally.passed,
                 tally.failed, tally.skipped);
    return tally.failed > 0 || tally.passed == 0 ? 1 : 0;
}
