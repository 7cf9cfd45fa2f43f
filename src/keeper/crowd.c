/* SPDX-License-Identifier: Apache-2.0 */
#include "keeper/crowd.h"

#include <stdlib.h>

#include "keeper/process.h"
#include "rt/sat.h"

#define PEOPLE_MAX 4096u
#define GONE_NS    UINT64_C(2500000000)
#define RETRY_NS   UINT64_C(10000000000)
#define FRESH_NS   UINT64_C(5000000000) /* it may still be on its way into its slot */

void tr_crowd_close(struct tr_crowd *crowd)
{
	free(crowd->people);
	*crowd = (struct tr_crowd){ 0 };
}

struct tr_person *tr_crowd_find(struct tr_crowd *crowd, pid_t pid, int gpu, uint64_t now_ns)
{
	for (size_t i = 0; i < crowd->count; i++)
		if (crowd->people[i].pid == pid && crowd->people[i].gpu == gpu)
			return &crowd->people[i];
	if (crowd->count == crowd->room) {
		size_t room = crowd->room ? 2 * crowd->room : 32;
		struct tr_person *more = room > PEOPLE_MAX ? NULL
							   : realloc(crowd->people,
								     room * sizeof(*more));

		if (!more)
			return NULL;
		crowd->people = more;
		crowd->room = room;
	}
	crowd->people[crowd->count] = (struct tr_person){
		.pid = pid, .gpu = gpu, .is_new = true, .born_ns = now_ns, .seen_ns = now_ns
	};
	return &crowd->people[crowd->count++];
}

/* The pid in a slot is a label in the process' own namespace; together with its start time it names
 * one process of this machine. */
static bool find_slot(struct tr_person *person, struct tr_kept *kept,
		      const struct tr_process_name *name)
{
	tr_kept_count(kept);
	for (unsigned s = 0; s < kept->high_water;) {
		struct tr_state_slot some[16];
		unsigned n = kept->high_water - s < 16 ? kept->high_water - s : 16;

		if (!tr_kept_read(kept, some, n * sizeof(*some),
				  offsetof(struct tr_state, slots) + s * sizeof(*some)))
			return false;
		for (unsigned i = 0; i < n; i++, s++) {
			if (some[i].tag == 0 || some[i].start_ticks != name->start_ticks ||
			    (some[i].pid != name->inner_pid && some[i].pid != person->pid))
				continue;
			person->slot = s;
			person->tag = some[i].tag;
			return true;
		}
	}
	return false;
}

static void seat_person(struct tr_person *person, const struct tr_fleet *fleet,
			uint64_t now_ns)
{
	struct tr_process_name name;

	person->tried_ns = now_ns;
	person->is_new = false;
	person->is_named = tr_process_name(person->pid, &name) == 0;
	for (size_t i = 0; person->is_named && i < fleet->count; i++) {
		struct tr_kept *kept = fleet->slices[i];

		for (unsigned d = 0; d < kept->device_count; d++) {
			if (kept->rows[d].gpu != person->gpu)
				continue;
			if (find_slot(person, kept, &name)) {
				person->kept = kept;
				person->row = d;
				kept->has_newcomer = true;
				return;
			}
			break;
		}
	}
}

/* A slot's lock lives as long as its process, so the same tag under a lock is the same process. */
static bool is_seated(const struct tr_person *person)
{
	uint64_t tag = 0;

	return tr_kept_read(person->kept, &tag, sizeof(tag),
			    offsetof(struct tr_state, slots) +
				    person->slot * sizeof(struct tr_state_slot)) &&
	       tag == person->tag && tr_kept_is_held(person->kept, person->slot);
}

void tr_crowd_check(struct tr_crowd *crowd, int gpu, uint64_t now_ns)
{
	for (size_t i = 0; i < crowd->count; i++) {
		struct tr_person *person = &crowd->people[i];

		/* The last samples of one that is gone are still the slice's; unless it is listed
		 * again. */
		if (person->gpu != gpu || !person->kept || !person->is_listed ||
		    is_seated(person))
			continue;
		*person = (struct tr_person){ .pid = person->pid,
					      .gpu = gpu,
					      .is_new = true,
					      .is_listed = true,
					      .born_ns = now_ns,
					      .seen_ns = now_ns,
					      .samples = person->samples };
	}
}

void tr_crowd_resolve(struct tr_crowd *crowd, const struct tr_fleet *fleet, int gpu,
		      uint64_t now_ns)
{
	for (size_t i = 0; i < crowd->count; i++) {
		struct tr_person *person = &crowd->people[i];

		if (person->gpu == gpu && !person->kept &&
		    (person->is_new || tr_sat_sub(now_ns, person->born_ns) < FRESH_NS ||
		     tr_sat_sub(now_ns, person->tried_ns) > RETRY_NS))
			seat_person(person, fleet, now_ns);
	}
}

void tr_crowd_fade(struct tr_crowd *crowd, int gpu, uint64_t now_ns)
{
	size_t kept = 0;

	for (size_t i = 0; i < crowd->count; i++) {
		const struct tr_person *person = &crowd->people[i];

		if (person->gpu != gpu || tr_sat_sub(now_ns, person->seen_ns) <= GONE_NS)
			crowd->people[kept++] = *person;
	}
	crowd->count = kept;
}

void tr_crowd_forget(struct tr_crowd *crowd, const struct tr_kept *gone)
{
	size_t kept = 0;

	for (size_t i = 0; i < crowd->count; i++)
		if (crowd->people[i].kept != gone)
			crowd->people[kept++] = crowd->people[i];
	crowd->count = kept;
}
