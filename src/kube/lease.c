/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "base/mem.h"
#include "base/rfc3339.h"
#include "kube/fields.h"
#include "kube/write.h"

#define REQUESTS_MAX 3

/* A write is a patch; where there is nothing to patch the lease is made; where somebody made it
 * meanwhile it is patched after all. */
struct tr_lease_write {
	struct tr_kube *kube;
	struct tr_kube_call *call;
	json_t *lease; /* the whole object */
	char path[TR_KUBE_PATH], list[TR_KUBE_PATH];
	uint32_t deadline_ms;
	bool is_upsert; /* however it is */
	unsigned requests;
	tr_kube_done *done;
	void *arg;
};

static int64_t read_time(struct tr_fields *f, const char *key)
{
	const char *text = tr_field_text(f, key, 64, false);
	int64_t us = 0;

	if (*text && tr_rfc3339_parse(text, &us) < 0)
		f->r = tr_fail(f->err, EBADMSG, "%s: %s is not a time", f->what, key);
	return us;
}

int tr_lease_read(const json_t *json, struct tr_lease *out, struct tr_err *err)
{
	struct tr_fields f = { .object = json, .what = "a lease", .err = err };
	struct tr_fields meta = f, spec = f;
	struct tr_lease lease = { 0 };

	meta.object = tr_field_object(&f, "metadata");
	spec.object = tr_field_object(&f, "spec");
	lease.space = tr_field_text(&meta, "namespace", 253, true);
	lease.name = tr_field_text(&meta, "name", 253, true);
	lease.version = tr_field_text(&meta, "resourceVersion", 253, false);
	lease.holder = tr_field_text(&spec, "holderIdentity", 1024, false);
	lease.duration_s = (uint32_t)tr_field_number(&spec, "leaseDurationSeconds", 0,
						     INT32_MAX);
	lease.transitions = (uint32_t)tr_field_number(&spec, "leaseTransitions", 0,
						      INT32_MAX);
	lease.acquired_us = read_time(&spec, "acquireTime");
	lease.renewed_us = read_time(&spec, "renewTime");
	if (f.r < 0 || meta.r < 0 || spec.r < 0)
		return -EBADMSG;
	*out = lease;
	return 0;
}

static json_t *time_json(int64_t us)
{
	char text[TR_RFC3339_TEXT];

	tr_rfc3339_print_us(text, us);
	return us ? json_string(text) : NULL;
}

static json_t *lease_json(const struct tr_lease *l)
{
	json_t *owners = NULL;

	if (l->owner_name)
		owners = json_pack("[{s:s,s:s,s:s,s:s}]", "apiVersion", "v1", "kind",
				   l->owner_kind, "name", l->owner_name, "uid",
				   l->owner_uid);
	return json_pack("{s:s,s:s,s:{s:s,s:s,s:s*,s:o*},s:{s:s,s:i,s:i,s:o*,s:o*}}",
			 "apiVersion", "coordination.k8s.io/v1", "kind", "Lease",
			 "metadata", "name", l->name, "namespace", l->space,
			 "resourceVersion", l->version && *l->version ? l->version : NULL,
			 "ownerReferences", owners, "spec", "holderIdentity",
			 l->holder ? l->holder : "", "leaseDurationSeconds",
			 (int)l->duration_s, "leaseTransitions", (int)l->transitions,
			 "acquireTime", time_json(l->acquired_us), "renewTime",
			 time_json(l->renewed_us));
}

static void start(struct tr_lease_write *w, enum tr_kube_verb verb);

static void free_write(struct tr_lease_write *w)
{
	json_decref(w->lease);
	free(w);
}

static void on_done(void *arg, int r, const struct tr_kube_reply *reply,
		    const struct tr_err *err)
{
	struct tr_lease_write *w = arg;

	w->call = NULL;
	if (w->is_upsert && w->requests < REQUESTS_MAX && (r == -ENOENT || r == -EEXIST)) {
		start(w, r == -ENOENT ? TR_KUBE_CREATE : TR_KUBE_PATCH_MERGE);
		return;
	}
	if (w->done) {
		tr_kube_done *done = w->done;
		void *done_arg = w->arg;

		free_write(w);
		done(done_arg, r, reply, err);
		return;
	}
	free_write(w);
}

static void start(struct tr_lease_write *w, enum tr_kube_verb verb)
{
	struct tr_kube_ask ask = { .verb = verb,
				   .path = verb == TR_KUBE_CREATE ? w->list : w->path,
				   .body = w->lease,
				   .deadline_ms = w->deadline_ms };

	w->requests++;
	w->call = tr_kube_start(w->kube, &ask, on_done, w);
}

int tr_lease_write(struct tr_kube *k, const struct tr_lease *lease, uint32_t deadline_ms,
		   tr_kube_done *done, void *arg, struct tr_lease_write **out,
		   struct tr_err *err)
{
	struct tr_lease_write *w = tr_xcalloc(1, sizeof(*w));
	int r = tr_kube_path(w->path, &tr_kube_leases, lease->space, lease->name, NULL,
			     err);

	if (r == 0)
		r = tr_kube_path(w->list, &tr_kube_leases, lease->space, NULL, NULL, err);
	w->lease = r == 0 ? lease_json(lease) : NULL;
	if (r == 0 && !w->lease)
		r = tr_fail(err, EINVAL, "lease %.64s: a text is not UTF-8", lease->name);
	if (r < 0) {
		free_write(w);
		return r;
	}
	w->kube = k;
	w->deadline_ms = deadline_ms;
	w->is_upsert = !lease->version;
	w->done = done;
	w->arg = arg;
	start(w, lease->version && !*lease->version ? TR_KUBE_CREATE : TR_KUBE_PATCH_MERGE);
	if (out)
		*out = w;
	return 0;
}

void tr_lease_write_cancel(struct tr_lease_write *w)
{
	if (w->call)
		tr_kube_cancel(w->call);
	free_write(w);
}
