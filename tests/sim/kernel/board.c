/* SPDX-License-Identifier: Apache-2.0 */
#include "kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <unistd.h>

#include "rm/fault.h"

static struct wire_board *board;
static int notify_fd = -1;

int sim_memfd(const char *name, uint64_t bytes)
{
	int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING), r;

	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)bytes) != 0 ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
		r = -errno;
		close(fd);
		return r;
	}
	return fd;
}

/* The file's text, checked: a file with a mistake counts as none. */
static int read_faults(char *text, size_t room, size_t *n, char *why, size_t why_bytes)
{
	struct fault_rules *rules;
	ssize_t got;
	int fd, r;

	*n = 0;
	fd = openat(sim_kernel.dir_fd, WIRE_FAULTS, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return 0;
	got = read(fd, text, room);
	close(fd);
	if (got < 0 || (size_t)got == room) {
		snprintf(why, why_bytes, "faults: not a text below %zu bytes", room);
		return -EINVAL;
	}
	rules = calloc(1, sizeof(*rules));
	if (!rules)
		abort();
	r = rm_faults_parse(rules, text, (size_t)got, why, why_bytes);
	free(rules);
	if (r == 0)
		*n = (size_t)got;
	return r;
}

static void publish(const char *text, size_t n)
{
	atomic_fetch_add(&board->generation, 1);
	memcpy(board->text, text, n);
	board->text_bytes = (uint32_t)n;
	atomic_fetch_add(&board->generation, 1);
}

static void write_error(const char *why)
{
	int fd;

	fd = openat(sim_kernel.dir_fd, WIRE_FAULTS_ERROR,
		    O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd < 0)
		return;
	dprintf(fd, "%s\n", why);
	close(fd);
}

static void refresh(void)
{
	static char text[sizeof(board->text)];
	char why[200];
	size_t n;

	if (read_faults(text, sizeof(text), &n, why, sizeof(why)) != 0)
		write_error(why);
	else
		unlinkat(sim_kernel.dir_fd, WIRE_FAULTS_ERROR, 0);
	publish(text, n);
}

int sim_board_open(char *why, size_t n)
{
	static char text[sizeof(board->text)];
	char path[64];
	size_t bytes;

	sim_kernel.board_fd = sim_memfd("sim-board", WIRE_BOARD_BYTES);
	if (sim_kernel.board_fd < 0)
		return sim_kernel.board_fd;
	board = mmap(NULL, WIRE_BOARD_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED,
		     sim_kernel.board_fd, 0);
	if (board == MAP_FAILED)
		return -errno;
	notify_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", sim_kernel.dir_fd);
	if (notify_fd >= 0 &&
	    inotify_add_watch(notify_fd, path,
			      IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE |
				      IN_DELETE_SELF) < 0) {
		close(notify_fd);
		notify_fd = -1;
	}
	if (read_faults(text, sizeof(text), &bytes, why, n) != 0)
		return -EINVAL;
	publish(text, bytes);
	return 0;
}

int sim_board_state(uint32_t device, uint32_t key, uint64_t value)
{
	struct wire_state *state = &board->state;
	uint64_t count = atomic_load(&state->xid_count);

	if (device >= sim_kernel.settings.machine.device_count || key > RM_XID)
		return -EINVAL;
	if (key < RM_STATE_KEYS) {
		atomic_store(&state->values[device][key], value);
		return 0;
	}
	atomic_store(&state->xids[count % WIRE_XIDS],
		     (uint64_t)device << 32 | (uint32_t)value);
	atomic_store(&state->xid_count, count + 1);
	return 0;
}

int sim_board_notify_fd(void)
{
	return notify_fd;
}

void sim_board_notified(int fd)
{
	_Alignas(struct inotify_event) char events[4096];
	bool is_edited = false;
	ssize_t n;

	while ((n = read(fd, events, sizeof(events))) > 0) {
		for (char *p = events; p < events + n;) {
			/* aligned: the kernel pads the names */
			struct inotify_event *e = (struct inotify_event *)(void *)p;

			if (e->len && strcmp(e->name, WIRE_FAULTS) == 0)
				is_edited = true;
			/* nobody can find this machine any more */
			if ((e->mask & (IN_DELETE_SELF | IN_IGNORED)) ||
			    (e->len && (e->mask & (IN_DELETE | IN_MOVED_FROM)) &&
			     strcmp(e->name, WIRE_SOCKET) == 0))
				sim_kernel.is_unfindable = true;
			p += sizeof(*e) + e->len;
		}
	}
	if (is_edited)
		refresh();
}
