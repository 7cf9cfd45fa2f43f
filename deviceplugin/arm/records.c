/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/slurp.h"
#include "deviceplugin/arm/record.h"
#include "rt/cleanup.h"
#include "rt/file.h"

#define SUFFIX ".json"
#define NEXT   ".json.new"
#define RECORD "record.json"

/* Of a record beside its slice, blank lines behind it: a page, if that is enough. */
#define BESIDE_BYTES 4096

#define LINGER_MS 100

/* What the loop tells the thread, through a pipe that carries pointers; the thread frees it. */
struct job {
	char name[TR_ALLOC_NAME];
	bool is_settling;   /* answer when all before it is on the disk */
	struct tr_buf text; /* of the record; none: remove it */
};

struct tr_records {
	char *dir;
	int dir_fd, tell_fd, hear_fd, settled[2];
	int hurry[2]; /* a byte is in it while somebody waits for the disk */
	_Atomic int problem;
	pthread_t thread;
	bool has_thread;
};

static int write_all(int fd, const char *bytes, size_t n)
{
	while (n) {
		ssize_t w = write(fd, bytes, n);

		if (w < 0 && errno == EINTR)
			continue;
		if (w <= 0)
			return w < 0 ? -errno : -EIO;
		bytes += w;
		n -= (size_t)w;
	}
	return 0;
}

/* FILE in the directory DIR, in place of one that is there. */
static int put_file(int dir, const char *file, const struct tr_buf *text, bool lasts)
{
	char next[TR_ALLOC_NAME + 12];
	int fd, r;

	(void)snprintf(next, sizeof(next), "%s.new", file);
	fd = openat(dir, next, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	r = fd < 0 ? -errno : write_all(fd, text->p, text->n);
	if (r == 0 && lasts && fsync(fd) < 0)
		r = -errno;
	if (fd >= 0 && close(fd) < 0 && r == 0)
		r = -errno;
	if (r == 0 && renameat(dir, next, dir, file) < 0)
		r = -errno;
	if (r < 0)
		(void)unlinkat(dir, next, 0);
	return r;
}

static int make_dirs(const char *dir)
{
	char *path = tr_xstrdup(dir);
	int r = 0;

	for (char *slash = strchr(path + 1, '/'); r == 0 && slash;
	     slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		r = mkdir(path, 0755) < 0 && errno != EEXIST ? -errno : 0;
		*slash = '/';
	}
	if (r == 0 && mkdir(path, 0700) < 0 && errno != EEXIST)
		r = -errno;
	free(path);
	return r;
}

/* Somebody took the directory away: another in its place, under the number that the loop uses too. */
static int make_anew(struct tr_records *records)
{
	tr_autoclose int fd = -1;
	int r = make_dirs(records->dir);

	if (r < 0)
		return r;
	fd = open(records->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 || dup3(fd, records->dir_fd, O_CLOEXEC) < 0 ? -errno : 0;
}

static void work(struct tr_records *records, struct job *job)
{
	char file[TR_ALLOC_NAME + 8];
	int r;

	(void)snprintf(file, sizeof(file), "%s" SUFFIX, job->name);
	if (job->text.n) {
		r = put_file(records->dir_fd, file, &job->text, true);
		/* A problem all the same: the others have to be written again. */
		if (r == -ENOENT && make_anew(records) == 0)
			(void)put_file(records->dir_fd, file, &job->text, true);
	} else {
		r = unlinkat(records->dir_fd, file, 0) < 0 && errno != ENOENT ? -errno : 0;
	}
	if (r < 0)
		atomic_store(&records->problem, r);
}

/* The disk can wait a little, for containers that start now cannot: the loop has the processor first. What has
 * come by then. */
static ssize_t hear(struct tr_records *records, struct job **jobs, size_t bytes)
{
	struct pollfd heard = { records->hear_fd, POLLIN, 0 },
		      hurry = { records->hurry[0], POLLIN, 0 };
	ssize_t n;

	(void)poll(&heard, 1, -1);
	(void)poll(&hurry, 1, LINGER_MS);
	do
		n = read(records->hear_fd, jobs, bytes);
	while (n < 0 && errno == EINTR);
	return n;
}

static void *run(void *arg)
{
	struct tr_records *records = arg;
	struct job *jobs[256];
	ssize_t n;

	/* As many as there are; the directory, where their names are, once for all of them. */
	while ((n = hear(records, jobs, sizeof(jobs))) > 0) {
		bool is_settling = false;

		for (ssize_t i = 0; i < n / (ssize_t)sizeof(void *); i++) {
			if (!jobs[i]->is_settling)
				work(records, jobs[i]);
			is_settling = is_settling || jobs[i]->is_settling;
			tr_buf_free(&jobs[i]->text);
			free(jobs[i]);
		}
		(void)fsync(records->dir_fd);
		if (is_settling && write(records->settled[1], "", 1) < 0)
			break;
	}
	return NULL;
}

/* Takes JOB over. With thousands before it (a disk that hangs) it is dropped, and told as a problem. */
static void tell(struct tr_records *records, struct job *job)
{
	if (write(records->tell_fd, &job, sizeof(void *)) == sizeof(void *))
		return;
	tr_buf_free(&job->text);
	free(job);
	atomic_store(&records->problem, -EAGAIN);
}

static struct job *new_job(const char *name)
{
	struct job *job = tr_xcalloc(1, sizeof(*job));

	(void)snprintf(job->name, sizeof(job->name), "%s", name);
	return job;
}

void tr_records_write(struct tr_records *records, const char *name,
		      const struct tr_buf *text)
{
	struct job *job = new_job(name);

	tr_buf_add(&job->text, text->p, text->n);
	tell(records, job);
}

void tr_records_remove(struct tr_records *records, const char *name)
{
	tell(records, new_job(name));
}

int tr_records_problem(struct tr_records *records)
{
	struct stat at;
	int r = atomic_exchange(&records->problem, 0);

	/* Taken away: whoever writes next finds out, but that may be long from now. */
	if (r == 0 && fstat(records->dir_fd, &at) == 0 && !at.st_nlink)
		r = -ENOENT;
	return r;
}

void tr_records_settle(struct tr_records *records)
{
	struct job *job = new_job("");
	char byte;

	job->is_settling = true;
	(void)!write(records->hurry[1], "", 1);
	while (write(records->tell_fd, &job, sizeof(void *)) < 0 &&
	       (errno == EINTR || errno == EAGAIN))
		(void)usleep(1000);
	while (read(records->settled[0], &byte, 1) < 0 && errno == EINTR)
		;
	(void)!read(records->hurry[0], &byte, 1);
}

static int start_thread(struct tr_records *records, struct tr_err *err)
{
	sigset_t all, old;
	int tells[2], r;

	if (pipe2(records->settled, O_CLOEXEC) < 0 || pipe2(records->hurry, O_CLOEXEC) < 0)
		return tr_fail_errno(err, "pipe");
	if (pipe2(tells, O_CLOEXEC) < 0)
		return tr_fail_errno(err, "pipe");
	records->hear_fd = tells[0];
	records->tell_fd = tells[1];
	if (fcntl(records->tell_fd, F_SETFL, O_NONBLOCK) < 0)
		return tr_fail_errno(err, "pipe");
	/* Signals are the loop's. */
	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &old);
	r = pthread_create(&records->thread, NULL, run, records);
	(void)pthread_sigmask(SIG_SETMASK, &old, NULL);
	records->has_thread = r == 0;
	return r ? tr_fail(err, r, "start a thread: %s", strerror(r)) : 0;
}

int tr_records_open(const char *dir, struct tr_records **out, struct tr_err *err)
{
	struct tr_records *records = tr_xcalloc(1, sizeof(*records));
	int r = make_dirs(dir);

	*records = (struct tr_records){ .dir = tr_xstrdup(dir),
					.dir_fd = -1,
					.tell_fd = -1,
					.hear_fd = -1,
					.settled = { -1, -1 },
					.hurry = { -1, -1 } };
	if (r < 0)
		r = tr_fail(err, -r, "make %s: %s", dir, strerror(-r));
	if (r == 0)
		records->dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (r == 0 && records->dir_fd < 0)
		r = tr_fail_errno(err, "open %s", dir);
	if (r == 0)
		r = start_thread(records, err);
	if (r < 0)
		tr_records_close(records);
	else
		*out = records;
	return r;
}

void tr_records_close(struct tr_records *records)
{
	if (!records)
		return;
	if (records->hurry[1] >= 0)
		(void)!write(records->hurry[1], "", 1);
	if (records->tell_fd >= 0)
		(void)close(records->tell_fd); /* the thread ends when it has read all */
	if (records->has_thread)
		(void)pthread_join(records->thread, NULL);
	for (size_t i = 0; i < 2; i++) {
		if (records->settled[i] >= 0)
			(void)close(records->settled[i]);
		if (records->hurry[i] >= 0)
			(void)close(records->hurry[i]);
	}
	if (records->hear_fd >= 0)
		(void)close(records->hear_fd);
	if (records->dir_fd >= 0)
		(void)close(records->dir_fd);
	free(records->dir);
	free(records);
}

/* The name that FILE is the record of; "": it is none of ours. */
static void name_of(const char *file, const char *suffix, char out[static TR_ALLOC_NAME])
{
	size_t n = strlen(file), s = strlen(suffix);
	uint64_t serial;

	out[0] = '\0';
	if (n <= s || n - s >= TR_ALLOC_NAME || strcmp(file + n - s, suffix) != 0)
		return;
	memcpy(out, file, n - s);
	out[n - s] = '\0';
	if (tr_alloc_name_parse(out, &serial) < 0)
		out[0] = '\0';
}

static int read_file(const char *path, const char *name, struct tr_alloc **out,
		     char boot_id[static TR_BOOT_ID], struct tr_err *err)
{
	tr_autofree char *text = NULL;
	size_t n;
	int r = tr_slurp(path, TR_RECORD_MAX, &text, &n, err);

	if (r == 0)
		r = tr_record_parse(text, n, out, boot_id, err);
	if (r == 0 && strcmp((*out)->name, name) != 0) {
		r = tr_fail(err, EBADMSG, "a record of %s under another name",
			    (*out)->name);
		tr_alloc_free(*out);
	}
	return r;
}

static void read_one(struct tr_records *records, const char *name,
		     tr_records_each_one *each, void *arg)
{
	tr_autofree char *path = tr_xprintf("%s/%s" SUFFIX, records->dir, name);
	char boot_id[TR_BOOT_ID] = "";
	struct tr_alloc *alloc = NULL;
	struct tr_err err = { 0 };
	int r = read_file(path, name, &alloc, boot_id, &err);

	each(name, r, r < 0 ? NULL : alloc, boot_id, &err, arg);
}

int tr_records_each(struct tr_records *records, tr_records_each_one *each, void *arg,
		    struct tr_err *err)
{
	DIR *dir = opendir(records->dir);
	struct dirent *entry;

	if (!dir)
		return tr_fail_errno(err, "open %s", records->dir);
	while ((entry = readdir(dir))) {
		char name[TR_ALLOC_NAME];

		name_of(entry->d_name, NEXT, name);
		if (name[0])
			(void)unlinkat(records->dir_fd, entry->d_name, 0);
		name_of(entry->d_name, SUFFIX, name);
		if (name[0])
			read_one(records, name, each, arg);
	}
	(void)closedir(dir);
	return 0;
}

/* ---- beside the slice ---- */

/*
 * In place of one that is a page long too: no write is torn within a page, wherever we are killed, and on tmpfs
 * nothing is allocated for it. 0: not one that long.
 */
static int overwrite(const char *path, const char *page, struct tr_err *err)
{
	tr_autoclose int fd = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

	if (fd < 0 || tr_file_size(fd) != BESIDE_BYTES)
		return 0;
	return write(fd, page, BESIDE_BYTES) == BESIDE_BYTES
		       ? 1
		       : tr_fail_errno(err, "write %s", path);
}

static int put_anew(const char *slices_dir, const char *name, const struct tr_buf *text,
		    struct tr_err *err)
{
	tr_autofree char *dir = tr_xprintf("%s/%s", slices_dir, name);
	tr_autoclose int fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	int r;

	if (fd < 0)
		return tr_fail_errno(err, "open %s", dir);
	r = put_file(fd, RECORD, text, false);
	return r < 0 ? tr_fail(err, -r, "write %s/" RECORD ": %s", dir, strerror(-r)) : 0;
}

int tr_record_put(const char *slices_dir, const char *name, const struct tr_buf *text,
		  struct tr_err *err)
{
	char path[PATH_MAX], page[BESIDE_BYTES];
	int r;

	if (text->n > sizeof(page) || snprintf(path, sizeof(path), "%s/%s/" RECORD,
					       slices_dir, name) >= (int)sizeof(path))
		return put_anew(slices_dir, name, text, err);
	memcpy(page, text->p, text->n);
	memset(page + text->n, '\n', sizeof(page) - text->n);
	r = overwrite(path, page, err);
	if (r == 0)
		r = put_anew(slices_dir, name, &(struct tr_buf){ page, sizeof(page), 0 },
			     err);
	return r < 0 ? r : 0;
}

int tr_record_get(const char *slices_dir, const char *name, struct tr_alloc **out,
		  char boot_id[static TR_BOOT_ID], struct tr_err *err)
{
	tr_autofree char *path = tr_xprintf("%s/%s/" RECORD, slices_dir, name);

	return read_file(path, name, out, boot_id, err);
}
