/* The command line: a table of commands, shared helpers, exit codes.
**
** Each command is `int cli_NAME(int argc, char **argv)` in a file cli_*.c: argv[0] is the command's
** own word, it parses its options with getopt_long, prints to stdout, errors to stderr through
** cli_fail(), and returns an exit code. */
#ifndef CT2MR_DAEMON_CLI_H
#define CT2MR_DAEMON_CLI_H

#include "base/err.h"
#include "daemon/config.h"

#include <cjson/cJSON.h>

typedef enum CliExit {
    CLI_OK = 0,
    CLI_NEGATIVE = 1, /* not found, or the verdict is no */
    CLI_USAGE = 2,
    CLI_UNREACHABLE = 3, /* daemon not reachable */
    CLI_REFUSED = 4,     /* refused by state */
    CLI_PARTIAL = 5
} CliExit;

int cli_status(int argc, char **argv);
int cli_ready(int argc, char **argv);
int cli_jobs(int argc, char **argv);
int cli_job(int argc, char **argv);    /* show|log|retry|hold|release|cancel ID */
int cli_dest(int argc, char **argv);   /* list|echo NAME */
int cli_config(int argc, char **argv); /* check FILE | options | example */
int cli_errors(int argc, char **argv);
int cli_check(int argc, char **argv);    /* DIR */
int cli_run(int argc, char **argv);      /* --model M --out DIR CT_DIR */
int cli_register(int argc, char **argv); /* --fixed A --moving B --out T.json */
int cli_mask(int argc, char **argv);     /* CT --out MASK.nii.gz [--brain] */
int cli_window(int argc, char **argv);   /* CT --out W.nii.gz [--preset P | --level L --width W] */
int cli_infer(int argc, char **argv);    /* --model M --in X.npy --out Y.npy [--backend B] */
int cli_model(int argc, char **argv);    /* show|verify FILE, calibrate, import */
int cli_model_calibrate(int argc, char **argv); /* of cli_model(): argv[0] is "calibrate" */
struct Model;
int cli_model_show(const struct Model *model, bool layers, bool json); /* of cli_model() */
int cli_model_import(int argc, char **argv);                           /* the same: "import" */
int cli_pack(int argc, char **argv);     /* --cases LIST.csv --out PACK */
int cli_simulate(int argc, char **argv); /* --ct, --mr, --pack */
int cli_eval(int argc, char **argv);     /* --model M --data PACK */
int cli_train(int argc, char **argv);    /* --data P --out M, or --resume */
int cli_gpu(int argc, char **argv);      /* list|plan|selftest */
int cli_import(int argc, char **argv);   /* NIFTI|INV3 --out DIR */
/* Child roles, not for people, are in roles.h and dicom/receive.h. */

/* Prints "ct2mr: CODE: message" and the remedy (or a JSON object on stdout if json) and returns the
** exit code for the status. */
int cli_fail(const Err *err, bool json);
/* Prints "ct2mr COMMAND: text" and the command's usage line; returns CLI_USAGE. */
__attribute__((format(printf, 2, 3))) int cli_usage(const char *command, const char *format, ...);
/* Prints a JSON value on one line (unformatted) and deletes it. A byte that is not UTF-8 (paths may
** hold any) becomes '?'. */
void cli_print_json(cJSON *json);
/* The configuration named by -c/--config, else $CT2MR_CONFIG, else /etc/ct2mr/ct2mr.yaml. */
MUST_CHECK Status cli_load_config(const char *path_or_null, Config *ret, Err *err);
/* The same for the offline tools: if nobody named a file and the installed one is missing or not
** for this user's eyes, the defaults; the latter with one line of warning on stderr. */
MUST_CHECK Status cli_load_config_offline(const char *path_or_null, Config *ret, Err *err);
extern const char *cli_default_config; /* the last of the three; tests point it elsewhere */
/* Whole decimal integer in [min, max]; false otherwise. */
bool cli_parse_int(const char *text, int64_t min, int64_t max, int64_t *ret);
/* "auto" or a name that net_open() knows (whether this machine has it, net_open() says). */
#define CLI_BACKENDS "auto, cpu, ref, cuda"
#define CLI_PRECISIONS "auto, f32, bf16, int8, f16"
bool cli_knows_backend(const char *name);
bool cli_knows_precision(const char *name);
/* Whether both names are one file that exists; either may be NULL. What a command reads must never
** be what it writes. */
bool cli_same_file(const char *a, const char *b);
/* A packed file is read where it is mapped: one that is cut meanwhile ends the command with a
** message and CLI_NEGATIVE (SIGBUS) instead of a crash. */
void cli_watch_mapped(void);
/* Is something at the path, be it a link to nothing? */
bool cli_exists(const char *path);
/* Nothing is at the path, or a file that begins so: one of ours, which an output may replace. */
bool cli_may_replace(const char *path, const char *begin);
/* Can a file be made at the path? Not where its folder is not there, nor if it names a folder. */
bool cli_folder_writable(const char *path);
/* Finite number in C locale; false otherwise. */
bool cli_parse_double(const char *text, double *ret);

#endif
