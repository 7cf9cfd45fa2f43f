/* SPDX-License-Identifier: Apache-2.0 */
#include "rm/fault.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "rm/client.h"
#include "rm/inspect.h"

/* What a lost device answers: CUDA_ERROR_UNKNOWN, NVML_ERROR_GPU_IS_LOST. */
#define LOST_CUDA        999
#define LOST_NVML        15
#define GENERATION_NEVER UINT32_MAX

/* Rules are replaced, never freed: a thread may be asleep in one. Two sets per source would
 * do, were it not for hangs; edits of a machine's faults are rare. */
static struct fault_rules *_Atomic environment_rules, *_Atomic machine_rules;
static const struct wire_board *_Atomic board;

/* One load tells the normal case. armed: 0 nothing to do, 1 look closer. The machine's file
 * can change at any time, so its generation is the other load. */
static const struct wire_board no_board;
static _Atomic(const struct wire_board *) watched = &no_board;
static _Atomic uint32_t generation_seen = GENERATION_NEVER;
static _Atomic bool armed = true; /* until the first look */
static _Atomic bool is_lost;

/* Under `*` these still answer: without them a program could not even say what happened. */
static const char *const plumbing[] = { "cuGetErrorString",   "cuGetErrorName",
					"cuDriverGetVersion", "cuGetProcAddress",
					"nvmlErrorString",    "nvmlSystem",
					"nvmlInit",           "nvmlShutdown" };

static bool is_plumbing(const char *entry)
{
	for (size_t i = 0; i < sizeof(plumbing) / sizeof(plumbing[0]); i++) {
		if (strncmp(entry, plumbing[i], strlen(plumbing[i])) == 0)
			return true;
	}
	return false;
}

static bool applies(const struct fault_rule *rule, const char *entry)
{
	if (rule->is_prefix)
		return strncmp(entry, rule->name, strlen(rule->name)) == 0 &&
		       (rule->name[0] || !is_plumbing(entry));
	return strcmp(entry, rule->name) == 0;
}

static struct fault_rules *parse_new(const char *text, size_t n, char *why,
				     size_t why_bytes)
{
	struct fault_rules *rules = calloc(1, sizeof(*rules));

	if (rules && rm_faults_parse(rules, text, n, why, why_bytes) != 0)
		rules->n = 0;
	return rules;
}

int rm_faults_check_environment(void)
{
	static struct fault_rules rules; /* under the caller's lock */
	const char *text = getenv("TRANCHE_SIM_FAULT");
	char why[200];
	int r;

	if (!text)
		return 0;
	r = rm_faults_parse(&rules, text, strlen(text), why, sizeof(why));
	if (r != 0)
		rm_set_reason("TRANCHE_SIM_FAULT: %s", why);
	return r;
}

void rm_faults_board(const struct wire_board *b)
{
	atomic_store(&board, b);
	atomic_store(&watched, b);
	atomic_store(&generation_seen, GENERATION_NEVER);
	atomic_store(&armed, true);
}

/* Before the connection exists, cuInit itself can be told to fail by the machine's file. */
static int open_file(void)
{
	char dir[PATH_MAX - 16], path[PATH_MAX];

	if (rm_directory(dir, sizeof(dir)) != 0)
		return -1;
	snprintf(path, sizeof(path), "%s/%s", dir, WIRE_FAULTS);
	return open(path, O_RDONLY | O_CLOEXEC);
}

static size_t read_file(char *text, size_t room)
{
	ssize_t n = 0;
	int fd = open_file();

	if (fd >= 0) {
		n = read(fd, text, room);
		close(fd);
	}
	return n > 0 ? (size_t)n : 0;
}

static size_t read_board(const struct wire_board *b, char *text, size_t room, uint32_t *gen)
{
	size_t n;

	do {
		while ((*gen = atomic_load(&b->generation)) & 1)
			usleep(100);
		n = b->text_bytes < room ? b->text_bytes : room;
		memcpy(text, b->text, n);
		atomic_thread_fence(memory_order_acquire);
	} while (atomic_load(&b->generation) != *gen);
	return n;
}

/* Under the lock. */
static void refresh(void)
{
	static char text[WIRE_BOARD_BYTES], before[WIRE_BOARD_BYTES];
	static size_t before_bytes;
	const struct wire_board *b = atomic_load(&board);
	const char *environment = getenv("TRANCHE_SIM_FAULT");
	struct fault_rules *own = atomic_load(&environment_rules), *rules;
	uint32_t generation = 0;
	char why[200];
	size_t n;

	if (!own && environment) {
		own = parse_new(environment, strlen(environment), why, sizeof(why));
		atomic_store(&environment_rules, own);
	}
	n = b ? read_board(b, text, sizeof(text), &generation)
	      : read_file(text, sizeof(text));
	rules = atomic_load(&machine_rules);
	/* only another text starts to count calls anew, not that the connection was made */
	if (n != before_bytes || memcmp(text, before, n) != 0) {
		rules = n ? parse_new(text, n, why, sizeof(why)) : NULL;
		atomic_store(&machine_rules, rules);
		memcpy(before, text, n);
		before_bytes = n;
	}
	atomic_store(&armed,
		     atomic_load(&is_lost) || (rules && rules->n) || (own && own->n));
	atomic_store(&generation_seen, generation);
}

static bool is_current(void)
{
	return atomic_load_explicit(&atomic_load(&watched)->generation,
				    memory_order_relaxed) ==
	       atomic_load_explicit(&generation_seen, memory_order_relaxed);
}

static int lost_code(const char *entry)
{
	return strncmp(entry, "nvml", 4) == 0 ? LOST_NVML : LOST_CUDA;
}

static void sleep_ns(uint64_t ns)
{
	struct timespec t = { (time_t)(ns / 1000000000u), (long)(ns % 1000000000u) };

	while (nanosleep(&t, &t) != 0 && errno == EINTR)
		;
}

/* Another number for another text of the machine's file (FNV-1a). */
static uint64_t look_at_file(void)
{
	uint64_t hash = 14695981039346656037u;
	char text[1024];
	ssize_t n = 0;
	int fd = open_file();

	while (fd >= 0 && (n = read(fd, text, sizeof(text))) > 0)
		for (ssize_t i = 0; i < n; i++)
			hash = (hash ^ (unsigned char)text[i]) * 1099511628211u;
	if (fd >= 0)
		close(fd);
	return hash;
}

/* Until a signal kills the process or the machine's faults are edited; who has no connection yet sees
 * that by the file. */
static void hang(void)
{
	const struct wire_board *b = atomic_load(&watched);
	uint32_t before = atomic_load(&b->generation);
	uint64_t was = look_at_file(), now = was;

	while (atomic_load(&b->generation) == before && now == was) {
		sleep_ns(20000000);
		if (b == &no_board)
			now = look_at_file();
	}
}

static int run_rules(struct fault_rules *rules, const char *entry)
{
	int answer = -1;

	for (uint32_t i = 0; rules && i < rules->n; i++) {
		struct fault_rule *rule = &rules->rule[i];
		uint64_t call;

		if (!applies(rule, entry))
			continue;
		call = atomic_fetch_add(&rule->calls, 1) + 1;
		if (rule->call && call != rule->call &&
		    !(rule->is_onwards && call > rule->call))
			continue;
		switch (rule->action) {
		case FAULT_DELAY:
			sleep_ns(rule->delay_ns);
			break;
		case FAULT_HANG:
			hang();
			break;
		case FAULT_LOST:
			atomic_store(&is_lost, true);
			break;
		case FAULT_CODE:
			if (answer < 0)
				answer = rule->code;
			break;
		}
	}
	return answer;
}

int rm_fault(const char *entry)
{
	int answer, second;

	if (!atomic_load_explicit(&armed, memory_order_relaxed) && is_current())
		return -1;
	if (!is_current()) {
		rm_lock();
		refresh();
		rm_unlock();
	}
	answer = run_rules(atomic_load(&environment_rules), entry);
	second = run_rules(atomic_load(&machine_rules), entry);
	if (atomic_load(&is_lost) && !is_plumbing(entry)) {
		atomic_store(&armed, true);
		return lost_code(entry);
	}
	return answer >= 0 ? answer : second;
}
