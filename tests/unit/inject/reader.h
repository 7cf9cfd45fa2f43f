/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_TEST_INJECT_READER_H
#define TR_TEST_INJECT_READER_H

#include <jansson.h>

/*
 * A CDI file read as the specification's rules have it, written without a look at the writer: known
 * fields only, the types, the syntax of vendor, class, device and environment names, absolute paths, the
 * version that the used fields need, no device without edits. Fails the test.
 */

/* The one file below FOLDER with allocations; valid until the next call. */
const char *reader_file(const char *folder);

/* The edits of KIND=NAME, borrowed from *FILE; json_decref() that. */
json_t *reader_edits(const char *path, const char *kind, const char *name, json_t **file);

/* What of the container's mounts lies at CONTAINER: its host path, NULL: nothing. OPTION must be
 * among its options. */
const char *reader_mount(const json_t *edits, const char *container, const char *option);
/* The host path of the device node CONTAINER, NULL: none. */
const char *reader_node(const json_t *edits, const char *container);
/* NAME's value. */
const char *reader_env(const json_t *edits, const char *name);
size_t reader_count(const json_t *edits, const char *field);

#endif /* TR_TEST_INJECT_READER_H */
