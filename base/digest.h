/* SHA-256 (libcrypto). Thread: a Digest belongs to one thread. */
#ifndef CT2MR_BASE_DIGEST_H
#define CT2MR_BASE_DIGEST_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { DIGEST_SIZE = 32, DIGEST_HEX_SIZE = 65 };

typedef struct Digest Digest;

Digest *digest_new(void); /* never NULL: out of memory ends the process */
void digest_add(Digest *digest, const void *data, size_t size_bytes);
/* Writes the result and frees the digest. */
void digest_end(Digest *digest, uint8_t ret[DIGEST_SIZE]);
/* Lower-case hexadecimal of 32 bytes. Returns ret. */
const char *digest_hex(const uint8_t digest[DIGEST_SIZE], char ret[DIGEST_HEX_SIZE]);
/* SHA-256 of a string (without its 0), of memory, and of a file, in hexadecimal. */
void digest_text(const char *text, char ret_hex[DIGEST_HEX_SIZE]);
void digest_memory(const void *data, size_t size_bytes, char ret_hex[DIGEST_HEX_SIZE]);
MUST_CHECK Status digest_file(const char *path, char ret_hex[DIGEST_HEX_SIZE], Err *err);

#ifdef __cplusplus
}
#endif
#endif
