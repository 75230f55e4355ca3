/* Deterministic UIDs. A UID is "2.25." and a UUID as a decimal integer (PS3.5 B.2); the UUID is of
** version 8 (RFC 9562, 5.8: contents of one's own making) with the first bits of a SHA-256 in it.
** A repeated run gives the same UIDs, a changed input or model gives others: a re-send is the same
** object, a new result never overwrites an old one. */
#include "base/digest.h"
#include "dicom/write.h"

#include <stdio.h>
#include <string.h>

void uid_from_key(const char *key, char ret[UID_SIZE])
{
    uint8_t sum[DIGEST_SIZE];
    Digest *digest = digest_new();
    digest_add(digest, key, strlen(key));
    digest_end(digest, sum);
    sum[6] = (uint8_t)((sum[6] & 0x0f) | 0x80); /* version 8 */
    sum[8] = (uint8_t)((sum[8] & 0x3f) | 0x80); /* variant 10 */

    /* 16 bytes, most significant first, to decimal: divide by ten until nothing is left. */
    char digits[40];
    int n = 0;
    for (bool is_zero = false; !is_zero;) {
        unsigned rest = 0;
        is_zero = true;
        for (int i = 0; i < 16; i++) {
            unsigned value = rest * 256 + sum[i];
            sum[i] = (uint8_t)(value / 10);
            rest = value % 10;
            is_zero = is_zero && sum[i] == 0;
        }
        digits[n++] = (char)('0' + rest);
    }
    char *out = ret + snprintf(ret, UID_SIZE, "2.25.");
    while (n > 0)
        *out++ = digits[--n];
    *out = '\0';
}

/* Each field goes in with its length, so that no two lists of fields are the same text. */
static void uid_from_series(const MrSeries *s, const char *role, const char *ct_sop_uid,
                            char ret[UID_SIZE])
{
    const char *fields[] = {s->recipe,       s->ct_series_uid,    s->content_digest,
                            s->model_digest, s->software_version, ct_sop_uid};
    Digest *digest = digest_new();
    uint8_t sum[DIGEST_SIZE];
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        char head[32];
        const char *field = fields[i] == NULL ? "" : fields[i];
        int n = snprintf(head, sizeof head, "%zu:", strlen(field));
        digest_add(digest, head, (size_t)n);
        digest_add(digest, field, strlen(field));
    }
    digest_end(digest, sum);
    char hex[DIGEST_HEX_SIZE], key[DIGEST_HEX_SIZE + 32];
    (void)snprintf(key, sizeof key, "ct2mr %s %s", role, digest_hex(sum, hex));
    uid_from_key(key, ret);
}

void mr_series_uid(const MrSeries *series, char ret[UID_SIZE])
{
    uid_from_series(series, "mr series", "", ret);
}

void mr_sop_uid(const MrSeries *series, const char *ct_sop_uid, char ret[UID_SIZE])
{
    uid_from_series(series, "mr image", ct_sop_uid, ret);
}
