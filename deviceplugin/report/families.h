/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_REPORT_FAMILIES_H
#define TR_REPORT_FAMILIES_H

/* The table of families.def. */

enum tr_family_type {
	TR_FAMILY_GAUGE,
	TR_FAMILY_COUNTER,
	TR_FAMILY_INFO,
	TR_FAMILY_HISTOGRAM
};
enum tr_family_set { TR_FAMILY_OWN, TR_FAMILY_HAMI, TR_FAMILY_OLD };

struct tr_family {
	const char *name, *unit, *help;
	const char *labels; /* their names, with commas between */
	enum tr_family_type type;
	enum tr_family_set set;
};

enum {
#define TR_DEVICE(name, ...) TR_FAMILY_##name,
#define TR_CARD(name, ...)   TR_FAMILY_##name,
#define TR_AGENT(name, ...)  TR_FAMILY_##name,
#define TR_MORE(name, ...)   TR_FAMILY_##name,
#include "deviceplugin/report/families.def"
#undef TR_DEVICE
#undef TR_CARD
#undef TR_AGENT
#undef TR_MORE
	TR_FAMILIES
};

extern const struct tr_family tr_families[TR_FAMILIES];

#endif /* TR_REPORT_FAMILIES_H */
