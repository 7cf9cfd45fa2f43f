/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/scene.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/watch.h"
#include "bench/worker.h"
#include "rt/cleanup.h"
#include "rt/file.h"

#define END_WAIT_MS 3000

struct running {
	const struct tr_stage *stage;
	const struct tr_scene *scene;
	struct tr_machine machine;
	pid_t pids[TR_SCENE_PARTIES];
	pid_t watch_pid;
	int watch_fd;
};

void tr_series_free(struct tr_series *series)
{
	free(series->samples);
	for (unsigned i = 0; i < TR_SCENE_PARTIES; i++)
		if (series->pages[i])
			(void)munmap(series->pages[i], sizeof(struct tr_bench_page));
	*series = (struct tr_series){ 0 };
}

static int make_page(const char *path, struct tr_bench_page **out, struct tr_err *err)
{
	tr_autoclose int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	void *p;

	if (fd < 0 || ftruncate(fd, sizeof(struct tr_bench_page)) < 0)
		return tr_fail_errno(err, "make %s", path);
	p = mmap(NULL, sizeof(struct tr_bench_page), PROT_READ | PROT_WRITE, MAP_SHARED, fd,
		 0);
	if (p == MAP_FAILED)
		return tr_fail_errno(err, "map %s", path);
	*out = p;
	return 0;
}

/* The words of one tenant's command line. */
struct words {
	const char *argv[32];
	unsigned count;
	char page[96], name[64], processes[16], devices[16], loop[16], seed[24];
	char cores[16], cores_max[16], device_list[32], cache[96];
};

static void add(struct words *w, const char *word)
{
	w->argv[w->count++] = word;
	w->argv[w->count] = NULL;
}

static void add_number(struct words *w, char *room, size_t size, unsigned long long n)
{
	(void)snprintf(room, size, "%llu", n);
	add(w, room);
}

/* tranche run --cores ... -- */
static void add_run(struct words *w, const struct running *r, unsigned party)
{
	const struct tr_party *p = &r->scene->parties[party];
	size_t n = 0;

	(void)snprintf(w->name, sizeof(w->name), "bench-%d-%u", (int)getpid(), party);
	for (unsigned d = 0; d < r->scene->gpus; d++)
		n += (size_t)snprintf(w->device_list + n, sizeof(w->device_list) - n,
				      "%s%u", d ? "," : "", r->stage->first_device + d);
	add(w, r->stage->tranche);
	add(w, "run");
	add(w, "--quiet");
	add(w, "--name");
	add(w, w->name);
	add(w, "--device");
	add(w, w->device_list);
	if (p->cores) {
		add(w, "--cores");
		add_number(w, w->cores, sizeof(w->cores), p->cores);
	}
	if (p->cores_max) {
		add(w, "--cores-max");
		add_number(w, w->cores_max, sizeof(w->cores_max), p->cores_max);
	}
	if (p->priority) {
		add(w, "--priority");
		add(w, p->priority);
	}
	add(w, "--");
}

static void add_tenant(struct words *w, const struct running *r, unsigned party)
{
	const struct tr_party *p = &r->scene->parties[party];

	add(w, r->stage->tranche);
	add(w, TR_TENANT_COMMAND);
	(void)snprintf(w->page, sizeof(w->page), "%s/page-%u", r->machine.dir, party);
	add(w, w->page);
	add(w, p->workload->name);
	add_number(w, w->processes, sizeof(w->processes), p->processes);
	add_number(w, w->devices, sizeof(w->devices), r->scene->gpus);
	add_number(w, w->loop, sizeof(w->loop), r->stage->loop_q10);
	add_number(w, w->seed, sizeof(w->seed), r->scene->seed * 16 + party);
}

static int start_party(struct running *r, unsigned party, struct tr_series *series,
		       struct tr_err *err)
{
	const struct tr_party *p = &r->scene->parties[party];
	struct words w = { 0 };
	struct tr_start start = { .argv = w.argv, .out_fd = STDERR_FILENO };
	int pid;

	if (p->limiter == TR_LIMITER_OURS)
		add_run(&w, r, party);
	add_tenant(&w, r, party);
	if (p->limiter == TR_LIMITER_PEER) {
		(void)snprintf(w.cache, sizeof(w.cache), "%s/cache-%u", r->machine.dir,
			       party);
		start.cache = w.cache;
		start.preload = r->stage->peer;
		start.limit_percent = p->cores;
	}
	pid = make_page(w.page, &series->pages[party], err);
	if (pid == 0)
		pid = tr_machine_spawn(&r->machine, &start, err);
	if (pid < 0)
		return pid;
	r->pids[party] = pid;
	return 0;
}

static int start_watch(struct running *r, struct tr_err *err)
{
	char program[256], every[32], total[32];
	int fds[2];

	(void)snprintf(program, sizeof(program), "%s/sim-watch", r->stage->sim);
	(void)snprintf(every, sizeof(every), "%llu",
		       (unsigned long long)r->scene->step_ns / 1000);
	(void)snprintf(total, sizeof(total), "%llu",
		       (unsigned long long)(r->scene->warm_ns + r->scene->window_ns) /
			       1000);
	if (pipe2(fds, O_CLOEXEC) < 0)
		return tr_fail_errno(err, "pipe");
	r->watch_fd = fds[0];
	r->watch_pid = tr_machine_spawn(
		&r->machine,
		&(struct tr_start){ .argv = (const char *[]){ program, "--every-us", every,
							      "--for-us", total, NULL },
				    .out_fd = fds[1] },
		err);
	(void)close(fds[1]);
	return r->watch_pid < 0 ? r->watch_pid : 0;
}

/* Tenants end by SIGTERM as programs do; whoever does not is killed. */
static void stop_all(struct running *r)
{
	for (unsigned i = 0; i < TR_SCENE_PARTIES; i++)
		if (r->pids[i] > 0)
			(void)kill(r->pids[i], SIGTERM);
	if (r->watch_pid > 0)
		(void)kill(r->watch_pid, SIGKILL);
	for (unsigned i = 0; i < TR_SCENE_PARTIES; i++) {
		if (r->pids[i] <= 0)
			continue;
		for (unsigned ms = 0; waitpid(r->pids[i], NULL, WNOHANG) == 0; ms++) {
			if (ms == END_WAIT_MS)
				(void)kill(-r->pids[i], SIGKILL);
			tr_sleep_ns(1000000);
		}
	}
	if (r->watch_pid > 0)
		(void)waitpid(r->watch_pid, NULL, 0);
	if (r->watch_fd >= 0)
		(void)close(r->watch_fd);
	tr_machine_stop(&r->machine);
}

/* A tenant that has ended, or said why it cannot work, spoils the scene. */
static int check_parties(const struct running *r, const struct tr_series *series,
			 struct tr_err *err)
{
	for (unsigned i = 0; i < r->scene->party_count; i++)
		for (unsigned w = 0; w < r->scene->parties[i].processes; w++) {
			const struct tr_bench_worker *row = &series->pages[i]->workers[w];
			unsigned state = atomic_load(&row->state);

			if (state == TR_BENCH_FAILED)
				return tr_fail(err, EIO, "tenant %u: %.40s answers %u", i,
					       row->what, atomic_load(&row->code));
			if (state != TR_BENCH_READY)
				return tr_fail(err, EIO,
					       "tenant %u: process %u did not start", i, w);
		}
	return 0;
}

int tr_scene_run(const struct tr_stage *stage, const struct tr_scene *scene,
		 struct tr_series *out, struct tr_err *err)
{
	struct running r = { .stage = stage, .scene = scene, .watch_fd = -1 };
	int result;

	*out = (struct tr_series){ 0 };
	result = tr_machine_start(&r.machine, stage, scene, scene->party_count + 1, err);
	for (unsigned i = 0; result == 0 && i < scene->party_count; i++)
		result = start_party(&r, i, out, err);
	if (result == 0 && stage->sim)
		result = start_watch(&r, err);
	if (result == 0)
		result = stage->sim ? tr_watch_simulator(r.watch_fd, r.machine.path, scene,
							 out, err)
				    : tr_watch_pages(scene, out, err);
	if (result == 0)
		result = check_parties(&r, out, err);
	stop_all(&r);
	if (result < 0)
		tr_series_free(out);
	return result;
}

int tr_scene_calibrate(struct tr_stage *stage, struct tr_err *err)
{
	struct tr_scene scene = { .gpus = 1 };
	struct tr_bench_page *page = NULL;
	struct tr_machine machine;
	char path[96], text[32] = "";
	int fds[2] = { -1, -1 }, status = 1;
	int r = tr_machine_start(&machine, stage, &scene, 1, err);

	(void)snprintf(path, sizeof(path), "%s/page", machine.dir);
	if (r == 0)
		r = make_page(path, &page, err);
	if (r == 0 && pipe2(fds, O_CLOEXEC) < 0)
		r = tr_fail_errno(err, "pipe");
	if (r == 0)
		r = tr_machine_spawn(
			&machine,
			&(struct tr_start){
				.argv = (const char *[]){ stage->tranche, TR_TENANT_COMMAND,
							  path, "200us", "1", "1",
							  "calibrate", "1", NULL },
				.out_fd = fds[1] },
			err);
	if (r > 0) {
		(void)close(fds[1]);
		if (read(fds[0], text, sizeof(text) - 1) > 0)
			stage->loop_q10 = (unsigned)strtoul(text, NULL, 10);
		(void)close(fds[0]);
		(void)waitpid(r, &status, 0);
		r = status == 0 && stage->loop_q10
			    ? 0
			    : tr_fail(err, EIO, "no CUDA device could be measured: %.60s",
				      page->workers[0].what);
	}
	if (page)
		(void)munmap(page, sizeof(*page));
	tr_machine_stop(&machine);
	return r;
}
