/* See digest.h. */
#include "base/digest.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct Digest {
    EVP_MD_CTX *context;
};

Digest *digest_new(void)
{
    Digest *digest = malloc(sizeof *digest);
    ASSERT(digest != NULL);
    digest->context = EVP_MD_CTX_new();
    ASSERT(digest->context != NULL);
    ASSERT(EVP_DigestInit_ex(digest->context, EVP_sha256(), NULL) == 1);
    return digest;
}

void digest_add(Digest *digest, const void *data, size_t size_bytes)
{
    ASSERT(EVP_DigestUpdate(digest->context, data, size_bytes) == 1);
}

void digest_end(Digest *digest, uint8_t ret[DIGEST_SIZE])
{
    ASSERT(EVP_DigestFinal_ex(digest->context, ret, NULL) == 1);
    EVP_MD_CTX_free(digest->context);
    free(digest);
}

const char *digest_hex(const uint8_t digest[DIGEST_SIZE], char ret[DIGEST_HEX_SIZE])
{
    static const char digits[] = "0123456789abcdef";
    for (int i = 0; i < DIGEST_SIZE; i++) {
        ret[2 * i] = digits[digest[i] >> 4];
        ret[2 * i + 1] = digits[digest[i] & 15];
    }
    ret[2 * DIGEST_SIZE] = '\0';
    return ret;
}

void digest_memory(const void *data, size_t size_bytes, char ret_hex[DIGEST_HEX_SIZE])
{
    uint8_t sum[DIGEST_SIZE];
    Digest *digest = digest_new();
    digest_add(digest, data, size_bytes);
    digest_end(digest, sum);
    (void)digest_hex(sum, ret_hex);
}

void digest_text(const char *text, char ret_hex[DIGEST_HEX_SIZE])
{
    digest_memory(text, strlen(text), ret_hex);
}

Status digest_file(const char *path, char ret_hex[DIGEST_HEX_SIZE], Err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_sys(err, errno, "opening %s", path);
    enum { CHUNK = 1 << 16 };
    unsigned char *buffer = malloc(CHUNK);
    ASSERT(buffer != NULL);
    Digest *digest = digest_new();
    ssize_t n;
    while ((n = read(fd, buffer, CHUNK)) > 0)
        digest_add(digest, buffer, (size_t)n);
    int saved = errno;
    uint8_t sum[DIGEST_SIZE];
    digest_end(digest, sum);
    free(buffer);
    (void)close(fd);
    if (n < 0)
        return err_sys(err, saved, "reading %s", path);
    (void)digest_hex(sum, ret_hex);
    return ST_OK;
}
