/* ct2mr: everything a person types. Finds the command, answers help, runs it; also the main of the
** daemon's child roles, so that only this program carries DCMTK and the network. */
#include "base/files.h"
#include "daemon/cli_int.h"
#include "daemon/roles.h"
#include "dicom/receive.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ZYGOTE_CONTROL_FD = 3 };

typedef struct Entry {
    const char *name;
    int (*run)(int argc, char **argv);
} Entry;

static const Entry entries[] = {
#define COMMAND(name, function, arguments, summary, help) {name, function},
#include "daemon/commands.def"
#undef COMMAND
};

static int help(int argc, char **argv)
{
    if (argc < 2) {
        cli_print_help(stdout);
        return CLI_OK;
    }
    const CliCommand *command = cli_command_find(argv[1]);
    if (command == NULL)
        return cli_usage("help", "unknown command %s", argv[1]);
    cli_print_command_help(stdout, command);
    return CLI_OK;
}

static bool asks_for_help(int argc, char **argv)
{
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            return true;
    return false;
}

static int run_command(int argc, char **argv)
{
    if (strcmp(argv[0], "help") == 0 || strcmp(argv[0], "--help") == 0 ||
        strcmp(argv[0], "-h") == 0)
        return help(argc, argv);
    if (strcmp(argv[0], "--version") == 0 || strcmp(argv[0], "version") == 0) {
        (void)printf("ct2mr %s\n", CT2MR_VERSION);
        return CLI_OK;
    }
    for (size_t i = 0; i < sizeof entries / sizeof *entries; i++) {
        if (strcmp(entries[i].name, argv[0]) != 0)
            continue;
        if (asks_for_help(argc, argv)) {
            cli_print_command_help(stdout, cli_command_find(argv[0]));
            return CLI_OK;
        }
        return entries[i].run(argc, argv);
    }
    (void)fputs("ct2mr: unknown command '", stderr);
    cli_print_text(stderr, argv[0], 40);
    (void)fputs("'; see `ct2mr help`\n", stderr);
    return CLI_USAGE;
}

/* The child roles. -1 if argv names none. */
static int run_role(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--zygote") == 0)
        return receive_zygote(ZYGOTE_CONTROL_FD);
    if (argc == 3 && strcmp(argv[1], "--worker") == 0)
        return role_worker(argv[2]);
    if (argc == 3 && strcmp(argv[1], "--sender") == 0)
        return role_sender(argv[2]);
    return -1;
}

/* Threads of OpenMP wait for each other by spinning unless its environment says otherwise, which is
** read before main(). A training has loading threads beside them, so that one of them is often kept
** waiting: hence once more from the beginning with an environment that says "sleep". */
static void let_openmp_sleep(const char *command, char **argv)
{
    if (strcmp(command, "train") != 0 || getenv("OMP_WAIT_POLICY") != NULL ||
        getenv("GOMP_SPINCOUNT") != NULL || setenv("OMP_WAIT_POLICY", "passive", 1) != 0)
        return;
    (void)execv("/proc/self/exe", argv); /* if it fails, a training is slower, no more */
}

int main(int argc, char **argv)
{
    int code = run_role(argc, argv);
    if (code >= 0)
        return code;
    int first = 1;
    opterr = 0; /* each command says itself what is wrong */
    if (argc > 2 && (strcmp(argv[1], "-c") == 0 || strcmp(argv[1], "--config") == 0)) {
        if (setenv("CT2MR_CONFIG", argv[2], 1) != 0)
            return CLI_NEGATIVE;
        first = 3;
    }
    if (first >= argc) {
        cli_print_help(stderr);
        return CLI_USAGE;
    }
    let_openmp_sleep(argv[first], argv);
    files_remove_at_signals();
    code = run_command(argc - first, argv + first);
    if (fflush(stdout) != 0 || ferror(stdout)) { /* a full disk must not look like an answer */
        (void)fprintf(stderr, "ct2mr: writing the output: %s\n", strerror(errno));
        return code != CLI_OK ? code : CLI_NEGATIVE;
    }
    return code;
}
