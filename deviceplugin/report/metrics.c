/* SPDX-License-Identifier: Apache-2.0 */
#include "deviceplugin/report/metrics.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "deviceplugin/report/families.h"
#include "deviceplugin/report/printer.h"
#include "rt/sat.h"

#if defined(__clang__)
static const char compiler[] = "clang " __clang_version__;
#else
static const char compiler[] = "gcc " __VERSION__;
#endif
#if defined(__x86_64__)
static const char platform[] = "linux/amd64";
#elif defined(__aarch64__)
static const char platform[] = "linux/arm64";
#else
static const char platform[] = "linux";
#endif

#define LABELS_MAX 12

#define HAS(c, what) ((c)->use && ((c)->use->has & TR_CARD_HAS_##what))

static uint64_t used_bytes(const struct tr_report_device *d)
{
	return tr_sat_add(d->used_bytes, d->overhead_bytes);
}

static uint64_t limit_or_total(const struct tr_report_device *d)
{
	return d->limit_bytes == TR_UNLIMITED && d->total_bytes ? d->total_bytes
								: d->limit_bytes;
}

/* HAMi's order, in which less goes first. */
static uint64_t priority_of(const struct tr_report_device *d)
{
	return d->priority == TR_PRIORITY_HIGH ? 0 : d->priority == TR_PRIORITY_LOW ? 2 : 1;
}

/* ---- what has samples ------------------------------------------------------------------- */

static void add_sample(struct tr_printer *p, const struct tr_family *f, const char *suffix,
		       const char *const *values, const char *extra,
		       struct tr_number number)
{
	tr_auto_buf struct tr_buf labels = { 0 };

	if (number.kind == NONE)
		return;
	tr_print_labels(&labels, f, values, extra);
	tr_print_sample(p, f, suffix, labels.n ? labels.p : "", labels.n, number);
}

static void add(struct tr_printer *p, const struct tr_family *f, const char *const *values,
		struct tr_number number)
{
	add_sample(p, f, "", values, NULL, number);
}

#define VALUES(...) ((const char *const[LABELS_MAX]){ __VA_ARGS__ })
#define DIGITS      24

static const char *digits(char out[static DIGITS], uint64_t n)
{
	(void)snprintf(out, DIGITS, "%llu", (unsigned long long)n);
	return out;
}

typedef struct tr_number device_value(const struct tr_report_alloc *a,
				      const struct tr_report_device *d);
typedef struct tr_number card_value(const struct tr_report_card *c);
typedef struct tr_number agent_value(const struct tr_report_view *v);

/* The labels of all devices of containers, which every family of a set repeats. */
struct ready {
	struct tr_buf text;
	size_t *ends;
};

static void make_ready(struct ready *ready, const struct tr_report_view *view,
		       const struct tr_family *f)
{
	size_t n = 0;

	for (size_t i = 0; i < view->alloc_count; i++)
		n += view->allocs[i]->device_count;
	ready->ends = tr_xcalloc(n, sizeof(*ready->ends));
	n = 0;
	for (size_t i = 0; i < view->alloc_count; i++) {
		const struct tr_report_alloc *a = view->allocs[i];

		for (unsigned k = 0; a->is_shown && k < a->device_count; k++) {
			char at[DIGITS];

			tr_print_labels(&ready->text, f,
					VALUES(a->space, a->pod, a->container,
					       digits(at, k), a->devices[k].uuid),
					NULL);
			ready->ends[n++] = ready->text.n;
		}
	}
}

static void print_devices(struct tr_printer *p, const struct tr_family *f,
			  struct ready *ready, device_value *value)
{
	size_t n = 0, from = 0;

	if (!ready->ends)
		make_ready(ready, p->view, f);
	for (size_t i = 0; i < p->view->alloc_count; i++) {
		const struct tr_report_alloc *a = p->view->allocs[i];

		for (unsigned k = 0; a->is_shown && k < a->device_count; k++) {
			tr_print_sample(p, f, "", ready->text.p + from,
					ready->ends[n] - from, value(a, &a->devices[k]));
			from = ready->ends[n++];
		}
	}
}

static void print_cards(struct tr_printer *p, const struct tr_family *f, card_value *value)
{
	for (size_t i = 0; i < p->view->card_count; i++) {
		const struct tr_report_card *c = &p->view->cards[i];
		char at[DIGITS];

		add(p, f,
		    VALUES(p->view->node, digits(at, c->card->index), c->card->uuid,
			   c->card->type),
		    value(c));
	}
}

/* One sample for each container. */
static void print_containers(struct tr_printer *p, const struct tr_family *f,
			     uint64_t (*value)(const struct tr_report_alloc *a))
{
	for (size_t i = 0; i < p->view->alloc_count; i++) {
		const struct tr_report_alloc *a = p->view->allocs[i];

		if (a->is_shown)
			add(p, f, VALUES(a->space, a->pod, a->container), COUNT(value(a)));
	}
}

static uint64_t armed_of(const struct tr_report_alloc *a)
{
	return a->is_armed;
}

static uint64_t readable_of(const struct tr_report_alloc *a)
{
	return a->is_readable;
}

static uint64_t pinned_of(const struct tr_report_alloc *a)
{
	return a->pinned_bytes;
}

static void print_tranche_container_armed(struct tr_printer *p, const struct tr_family *f)
{
	print_containers(p, f, armed_of);
}

static void print_tranche_container_readable(struct tr_printer *p,
					     const struct tr_family *f)
{
	print_containers(p, f, readable_of);
}

static void print_tranche_container_pinned_bytes(struct tr_printer *p,
						 const struct tr_family *f)
{
	print_containers(p, f, pinned_of);
}

/* XIDs are a GPU's: what tells of it is its own card, or the first of its instances. */
static bool tells_of_gpu(const struct tr_report_view *view, size_t at)
{
	const char *parent = view->cards[at].card->parent;

	if (!*parent)
		return true;
	for (size_t i = 0; i < view->card_count; i++)
		if (strcmp(view->cards[i].card->uuid, parent) == 0 ||
		    (i < at && strcmp(view->cards[i].card->parent, parent) == 0))
			return false;
	return true;
}

static void print_tranche_device_xids_total(struct tr_printer *p, const struct tr_family *f)
{
	for (size_t i = 0; i < p->view->card_count; i++) {
		const struct tr_report_card *c = &p->view->cards[i];
		const struct tr_card *card = c->card;
		/* "NVIDIA A100-SXM4-40GB MIG 1g.5gb" */
		const char *profile = *card->parent ? strstr(card->type, " MIG ") : NULL;
		char at[DIGITS], xid[DIGITS], type[sizeof(card->type)];

		(void)snprintf(type, sizeof(type), "%.*s",
			       profile ? (int)(profile - card->type) : (int)sizeof(type),
			       card->type);
		for (size_t k = 0; k < c->xid_count && tells_of_gpu(p->view, i); k++)
			add(p, f,
			    VALUES(p->view->node, digits(at, card->index),
				   *card->parent ? card->parent : card->uuid, type,
				   digits(xid, c->xids[k].xid)),
			    COUNT(c->xids[k].count));
	}
	for (size_t i = 0; i < p->view->stray_count; i++) {
		const struct tr_report_stray *s = &p->view->strays[i];
		char xid[DIGITS];

		for (size_t k = 0; k < s->xid_count; k++)
			add(p, f,
			    VALUES(p->view->node, "", s->uuid, "",
				   digits(xid, s->xids[k].xid)),
			    COUNT(s->xids[k].count));
	}
}

static void print_tranche_device_ecc_errors_total(struct tr_printer *p,
						  const struct tr_family *f)
{
	for (size_t i = 0; i < p->view->card_count; i++) {
		const struct tr_report_card *c = &p->view->cards[i];
		char at[DIGITS];

		if (!HAS(c, ECC))
			continue;
		(void)digits(at, c->card->index);
		add(p, f,
		    VALUES(p->view->node, at, c->card->uuid, c->card->type, "corrected"),
		    COUNT(c->use->ecc_corrected));
		add(p, f,
		    VALUES(p->view->node, at, c->card->uuid, c->card->type, "uncorrected"),
		    COUNT(c->use->ecc_uncorrected));
	}
}

static void print_tranche_build_info(struct tr_printer *p, const struct tr_family *f)
{
	const struct tr_report_view *v = p->view;

	add(p, f, VALUES(v->version, v->revision, v->build_date, compiler, platform),
	    COUNT(1));
}

static void print_hami_build_info(struct tr_printer *p, const struct tr_family *f)
{
	const struct tr_report_view *v = p->view;

	add(p, f, VALUES(v->version, v->revision, v->build_date, "", compiler, platform),
	    COUNT(1));
}

static void print_tranche_node_info(struct tr_printer *p, const struct tr_family *f)
{
	add(p, f, VALUES(p->view->node, p->view->driver ? p->view->driver : ""), COUNT(1));
}

static void print_tranche_allocations(struct tr_printer *p, const struct tr_family *f)
{
	uint64_t armed = 0;

	for (size_t i = 0; i < p->view->alloc_count; i++)
		armed += p->view->allocs[i]->is_armed;
	add(p, f, VALUES("armed"), COUNT(armed));
	add(p, f, VALUES("waiting"), COUNT(p->view->alloc_count - armed));
}

static void print_histogram(struct tr_printer *p, const struct tr_family *f,
			    const char *const *values, const struct tr_histogram *h)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i <= TR_HISTOGRAM_BOUNDS; i++) {
		char extra[40], le[32] = "+Inf";

		sum += h->counts[i];
		if (i < TR_HISTOGRAM_BOUNDS)
			(void)snprintf(le, sizeof(le), "%g",
				       (double)tr_histogram_bounds_ns[i] / 1e9);
		(void)snprintf(extra, sizeof(extra), "le=\"%s%s\"", le,
			       p->format == TR_METRICS_OPENMETRICS && !strpbrk(le, ".I")
				       ? ".0"
				       : "");
		add_sample(p, f, "_bucket", values, extra, COUNT(sum));
	}
	add_sample(p, f, "_sum", values, NULL, NANO(h->sum_ns));
	add_sample(p, f, "_count", values, NULL, COUNT(sum));
}

static void print_tranche_rpc_duration_seconds(struct tr_printer *p,
					       const struct tr_family *f)
{
	for (size_t i = 0; i < p->view->rpc_count; i++)
		print_histogram(p, f, VALUES(p->view->rpcs[i].method),
				&p->view->rpcs[i].duration);
}

static void print_tranche_rpc_errors_total(struct tr_printer *p, const struct tr_family *f)
{
	for (size_t i = 0; i < p->view->rpc_count; i++)
		add(p, f, VALUES(p->view->rpcs[i].method), COUNT(p->view->rpcs[i].errors));
}

static void print_tranche_log_lines_total(struct tr_printer *p, const struct tr_family *f)
{
	const uint64_t *lines = p->view->log.lines;

	add(p, f, VALUES("error"), COUNT(lines[TR_LOG_ERROR]));
	add(p, f, VALUES("warn"), COUNT(lines[TR_LOG_WARN]));
	add(p, f, VALUES("info"), COUNT(lines[TR_LOG_INFO]));
	add(p, f, VALUES("debug"), COUNT(lines[TR_LOG_DEBUG]));
}

static void print_tranche_log_left_out_total(struct tr_printer *p,
					     const struct tr_family *f)
{
	add(p, f, VALUES("repeated"), COUNT(p->view->log.repeats));
	add(p, f, VALUES("dropped"), COUNT(p->view->log.dropped));
	add(p, f, VALUES("lost"), COUNT(p->view->log.lost));
}

static void print_tranche_http_answers_total(struct tr_printer *p,
					     const struct tr_family *f)
{
	add(p, f, VALUES("2xx"), COUNT(p->view->http.answers[2]));
	add(p, f, VALUES("4xx"), COUNT(p->view->http.answers[4]));
	add(p, f, VALUES("5xx"), COUNT(p->view->http.answers[5]));
}

static void print_tranche_http_cut_total(struct tr_printer *p, const struct tr_family *f)
{
	add(p, f, VALUES("slow"), COUNT(p->view->http.timed_out));
	add(p, f, VALUES("too_many"), COUNT(p->view->http.put_out));
}

static void print_Device_memory_desc_of_container(struct tr_printer *p,
						  const struct tr_family *f)
{
	for (size_t i = 0; i < p->view->alloc_count; i++) {
		const struct tr_report_alloc *a = p->view->allocs[i];

		for (unsigned k = 0; a->is_shown && k < a->device_count; k++) {
			const struct tr_report_device *d = &a->devices[k];
			char at[DIGITS], context[DIGITS], data[DIGITS];

			add(p, f,
			    VALUES(a->space, a->pod, a->container, digits(at, k), d->uuid,
				   digits(context, d->overhead_bytes), "0",
				   digits(data, d->used_bytes), "0"),
			    COUNT(used_bytes(d)));
		}
	}
}

/* The MIG instance with UUID, if it is one. */
static const struct tr_card *find_mig(const struct tr_report_view *view, const char *uuid)
{
	for (size_t i = 0; i < view->card_count; i++)
		if (view->cards[i].card->parent[0] &&
		    strcmp(view->cards[i].card->uuid, uuid) == 0)
			return view->cards[i].card;
	return NULL;
}

static void print_migs(struct tr_printer *p, const struct tr_family *f)
{
	for (size_t i = 0; i < p->view->alloc_count; i++) {
		const struct tr_report_alloc *a = p->view->allocs[i];

		for (unsigned k = 0; a->is_shown && k < a->device_count; k++) {
			const struct tr_card *mig = find_mig(p->view, a->devices[k].uuid);
			char at[DIGITS], gi[DIGITS], ci[DIGITS];

			if (!mig)
				continue;
			(void)digits(gi, mig->gpu_instance);
			add(p, f,
			    f->set == TR_FAMILY_OLD
				    ? VALUES(a->space, a->pod, a->container, digits(at, k),
					     mig->parent, gi)
				    : VALUES(a->space, a->pod, a->container, digits(at, k),
					     mig->parent, mig->uuid, mig->type, gi,
					     digits(ci, mig->compute_instance)),
			    COUNT(1));
		}
	}
}

static void print_hami_mig_device_info(struct tr_printer *p, const struct tr_family *f)
{
	print_migs(p, f);
}

static void print_MigInfo(struct tr_printer *p, const struct tr_family *f)
{
	print_migs(p, f);
}

/* ---- all of it -------------------------------------------------------------------------- */

/* The values that the table writes down. */
#define TR_DEVICE(name, type, unit, set, value, help)                          \
	static struct tr_number value_##name(const struct tr_report_alloc *a,  \
					     const struct tr_report_device *d) \
	{                                                                      \
		(void)a;                                                       \
		(void)d;                                                       \
		return value;                                                  \
	}
#define TR_CARD(name, type, unit, set, value, help)                          \
	static struct tr_number value_##name(const struct tr_report_card *c) \
	{                                                                    \
		return value;                                                \
	}
#define TR_AGENT(name, type, unit, set, value, help)                         \
	static struct tr_number value_##name(const struct tr_report_view *v) \
	{                                                                    \
		return value;                                                \
	}
#define TR_MORE(name, ...)
#include "deviceplugin/report/families.def"
#undef TR_DEVICE
#undef TR_CARD
#undef TR_AGENT
#undef TR_MORE

static const struct {
	device_value *device;
	card_value *card;
	agent_value *agent;
	void (*more)(struct tr_printer *p, const struct tr_family *f);
} rows[TR_FAMILIES] = {
#define TR_DEVICE(name, ...) [TR_FAMILY_##name] = { .device = value_##name },
#define TR_CARD(name, ...)   [TR_FAMILY_##name] = { .card = value_##name },
#define TR_AGENT(name, ...)  [TR_FAMILY_##name] = { .agent = value_##name },
#define TR_MORE(name, ...)   [TR_FAMILY_##name] = { .more = print_##name },
#include "deviceplugin/report/families.def"
#undef TR_DEVICE
#undef TR_CARD
#undef TR_AGENT
#undef TR_MORE
};

void tr_metrics_print(const struct tr_report_view *view, struct tr_buf *out,
		      enum tr_metrics_format format)
{
	struct tr_printer p = { .view = view, .out = out, .format = format };
	struct ready ready[TR_FAMILY_OLD + 1] = { 0 };

	for (unsigned i = 0; i < TR_FAMILIES; i++) {
		const struct tr_family *f = &tr_families[i];

		p.is_begun = false;
		if (f->set == TR_FAMILY_OLD && !view->with_legacy)
			continue;
		if (rows[i].device)
			print_devices(&p, f, &ready[f->set], rows[i].device);
		else if (rows[i].card)
			print_cards(&p, f, rows[i].card);
		else if (rows[i].agent)
			add(&p, f, NULL, rows[i].agent(view));
		else
			rows[i].more(&p, f);
	}
	for (unsigned i = 0; i <= TR_FAMILY_OLD; i++) {
		tr_buf_free(&ready[i].text);
		free(ready[i].ends);
	}
	if (format == TR_METRICS_OPENMETRICS)
		tr_buf_text(out, "# EOF\n");
}
