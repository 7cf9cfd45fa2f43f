/* SPDX-License-Identifier: Apache-2.0 */
#include "keeper/fleet.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "rt/cleanup.h"
#include "rt/file.h"
#include "rt/sat.h"

#define SLICES_MAX 4096u
#define SCAN_NS    UINT64_C(1000000000)
#define ASLEEP_NS  UINT64_C(900000000)
#define ROOT_NS    UINT64_C(100000000) /* a program takes longer to start */

/* ---- reading a state file ------------------------------------------------------------ */

bool tr_kept_read(const struct tr_kept *kept, void *out, size_t bytes, size_t offset)
{
	return tr_read_at(kept->state_fd, out, bytes, (off_t)offset);
}

/* Somebody holds one of LENGTH bytes from FIRST. */
static bool is_range_held(const struct tr_kept *kept, off_t first, off_t length)
{
	struct flock lock = {
		.l_type = F_WRLCK,
		.l_whence = SEEK_SET,
		.l_start = first,
		.l_len = length,
	};

	return fcntl(kept->state_fd, F_OFD_GETLK, &lock) < 0 || lock.l_type != F_UNLCK;
}

bool tr_kept_is_held(const struct tr_kept *kept, unsigned s)
{
	return is_range_held(kept, (off_t)s, 1);
}

/* Others' pages are copied: root looks at those of all users. */
static bool read_rows(struct tr_kept *kept)
{
	size_t bytes = kept->device_count * sizeof(*kept->copy);

	return pread(kept->page_fd, kept->copy, bytes,
		     offsetof(struct tr_policy, devices)) == (ssize_t)bytes;
}

/* Whoever sleeps need not be asked often whether it is still there: it keeps nobody from anything. */
static bool is_asleep(const struct tr_kept *kept, uint64_t now_ns)
{
	for (unsigned d = 0; d < kept->device_count; d++)
		if (kept->rows[d].gpu >= 0 &&
		    !tr_activity_is_dozing(&kept->rows[d].activity, now_ns))
			return false;
	return true;
}

void tr_kept_look_in(struct tr_kept *kept, uint64_t now_ns)
{
	if (kept->is_ours && kept->is_occupied && is_asleep(kept, now_ns) &&
	    tr_sat_sub(now_ns, kept->looked_in_ns) < ASLEEP_NS)
		return;
	kept->looked_in_ns = now_ns;
	kept->is_occupied = kept->device_count && is_range_held(kept, 0, TR_SLOTS_MAX) &&
			    (kept->is_ours || read_rows(kept));
}

void tr_kept_count(struct tr_kept *kept)
{
	uint32_t high_water = 0;

	(void)tr_kept_read(kept, &high_water, sizeof(high_water),
			   offsetof(struct tr_state, high_water));
	kept->high_water = high_water < TR_SLOTS_MAX ? high_water : TR_SLOTS_MAX;
}

void tr_kept_refresh(struct tr_kept *kept)
{
	uint64_t digest = 0;

	tr_kept_count(kept);
	kept->has_newcomer = false;
	for (unsigned s = 0; s < kept->high_water;) {
		struct tr_state_slot some[16];
		unsigned n = kept->high_water - s < 16 ? kept->high_water - s : 16;

		if (!tr_kept_read(kept, some, n * sizeof(*some),
				  offsetof(struct tr_state, slots) + s * sizeof(*some)))
			break;
		for (unsigned i = 0; i < n; i++, s++)
			digest = (digest ^ some[i].tag) * 0x100000001b3u + s;
	}
	kept->crowd = digest;
}

/* ---- the list ------------------------------------------------------------------------ */

void tr_fleet_open(struct tr_fleet *out, const struct tr_gpus *gpus)
{
	*out = (struct tr_fleet){ .gpus = gpus };
}

/* Of it stays that it is there: a slice of other devices need not be opened at each scan. */
static void close_kept(struct tr_kept *kept)
{
	tr_page_close(&kept->page);
	if (kept->state_fd >= 0)
		(void)close(kept->state_fd);
	if (kept->page_fd >= 0)
		(void)close(kept->page_fd);
	kept->state_fd = kept->page_fd = -1;
	free(kept->copy);
	free(kept->rows);
	kept->copy = NULL;
	kept->devices = NULL;
	kept->rows = NULL;
	kept->device_count = 0;
	kept->is_occupied = false;
}

static void free_kept(struct tr_kept *kept)
{
	close_kept(kept);
	free(kept);
}

void tr_fleet_close(struct tr_fleet *fleet)
{
	for (size_t i = 0; i < fleet->count; i++)
		free_kept(fleet->slices[i]);
	free(fleet->slices);
	*fleet = (struct tr_fleet){ 0 };
}

static int find_gpu(const struct tr_gpus *gpus, const struct tr_policy_device *row)
{
	for (unsigned g = 0; g < gpus->count; g++)
		if (strncmp(gpus->gpus[g].uuid, row->uuid, sizeof(row->uuid)) == 0)
			return (int)g;
	return -1;
}

static int open_others_page(struct tr_kept *kept, const struct tr_slice_dir *dir)
{
	struct {
		uint32_t magic, abi;
		uint64_t size, serial;
		uint32_t device_count, flags;
	} head;

	_Static_assert(offsetof(struct tr_policy, flags) == 28, "the head of a page");
	kept->page_fd = open(dir->policy_path,
			     O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (kept->page_fd < 0)
		return -errno;
	if (pread(kept->page_fd, &head, sizeof(head), 0) != (ssize_t)sizeof(head) ||
	    head.magic != TR_POLICY_MAGIC || head.abi != TR_POLICY_ABI ||
	    head.device_count == 0 || head.device_count > TR_DEVICES_MAX)
		return -EBADMSG;
	kept->device_count = head.device_count;
	kept->is_armed = head.flags & TR_POLICY_ARMED;
	kept->copy = calloc(head.device_count, sizeof(*kept->copy));
	kept->devices = kept->copy;
	if (!kept->copy)
		return -ENOMEM;
	return read_rows(kept) ? 0 : -EBADMSG;
}

static int open_own_page(struct tr_kept *kept, const struct tr_slice_dir *dir,
			 struct tr_err *err)
{
	int r = tr_page_open_shared(&kept->page, dir->policy_path, err);

	if (r < 0)
		return r;
	kept->device_count = kept->page.device_count;
	kept->is_armed = kept->page.flags & TR_POLICY_ARMED;
	kept->devices = kept->page.map->devices;
	return 0;
}

static int open_files(struct tr_kept *kept, const struct tr_slice_dir *dir,
		      struct tr_err *err)
{
	/* Its owner need not note each of a hundred looks a second. */
	kept->state_fd = tr_regular_open(dir->state_path, O_RDONLY | O_NOATIME);
	if (kept->state_fd == -EPERM)
		kept->state_fd = tr_regular_open(dir->state_path, O_RDONLY);
	if (kept->state_fd < 0)
		return tr_fail(err, -kept->state_fd, "open %s: %s", dir->state_path,
			       strerror(-kept->state_fd));
	if (tr_file_size(kept->state_fd) < (int64_t)sizeof(struct tr_state))
		return tr_fail(err, EBADMSG, "%s is not a state file: too short",
			       dir->state_path);
	return kept->is_ours ? open_own_page(kept, dir, err) : open_others_page(kept, dir);
}

static struct tr_kept *open_kept(const struct tr_fleet *fleet,
				 const struct tr_slice_dir *dir, bool is_ours,
				 struct tr_err *err)
{
	struct tr_kept *kept = calloc(1, sizeof(*kept));
	uint64_t now_ns = tr_clock_ns();

	if (!kept) {
		(void)tr_fail(err, ENOMEM, "no memory for the keeper of %s", dir->path);
		return NULL;
	}
	kept->page.lock_fd = kept->page_fd = kept->state_fd = -1;
	(void)snprintf(kept->path, sizeof(kept->path), "%s", dir->path);
	kept->is_ours = is_ours;
	kept->is_there = true;
	if (open_files(kept, dir, err) == 0)
		kept->rows = calloc(kept->device_count, sizeof(*kept->rows));
	if (!kept->rows) {
		free_kept(kept);
		return NULL;
	}
	for (unsigned d = 0; d < kept->device_count; d++)
		kept->rows[d].gpu = find_gpu(fleet->gpus, &kept->devices[d]);
	tr_kept_look_in(kept, now_ns);
	tr_kept_refresh(kept);
	return kept;
}

static bool has_gpu_here(const struct tr_kept *kept)
{
	for (unsigned d = 0; d < kept->device_count; d++)
		if (kept->rows[d].gpu >= 0)
			return true;
	return false;
}

static int append(struct tr_fleet *fleet, struct tr_kept *kept)
{
	if (fleet->count == fleet->room) {
		size_t room = fleet->room ? 2 * fleet->room : 16;
		struct tr_kept **more = room > SLICES_MAX
						? NULL
						: realloc(fleet->slices,
							  room * sizeof(struct tr_kept *));

		if (!more)
			return -ENOMEM;
		fleet->slices = more;
		fleet->room = room;
	}
	fleet->slices[fleet->count++] = kept;
	return 0;
}

int tr_fleet_add(struct tr_fleet *fleet, const struct tr_slice_dir *dir, struct tr_err *err)
{
	struct tr_err why = { 0 };
	struct tr_kept *kept = open_kept(fleet, dir, true, &why);

	if (!kept)
		return tr_fail(err, EINVAL, "%s", why.msg);
	if (append(fleet, kept) < 0) {
		free_kept(kept);
		return tr_fail(err, ENOMEM, "too many slices");
	}
	return 0;
}

int tr_fleet_drop(struct tr_fleet *fleet, const char *path,
		  void (*forget)(const struct tr_kept *kept, void *arg), void *arg)
{
	for (size_t i = 0; i < fleet->count; i++) {
		struct tr_kept *kept = fleet->slices[i];

		if (strcmp(kept->path, path) != 0)
			continue;
		forget(kept, arg);
		free_kept(kept);
		fleet->slices[i] = fleet->slices[--fleet->count];
		return 0;
	}
	return -ENOENT;
}

/* ---- scanning ------------------------------------------------------------------------ */

static struct tr_kept *find_kept(const struct tr_fleet *fleet, const char *path)
{
	for (size_t i = 0; i < fleet->count; i++)
		if (strcmp(fleet->slices[i]->path, path) == 0)
			return fleet->slices[i];
	return NULL;
}

static int visit_slice(const struct tr_slice_dir *dir, void *arg)
{
	struct tr_fleet *fleet = arg;
	struct tr_kept *kept = find_kept(fleet, dir->path);
	size_t n = strlen(fleet->root);
	struct stat st;

	if (stat(dir->policy_path, &st) < 0 || (kept && kept->is_there))
		return 0;
	if (kept && kept->inode == st.st_ino) {
		kept->is_there = true;
		return 0;
	}
	/* Made anew under an old name: the old one goes with this scan. */
	kept = open_kept(
		fleet, dir,
		n && strncmp(dir->path, fleet->root, n) == 0 && dir->path[n] == '/', NULL);
	if (!kept)
		return 0;
	kept->inode = st.st_ino;
	if (!has_gpu_here(kept))
		close_kept(kept);
	if (append(fleet, kept) < 0)
		free_kept(kept);
	return 0;
}

static bool is_due(struct tr_fleet *fleet, uint64_t now_ns)
{
	struct stat st;
	bool is_changed;

	/* A path costs as much as all else of a look in which nobody woke. */
	if (fleet->root_ns && now_ns >= fleet->root_ns && now_ns - fleet->root_ns < ROOT_NS)
		return false;
	fleet->root_ns = now_ns;
	if (stat(fleet->root, &st) < 0)
		memset(&st, 0, sizeof(st));
	is_changed = st.st_mtim.tv_sec != fleet->root_changed.tv_sec ||
		     st.st_mtim.tv_nsec != fleet->root_changed.tv_nsec;
	fleet->root_changed = st.st_mtim;
	/* now < then: the clock is another one than it was. */
	return is_changed || fleet->scanned_ns == 0 || now_ns < fleet->scanned_ns ||
	       now_ns - fleet->scanned_ns >= SCAN_NS;
}

void tr_fleet_scan(struct tr_fleet *fleet, uint64_t now_ns,
		   void (*forget)(const struct tr_kept *kept, void *arg), void *arg)
{
	size_t kept_count = 0;

	if (fleet->is_given)
		return;
	if (!fleet->root[0] && tr_slices_root(fleet->root, sizeof(fleet->root), NULL) < 0)
		fleet->root[0] = '\0';
	if (!is_due(fleet, now_ns))
		return;
	fleet->scanned_ns = now_ns;
	for (size_t i = 0; i < fleet->count; i++)
		fleet->slices[i]->is_there = false;
	(void)tr_slices_each(visit_slice, fleet);
	for (size_t i = 0; i < fleet->count; i++) {
		struct tr_kept *kept = fleet->slices[i];

		if (kept->is_there) {
			fleet->slices[kept_count++] = kept;
			continue;
		}
		forget(kept, arg);
		free_kept(kept);
	}
	fleet->count = kept_count;
}

int tr_kept_row_of(const struct tr_kept *kept, int gpu)
{
	for (unsigned d = 0; d < kept->device_count; d++)
		if (kept->rows[d].gpu == gpu)
			return (int)d;
	return -1;
}
