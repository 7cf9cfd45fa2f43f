/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_REPORT_SLICES_JSON_H
#define TR_REPORT_SLICES_JSON_H

#include "base/buf.h"
#include "deviceplugin/report/view.h"

/* Appends everything VIEW holds of cards and allocations, as one JSON document: for people who look for
 * a fault, and for `tranche node slices`. Text that is no UTF-8 is mended. Pure. */
void tr_slices_json(const struct tr_report_view *view, struct tr_buf *out);

#endif /* TR_REPORT_SLICES_JSON_H */
