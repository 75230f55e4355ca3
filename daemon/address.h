/* Peer addresses against an allow-list. Thread: any; pure. */
#ifndef CT2MR_DAEMON_ADDRESS_H
#define CT2MR_DAEMON_ADDRESS_H

#include <stdbool.h>
#include <sys/socket.h>

/* True if text is a.b.c.d, a.b.c.d/len, an IPv6 address or IPv6/len. */
bool address_rule_valid(const char *text);
/* True if the address lies within the rule. An IPv4 address mapped into IPv6 (::ffff:a.b.c.d) is
** taken as the IPv4 address. False for a rule that is not valid. */
bool address_matches(const struct sockaddr *address, const char *rule);

#endif
