/* A DICOM peer that misbehaves on order: a few hundred lines of sockets, no DCMTK, in a child
** process that dies with the test. It serves one association after the other on 127.0.0.1.
** Source: PS3.8 section 9.3 (PDUs), PS3.7 section 9.3 (C-STORE), annex E. */
#ifndef CT2MR_TESTS_FAKE_SCP_H
#define CT2MR_TESTS_FAKE_SCP_H

#include <stdint.h>
#include <sys/types.h>

enum { FAKE_MAX_IMAGES = 16 };

typedef enum FakeMood {
    FAKE_SERVE,
    FAKE_REJECT,            /* A-ASSOCIATE-RJ with reject[] = result, source, reason */
    FAKE_SILENT,            /* accepts the connection, never answers */
    FAKE_CLOSE_AT_REQUEST,  /* closes after the A-ASSOCIATE-RQ */
    FAKE_ABORT_AT_IMAGE,    /* A-ABORT instead of the answer to image `at_image` */
    FAKE_CLOSE_AT_IMAGE,    /* closes instead */
    FAKE_SILENT_AT_IMAGE,   /* never answers that image */
    FAKE_NO_RELEASE_ANSWER, /* closes at A-RELEASE-RQ */
} FakeMood;

typedef struct FakeScp {
    FakeMood mood;
    uint8_t reject[3];
    int at_image;                       /* from 0 */
    int context_result[2];              /* for context ids 1 and 3: 0 accept, 3, 4 refuse */
    uint16_t statuses[FAKE_MAX_IMAGES]; /* answer to image i */
} FakeScp;

/* What it has seen; shared with the child. */
typedef struct FakeSeen {
    volatile int32_t n_associations, n_images, n_echoes, n_releases, n_aborts;
    volatile int32_t context_id; /* of the last image */
    volatile uint32_t data_bytes[FAKE_MAX_IMAGES];
} FakeSeen;

/* Starts it and returns the port. *ret_seen lives until the test ends. */
int fake_scp_start(const FakeScp *scp, const FakeSeen **ret_seen);
/* A port of 127.0.0.1 that nobody listens on now. */
int free_port(void);
/* A port of 127.0.0.1 whose queue of connections is full: further ones hang. */
int full_port(void);
/* Starts a program (argv[0] by PATH) whose output goes to test_dir()/NAME.log; dies with the test.
 */
pid_t start_program(const char *const *argv);

#endif
