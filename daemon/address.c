/* See address.h. */
#include "daemon/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

/* An address as bits: 4 bytes of IPv4 or 16 of IPv6. */
typedef struct Bits {
    unsigned char bytes[16];
    int n_bytes;
} Bits;

static bool bits_of_sockaddr(const struct sockaddr *address, Bits *ret)
{
    static const unsigned char mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF};
    if (address->sa_family == AF_INET) {
        struct sockaddr_in in;
        memcpy(&in, address, sizeof in);
        memcpy(ret->bytes, &in.sin_addr, 4);
        ret->n_bytes = 4;
        return true;
    }
    if (address->sa_family != AF_INET6)
        return false;
    struct sockaddr_in6 in6;
    memcpy(&in6, address, sizeof in6);
    bool is_mapped = memcmp(&in6.sin6_addr, mapped, sizeof mapped) == 0;
    ret->n_bytes = is_mapped ? 4 : 16;
    memcpy(ret->bytes, in6.sin6_addr.s6_addr + (is_mapped ? 12 : 0), (size_t)ret->n_bytes);
    return true;
}

static bool parse_rule(const char *text, Bits *ret, int *ret_prefix_bits)
{
    char address[64];
    size_t n = strcspn(text, "/");
    if (n >= sizeof address)
        return false;
    memcpy(address, text, n);
    address[n] = '\0';
    if (inet_pton(AF_INET, address, ret->bytes) == 1)
        ret->n_bytes = 4;
    else if (inet_pton(AF_INET6, address, ret->bytes) == 1)
        ret->n_bytes = 16;
    else
        return false;
    *ret_prefix_bits = ret->n_bytes * 8;
    if (text[n] == '\0')
        return true;
    const char *digits = text + n + 1;
    size_t n_digits = strspn(digits, "0123456789");
    if (n_digits == 0 || n_digits > 3 || digits[n_digits] != '\0')
        return false;
    int prefix_bits = (int)strtol(digits, NULL, 10);
    if (prefix_bits > ret->n_bytes * 8)
        return false;
    *ret_prefix_bits = prefix_bits;
    return true;
}

bool address_rule_valid(const char *text)
{
    Bits bits;
    int prefix_bits;
    return parse_rule(text, &bits, &prefix_bits);
}

bool address_matches(const struct sockaddr *address, const char *rule)
{
    Bits a, r;
    int prefix_bits;
    if (!bits_of_sockaddr(address, &a) || !parse_rule(rule, &r, &prefix_bits) ||
        a.n_bytes != r.n_bytes)
        return false;
    size_t whole = (size_t)prefix_bits / 8;
    if (memcmp(a.bytes, r.bytes, whole) != 0)
        return false;
    int rest = prefix_bits % 8;
    return rest == 0 || (a.bytes[whole] ^ r.bytes[whole]) >> (8 - rest) == 0;
}
