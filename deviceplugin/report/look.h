/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_REPORT_LOOK_H
#define TR_REPORT_LOOK_H

#include "deviceplugin/report/view.h"

/* Reads the files of ROW's slice below SLICES_DIR into ROW, whose devices are named already (uuid "":
 * nothing is read of it), and tells REFUSAL (may be NULL) of what it has not seen before. What cannot be
 * read stays as it is, and is_readable says so. */
void tr_report_look(struct tr_report_alloc *row, const char *slices_dir, uint64_t now_ns,
		    tr_report_refusal *refusal, void *arg);

#endif /* TR_REPORT_LOOK_H */
