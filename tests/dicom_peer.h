/* Test helper: makes CT data sets byte by byte and speaks DICOM over a raw socket, right or wrong
** as the test wants. No DCMTK: a hostile peer must be able to say anything. */
#ifndef CT2MR_TESTS_DICOM_PEER_H
#define CT2MR_TESTS_DICOM_PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct Bytes {
    unsigned char *data;
    size_t size, capacity;
} Bytes;

void bytes_add(Bytes *bytes, const void *data, size_t size);
void bytes_u16(Bytes *bytes, unsigned number);
void bytes_u32(Bytes *bytes, uint32_t number);
void bytes_free(Bytes *bytes);

/* ---- data sets ---- */

#define PEER_CT "1.2.840.10008.5.1.4.1.1.2"
#define PEER_MR "1.2.840.10008.5.1.4.1.1.4"
#define PEER_VERIFICATION "1.2.840.10008.1.1"
#define PEER_IMPLICIT "1.2.840.10008.1.2"
#define PEER_EXPLICIT "1.2.840.10008.1.2.1"

enum { DATA_SET_MAX = 64 };

typedef struct DataSetItem {
    uint32_t tag;
    char vr[3];
    Bytes value;
    bool undefined_length; /* the length field says so; value holds items and delimiter */
} DataSetItem;

/* Elements in ascending order of tag. */
typedef struct DataSet {
    int n;
    DataSetItem items[DATA_SET_MAX];
} DataSet;

/* A CT slice that is right in every respect: number `index` of series "1.2.3.4". */
void data_set_ct(DataSet *ret, int rows, int columns, int index);
/* Adds or replaces. Text is padded to even length. */
void data_set_bytes(DataSet *ds, uint32_t tag, const char *vr, const void *value, size_t size);
void data_set_text(DataSet *ds, uint32_t tag, const char *vr, const char *text);
void data_set_u16(DataSet *ds, uint32_t tag, unsigned number);
void data_set_remove(DataSet *ds, uint32_t tag);
void data_set_free(DataSet *ds);
/* One element's header and value, appended. */
void element_add(Bytes *out, bool implicit, uint32_t tag, const char *vr, const void *value,
                 size_t size, bool undefined_length);
void data_set_encode(const DataSet *ds, bool implicit, Bytes *out);
/* Preamble, meta information with the given UIDs, then the bytes of a data set. */
void file_encode(const char *class_uid, const char *sop_uid, const char *syntax_uid,
                 const Bytes *data_set, Bytes *out);

/* ---- associations ---- */

typedef struct PeerContext {
    const char *class_uid, *syntax_uids[3]; /* NULL: no more */
} PeerContext;

typedef struct PeerRequest {
    const char *called, *calling, *application_context; /* NULL: the standard one */
    PeerContext contexts[4];                            /* ids 1, 3, 5, 7 */
} PeerRequest;

typedef struct Peer {
    int fd;
    uint32_t max_pdu_bytes;  /* of the other side */
    unsigned char result[4]; /* of the contexts; 0 accepted */
    char syntax[4][65];      /* accepted */
    unsigned message_id;
} Peer;

enum {
    PDU_ASSOCIATE_AC = 2,
    PDU_ASSOCIATE_RJ = 3,
    PDU_DATA = 4,
    PDU_RELEASE_RP = 6,
    PDU_ABORT = 7
};

/* Connects to 127.0.0.1; -1 on failure. Reads time out after 10 s. */
int peer_connect(int port);
void peer_request_encode(const PeerRequest *request, Bytes *out);
/* Sends all; false if the other side has closed. */
bool peer_send(int fd, const void *data, size_t size);
/* Reads one PDU. Returns its type, 0 at the end of the connection, -1 after 10 s of silence. */
int peer_read_pdu(int fd, Bytes *ret_body);
/* Connects and negotiates. Returns the type of the answer as above; after PDU_ASSOCIATE_RJ
** ret->result holds result, source, reason. The socket stays open in every case. */
int peer_open(int port, const PeerRequest *request, Peer *ret);
/* The usual request: CT (explicit, implicit) on context 1, Verification on 3. */
PeerRequest peer_request_usual(void);
/* A C-STORE-RQ command set as one PDV; command fields as given. */
void command_store_encode(const char *class_uid, const char *sop_uid, unsigned message_id,
                          bool has_data_set, Bytes *out);
/* Wraps bytes into P-DATA PDUs of at most max_pdu_bytes. */
void pdata_encode(unsigned context_id, bool is_command, const Bytes *bytes, uint32_t max_pdu_bytes,
                  Bytes *out);
/* Sends an image and waits for the answer: its status, or -1 (aborted, closed, silent). */
int peer_store(Peer *peer, unsigned context_id, const char *class_uid, const char *sop_uid,
               const Bytes *data_set);
int peer_echo(Peer *peer, unsigned context_id);
/* Reads a DIMSE answer: its status, or -1. */
int peer_read_status(Peer *peer);
bool peer_release(Peer *peer); /* and closes */
void peer_close(Peer *peer);

#ifdef __cplusplus
}
#endif
#endif
