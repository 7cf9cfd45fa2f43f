/* SPDX-License-Identifier: Apache-2.0 */
#include "keeper/slices.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "rt/cleanup.h"
#include "rt/file.h"
#include "rt/sat.h"
#include "slice/ledger.h"
#include "slice/seat.h"
#include "tranche/paths.h"

#define TMPFS 0x01021994

static bool is_tmpfs(const char *path)
{
	struct statfs fs;

	return statfs(path, &fs) == 0 && fs.f_type == TMPFS;
}

/* Where the slices are that nobody else sees; NULL: with all others. */
static const char *name_private(void)
{
	const char *path = getenv(TR_ENV_SLICES);

	return path && *path ? path : NULL;
}

/* Where this user's slices go; the directory above it must be tmpfs. */
static void name_root(char *out, size_t room)
{
	const char *runtime = getenv("XDG_RUNTIME_DIR"), *own = name_private();

	if (own)
		(void)snprintf(out, room, "%s", own);
	else if (geteuid() == 0 && is_tmpfs("/run"))
		(void)snprintf(out, room, "%s", TR_SLICES_ROOT);
	else if (geteuid() != 0 && runtime && strlen(runtime) < 80 && is_tmpfs(runtime))
		(void)snprintf(out, room, "%s/tranche", runtime);
	else
		(void)snprintf(out, room, TR_SLICES_USER, (unsigned)geteuid());
}

/* MODE whatever the umask says; one that exists is left as it is. */
static int make_dir(const char *path, mode_t mode)
{
	if (mkdir(path, mode) < 0)
		return errno == EEXIST ? 0 : -errno;
	return chmod(path, mode) < 0 ? -errno : 0;
}

static int make_dirs(const char *path, mode_t mode)
{
	char at[256];

	(void)snprintf(at, sizeof(at), "%s", path);
	for (char *slash = strchr(at + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		int r;

		*slash = '\0';
		r = make_dir(at, 0755);
		if (r < 0)
			return r;
		*slash = '/';
	}
	return make_dir(at, mode);
}

int tr_slices_root_make(const char *root, struct tr_err *err)
{
	struct stat st;
	int r = make_dirs(root, geteuid() == 0 ? 0755 : 0700);

	if (r < 0)
		return tr_fail(err, -r, "make %s: %s", root, strerror(-r));
	if (lstat(root, &st) < 0)
		return tr_fail_errno(err, "%s", root);
	/* /dev/shm is everybody's: somebody else may have been there first. */
	if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & 022))
		return tr_fail(err, EPERM, "%s is not a directory of this user alone",
			       root);
	if (!is_tmpfs(root))
		return tr_fail(err, ENOTSUP, "%s is not on tmpfs: a slice's files must be",
			       root);
	return 0;
}

int tr_slices_root(char *out, size_t room, struct tr_err *err)
{
	if (name_private() && (name_private()[0] != '/' || strlen(name_private()) >= 80))
		return tr_fail(err, EINVAL,
			       TR_ENV_SLICES " \"%s\": a whole path of less than 80 bytes",
			       name_private());
	name_root(out, room);
	return tr_slices_root_make(out, err);
}

int tr_slice_name_check(const char *name, struct tr_err *err)
{
	static const char accepted[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
		"0123456789._-";
	size_t n = strlen(name);

	if (n == 0 || n > 63 || strspn(name, accepted) != n || name[0] == '.' ||
	    name[0] == '-')
		return tr_fail(
			err, EINVAL,
			"slice name \"%s\": 1 to 63 letters, digits, '.', '_', '-', not "
			"starting with '.' or '-'",
			name);
	return 0;
}

int tr_slice_at(struct tr_slice_dir *dir, const char *root, const char *name)
{
	dir->alive_fd = -1;
	if (snprintf(dir->path, sizeof(dir->path), "%s/%s", root, name) >=
	    (int)sizeof(dir->path))
		return -ENAMETOOLONG;
	(void)snprintf(dir->policy_path, sizeof(dir->policy_path), "%s/ro/policy",
		       dir->path);
	(void)snprintf(dir->state_path, sizeof(dir->state_path), "%s/rw/state", dir->path);
	return 0;
}

/* `alive` open; locked when LOCK. -EAGAIN: a living host side has it. */
static int open_alive(const struct tr_slice_dir *dir, bool create, bool lock)
{
	char path[256];
	int fd, r;

	(void)snprintf(path, sizeof(path), "%s/alive", dir->path);
	fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | (create ? O_CREAT : 0), 0600);
	if (fd < 0)
		return -errno;
	r = lock ? tr_byte_lock(fd, 0) : tr_byte_is_locked(fd, 0);
	if (r != 0) {
		(void)close(fd);
		return r < 0 ? r : -EAGAIN;
	}
	return fd;
}

bool tr_slice_is_alive(const struct tr_slice_dir *dir)
{
	tr_autoclose int fd = open_alive(dir, false, false);

	return fd == -EAGAIN || fd == -EACCES;
}

/* Processes that outlived their host side still hold their slots. */
bool tr_slice_is_held(const struct tr_slice_dir *dir)
{
	tr_autoclose int fd = tr_regular_open(dir->state_path, O_RDWR);
	struct flock slots = { .l_type = F_WRLCK,
			       .l_whence = SEEK_SET,
			       .l_len = TR_SLOTS_MAX };

	return fd >= 0 && fcntl(fd, F_OFD_GETLK, &slots) == 0 && slots.l_type != F_UNLCK;
}

static void remove_files(const struct tr_slice_dir *dir)
{
	static const char *const names[] = {
		"ro/policy", "rw/state", "ro/ld.so.preload", "ro/ld.so.cache", "alive",
		"ro",        "rw"
	};
	char path[256];

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		(void)snprintf(path, sizeof(path), "%s/%s", dir->path, names[i]);
		(void)(unlink(path) < 0 && rmdir(path));
	}
	(void)rmdir(dir->path);
}

/* Makes ROOT/NAME ours, taking over what a dead host side left. */
static int claim_dir(struct tr_slice_dir *dir, const char *name, struct tr_err *err)
{
	char path[256];
	int fd, r;

	r = make_dir(dir->path, 0755);
	if (r < 0)
		return tr_fail(err, -r, "make %s: %s", dir->path, strerror(-r));
	fd = open_alive(dir, true, true);
	if (fd == -EAGAIN)
		return tr_fail(err, EEXIST, "a slice named \"%s\" is running", name);
	if (fd < 0)
		return tr_fail(err, -fd, "%s/alive: %s", dir->path, strerror(-fd));
	if (tr_slice_is_held(dir)) {
		(void)close(fd);
		return tr_fail(
			err, EEXIST,
			"a slice named \"%s\" is gone, but processes still run in it",
			name);
	}
	dir->alive_fd = fd;
	(void)unlink(dir->policy_path);
	(void)unlink(dir->state_path);
	for (unsigned i = 0; i < 2; i++) {
		(void)snprintf(path, sizeof(path), "%s/%s", dir->path, i ? "rw" : "ro");
		r = make_dir(path, 0755);
		if (r < 0)
			return tr_fail(err, -r, "make %s: %s", path, strerror(-r));
	}
	return 0;
}

int tr_slice_make(struct tr_slice_dir *out, const char *name, struct tr_page_spec *spec,
		  const char *seen_state_path, struct tr_err *err)
{
	/* A slice of root's may hold programs of any user; a user's own holds that user's.
	 */
	unsigned state_mode = geteuid() == 0 ? 0666 : 0600;
	struct tr_slice_dir dir = { .alive_fd = -1 };
	char root[160];
	int r = tr_slice_name_check(name, err);

	if (r == 0)
		r = tr_slices_root(root, sizeof(root), err);
	if (r == 0 && tr_slice_at(&dir, root, name) < 0)
		r = tr_fail(err, ENAMETOOLONG, "%s/%s is too long", root, name);
	if (r == 0)
		r = claim_dir(&dir, name, err);
	if (r < 0)
		return r;
	spec->name = name;
	spec->state_path = seen_state_path ? seen_state_path : dir.state_path;
	r = tr_state_create(dir.state_path, spec->serial, state_mode, err);
	if (r == 0)
		r = tr_page_create(dir.policy_path, spec, err);
	if (r < 0) {
		tr_slice_remove(&dir);
		return r;
	}
	*out = dir;
	return 0;
}

int tr_slice_repage(const struct tr_slice_dir *dir, struct tr_page_spec *spec,
		    const char *seen_state_path, struct tr_err *err)
{
	char next[240];
	int r;

	(void)snprintf(next, sizeof(next), "%s.next", dir->policy_path);
	(void)unlink(next); /* of a host side that was killed here */
	spec->name = strrchr(dir->path, '/') + 1;
	spec->state_path = seen_state_path ? seen_state_path : dir->state_path;
	r = tr_page_create(next, spec, err);
	if (r == 0 && rename(next, dir->policy_path) < 0) {
		r = tr_fail_errno(err, "rename %s", next);
		(void)unlink(next);
	}
	return r;
}

static int sweep_one(const struct tr_slice_dir *dir, void *arg)
{
	struct tr_slice_dir own = *dir;
	struct stat st;

	(void)arg;
	/* Only what is this user's, and never a slice that lives or is being made: its
	 * `alive` is locked from before its page appears. */
	if (stat(dir->path, &st) < 0 || st.st_uid != geteuid())
		return 0;
	own.alive_fd = open_alive(dir, false, true);
	if (own.alive_fd < 0)
		return 0;
	if (!tr_slice_is_held(&own))
		tr_slice_remove(&own);
	else
		(void)close(own.alive_fd);
	return 0;
}

bool tr_slice_end(struct tr_slice_dir *dir)
{
	bool is_occupied = tr_slice_is_held(dir);

	if (!is_occupied)
		tr_slice_remove(dir);
	else
		(void)close(tr_take_fd(&dir->alive_fd));
	return !is_occupied;
}

void tr_slices_sweep(void)
{
	(void)tr_slices_each(sweep_one, NULL);
}

void tr_slice_remove(struct tr_slice_dir *dir)
{
	/* Programs may live on in it (daemonised): they keep their mappings; only `ps`
	 * forgets. */
	remove_files(dir);
	if (dir->alive_fd >= 0)
		(void)close(dir->alive_fd);
	dir->alive_fd = -1;
}

static int visit_root(const char *root, int (*visit)(const struct tr_slice_dir *, void *),
		      void *arg)
{
	DIR *entries = opendir(root);
	struct dirent *entry;
	int r = 0;

	while (entries && r == 0 && (entry = readdir(entries))) {
		struct tr_slice_dir dir;

		if (tr_slice_name_check(entry->d_name, NULL) == 0 &&
		    tr_slice_at(&dir, root, entry->d_name) == 0 &&
		    access(dir.policy_path, R_OK) == 0)
			r = visit(&dir, arg);
	}
	if (entries)
		(void)closedir(entries);
	return r;
}

/* Every directory of /dev/shm that is named like a user's root and is that user's. */
static int visit_shm(int (*visit)(const struct tr_slice_dir *, void *), void *arg)
{
	DIR *entries = opendir("/dev/shm");
	struct dirent *entry;
	int r = 0;

	while (entries && r == 0 && (entry = readdir(entries))) {
		char root[160], *end;
		unsigned long uid;
		struct stat st;

		if (strncmp(entry->d_name, "tranche-", 8) != 0)
			continue;
		uid = strtoul(entry->d_name + 8, &end, 10);
		(void)snprintf(root, sizeof(root), TR_SLICES_USER, (unsigned)uid);
		if (end != entry->d_name + 8 && !*end && lstat(root, &st) == 0 &&
		    S_ISDIR(st.st_mode) && st.st_uid == uid)
			r = visit_root(root, visit, arg);
	}
	if (entries)
		(void)closedir(entries);
	return r;
}

int tr_slices_each(int (*visit)(const struct tr_slice_dir *dir, void *arg), void *arg)
{
	char own[160];
	int r;

	if (name_private())
		return visit_root(name_private(), visit, arg);
	r = visit_root(TR_SLICES_ROOT, visit, arg);
	if (r == 0)
		r = visit_shm(visit, arg);
	name_root(own, sizeof(own));
	if (r == 0 && strncmp(own, "/dev/shm/", 9) != 0 && strcmp(own, TR_SLICES_ROOT) != 0)
		r = visit_root(own, visit, arg);
	return r;
}

struct search {
	const char *name;
	struct tr_slice_dir found;
	unsigned count;
};

static int match_name(const struct tr_slice_dir *dir, void *arg)
{
	struct search *search = arg;

	if (strcmp(strrchr(dir->path, '/') + 1, search->name) == 0) {
		search->found = *dir;
		search->count++;
	}
	return 0;
}

int tr_slice_find(struct tr_slice_dir *out, const char *name, struct tr_err *err)
{
	struct search search = { .name = name };
	char own[160];

	/* One's own comes first: others may use the same name. */
	name_root(own, sizeof(own));
	if (tr_slice_name_check(name, NULL) == 0 && tr_slice_at(out, own, name) == 0 &&
	    access(out->policy_path, F_OK) == 0)
		return 0;
	(void)tr_slices_each(match_name, &search);
	if (search.count == 0)
		return tr_fail(err, ENOENT, "no slice is named \"%s\"", name);
	if (search.count > 1)
		return tr_fail(err, ENOENT, "slices of %u users are named \"%s\"",
			       search.count, name);
	*out = search.found;
	return 0;
}

/* In the copy only: what dead processes left counts until somebody of the slice looks; a
 * reader need not wait for that. */
static void forget_dead(struct tr_state *copy, int fd)
{
	for (unsigned s = 0; s < copy->high_water; s++) {
		if (copy->slots[s].tag == 0 || tr_byte_is_locked(fd, (off_t)s) != 0)
			continue;
		memset(&copy->slots[s], 0, sizeof(copy->slots[s]));
		for (unsigned d = 0; d < TR_DEVICES_MAX; d++)
			memset(&copy->mem[d][s], 0, sizeof(copy->mem[d][s]));
	}
}

/* BYTES of the file that begin where FIELD is in COPY. */
static bool read_part(int fd, struct tr_state *copy, const void *field, size_t bytes)
{
	size_t at = (size_t)((const char *)field - (const char *)copy);

	return tr_read_at(fd, (char *)copy + at, bytes, (off_t)at);
}

/* What slots below the high water can hold; the rest of these arrays is nobody's. */
static bool read_slots(int fd, struct tr_state *copy)
{
	size_t n = copy->high_water, rows = tr_usage_rows(copy->high_water);

	for (unsigned d = 0; d < TR_DEVICES_MAX; d++)
		if (!read_part(fd, copy, copy->mem[d], n * sizeof(copy->mem[d][0])))
			return false;
	return read_part(fd, copy, copy->usage, rows * sizeof(copy->usage[0])) &&
	       read_part(fd, copy, copy->slots, n * sizeof(copy->slots[0]));
}

int tr_state_read(const char *path, struct tr_state *copy, struct tr_err *err)
{
	tr_autoclose int fd = tr_regular_open(path, O_RDONLY);

	if (fd == -EBADMSG)
		return tr_fail(err, EBADMSG, "%s is not a regular file", path);
	if (fd < 0)
		return tr_fail(err, -fd, "open %s: %s", path, strerror(-fd));
	if (!read_part(fd, copy, copy, offsetof(struct tr_state, mem)))
		return tr_fail(err, EBADMSG, "%s is not a state file: too short", path);
	if (copy->magic != TR_STATE_MAGIC)
		return tr_fail(err, EBADMSG, "%s is not a state file", path);
	if (copy->abi != TR_STATE_ABI)
		return tr_fail(err, EPROTONOSUPPORT,
			       "%s is of another version of tranche: layout %u, this one "
			       "reads %u",
			       path, copy->abi, TR_STATE_ABI);
	if (copy->high_water > TR_SLOTS_MAX)
		copy->high_water = TR_SLOTS_MAX;
	if (!read_slots(fd, copy))
		return tr_fail(err, EBADMSG, "%s is not a state file: too short", path);
	forget_dead(copy, fd);
	return 0;
}

void tr_slice_use(const struct tr_policy *page, const struct tr_state *copy, unsigned d,
		  struct tr_slice_use *out)
{
	*out = (struct tr_slice_use){
		.peak_bytes = copy->devices[d].peak_bytes,
		.refused = copy->devices[d].refused,
	};
	for (unsigned s = 0; s < TR_SLOTS_MAX && s < copy->high_water; s++) {
		const struct tr_state_mem *mem = &copy->mem[d][s];
		uint64_t overhead = tr_overhead(page, copy, d, s);

		out->used_bytes = tr_sat_add(out->used_bytes, mem->used_bytes);
		out->overhead_bytes = tr_sat_add(out->overhead_bytes, overhead);
		out->processes += mem->used_bytes || overhead;
	}
}
