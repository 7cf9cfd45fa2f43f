/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_REPORT_HTTP_ADDRESS_H
#define TR_REPORT_HTTP_ADDRESS_H

#include <netinet/in.h>
#include <stdbool.h>

#include "tranche/err.h"

struct tr_http_address {
	bool is_v6;  /* v6 is what was meant, else v4 */
	bool is_any; /* v4 and v6, as far as the machine has them */
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};

/* 0 or -EINVAL. Pure. */
int tr_http_address_parse(const char *text, struct tr_http_address *out,
			  struct tr_err *err);

#endif /* TR_REPORT_HTTP_ADDRESS_H */
