/* SPDX-License-Identifier: Apache-2.0 */
#include "slice/page.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "rt/cleanup.h"
#include "rt/file.h"

#define WRITER_BYTE 0

static int check_spec(const struct tr_page_spec *spec, struct tr_err *err)
{
	struct tr_policy *layout = NULL;

	if (!spec->name[0] || strlen(spec->name) >= sizeof(layout->name))
		return tr_fail(err, EINVAL,
			       "slice name \"%s\": 1 to %zu bytes are accepted", spec->name,
			       sizeof(layout->name) - 1);
	if (strlen(spec->state_path) >= sizeof(layout->state_path))
		return tr_fail(err, EINVAL, "state path %s: longer than %zu bytes",
			       spec->state_path, sizeof(layout->state_path) - 1);
	if (spec->device_count == 0 || spec->device_count > TR_DEVICES_MAX)
		return tr_fail(err, EINVAL, "%u devices: a slice has 1 to %u",
			       spec->device_count, TR_DEVICES_MAX);
	for (unsigned d = 0; d < spec->device_count; d++) {
		const struct tr_page_device *device = &spec->devices[d];

		if (strlen(device->uuid) >= sizeof(layout->devices[d].uuid))
			return tr_fail(err, EINVAL, "device \"%s\": not a UUID",
				       device->uuid);
		if (device->rate_q32 > TR_RATE_ALL || device->rate_max_q32 > TR_RATE_ALL ||
		    (device->rate_max_q32 && device->rate_max_q32 < device->rate_q32))
			return tr_fail(err, EINVAL,
				       "device \"%s\": shares of time out of order",
				       device->uuid);
	}
	if (spec->serial == 0)
		return tr_fail(err, EINVAL, "serial 0");
	return 0;
}

static void fill_page(void *addr, void *arg)
{
	const struct tr_page_spec *spec = arg;
	struct tr_policy *page = addr;

	page->magic = TR_POLICY_MAGIC;
	page->abi = TR_POLICY_ABI;
	page->size = sizeof(*page);
	page->serial = spec->serial;
	page->device_count = spec->device_count;
	page->flags = spec->armed ? TR_POLICY_ARMED : 0;
	memcpy(page->name, spec->name, strlen(spec->name));
	memcpy(page->state_path, spec->state_path, strlen(spec->state_path));
	for (unsigned d = 0; d < spec->device_count; d++) {
		struct tr_policy_device *row = &page->devices[d];
		const struct tr_page_device *from = &spec->devices[d];
		uint64_t rate = from->rate_q32 ? from->rate_q32 : TR_RATE_ALL;

		memcpy(row->uuid, from->uuid, strlen(from->uuid));
		row->total_bytes = from->total_bytes;
		atomic_store(&row->limit_bytes, from->limit_bytes);
		atomic_store(&row->context_floor_bytes, from->context_floor_bytes);
		atomic_store(&row->rate_q32, rate);
		atomic_store(&row->rate_max_q32,
			     from->rate_max_q32 ? from->rate_max_q32 : rate);
		atomic_store(&row->priority, (uint32_t)from->priority);
		atomic_store(&row->mode, (uint32_t)from->on_bypass);
		atomic_store(&row->gamma_q16, UINT64_C(1) << 16);
	}
}

int tr_page_create(const char *path, const struct tr_page_spec *spec, struct tr_err *err)
{
	struct tr_page_spec copy = *spec;
	int r = check_spec(spec, err);

	if (r < 0)
		return r;
	return tr_file_create(path, sizeof(struct tr_policy), 0644, fill_page, &copy, err);
}

/* Reads each fixed field once into OUT: in cooperative use the file is the user's own. */
static int check_page(struct tr_page *out, const struct tr_policy *map, const char *path,
		      struct tr_err *err)
{
	uint32_t magic = map->magic, abi = map->abi, devices = map->device_count;

	if (magic != TR_POLICY_MAGIC)
		return tr_fail(err, EBADMSG, "%s is not a policy page: magic 0x%08x", path,
			       magic);
	if (abi != TR_POLICY_ABI || map->size != sizeof(*map))
		return tr_fail(err, EPROTONOSUPPORT, "policy page %s: layout %u, need %u",
			       path, abi, TR_POLICY_ABI);
	if (devices == 0 || devices > TR_DEVICES_MAX)
		return tr_fail(err, EBADMSG, "policy page %s: %u devices", path, devices);
	out->device_count = devices;
	out->flags = map->flags;
	out->serial = map->serial;
	memcpy(out->state_path, map->state_path, sizeof(out->state_path));
	out->state_path[sizeof(out->state_path) - 1] = '\0';
	memcpy(out->name, map->name, sizeof(out->name));
	out->name[sizeof(out->name) - 1] = '\0';
	return 0;
}

static int open_page(struct tr_page *out, const char *path, bool writable,
		     struct tr_err *err)
{
	struct tr_page page = { .lock_fd = -1 };
	void *map = NULL;
	int fd = -1;
	int r = tr_file_map(path, sizeof(struct tr_policy), writable, &map,
			    writable ? &fd : NULL, err);

	if (r < 0)
		return r;
	r = check_page(&page, map, path, err);
	if (r < 0) {
		(void)munmap(map, sizeof(struct tr_policy));
		if (fd >= 0)
			(void)close(fd);
		return r;
	}
	page.map = map;
	page.writable = writable ? map : NULL;
	page.lock_fd = fd;
	*out = page;
	return 0;
}

int tr_page_open(struct tr_page *out, const char *path, struct tr_err *err)
{
	return open_page(out, path, false, err);
}

int tr_page_open_shared(struct tr_page *out, const char *path, struct tr_err *err)
{
	return open_page(out, path, true, err);
}

int tr_page_open_writer(struct tr_page *out, const char *path, struct tr_err *err)
{
	struct tr_page page;
	int r = open_page(&page, path, true, err);

	if (r < 0)
		return r;
	for (unsigned tries = 0; (r = tr_byte_lock(page.lock_fd, WRITER_BYTE)) == -EAGAIN;
	     tries++) {
		if (tries == 200)
			break;
		tr_sleep_ns(5000000);
	}
	if (r < 0) {
		tr_page_close(&page);
		return tr_fail(err, -r, "policy page %s: another program is writing it",
			       path);
	}
	/* A writer that died between begin and end left it odd: what it wrote stands word
	 * by word. */
	if (atomic_load(&page.writable->sequence) & 1)
		atomic_fetch_add(&page.writable->sequence, 1);
	*out = page;
	return 0;
}

void tr_page_close(struct tr_page *page)
{
	if (page->map)
		(void)munmap((void *)(uintptr_t)page->map, sizeof(*page->map));
	if (page->map && page->lock_fd >= 0)
		(void)close(page->lock_fd);
	*page = (struct tr_page){ .lock_fd = -1 };
}

/* ---- in place ---- */

/* What a refill changes: the header and the rows; behind them is what the keeper learns. */
#define HEAD_BYTES offsetof(struct tr_policy, overhead_tag)

static int check_refill(const struct tr_policy *head, const char *path, const char *only,
			struct tr_page_spec *spec, struct tr_page *page, struct tr_err *err)
{
	int r = check_page(page, head, path, err);

	if (r < 0)
		return r;
	spec->name = page->name;
	spec->state_path = page->state_path;
	if (spec->serial != page->serial ||
	    spec->armed != !!(page->flags & TR_POLICY_ARMED) || page->device_count != 1 ||
	    strncmp(head->devices[0].uuid, only, sizeof(head->devices[0].uuid)) != 0)
		return tr_fail(err, EINVAL, "policy page %s: another than was made", path);
	return check_spec(spec, err);
}

/* Of HEAD only the first HEAD_BYTES are touched. */
static int refill(int fd, struct tr_policy *head, const char *path, const char *only,
		  const struct tr_page_spec *spec, struct tr_err *err)
{
	struct tr_page_spec copy = *spec;
	struct tr_page page;
	int r;

	if (!tr_read_at(fd, head, HEAD_BYTES, 0))
		return tr_fail(err, EBADMSG, "policy page %s is too short", path);
	r = check_refill(head, path, only, &copy, &page, err);
	if (r < 0)
		return r;
	memset(head->devices, 0, sizeof(head->devices));
	fill_page(head, &copy);
	/* A writer that died may have left it odd. */
	atomic_store(&head->sequence, (head->sequence | 1) + 1);
	return pwrite(fd, head, HEAD_BYTES, 0) == (ssize_t)HEAD_BYTES
		       ? 0
		       : tr_fail_errno(err, "write %s", path);
}

/* By reading and writing: to map the page for this once takes twice as long. */
int tr_page_refill(const char *path, const char *only, const struct tr_page_spec *spec,
		   struct tr_err *err)
{
	tr_autoclose int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	struct tr_policy *head;
	int r;

	if (fd < 0)
		return tr_fail_errno(err, "open %s", path);
	r = tr_byte_lock(fd, WRITER_BYTE);
	if (r < 0)
		return tr_fail(err, -r, "policy page %s: another program is writing it",
			       path);
	head = malloc(sizeof(*head));
	if (!head)
		return tr_fail(err, ENOMEM, "out of memory");
	r = refill(fd, head, path, only, spec, err);
	free(head);
	return r;
}

int tr_page_find(const struct tr_page *page, const char *uuid, tr_dev *out)
{
	for (unsigned d = 0; d < page->device_count; d++)
		if (strncmp(page->map->devices[d].uuid, uuid,
			    sizeof(page->map->devices[d].uuid)) == 0) {
			out->at = (uint8_t)d;
			return 0;
		}
	return -ENOENT;
}

void tr_page_begin(struct tr_page *page)
{
	atomic_fetch_add(&page->writable->sequence, 1);
}

void tr_page_end(struct tr_page *page)
{
	atomic_fetch_add(&page->writable->sequence, 1);
}

uint64_t tr_uuid_key(const char *uuid)
{
	uint64_t key = 0xcbf29ce484222325u; /* FNV-1a */

	for (; *uuid; uuid++)
		key = (key ^ (uint8_t)*uuid) * 0x100000001b3u;
	return key ? key : 1;
}

uint64_t tr_context_floor_bytes(int compute_major)
{
	static const struct {
		int major;
		uint64_t mib;
	} floors[] = { { 12, 640 }, { 10, 640 }, { 9, 540 },
		       { 8, 440 },  { 7, 320 },  { 0, 256 } };

	for (unsigned i = 0; i < sizeof(floors) / sizeof(*floors); i++)
		if (compute_major >= floors[i].major)
			return floors[i].mib << 20;
	return 0;
}
