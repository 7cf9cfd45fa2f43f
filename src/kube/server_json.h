/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_KUBE_SERVER_JSON_H
#define TR_KUBE_SERVER_JSON_H

#include <jansson.h>
#include <stddef.h>

/*
 * JSON from the API server: json_loadb(), but that a NUL in a text is U+FFFD. Kubernetes takes NULs in values of
 * annotations and in keys of some maps, from anybody who may make a pod; jansson refuses them, and the
 * object of one tenant would make a whole list unreadable. Pure.
 */
json_t *tr_server_json(const char *bytes, size_t n, size_t flags, json_error_t *problem);

#endif /* TR_KUBE_SERVER_JSON_H */
