/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_ARM_RECORD_H
#define TR_ARM_RECORD_H

#include "base/buf.h"
#include "deviceplugin/arm/book.h"

/*
 * What the agent remembers of an allocation: a restarted container is armed from it, whatever the pod's
 * annotations say by then. It stands twice:
 *
 *   SLICES/NAME/record.json   on tmpfs, beside the slice: written at once, outlives the agent
 *   RECORDS/NAME.json         on a disk, a moment later, by a thread: outlives the machine's boot
 *
 * The first one counts where both are. No call waits for the disk, however slow or full it is. Both are
 * root's alone, and whole or not there.
 */

#define TR_RECORD_VERSION 1
#define TR_RECORD_MAX     ((size_t)64 << 10)
#define TR_BOOT_ID        40

/* The kernel's id of this boot, or what stands in the file PATH instead. */
int tr_boot_id(char out[static TR_BOOT_ID], const char *path, struct tr_err *err);

/* Adds the record's text. */
void tr_record_print(const struct tr_alloc *alloc, const char *boot_id, struct tr_buf *out);
/* -EBADMSG, with what is wrong; -EPROTONOSUPPORT: another version wrote it. BOOT_ID gets that of the
 * boot it was written in. */
int tr_record_parse(const char *text, size_t n, struct tr_alloc **out,
		    char boot_id[static TR_BOOT_ID], struct tr_err *err);

/* ---- beside the slice ---- */

/* TEXT: tr_record_print()'s. */
int tr_record_put(const char *slices_dir, const char *name, const struct tr_buf *text,
		  struct tr_err *err);
/* -ENOENT: none; else as tr_record_parse(), also when it is another's. */
int tr_record_get(const char *slices_dir, const char *name, struct tr_alloc **out,
		  char boot_id[static TR_BOOT_ID], struct tr_err *err);

/* ---- on the disk ---- */

struct tr_records;

/* Makes DIR (0700) when it is missing. */
int tr_records_open(const char *dir, struct tr_records **out, struct tr_err *err);
void tr_records_close(struct tr_records *records); /* after all has reached the disk */
/* In the order of the calls, later. Not told of its end: see below. */
void tr_records_write(struct tr_records *records, const char *name,
		      const struct tr_buf *text);
void tr_records_remove(struct tr_records *records, const char *name);
/* Every record: ALLOC is EACH's to keep; R < 0: it could not be read (ALLOC NULL). Removes what an
 * interrupted write left. */
typedef void tr_records_each_one(const char *name, int r, struct tr_alloc *alloc,
				 const char *boot_id, const struct tr_err *err, void *arg);
int tr_records_each(struct tr_records *records, tr_records_each_one *each, void *arg,
		    struct tr_err *err);
/* Waits until what was written and removed before has reached the disk. */
void tr_records_settle(struct tr_records *records);
/* 0, or the -errno of a write that failed since the last time this was asked: all records must be written
 * again. -ENOENT: the directory was taken away; it is made again for the next of them. */
int tr_records_problem(struct tr_records *records);

#endif /* TR_ARM_RECORD_H */
