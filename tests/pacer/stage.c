/* SPDX-License-Identifier: Apache-2.0 */
#include "stage.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "keeper/slices.h"
#include "rm/inspect.h"
#include "rm/rm.h"
#include "rm/time.h"

#define WORDS_MAX 48
#define START_NS  (60 * S)

static struct tenant tenants[TENANTS];
static unsigned tenant_count;
static bool has_failed;

void stage_failed(const char *file, int line, const char *format, ...)
{
	const char *name = strrchr(file, '/');
	va_list args;

	(void)fprintf(stderr, "%s:%d: ", name ? name + 1 : file, line);
	va_start(args, format);
	(void)vfprintf(stderr, format, args);
	va_end(args);
	(void)fputc('\n', stderr);
	has_failed = true;
	if (!getenv("PACER_LOOK"))
		exit(1);
}

/* ---- the machine ----------------------------------------------------------------------- */

static void open_machine(void)
{
	if (rm_machine())
		return;
	if (rm_open() != 0 || rm_time_open() != 0 || !rm_time_is_virtual())
		FAIL("no machine with a virtual clock: %s", rm_reason());
}

uint64_t stage_now(void)
{
	open_machine();
	return rm_now_ns();
}

/* By the machine's time, which jumps do not touch. */
void stage_sleep(uint64_t ns)
{
	uint64_t until = stage_now() + ns;

	for (uint64_t now = stage_now(); now < until; now = stage_now()) {
		const struct timespec t = { .tv_sec = (time_t)((until - now) / S),
					    .tv_nsec = (long)((until - now) % S) };

		(void)nanosleep(&t, NULL);
	}
}

static uint64_t busy_of(unsigned device, int pid)
{
	struct rm_busy busy;

	open_machine();
	CHECK(rm_busy(device, pid, &busy) == 0);
	return pid ? busy.process_ns : busy.device_ns;
}

uint64_t stage_device_busy(unsigned device)
{
	return busy_of(device, 0);
}

uint64_t stage_busy(const struct tenant *t, unsigned device)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < t->workers; i++) {
		int pid = atomic_load(&t->page->workers[i].pid);

		if (i == 0 || pid != atomic_load(&t->page->workers[i - 1].pid))
			sum += busy_of(device, pid);
	}
	return sum;
}

void stage_shares(const struct tenant *const *t, unsigned n, uint64_t ns, double *out)
{
	uint64_t before[TENANTS], from_ns = stage_now();

	for (unsigned i = 0; i < n; i++)
		before[i] = stage_busy(t[i], t[i]->device);
	stage_sleep(ns);
	for (unsigned i = 0; i < n; i++) {
		out[i] = 100.0 * (double)(stage_busy(t[i], t[i]->device) - before[i]) /
			 (double)(stage_now() - from_ns);
		if (getenv("PACER_LOOK"))
			(void)printf(
				"%s: %.2f %% of %.3f s; longest call %.1f ms; gamma %.3f\n",
				t[i]->name, out[i], (double)ns / 1e9,
				(double)stage_longest(t[i]) / 1e6,
				(double)atomic_load(&t[i]->policy->devices[0].gamma_q16) /
					65536);
	}
}

double stage_share(const struct tenant *t, uint64_t ns)
{
	double share;

	stage_shares(&t, 1, ns, &share);
	return share;
}

void stage_jump(uint64_t ns)
{
	open_machine();
	CHECK(rm_clock_step(ns, 0) == 0);
}

void stage_set_wall(int64_t ns)
{
	open_machine();
	CHECK(rm_clock_step(0, ns) == 0);
}

void stage_fault(const char *rules)
{
	char path[600], temporary[600];
	struct rm_memory memory;
	FILE *file;

	open_machine();
	(void)snprintf(path, sizeof(path), "%s/faults", getenv("TRANCHE_SIM"));
	(void)snprintf(temporary, sizeof(temporary), "%s/.faults", getenv("TRANCHE_SIM"));
	file = fopen(temporary, "w");
	CHECK(file && fprintf(file, "%s\n", rules) > 0 && fclose(file) == 0);
	CHECK(rename(temporary, path) == 0);
	CHECK(rm_memory(0, &memory) == 0); /* answers when it has seen the file */
}

/* ---- tenants --------------------------------------------------------------------------- */

struct words {
	char *argv[WORDS_MAX];
	unsigned count;
};

static void add(struct words *w, const char *text)
{
	char *copy = strdup(text), *rest = NULL;

	for (char *word = strtok_r(copy, " ", &rest); word;
	     word = strtok_r(NULL, " ", &rest)) {
		CHECK(w->count < WORDS_MAX - 1);
		w->argv[w->count++] = word;
	}
}

static void add_number(struct words *w, unsigned n)
{
	char text[16];

	(void)snprintf(text, sizeof(text), "%u", n);
	add(w, text);
}

static const char *build_path(const char *file, char *room, size_t size)
{
	(void)snprintf(room, size, "%s/bin/%s", getenv("PACER_BUILD"), file);
	return room;
}

static pid_t spawn(const struct words *w, const char *fault)
{
	pid_t parent = getpid(), pid = fork();
	char rank[16];

	CHECK(pid >= 0);
	if (pid > 0)
		return pid;
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	(void)setpgid(0, 0);
	(void)snprintf(rank, sizeof(rank), "%u", tenant_count + 1);
	(void)setenv("TRANCHE_SIM_RANK", rank, 1);
	if (fault)
		(void)setenv("TRANCHE_SIM_FAULT", fault, 1);
	(void)execv(w->argv[0], w->argv);
	_exit(127);
}

static struct page *make_page(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	void *p;

	CHECK(fd >= 0 && ftruncate(fd, sizeof(struct page)) == 0);
	p = mmap(NULL, sizeof(struct page), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(p != MAP_FAILED);
	(void)close(fd);
	return p;
}

static void *map_file(const char *path, size_t bytes, int how)
{
	int fd = open(path, (how & PROT_WRITE ? O_RDWR : O_RDONLY) | O_CLOEXEC);
	void *p;

	if (fd < 0)
		FAIL("open %s: %s", path, strerror(errno));
	p = mmap(NULL, bytes, how, MAP_SHARED, fd, 0);
	CHECK(p != MAP_FAILED);
	(void)close(fd);
	return p;
}

static void map_slice(struct tenant *t)
{
	struct tr_slice_dir dir;
	struct tr_err err = { 0 };

	if (tr_slice_find(&dir, t->name, &err) < 0)
		FAIL("%s", err.msg);
	t->state = map_file(dir.state_path, sizeof(*t->state), PROT_READ | PROT_WRITE);
	t->policy = map_file(dir.policy_path, sizeof(*t->policy), PROT_READ);
}

static void check_worker(const struct tenant *t, unsigned i)
{
	const struct page_worker *w = &t->page->workers[i];

	if (atomic_load(&w->error))
		FAIL("%s, worker %u: %s answers %u", t->name, i, w->what,
		     atomic_load(&w->error));
}

static void await_ready(const struct tenant *t)
{
	uint64_t until = stage_now() + START_NS;

	for (unsigned i = 0; i < t->workers; i++)
		while (!atomic_load(&t->page->workers[i].is_ready)) {
			check_worker(t, i);
			if (stage_now() > until || waitpid(t->pid, NULL, WNOHANG) != 0)
				FAIL("%s, worker %u did not start", t->name, i);
			stage_sleep(MS);
		}
}

struct tenant *stage_start(const struct play *play)
{
	unsigned processes = play->processes ? play->processes : 1;
	unsigned threads = play->threads ? play->threads : 1;
	struct tenant *t = &tenants[tenant_count];
	struct words w = { 0 };
	char path[600];

	CHECK(tenant_count < TENANTS);
	open_machine();
	if (tenant_count == 0)
		(void)atexit(stage_clear);
	(void)snprintf(t->name, sizeof(t->name), "pacer-%d-%u", (int)getpid(),
		       tenant_count);
	add(&w, build_path("tranche", path, sizeof(path)));
	add(&w, "run --quiet --name");
	add(&w, t->name);
	add(&w, play->options);
	if (!strstr(play->options, "--device")) {
		add(&w, "--device");
		add_number(&w, play->device);
	}
	add(&w, "--");
	add(&w, build_path("pacer.tenant", path, sizeof(path)));
	(void)snprintf(path, sizeof(path), "%s/page-%u", getenv("PACER_DIR"), tenant_count);
	add(&w, path);
	add_number(&w, processes);
	add_number(&w, threads);
	add(&w, play->workload);
	t->page = make_page(path);
	t->workers = processes * threads;
	t->device = play->device;
	CHECK(t->workers <= PAGE_WORKERS);
	t->pid = spawn(&w, play->fault);
	tenant_count++;
	await_ready(t);
	map_slice(t);
	return t;
}

void stage_stop(struct tenant *t)
{
	CHECK(kill(t->pid, SIGTERM) == 0 && waitpid(t->pid, NULL, 0) == t->pid);
	t->pid = 0;
}

void stage_clear(void)
{
	for (unsigned i = 0; i < tenant_count; i++)
		if (tenants[i].pid > 0) {
			(void)kill(-tenants[i].pid, SIGKILL);
			(void)kill(tenants[i].pid, SIGKILL);
		}
}

void stage_warm(void)
{
	stage_sleep(3 * S);
}

void stage_command(const char *words)
{
	struct words w = { 0 };
	char path[600];
	int status = -1;
	pid_t pid;

	add(&w, build_path("tranche", path, sizeof(path)));
	add(&w, words);
	pid = spawn(&w, NULL);
	CHECK(waitpid(pid, &status, 0) == pid);
	if (status != 0)
		FAIL("tranche %s: status %d", words, status);
}

/* ---- what tenants tell ------------------------------------------------------------------- */

static uint64_t clock_ns(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * S + (uint64_t)now.tv_nsec;
}

uint64_t stage_longest(const struct tenant *t)
{
	uint64_t longest = 0, now = clock_ns();

	for (unsigned i = 0; i < t->workers; i++) {
		const struct page_worker *w = &t->page->workers[i];
		uint64_t ns = atomic_load(&w->longest_ns),
			 since = atomic_load(&w->inside_ns);

		check_worker(t, i);
		if (since && now > since && now - since > ns)
			ns = now - since;
		longest = ns > longest ? ns : longest;
	}
	return longest;
}

void stage_forget(struct tenant *t)
{
	uint64_t now = clock_ns();

	atomic_fetch_add(&t->page->epoch, 1);
	for (unsigned i = 0; i < t->workers; i++) {
		struct page_worker *w = &t->page->workers[i];

		atomic_store(&w->longest_ns, 0);
		atomic_store(&w->sum_ns, 0);
		atomic_store(&w->launches, 0);
		if (atomic_load(&w->inside_ns))
			atomic_store(&w->inside_ns, now);
	}
}

uint64_t stage_launches(const struct tenant *t)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < t->workers; i++) {
		check_worker(t, i);
		sum += atomic_load(&t->page->workers[i].launches);
	}
	return sum;
}

uint64_t stage_submitted(const struct tenant *t)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < t->workers; i++) {
		check_worker(t, i);
		sum += atomic_load(&t->page->workers[i].device_launches[0]);
	}
	return sum;
}

uint64_t stage_rounds(const struct tenant *t)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < t->workers; i++) {
		check_worker(t, i);
		sum += atomic_load(&t->page->workers[i].rounds);
	}
	return sum;
}

/* ---- claims ------------------------------------------------------------------------------ */

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*body)(void);
	} claims[] = {
#define CLAIM(name) { #name, claim_##name },
#include "claims.def"
#undef CLAIM
	};

	for (unsigned i = 0; argc == 2 && i < sizeof(claims) / sizeof(*claims); i++)
		if (strcmp(argv[1], claims[i].name) == 0) {
			claims[i].body();
			return has_failed;
		}
	(void)fprintf(stderr, "pacer.claims CLAIM\n");
	return 2;
}
