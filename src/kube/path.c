/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "kube/client.h"

#define NAME_MAX_BYTES 253u

const struct tr_kube_kind tr_kube_pods = { "/api/v1", "pods", true };
const struct tr_kube_kind tr_kube_nodes = { "/api/v1", "nodes", false };
const struct tr_kube_kind tr_kube_events = { "/api/v1", "events", true };
const struct tr_kube_kind tr_kube_namespaces = { "/api/v1", "namespaces", false };
const struct tr_kube_kind tr_kube_quotas = { "/api/v1", "resourcequotas", true };
const struct tr_kube_kind tr_kube_leases = { "/apis/coordination.k8s.io/v1", "leases",
					     true };

/* What stands in a path as itself, and is neither "." nor "..". */
static int check_name(const char *name, struct tr_err *err)
{
	size_t n = strlen(name);

	if (n == 0 || n > NAME_MAX_BYTES || strspn(name, ".") == n)
		return tr_fail(err, EINVAL, "\"%.64s\" is not the name of an object", name);
	for (size_t i = 0; i < n; i++) {
		char c = name[i];

		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
		      (c >= '0' && c <= '9') || (c && strchr("-._:", c))))
			return tr_fail(err, EINVAL,
				       "\"%.64s\" is not the name of an object", name);
	}
	return 0;
}

int tr_kube_path(char out[static TR_KUBE_PATH], const struct tr_kube_kind *kind,
		 const char *space, const char *name, const char *sub, struct tr_err *err)
{
	int r = 0;

	if (kind->is_namespaced && name && !space)
		return tr_fail(err, EINVAL, "%s \"%.64s\" without its namespace",
			       kind->plural, name);
	if (!kind->is_namespaced)
		space = NULL;
	if (space)
		r = check_name(space, err);
	if (r == 0 && name)
		r = check_name(name, err);
	if (r < 0)
		return r;
	(void)snprintf(out, TR_KUBE_PATH, "%s%s%s/%s%s%s%s%s", kind->prefix,
		       space ? "/namespaces/" : "", space ? space : "", kind->plural,
		       name ? "/" : "", name ? name : "", sub ? "/" : "", sub ? sub : "");
	return 0;
}
