/* Helpers of the command line: help, options, failures, times. See cli.h and cli_int.h. */
#include "daemon/cli_int.h"

#include "base/clock.h"
#include "base/files.h"
#include "daemon/config_options.h"
#include "gpu/net.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <locale.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

static const CliCommand commands[] = {
#define COMMAND(name, function, arguments, summary, help) {name, arguments, summary, help},
#include "daemon/commands.def"
#undef COMMAND
};
enum { N_COMMANDS = sizeof commands / sizeof *commands };

const CliCommand *cli_command_at(int index)
{
    return index >= 0 && index < N_COMMANDS ? &commands[index] : NULL;
}

const CliCommand *cli_command_find(const char *name)
{
    for (int i = 0; i < N_COMMANDS; i++)
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    return NULL;
}

void cli_print_command_help(FILE *out, const CliCommand *command)
{
    (void)fprintf(out, "usage: ct2mr %s %s\n\n%s.\n%s", command->name, command->arguments,
                  command->summary, command->help);
}

void cli_print_help(FILE *out)
{
    (void)fputs("usage: ct2mr [-c FILE] COMMAND ...\n\n", out);
    for (int i = 0; i < N_COMMANDS; i++)
        (void)fprintf(out, "  %-10s %s\n", commands[i].name, commands[i].summary);
    (void)fputs("  help       this list; `ct2mr help COMMAND` for one command\n\n"
                "The configuration is -c FILE, else $CT2MR_CONFIG, else /etc/ct2mr/ct2mr.yaml.\n"
                "Exit codes: 0 ok, 1 not found or negative verdict, 2 usage, 3 daemon not\n"
                "reachable, 4 refused by state, 5 partial.\n",
                out);
}

static int exit_code(Status status)
{
    switch (status) {
    case ST_OK:
        return CLI_OK;
    case ST_USAGE:
        return CLI_USAGE;
    case ST_UNREACHABLE:
        return CLI_UNREACHABLE;
    case ST_STATE:
    case ST_TRAIN_RUNS:
        return CLI_REFUSED;
    default:
        return CLI_NEGATIVE;
    }
}

int cli_fail(const Err *err, bool json)
{
    if (json) {
        cJSON *object = cJSON_CreateObject();
        (void)cJSON_AddFalseToObject(object, "ok");
        (void)cJSON_AddStringToObject(object, "code", status_name(err->status));
        (void)cJSON_AddNumberToObject(object, "number", (int)err->status);
        (void)cJSON_AddStringToObject(object, "message", err->msg);
        (void)cJSON_AddStringToObject(object, "remedy", status_remedy(err->status));
        cli_print_json(object);
    } else {
        (void)fprintf(stderr, "ct2mr: %s: ", status_name(err->status));
        cli_print_text(stderr, err->msg, 0);
        (void)fprintf(stderr, "\nct2mr: what to do: %s\n", status_remedy(err->status));
    }
    return exit_code(err->status);
}

int cli_fail_control(const Err *err, bool json)
{
    int code = cli_fail(err, json);
    return err->status == ST_TIMEOUT ? CLI_UNREACHABLE : code;
}

int cli_usage(const char *command, const char *format, ...)
{
    char text[256];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    (void)fprintf(stderr, "ct2mr %s: ", command);
    cli_print_text(stderr, text, 0);
    const CliCommand *found = cli_command_find(command);
    if (found != NULL)
        (void)fprintf(stderr, "\nusage: ct2mr %s %s\n", found->name, found->arguments);
    else
        (void)fprintf(stderr, "\nsee `ct2mr help`\n");
    return CLI_USAGE;
}

/* Bytes of the UTF-8 character at p (RFC 3629: no overlong forms, no surrogates), 0 if there is
** none. */
static size_t utf8_length(const unsigned char *p)
{
    if (p[0] < 0x80)
        return 1;
    size_t n = p[0] >= 0xc2 && p[0] < 0xe0 ? 2 : (p[0] & 0xf0) == 0xe0 ? 3 : 4;
    if (p[0] < 0xc2 || p[0] > 0xf4 || (p[0] == 0xe0 && p[1] < 0xa0) ||
        (p[0] == 0xed && p[1] > 0x9f) || (p[0] == 0xf0 && p[1] < 0x90) ||
        (p[0] == 0xf4 && p[1] > 0x8f))
        return 0;
    for (size_t i = 1; i < n; i++) /* stops at the closing 0 */
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    return n;
}

void cli_print_json(cJSON *json)
{
    char *text = cJSON_PrintUnformatted(json);
    cJSON_Delete(json);
    ASSERT(text != NULL); /* out of memory: nothing sensible left to print */
    for (unsigned char *p = (unsigned char *)text; *p != '\0';) {
        size_t n = utf8_length(p);
        if (n == 0)
            *p = '?';
        p += n > 0 ? n : 1;
    }
    (void)puts(text);
    cJSON_free(text);
}

const char *cli_default_config = "/etc/ct2mr/ct2mr.yaml";

/* *ret_named: a person named the file. */
static const char *config_path(const char *path_or_null, bool *ret_named)
{
    const char *path = path_or_null ? path_or_null : getenv("CT2MR_CONFIG");
    *ret_named = path != NULL && path[0] != '\0';
    return *ret_named ? path : cli_default_config;
}

static void warn(const Err *err, const char *so)
{
    (void)fprintf(stderr, "ct2mr: warning: %s: ", status_name(err->status));
    cli_print_text(stderr, err->msg, 0);
    (void)fputs("; ", stderr);
    cli_print_text(stderr, so, 0);
    (void)fputc('\n', stderr);
}

Status cli_load_config(const char *path_or_null, Config *ret, Err *err)
{
    bool named;
    return config_load(config_path(path_or_null, &named), ret, err);
}

Status cli_load_config_offline(const char *path_or_null, Config *ret, Err *err)
{
    bool named;
    Err own = {0};
    Status status = config_load(config_path(path_or_null, &named), ret, &own);
    if (status == ST_CONFIG_FILE && !named) {
        if (own.native != ENOENT)
            warn(&own, "going on with the defaults");
        config_defaults(ret);
        return ST_OK;
    }
    if (err != NULL)
        *err = own;
    return status;
}

void cli_load_config_partly(const char *path_or_null, Config *ret)
{
    bool named;
    Err err = {0};
    if (config_load_partly(config_path(path_or_null, &named), ret, &err) == ST_OK)
        return;
    char so[PATH_SIZE];
    (void)snprintf(so, sizeof so, "going on with control.socket %s, db.path %s",
                   ret->control_socket, ret->db_path);
    warn(&err, so);
}

Status cli_open(const char *path_or_null, Config *ret_config, Db **ret, Err *err)
{
    cli_load_config_partly(path_or_null, ret_config);
    return db_open(ret_config->db_path, DB_READ, ret, err);
}

bool cli_parse_int(const char *text, int64_t min, int64_t max, int64_t *ret)
{
    int64_t value;
    if (!config_parse_int64(text, &value, NULL) || value < min || value > max)
        return false;
    *ret = value;
    return true;
}

bool cli_parse_double(const char *text, double *ret)
{
    static locale_t c_locale; /* kept for the life of the process */
    size_t n = strlen(text);
    if (n == 0 || strspn(text, "0123456789+-.eE") != n) /* no blanks, hex, inf, nan */
        return false;
    if (c_locale == (locale_t)0)
        c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (c_locale == (locale_t)0)
        return false;
    char *end;
    double value = strtod_l(text, &end, c_locale);
    if (*end != '\0' || !__builtin_isfinite(value))
        return false;
    *ret = value;
    return true;
}

bool cli_knows_backend(const char *name)
{
    bool known = strcmp(name, "auto") == 0 || strcmp(name, "cuda") == 0; /* a plugin: said later */
    for (int i = 0; net_backend_name(i) != NULL; i++)
        known = known || strcmp(name, net_backend_name(i)) == 0;
    return known;
}

bool cli_knows_precision(const char *name)
{
    Precision precision;
    return strcmp(name, "auto") == 0 || precision_from_name(name, &precision);
}

bool cli_same_file(const char *a, const char *b)
{
    struct stat of_a, of_b;
    return a != NULL && b != NULL && stat(a, &of_a) == 0 && stat(b, &of_b) == 0 &&
           of_a.st_dev == of_b.st_dev && of_a.st_ino == of_b.st_ino;
}

static void mapped_file_was_cut(int signal_number)
{
    static const char TEXT[] = "ct2mr: IO: the packed file became shorter while it was read\n"
                               "ct2mr: what to do: copy it again; train --resume goes on\n";
    ssize_t written = write(STDERR_FILENO, TEXT, sizeof TEXT - 1);
    (void)signal_number, (void)written;
    _exit(CLI_NEGATIVE);
}

void cli_watch_mapped(void)
{
    const struct sigaction action = {.sa_handler = mapped_file_was_cut};
    (void)sigaction(SIGBUS, &action, NULL);
}

bool cli_exists(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0;
}

bool cli_may_replace(const char *path, const char *begin)
{
    char found[128];
    const size_t n = strlen(begin);
    struct stat st;
    if (!cli_exists(path))
        return true;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO does not wait */
    ASSERT(n <= sizeof found);
    bool ours = fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) &&
                read(fd, found, n) == (ssize_t)n && memcmp(found, begin, n) == 0;
    if (fd >= 0)
        (void)close(fd);
    return ours;
}

bool cli_folder_writable(const char *path)
{
    char folder[PATH_SIZE];
    const size_t n = strlen(path);
    return n > 0 && path[n - 1] != '/' && path_format(folder, NULL, "%s", path) == ST_OK &&
           access(dirname(folder), W_OK) == 0;
}

int cli_get_options(const char *command, int argc, char **argv, const char *extra, CliOptions *ret)
{
    static const struct option longs[] = {
        {"config", required_argument, NULL, 'c'},  {"json", no_argument, NULL, 'j'},
        {"state", required_argument, NULL, 's'},   {"number", required_argument, NULL, 'n'},
        {"timeout", required_argument, NULL, 't'}, {NULL, 0, NULL, 0}};
    memset(ret, 0, sizeof *ret);
    optind = 1;
    opterr = 0;
    int option;
    while ((option = getopt_long(argc, argv, ":c:js:n:t:", longs, NULL)) != -1) {
        const char *word = argv[optind - 1];
        if (option == ':')
            return cli_usage(command, "%s needs a value", word);
        if (option == '?' || (strchr("snt", option) != NULL && strchr(extra, option) == NULL))
            return cli_usage(command, "unknown option %s", word);
        if (option == 'c')
            ret->config = optarg;
        else if (option == 'j')
            ret->json = true;
        else if (option == 's')
            ret->state = optarg;
        else if (option == 'n')
            ret->number = optarg;
        else
            ret->timeout = optarg;
    }
    return CLI_OK;
}

/* What a terminal obeys instead of showing it: C0, DEL, C1; line ends; what turns the direction. */
static bool is_control(uint32_t c)
{
    return c < 0x20 || (c >= 0x7f && c <= 0x9f) || c == 0x61c || c == 0x200e || c == 0x200f ||
           (c >= 0x2028 && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069);
}

/* Bytes of the UTF-8 character at p; *ret_shown: it is one, and none of those. */
static int character_at(const unsigned char *p, bool *ret_shown)
{
    int n = *p < 0x80 ? 1 : *p >= 0xf0 ? 4 : *p >= 0xe0 ? 3 : *p >= 0xc2 ? 2 : 0;
    uint32_t c = n == 1 ? *p : *p & (0x7fu >> n);
    *ret_shown = false;
    for (int i = 1; i < n; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 1;
        c = c << 6 | (p[i] & 0x3fu);
    }
    *ret_shown = n > 0 && !is_control(c);
    return n > 0 ? n : 1;
}

void cli_print_text(FILE *out, const char *text, int width)
{
    const unsigned char *p = (const unsigned char *)text;
    int columns = 0;
    bool shown;
    for (const unsigned char *q = p; *q != '\0'; q += character_at(q, &shown))
        columns++;
    bool cut = width > 0 && columns > width;
    int left = cut ? (width > 3 ? width - 3 : 0) : columns;
    for (int n; *p != '\0' && left > 0; p += n, left--) {
        n = character_at(p, &shown);
        if (shown)
            (void)fwrite(p, 1, (size_t)n, out);
        else
            (void)fputc('?', out);
    }
    if (cut)
        (void)fputs(&"..."[width < 3 ? 3 - width : 0], out);
}

int cli_terminal_width(void)
{
    struct winsize size;
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
        return size.ws_col;
    const char *text = getenv("COLUMNS");
    int64_t columns;
    return text != NULL && cli_parse_int(text, 20, 10000, &columns) ? (int)columns : 0;
}

const char *cli_duration_text(int64_t duration_ms, char ret[32])
{
    long long s = duration_ms > 0 ? duration_ms / 1000 : 0;
    if (s < 60)
        (void)snprintf(ret, 32, "%llds", s);
    else if (s < 3600)
        (void)snprintf(ret, 32, "%lldm%02llds", s / 60, s % 60);
    else if (s < 86400)
        (void)snprintf(ret, 32, "%lldh%02lldm", s / 3600, s / 60 % 60);
    else
        (void)snprintf(ret, 32, "%lldd%02lldh", s / 86400, s / 3600 % 24);
    return ret;
}

void cli_json_add_time(cJSON *object, const char *key, int64_t wall_ms)
{
    char name[64], text[CLOCK_TEXT_SIZE];
    (void)snprintf(name, sizeof name, "%s_ms", key);
    if (wall_ms <= 0) {
        (void)cJSON_AddNullToObject(object, key);
        (void)cJSON_AddNullToObject(object, name);
        return;
    }
    (void)cJSON_AddStringToObject(object, key, clock_text(wall_ms, text));
    (void)cJSON_AddNumberToObject(object, name, (double)wall_ms);
}
