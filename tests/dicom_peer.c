/* See dicom_peer.h. */
#include "tests/dicom_peer.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

enum { READ_TIMEOUT_S = 10, OUR_MAX_PDU_BYTES = 131072 };

/* ---- bytes ---- */

void bytes_add(Bytes *bytes, const void *data, size_t size)
{
    if (bytes->size + size > bytes->capacity) {
        bytes->capacity = 2 * (bytes->size + size) + 64;
        bytes->data = realloc(bytes->data, bytes->capacity);
        if (bytes->data == NULL)
            abort();
    }
    if (size > 0)
        memcpy(bytes->data + bytes->size, data, size);
    bytes->size += size;
}

void bytes_u16(Bytes *bytes, unsigned number)
{
    unsigned char le[2] = {(unsigned char)number, (unsigned char)(number >> 8)};
    bytes_add(bytes, le, 2);
}

void bytes_u32(Bytes *bytes, uint32_t number)
{
    bytes_u16(bytes, number & 0xFFFF);
    bytes_u16(bytes, number >> 16);
}

static void bytes_be(Bytes *bytes, uint32_t number, int n_bytes)
{
    for (int i = n_bytes - 1; i >= 0; i--) {
        unsigned char byte = (unsigned char)(number >> (8 * i));
        bytes_add(bytes, &byte, 1);
    }
}

void bytes_free(Bytes *bytes)
{
    free(bytes->data);
    *bytes = (Bytes){0};
}

/* ---- data sets ---- */

void data_set_remove(DataSet *ds, uint32_t tag)
{
    for (int i = 0; i < ds->n; i++) {
        if (ds->items[i].tag != tag)
            continue;
        bytes_free(&ds->items[i].value);
        memmove(&ds->items[i], &ds->items[i + 1], (size_t)(ds->n - i - 1) * sizeof ds->items[0]);
        ds->n--;
        return;
    }
}

void data_set_bytes(DataSet *ds, uint32_t tag, const char *vr, const void *value, size_t size)
{
    data_set_remove(ds, tag);
    if (ds->n == DATA_SET_MAX)
        abort();
    int at = 0;
    while (at < ds->n && ds->items[at].tag < tag)
        at++;
    memmove(&ds->items[at + 1], &ds->items[at], (size_t)(ds->n - at) * sizeof ds->items[0]);
    ds->n++;
    ds->items[at] = (DataSetItem){.tag = tag};
    memcpy(ds->items[at].vr, vr, 2);
    bytes_add(&ds->items[at].value, value, size);
}

void data_set_text(DataSet *ds, uint32_t tag, const char *vr, const char *text)
{
    Bytes value = {0};
    bytes_add(&value, text, strlen(text));
    if (value.size % 2 != 0)
        bytes_add(&value, strcmp(vr, "UI") == 0 ? "" : " ", 1);
    data_set_bytes(ds, tag, vr, value.data, value.size);
    bytes_free(&value);
}

void data_set_u16(DataSet *ds, uint32_t tag, unsigned number)
{
    unsigned char le[2] = {(unsigned char)number, (unsigned char)(number >> 8)};
    data_set_bytes(ds, tag, "US", le, 2);
}

void data_set_free(DataSet *ds)
{
    while (ds->n > 0)
        data_set_remove(ds, ds->items[0].tag);
}

static void add_pixels(DataSet *ds, int rows, int columns)
{
    Bytes pixels = {0};
    for (int i = 0; i < rows * columns; i++)
        bytes_u16(&pixels, (unsigned)i * 7919u & 0x0FFF);
    data_set_bytes(ds, 0x7FE00010, "OW", pixels.data, pixels.size);
    bytes_free(&pixels);
}

void data_set_ct(DataSet *ret, int rows, int columns, int index)
{
    char text[64];
    memset(ret, 0, sizeof *ret);
    data_set_text(ret, 0x00080005, "CS", "ISO_IR 100");
    data_set_text(ret, 0x00080008, "CS", "ORIGINAL\\PRIMARY\\AXIAL");
    data_set_text(ret, 0x00080016, "UI", PEER_CT);
    (void)snprintf(text, sizeof text, "1.2.3.4.%06d", index + 1);
    data_set_text(ret, 0x00080018, "UI", text);
    data_set_text(ret, 0x00080060, "CS", "CT");
    data_set_text(ret, 0x00100010, "PN", "Doe^Jane");
    data_set_text(ret, 0x00100020, "LO", "4711");
    data_set_text(ret, 0x00100030, "DA", "19700101");
    data_set_text(ret, 0x00100040, "CS", "F");
    data_set_text(ret, 0x00180050, "DS", "1.5");
    data_set_text(ret, 0x0020000D, "UI", "1.2.3");
    data_set_text(ret, 0x0020000E, "UI", "1.2.3.4");
    (void)snprintf(text, sizeof text, "%d", index + 1);
    data_set_text(ret, 0x00200013, "IS", text);
    (void)snprintf(text, sizeof text, "-120.5\\-120.5\\%.1f", 1.5 * index);
    data_set_text(ret, 0x00200032, "DS", text);
    data_set_text(ret, 0x00200037, "DS", "1\\0\\0\\0\\1\\0");
    data_set_text(ret, 0x00200052, "UI", "1.2.3.5");
    data_set_text(ret, 0x00201002, "IS", "93");
    data_set_u16(ret, 0x00280002, 1);
    data_set_text(ret, 0x00280004, "CS", "MONOCHROME2");
    data_set_u16(ret, 0x00280010, (unsigned)rows);
    data_set_u16(ret, 0x00280011, (unsigned)columns);
    data_set_text(ret, 0x00280030, "DS", "0.5\\0.75");
    data_set_u16(ret, 0x00280100, 16);
    data_set_u16(ret, 0x00280101, 12);
    data_set_u16(ret, 0x00280102, 11);
    data_set_u16(ret, 0x00280103, 0);
    data_set_text(ret, 0x00281052, "DS", "-1024");
    data_set_text(ret, 0x00281053, "DS", "1");
    add_pixels(ret, rows, columns);
}

void element_add(Bytes *out, bool implicit, uint32_t tag, const char *vr, const void *value,
                 size_t size, bool undefined_length)
{
    uint32_t length = undefined_length ? 0xFFFFFFFF : (uint32_t)size;
    bytes_u16(out, tag >> 16);
    bytes_u16(out, tag & 0xFFFF);
    if (implicit) {
        bytes_u32(out, length);
    } else {
        bytes_add(out, vr, 2);
        if (strstr("OB OD OF OL OV OW SQ SV UC UN UR UT UV", vr) != NULL) {
            bytes_u16(out, 0);
            bytes_u32(out, length);
        } else {
            bytes_u16(out, length & 0xFFFF);
        }
    }
    bytes_add(out, value, size);
}

void data_set_encode(const DataSet *ds, bool implicit, Bytes *out)
{
    for (int i = 0; i < ds->n; i++)
        element_add(out, implicit, ds->items[i].tag, ds->items[i].vr, ds->items[i].value.data,
                    ds->items[i].value.size, ds->items[i].undefined_length);
}

static void add_uid(Bytes *out, uint32_t tag, const char *uid)
{
    char padded[80] = "";
    (void)snprintf(padded, sizeof padded, "%s", uid);
    element_add(out, false, tag, "UI", padded, (strlen(padded) + 1) / 2 * 2, false);
}

void file_encode(const char *class_uid, const char *sop_uid, const char *syntax_uid,
                 const Bytes *data_set, Bytes *out)
{
    static const unsigned char preamble[128];
    Bytes meta = {0};
    element_add(&meta, false, 0x00020001, "OB", "\0\1", 2, false);
    add_uid(&meta, 0x00020002, class_uid);
    add_uid(&meta, 0x00020003, sop_uid);
    add_uid(&meta, 0x00020010, syntax_uid);
    add_uid(&meta, 0x00020012, "1.2.3.9");
    bytes_add(out, preamble, sizeof preamble);
    bytes_add(out, "DICM", 4);
    Bytes length = {0};
    bytes_u32(&length, (uint32_t)meta.size);
    element_add(out, false, 0x00020000, "UL", length.data, 4, false);
    bytes_add(out, meta.data, meta.size);
    bytes_add(out, data_set->data, data_set->size);
    bytes_free(&length);
    bytes_free(&meta);
}

/* ---- sockets ---- */

int peer_connect(int port)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
    struct timeval limit = {READ_TIMEOUT_S, 0};
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0) {
        (void)close(fd);
        return -1;
    }
    return fd;
}

bool peer_send(int fd, const void *data, size_t size)
{
    const char *at = data;
    while (size > 0) {
        ssize_t n = send(fd, at, size, MSG_NOSIGNAL);
        if (n <= 0)
            return false;
        at += n;
        size -= (size_t)n;
    }
    return true;
}

/* 1 read, 0 end of the connection, -1 silence. */
static int read_exactly(int fd, unsigned char *data, size_t size)
{
    while (size > 0) {
        ssize_t n = recv(fd, data, size, 0);
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return -1;
        if (n <= 0)
            return 0;
        data += n;
        size -= (size_t)n;
    }
    return 1;
}

int peer_read_pdu(int fd, Bytes *ret_body)
{
    unsigned char header[6];
    int rc = read_exactly(fd, header, sizeof header);
    if (rc != 1)
        return rc;
    uint32_t length = (uint32_t)header[2] << 24 | (uint32_t)header[3] << 16 |
                      (uint32_t)header[4] << 8 | header[5];
    ret_body->size = 0;
    unsigned char chunk[4096];
    while (length > 0) {
        size_t n = length < sizeof chunk ? length : sizeof chunk;
        rc = read_exactly(fd, chunk, n);
        if (rc != 1)
            return rc;
        bytes_add(ret_body, chunk, n);
        length -= (uint32_t)n;
    }
    return header[0];
}

/* ---- association ---- */

static void add_item(Bytes *out, unsigned type, const void *value, size_t size)
{
    bytes_be(out, type << 8, 2);
    bytes_be(out, (uint32_t)size, 2);
    bytes_add(out, value, size);
}

static void add_context(Bytes *out, int index, const PeerContext *context)
{
    Bytes item = {0};
    bytes_be(&item, (uint32_t)(2 * index + 1) << 24, 4);
    add_item(&item, 0x30, context->class_uid, strlen(context->class_uid));
    for (int i = 0; i < 3 && context->syntax_uids[i] != NULL; i++)
        add_item(&item, 0x40, context->syntax_uids[i], strlen(context->syntax_uids[i]));
    add_item(out, 0x20, item.data, item.size);
    bytes_free(&item);
}

void peer_request_encode(const PeerRequest *request, Bytes *out)
{
    Bytes body = {0}, user = {0}, number = {0};
    const char *application = request->application_context;
    static const unsigned char reserved[32];
    char titles[33];
    (void)snprintf(titles, sizeof titles, "%-16.16s%-16.16s", request->called, request->calling);
    bytes_be(&body, 1, 2);
    bytes_be(&body, 0, 2);
    bytes_add(&body, titles, 32);
    bytes_add(&body, reserved, sizeof reserved);
    if (application == NULL)
        application = "1.2.840.10008.3.1.1.1";
    add_item(&body, 0x10, application, strlen(application));
    for (int i = 0; i < 4 && request->contexts[i].class_uid != NULL; i++)
        add_context(&body, i, &request->contexts[i]);
    bytes_be(&number, OUR_MAX_PDU_BYTES, 4);
    add_item(&user, 0x51, number.data, number.size);
    add_item(&user, 0x52, "1.2.3.9", 7);
    add_item(&body, 0x50, user.data, user.size);
    bytes_be(out, 0x0100, 2);
    bytes_be(out, (uint32_t)body.size, 4);
    bytes_add(out, body.data, body.size);
    bytes_free(&number);
    bytes_free(&user);
    bytes_free(&body);
}

static unsigned read_be(const unsigned char *p, int n)
{
    unsigned number = 0;
    for (int i = 0; i < n; i++)
        number = number << 8 | p[i];
    return number;
}

/* Walks an A-ASSOCIATE-AC: results and syntaxes of the contexts, maximum length. */
static void parse_accept(const Bytes *body, Peer *peer)
{
    for (size_t at = 68; at + 4 <= body->size;) {
        const unsigned char *item = body->data + at;
        size_t length = read_be(item + 2, 2);
        if (at + 4 + length > body->size)
            return;
        if (item[0] == 0x21 && length >= 4 && item[4] / 2 < 4) {
            int index = item[4] / 2;
            size_t n = length >= 8 ? read_be(item + 10, 2) : 0;
            peer->result[index] = item[6];
            if (n < sizeof peer->syntax[0] && 8 + n <= length)
                memcpy(peer->syntax[index], item + 12, n);
        } else if (item[0] == 0x50 && length >= 8 && item[4] == 0x51) {
            peer->max_pdu_bytes = read_be(item + 8, 4);
        }
        at += 4 + length;
    }
}

int peer_open(int port, const PeerRequest *request, Peer *ret)
{
    memset(ret, 0, sizeof *ret);
    memset(ret->result, 0xFF, sizeof ret->result);
    ret->max_pdu_bytes = 16384;
    ret->fd = peer_connect(port);
    if (ret->fd < 0)
        return 0;
    Bytes pdu = {0}, body = {0};
    peer_request_encode(request, &pdu);
    int type = peer_send(ret->fd, pdu.data, pdu.size) ? peer_read_pdu(ret->fd, &body) : 0;
    if (type == PDU_ASSOCIATE_AC)
        parse_accept(&body, ret);
    else if (type == PDU_ASSOCIATE_RJ && body.size >= 4)
        memcpy(ret->result, body.data + 1, 3);
    bytes_free(&pdu);
    bytes_free(&body);
    return type;
}

PeerRequest peer_request_usual(void)
{
    return (PeerRequest){"CT2MR",
                         "SCANNER",
                         NULL,
                         {{PEER_CT, {PEER_EXPLICIT, PEER_IMPLICIT, NULL}},
                          {PEER_VERIFICATION, {PEER_IMPLICIT, NULL, NULL}},
                          {NULL, {NULL, NULL, NULL}}}};
}

/* ---- messages ---- */

static void add_command_u16(Bytes *out, unsigned element, unsigned number)
{
    unsigned char le[2] = {(unsigned char)number, (unsigned char)(number >> 8)};
    element_add(out, true, element, "", le, 2, false);
}

static void add_command_uid(Bytes *out, unsigned element, const char *uid)
{
    char padded[256] = "";
    (void)snprintf(padded, sizeof padded, "%s", uid);
    element_add(out, true, element, "", padded, (strlen(padded) + 1) / 2 * 2, false);
}

static void finish_command(Bytes *elements, Bytes *out)
{
    Bytes length = {0};
    bytes_u32(&length, (uint32_t)elements->size);
    element_add(out, true, 0x00000000, "", length.data, 4, false);
    bytes_add(out, elements->data, elements->size);
    bytes_free(&length);
    bytes_free(elements);
}

void command_store_encode(const char *class_uid, const char *sop_uid, unsigned message_id,
                          bool has_data_set, Bytes *out)
{
    Bytes elements = {0};
    add_command_uid(&elements, 0x0002, class_uid);
    add_command_u16(&elements, 0x0100, 0x0001);
    add_command_u16(&elements, 0x0110, message_id);
    add_command_u16(&elements, 0x0700, 0);
    add_command_u16(&elements, 0x0800, has_data_set ? 0x0000 : 0x0101);
    add_command_uid(&elements, 0x1000, sop_uid);
    finish_command(&elements, out);
}

void pdata_encode(unsigned context_id, bool is_command, const Bytes *bytes, uint32_t max_pdu_bytes,
                  Bytes *out)
{
    size_t at = 0, most = max_pdu_bytes - 6;
    do {
        size_t n = bytes->size - at < most ? bytes->size - at : most;
        bool is_last = at + n == bytes->size;
        bytes_be(out, 0x0400, 2);
        bytes_be(out, (uint32_t)n + 6, 4);
        bytes_be(out, (uint32_t)n + 2, 4);
        bytes_be(out, context_id, 1);
        bytes_be(out, (is_command ? 1u : 0u) | (is_last ? 2u : 0u), 1);
        if (n > 0)
            bytes_add(out, bytes->data + at, n);
        at += n;
    } while (at < bytes->size);
}

/* The status element of a command set in one PDV. */
static int parse_status(const Bytes *body)
{
    for (size_t at = 6; at + 8 <= body->size;) {
        const unsigned char *e = body->data + at;
        uint32_t length =
            (uint32_t)e[4] | (uint32_t)e[5] << 8 | (uint32_t)e[6] << 16 | (uint32_t)e[7] << 24;
        if (e[2] == 0x00 && e[3] == 0x09 && length == 2 && at + 10 <= body->size)
            return e[8] | e[9] << 8;
        at += 8 + (size_t)length;
    }
    return -1;
}

int peer_read_status(Peer *peer)
{
    Bytes body = {0};
    int type = peer_read_pdu(peer->fd, &body);
    int status = type == PDU_DATA ? parse_status(&body) : -1;
    bytes_free(&body);
    return status;
}

int peer_store(Peer *peer, unsigned context_id, const char *class_uid, const char *sop_uid,
               const Bytes *data_set)
{
    Bytes command = {0}, pdus = {0};
    command_store_encode(class_uid, sop_uid, ++peer->message_id, data_set != NULL, &command);
    pdata_encode(context_id, true, &command, peer->max_pdu_bytes, &pdus);
    if (data_set != NULL)
        pdata_encode(context_id, false, data_set, peer->max_pdu_bytes, &pdus);
    int status = peer_send(peer->fd, pdus.data, pdus.size) ? peer_read_status(peer) : -1;
    bytes_free(&command);
    bytes_free(&pdus);
    return status;
}

int peer_echo(Peer *peer, unsigned context_id)
{
    Bytes elements = {0}, command = {0}, pdus = {0};
    add_command_uid(&elements, 0x0002, PEER_VERIFICATION);
    add_command_u16(&elements, 0x0100, 0x0030);
    add_command_u16(&elements, 0x0110, ++peer->message_id);
    add_command_u16(&elements, 0x0800, 0x0101);
    finish_command(&elements, &command);
    pdata_encode(context_id, true, &command, peer->max_pdu_bytes, &pdus);
    int status = peer_send(peer->fd, pdus.data, pdus.size) ? peer_read_status(peer) : -1;
    bytes_free(&command);
    bytes_free(&pdus);
    return status;
}

bool peer_release(Peer *peer)
{
    static const unsigned char release[] = {5, 0, 0, 0, 0, 4, 0, 0, 0, 0};
    Bytes body = {0};
    bool released = peer_send(peer->fd, release, sizeof release) &&
                    peer_read_pdu(peer->fd, &body) == PDU_RELEASE_RP;
    bytes_free(&body);
    peer_close(peer);
    return released;
}

void peer_close(Peer *peer)
{
    if (peer->fd >= 0)
        (void)close(peer->fd);
    peer->fd = -1;
}
