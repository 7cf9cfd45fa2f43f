/* SPDX-License-Identifier: Apache-2.0 */
#include "deviceplugin/report/families.h"

#define DEVICE_OWN  "namespace,pod,container,vdevice_index,device_uuid"
#define DEVICE_HAMI "zone," DEVICE_OWN
#define DEVICE_OLD  "zone,podnamespace,podname,ctrname,vdeviceid,deviceuuid"
#define CARD_OWN    "node,device_index,device_uuid,device_type"
#define CARD_HAMI   "zone," CARD_OWN
#define CARD_OLD    "zone,nodeid,deviceidx,deviceuuid,devicetype"

#define ROW(name, type, unit, set, labels, help) \
	[TR_FAMILY_##                            \
		name] = { #name, #unit, help, labels, TR_FAMILY_##type, TR_FAMILY_##set },

const struct tr_family tr_families[TR_FAMILIES] = {
#define TR_DEVICE(name, type, unit, set, value, help) \
	ROW(name, type, unit, set, DEVICE_##set, help)
#define TR_CARD(name, type, unit, set, value, help) \
	ROW(name, type, unit, set, CARD_##set, help)
#define TR_AGENT(name, type, unit, set, value, help) ROW(name, type, unit, set, "", help)
#define TR_MORE(name, type, unit, set, labels, help) \
	ROW(name, type, unit, set, labels, help)
#include "deviceplugin/report/families.def"
};
