/* SPDX-License-Identifier: Apache-2.0 */
#include "deviceplugin/cards/offer.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "deviceplugin/agent/agent.h"
#include "deviceplugin/cards/node_config.h"
#include "deviceplugin/report/log.h"
#include "rt/file.h"

/* NVML that has not answered after it: the kubelet is told that there is nothing yet, so that running
 * containers can be started again meanwhile. */
#define LATE_S  5
#define AGAIN_S 2

/* ---- rules ---- */

static int read_filter(const struct tr_config *c, struct tr_card_filter *filter,
		       struct tr_err *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < c->filter_uuids.count; i++)
		r = tr_card_filter_add(filter, c->filter_uuids.at[i], err);
	for (size_t i = 0; r == 0 && i < c->filter_indexes.count; i++) {
		char index[16];

		(void)snprintf(index, sizeof(index), "%u", c->filter_indexes.at[i]);
		r = tr_card_filter_add(filter, index, err);
	}
	return r;
}

static int read_rules(const struct tr_config *c, struct tr_card_rules *rules,
		      bool *is_preferring, struct tr_err *err)
{
	struct tr_node_settings settings = { .rules = rules };
	int r;

	*rules = (struct tr_card_rules)TR_CARD_RULES_DEFAULT;
	rules->split = c->split_count;
	rules->memory_scaling = c->memory_scaling;
	rules->core_scaling = c->core_scaling;
	rules->preconfigured_bytes = (uint64_t)c->preset_memory_mib << 20;
	rules->is_numa_told = c->numa_hints;
	r = read_filter(c, &rules->filter, err);
	if (r == 0 && *c->node_config)
		r = tr_node_config_read(c->node_config, c->node_name, &settings, err);
	if (r == 0)
		r = tr_card_rules_check(rules, err);
	*is_preferring = settings.is_prefer_given ? settings.is_preferred
						  : c->preferred_allocation;
	return r;
}

/* To see whether they have changed. */
static char *print_rules(const struct tr_card_rules *rules, bool is_preferring)
{
	const struct tr_card_filter *filter = &rules->filter;
	tr_auto_buf struct tr_buf text = { 0 };

	tr_buf_print(&text, "%u %a %a %" PRIu64 " %s %d %d", rules->split,
		     rules->memory_scaling, rules->core_scaling, rules->preconfigured_bytes,
		     rules->mode, rules->is_numa_told, is_preferring);
	for (unsigned i = 0; i < filter->uuid_count; i++)
		tr_buf_print(&text, " %s", filter->uuids[i]);
	for (unsigned i = 0; i < filter->index_count; i++)
		tr_buf_print(&text, " %u", filter->indexes[i]);
	return tr_buf_take(&text);
}

static int open_rules(struct tr_agent *a, struct tr_card_rules *rules, struct tr_err *err)
{
	int r = read_rules(&a->config, rules, &a->is_preferring, err);

	a->is_numa_told = rules->is_numa_told;
	a->rules = print_rules(rules, a->is_preferring);
	return r;
}

void tr_agent_offers_renew(const struct tr_agent *a, struct tr_buf *notes)
{
	tr_autofree struct tr_card_rules *rules = tr_xcalloc(1, sizeof(*rules));
	tr_autofree char *now = NULL;
	struct tr_err err = { 0 };
	bool is_preferring = false;

	if (read_rules(&a->config, rules, &is_preferring, &err) < 0) {
		tr_buf_print(notes, "node_config: %s\n", err.msg);
		return;
	}
	now = print_rules(rules, is_preferring);
	if (strcmp(now, a->rules) != 0)
		tr_buf_text(notes, "what node_config says of this node has changed: that "
				   "needs a restart\n");
}

static char *join(const struct tr_config_list *list)
{
	tr_auto_buf struct tr_buf text = { 0 };

	for (size_t i = 0; i < list->count; i++)
		tr_buf_print(&text, "%s%s", i ? "," : "", list->at[i]);
	return tr_buf_take(&text);
}

static int read_health(const struct tr_config *c, struct tr_health_rules *rules,
		       struct tr_err *err)
{
	tr_autofree char *ignore = join(&c->xid_ignore), *watch = join(&c->xid_watch);

	tr_health_rules_init(rules);
	rules->is_off = !c->health_checks;
	rules->quiet_ns = (uint64_t)c->recover_seconds * 1000000000u;
	/* "all" ignores XIDs here; checks that are wanted off are health_checks' to say. */
	return tr_health_rules_set(rules, strcmp(ignore, "all") == 0 ? "xids" : ignore,
				   watch, err);
}

/* ---- what the kubelet is offered ---- */

/* As they are told to others: none can be had while draining. */
static const struct tr_cards *cards_to_tell(struct tr_agent *a, struct tr_cards *room)
{
	const struct tr_cards *cards = tr_nvml_cards(a->nvml);

	if (!a->is_draining)
		return cards;
	*room = *cards;
	for (unsigned i = 0; i < room->count; i++) {
		struct tr_card *card = &room->at[i];

		card->is_healthy = false;
		(void)snprintf(card->reason, sizeof(card->reason),
			       "the node is being drained");
	}
	return room;
}

static bool is_offered(const struct tr_plugin_device *at, size_t count, const char *id)
{
	for (size_t i = 0; i < count; i++)
		if (strcmp(at[i].id, id) == 0)
			return true;
	return false;
}

/* Ids that containers have and no card is there for (NVML hangs, a GPU is lost), or none that is split for so many
 * any more: unhealthy, so that nobody else gets them, but known, so that those containers can be started
 * again. */
static size_t add_given(struct tr_agent *a, struct tr_plugin_device *at, size_t count,
			size_t room)
{
	const struct tr_cards *cards = tr_nvml_cards(a->nvml);
	const struct tr_alloc *alloc = NULL;

	while ((alloc = tr_book_next(tr_arm_book(a->arm), alloc)))
		for (size_t i = 0; i < alloc->id_count && count < room; i++) {
			struct tr_plugin_device *device = &at[count];

			if (strlen(alloc->ids[i]) >= sizeof(device->id) ||
			    tr_offer_has(cards, alloc->ids[i]) ||
			    is_offered(at, count, alloc->ids[i]))
				continue;
			(void)snprintf(device->id, sizeof(device->id), "%s", alloc->ids[i]);
			device->numa_node = -1;
			device->is_healthy = false;
			count++;
		}
	return count;
}

void tr_agent_offer(struct tr_agent *a)
{
	tr_autofree struct tr_cards *room = tr_xcalloc(1, sizeof(*room));
	const struct tr_cards *cards = cards_to_tell(a, room);
	tr_autofree struct tr_plugin_device *devices = tr_xcalloc(TR_DEVICES_MOST,
								  sizeof(*devices));
	struct tr_err err = { 0 };
	size_t count, of_cards;

	if (a->reg)
		tr_register_set(a->reg, cards, tr_nvml_scores(a->nvml));
	if (!a->plugin)
		return;
	count = tr_offer_list(cards, a->is_numa_told, devices, TR_DEVICES_MOST);
	if (count > TR_DEVICES_MOST) {
		tr_log(TR_LOG_ERROR, "too_many_devices", "count", tr_log_u64(count), NULL);
		count = TR_DEVICES_MOST;
	}
	of_cards = count;
	count = add_given(a, devices, count, TR_DEVICES_MOST);
	a->is_offering_given = count > of_cards;
	if (tr_plugin_offer(a->plugin, devices, count, &err) < 0)
		tr_log(TR_LOG_ERROR, "devices_not_offered", "reason", err.msg, NULL);
}

/* ---- calls of the kubelet ---- */

static void on_answered(const char *method, enum tr_rpc_code code, uint64_t ns, void *arg)
{
	struct tr_agent *a = arg;

	for (size_t i = 0; i < TR_AGENT_RPCS; i++) {
		if (strcmp(a->rpcs[i].method, method) != 0)
			continue;
		tr_histogram_add(&a->rpcs[i].duration, ns);
		a->rpcs[i].errors += code != TR_RPC_OK;
	}
}

static void on_allocate(struct tr_rpc_call *call, const struct tr_ids *containers,
			size_t count, void *arg)
{
	struct tr_agent *a = arg;

	tr_agent_library_look(a);
	tr_arm_allocate(call, containers, count, a->arm);
}

static void on_prestart(struct tr_rpc_call *call, const struct tr_ids *ids, void *arg)
{
	struct tr_agent *a = arg;

	tr_agent_library_look(a);
	tr_arm_prestart(call, ids, a->arm);
}

/* Whose pod it is nobody can know yet: the ids are free ones. It will not start all the same. */
static void log_no_preference(const struct tr_ids *ids, const char *sentence)
{
	tr_log(TR_LOG_WARN, "preference_refused", "device", ids->count ? ids->ids[0] : NULL,
	       "device_count", tr_log_u64(ids->count), "reason", sentence, NULL);
}

static void on_refused(const char *method, const struct tr_ids *ids, const char *sentence,
		       void *arg)
{
	struct tr_agent *a = arg;

	if (strcmp(method, "GetPreferredAllocation") == 0)
		log_no_preference(ids, sentence);
	else
		tr_arm_refused(a->arm, ids, sentence);
}

static void on_prefer(struct tr_rpc_call *call, const struct tr_preference *containers,
		      size_t count, void *arg)
{
	struct tr_agent *a = arg;
	struct tr_ids chosen[TR_PLUGIN_CONTAINERS] = { 0 };
	struct tr_err err = { 0 };
	size_t n = 0;
	int r = 0;

	for (; r == 0 && n < count; n++) {
		const char **ids = tr_xcalloc(containers[n].size + 1,
					      sizeof(*chosen[n].ids));

		chosen[n] = (struct tr_ids){ ids, containers[n].size };
		r = tr_offer_prefer(tr_nvml_cards(a->nvml), &containers[n], NULL, 0, ids,
				    &err);
	}
	if (r == 0) {
		(void)tr_plugin_preferred(call, chosen, count);
	} else {
		log_no_preference(&containers[n - 1].available, err.msg);
		tr_rpc_refuse(call, TR_RPC_FAILED_PRECONDITION, err.msg);
	}
	for (size_t i = 0; i < count; i++)
		free((void *)(uintptr_t)chosen[i].ids);
}

static void on_kubelet(enum tr_kubelet_state state, const char *sentence, void *arg)
{
	static const char *const events[] = {
		[TR_KUBELET_ABSENT] = "kubelet_absent",
		[TR_KUBELET_REGISTERED] = "registered",
		[TR_KUBELET_REFUSED] = "registration_refused",
		[TR_KUBELET_NO_SOCKET] = "plugin_socket_failed",
	};
	struct tr_agent *a = arg;
	bool is_good = state == TR_KUBELET_REGISTERED;

	a->kubelet_state = state;
	(void)snprintf(a->kubelet_says, sizeof(a->kubelet_says), "%s", sentence);
	if (is_good && a->registrations++ == 0)
		a->registered_ns = tr_clock_ns();
	tr_log(is_good ? TR_LOG_INFO : TR_LOG_WARN, events[state], "resource",
	       a->config.resource_name, "after_ms",
	       is_good ? tr_log_u64((tr_clock_ns() - a->started_ns) / 1000000) : NULL,
	       "reason", *sentence ? sentence : NULL, NULL);
}

bool tr_agent_is_listened_to(const struct tr_agent *a)
{
	return a->kubelet && a->kubelet_state == TR_KUBELET_REGISTERED &&
	       tr_plugin_streams(a->plugin);
}

/* ---- their start ---- */

static int start_plugin(struct tr_agent *a, struct tr_err *err)
{
	const struct tr_config *c = &a->config;
	const char *name = strrchr(a->plugin_path, '/') + 1;
	const struct tr_plugin_actions actions = {
		.allocate = on_allocate,
		.prefer = a->is_preferring ? on_prefer : NULL,
		.prestart = on_prestart,
		.refused = on_refused,
		.answered = on_answered,
		.arg = a,
	};
	const struct tr_kubelet_options options = {
		.dir = c->kubelet_dir,
		.endpoint = name,
		.resource = c->resource_name,
		.on_state = on_kubelet,
		.arg = a,
	};
	int r = tr_plugin_open(a->rpc, a->plugin_path, &actions, &a->plugin, err);

	if (r < 0)
		return r;
	tr_agent_offer(a);
	return tr_kubelet_open(a->rpc, a->base, a->plugin, &options, &a->kubelet, err);
}

/* The kubelet may be installed after us; or somebody else answers at our socket. */
static void on_late(evutil_socket_t fd, short what, void *arg)
{
	struct tr_agent *a = arg;
	struct tr_err err = { 0 };

	(void)fd;
	(void)what;
	if (a->kubelet)
		return;
	tr_plugin_close(a->plugin);
	a->plugin = NULL;
	if (start_plugin(a, &err) == 0)
		return;
	a->kubelet_state = TR_KUBELET_NO_SOCKET;
	(void)snprintf(a->kubelet_says, sizeof(a->kubelet_says), "%s", err.msg);
	tr_log(TR_LOG_ERROR, "plugin_socket_failed", "reason", err.msg, NULL);
	(void)event_add(a->late_timer, &(struct timeval){ .tv_sec = AGAIN_S });
}

/* ---- what NVML's thread tells ---- */

static void log_cards(const struct tr_cards *cards)
{
	if (cards->count == 0 || *cards->reason)
		tr_log(TR_LOG_WARN, "gpus_missing", "reason", cards->reason, NULL);
	for (unsigned i = 0; i < cards->count; i++) {
		const struct tr_card *card = &cards->at[i];

		tr_log(card->is_healthy ? TR_LOG_INFO : TR_LOG_ERROR,
		       card->is_healthy ? "gpu_healthy" : "gpu_unhealthy", "device",
		       card->uuid, "type", card->type, "reason",
		       card->is_healthy ? NULL : card->reason, NULL);
	}
}

static void on_cards(const struct tr_cards *cards, void *arg)
{
	struct tr_agent *a = arg;

	log_cards(cards);
	tr_arm_set_cards(a->arm, cards);
	if (cards->count &&
	    (!a->has_driver || strcmp(a->driver.version, cards->driver) != 0))
		tr_agent_files_renew(a);
	if (a->is_minor_missing) {
		a->is_minor_missing = false;
		tr_arm_inject_all(a->arm);
	}
	tr_agent_offer(a);
	if (!a->kubelet)
		on_late(-1, 0, a);
}

static void on_use(const struct tr_card_use *use, unsigned count, void *arg)
{
	struct tr_agent *a = arg;

	a->use_count = count < TR_GPUS_MAX ? count : TR_GPUS_MAX;
	memcpy(a->use, use, a->use_count * sizeof(*use));
}

#define XIDS_MAX 32 /* different ones of one device */

struct tr_agent_heard {
	char uuid[48];
	struct tr_report_xid rows[XIDS_MAX];
	size_t count;
	struct tr_agent_heard *next;
};

static struct tr_agent_heard *heard_of(const struct tr_agent *a, const char *uuid)
{
	struct tr_agent_heard *heard = a->heard;

	while (heard && strcmp(heard->uuid, uuid) != 0)
		heard = heard->next;
	return heard;
}

void tr_agent_xids_of(const struct tr_agent *a, const char *uuid,
		      struct tr_report_card *card)
{
	const struct tr_agent_heard *heard = heard_of(a, uuid);

	card->xids = heard ? heard->rows : NULL;
	card->xid_count = heard ? heard->count : 0;
}

static bool is_of_card(const struct tr_cards *cards, const char *uuid)
{
	for (unsigned i = 0; i < cards->count; i++)
		if (strcmp(cards->at[i].uuid, uuid) == 0 ||
		    (*uuid && strcmp(cards->at[i].parent, uuid) == 0))
			return true;
	return false;
}

size_t tr_agent_stray_xids(const struct tr_agent *a, struct tr_report_stray *out,
			   size_t room)
{
	const struct tr_cards *cards = tr_nvml_cards(a->nvml);
	size_t n = 0;

	for (const struct tr_agent_heard *h = a->heard; h && n < room; h = h->next)
		if (!is_of_card(cards, h->uuid))
			out[n++] = (struct tr_report_stray){ h->uuid, h->rows, h->count };
	return n;
}

static void count_xid(struct tr_agent *a, const char *uuid, unsigned xid)
{
	struct tr_agent_heard *heard = heard_of(a, uuid);
	size_t i = 0;

	if (!heard) {
		heard = tr_xcalloc(1, sizeof(*heard));
		(void)snprintf(heard->uuid, sizeof(heard->uuid), "%s", uuid);
		heard->next = a->heard;
		a->heard = heard;
	}
	while (i < heard->count && heard->rows[i].xid != xid)
		i++;
	if (i == XIDS_MAX)
		return;
	heard->rows[i].xid = xid;
	heard->rows[i].count++;
	heard->count += i == heard->count;
}

static void on_xid(const char *uuid, unsigned xid, void *arg)
{
	count_xid(arg, uuid, xid);
	tr_log(TR_LOG_WARN, "xid", "device", *uuid ? uuid : "unknown", "xid",
	       tr_log_u64(xid), "meaning", tr_xid_says(xid), NULL);
}

static void on_trouble(const char *sentence, void *arg)
{
	(void)arg;
	tr_log(TR_LOG_WARN, "nvml", "reason", sentence, NULL);
}

int tr_agent_offers_open(struct tr_agent *a, struct tr_err *err)
{
	static const char *const methods[TR_AGENT_RPCS] = { "GetDevicePluginOptions",
							    "Allocate", "PreStartContainer",
							    "GetPreferredAllocation" };
	const struct tr_config *c = &a->config;
	tr_autofree struct tr_card_rules *rules = tr_xcalloc(1, sizeof(*rules));
	struct tr_health_rules health;
	struct tr_nvml_options options = {
		.library = c->nvml_library,
		.rules = rules,
		.health = &health,
		.with_scores = c->topology_scores,
		.on_cards = on_cards,
		.on_use = on_use,
		.on_xid = on_xid,
		.on_trouble = on_trouble,
		.arg = a,
	};
	int r = open_rules(a, rules, err);

	if (r == 0)
		r = read_health(c, &health, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < TR_AGENT_RPCS; i++)
		a->rpcs[i].method = methods[i];
	a->drain_path = tr_xprintf("%s/drained", c->state_dir);
	a->is_draining = access(a->drain_path, F_OK) == 0;
	(void)snprintf(a->plugin_path, sizeof(a->plugin_path), "%s/nvidia-%s.sock",
		       c->kubelet_dir, strchr(c->resource_name, '/') + 1);
	a->late_timer = evtimer_new(a->base, on_late, a);
	if (!a->late_timer ||
	    event_add(a->late_timer, &(struct timeval){ .tv_sec = LATE_S }) < 0)
		return tr_fail(err, ENOMEM, "out of memory");
	r = tr_nvml_open(&a->nvml, a->base, &options, err);
	if (r == 0)
		tr_agent_slices_keep_all(a);
	return r;
}

int tr_agent_drain(struct tr_agent *a, bool is_draining, struct tr_err *err)
{
	int fd;

	if (!is_draining && unlink(a->drain_path) < 0 && errno != ENOENT)
		return tr_fail_errno(err, "%s", a->drain_path);
	if (is_draining) {
		fd = open(a->drain_path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
		if (fd < 0)
			return tr_fail_errno(err, "%s", a->drain_path);
		(void)close(fd);
	}
	a->is_draining = is_draining;
	tr_log(TR_LOG_INFO, is_draining ? "drain" : "drain_ended", NULL);
	tr_agent_slices_block(a);
	tr_agent_offer(a);
	return 0;
}

void tr_agent_offers_close(struct tr_agent *a)
{
	if (a->late_timer)
		event_free(a->late_timer);
	tr_kubelet_close(a->kubelet);
	tr_plugin_close(a->plugin);
	free(a->rules);
	while (a->heard) {
		struct tr_agent_heard *heard = a->heard;

		a->heard = heard->next;
		free(heard);
	}
	free(a->drain_path);
}
