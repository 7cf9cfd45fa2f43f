/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "rm/client.h"
#include "rm/fault.h"
#include "settings.h"

/* sim-ctl: starts, stops and shows a simulated machine. Exit status 2: the request is
 * wrong. */

#define SETTINGS_MAX 16

static const char usage[] =
	"usage: sim-ctl [--dir DIR] COMMAND     (default: $TRANCHE_SIM, as for any "
	"client)\n"
	"  start DIR [KEY=VALUE]... [--lifetime-pid PID] [--own-dir]\n"
	"                        start a machine; it stays until stop, until PID ends or "
	"until\n"
	"                        DIR is removed; --own-dir: it removes DIR when it ends\n"
	"  stop [DIR]            end it, whoever uses it\n"
	"  check [DIR]           are its settings, faults and the environment's valid?\n"
	"  info [--json]         the machine and its devices\n"
	"  memory [--json]       total, reserved, used and free bytes of each device\n"
	"  processes [--json]    what NVML shows: processes with a context, by device\n"
	"  phys [--json]         bytes that each process holds, by device and kind\n"
	"  live [--json] [--objects] [PID]\n"
	"                        live objects of each process: counts and bytes, or each "
	"one\n"
	"  busy [--json] [PID]   time in which kernels ran, by device and process\n"
	"  fault RULES | --clear replace the machine's faults, while it runs\n"
	"  device N KEY=VALUE... what becomes of device N: temperature=C power=MILLIWATTS\n"
	"                        ecc-corrected=N ecc-uncorrected=N answer=CODE (15: lost)\n"
	"                        recovery=ACTION row-failure=1 mig=INSTANCES (0: as it "
	"was)\n"
	"                        xid=N (an event)\n"
	"  devices               one line per device: index, UUID, name\n";

int ctl_fail(int r)
{
	fprintf(stderr, "sim-ctl: %s\n", rm_reason()[0] ? rm_reason() : strerror(-r));
	return r == -EINVAL || r == -ENAMETOOLONG ? 2 : 1;
}

static int wrong(const char *sentence, const char *value)
{
	fprintf(stderr, "sim-ctl: %s%s\n", sentence, value);
	return 2;
}

/* Every command that looks takes DIR from the environment, as rm_open() does. */
static void name_machine(const char *dir)
{
	char real[PATH_MAX];

	setenv("TRANCHE_SIM", realpath(dir, real) ? real : dir, 1);
}

/* Settings that would fail: the sentence, and nothing is started. */
static int check_settings(const char *dir, const char *const *settings)
{
	static struct sim_settings s;
	int fd, r;

	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0) {
		rm_set_reason("%.200s: %s", dir, strerror(errno));
		return -errno;
	}
	r = sim_settings_read(&s, dir, fd, settings);
	close(fd);
	if (r != 0)
		rm_set_reason("%s", s.why);
	return r;
}

static bool is_running(const char *dir)
{
	static struct wire_reply hello;
	int board = -1, fd = rm_connect(dir, false, &hello, &board);

	if (fd >= 0)
		close(fd);
	if (board >= 0)
		close(board);
	return fd >= 0;
}

struct start {
	const char *dir, *lifetime_pid;
	bool is_new, owns_dir;
	const char *settings[SETTINGS_MAX + 1];
};

static int start_in(const char *dir, const struct start *start)
{
	const char *arguments[2 * SETTINGS_MAX + 5], *const *settings = start->settings;
	size_t n = 0;
	int r, lock_fd;

	r = check_settings(dir, settings);
	if (r != 0) {
		if (start->is_new)
			rmdir(dir);
		return ctl_fail(r);
	}
	lock_fd = rm_lock_start(dir);
	if (lock_fd < 0)
		return ctl_fail(lock_fd);
	if (is_running(dir)) {
		rm_set_reason("a machine runs in %.200s already", dir);
		return ctl_fail(-EEXIST);
	}
	for (; *settings; settings++) {
		arguments[n++] = "--set";
		arguments[n++] = *settings;
	}
	arguments[n++] = start->lifetime_pid ? "--lifetime-pid" : "--stay";
	if (start->lifetime_pid)
		arguments[n++] = start->lifetime_pid;
	if (start->owns_dir)
		arguments[n++] = "--own-dir";
	arguments[n] = NULL;
	rm_set_reason("%s", "");
	r = rm_start(dir, arguments);
	close(lock_fd);
	return r ? ctl_fail(r) : 0;
}

static int start(int argc, char **argv)
{
	struct start s = { 0 };
	char real[PATH_MAX];
	size_t n = 0;

	for (int i = 0; i < argc; i++) {
		if (strcmp(argv[i], "--lifetime-pid") == 0 && i + 1 < argc) {
			s.lifetime_pid = argv[++i];
			if (strspn(argv[i], "0123456789") != strlen(argv[i]) ||
			    atoi(argv[i]) <= 0)
				return wrong("--lifetime-pid takes a process id, not ",
					     argv[i]);
		} else if (strcmp(argv[i], "--own-dir") == 0) {
			s.owns_dir = true;
		} else if (!s.dir) {
			s.dir = argv[i];
		} else if (!strchr(argv[i], '=') || n == SETTINGS_MAX) {
			return wrong("expected KEY=VALUE, not ", argv[i]);
		} else {
			s.settings[n++] = argv[i];
		}
	}
	if (!s.dir || !s.dir[0] || s.dir[0] == '-')
		return wrong("start takes the directory of the machine", "");
	s.is_new = mkdir(s.dir, 0700) == 0;
	if (!realpath(s.dir, real)) {
		rm_set_reason("%.200s: %s", s.dir, strerror(errno));
		return ctl_fail(-errno);
	}
	if (strlen(real) >= sizeof(((struct rm_machine *)0)->dir))
		return wrong("the path is longer than 107 characters: ", real);
	return start_in(real, &s);
}

/* Connects without starting a machine. */
static int open_running(void)
{
	char dir[PATH_MAX];
	int r = rm_directory(dir, sizeof(((struct rm_machine *)0)->dir));

	if (r == 0 && !is_running(dir))
		r = -ENODEV;
	return r ? r : rm_open();
}

/* Until its process has ended: its lock is free. */
static void wait_ended(void)
{
	struct timespec t = { 0, 1000000 };
	char path[PATH_MAX];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", rm_machine()->dir, WIRE_LOCK);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	for (int tries = 0; fd >= 0 && tries < 5000; tries++) {
		if (flock(fd, LOCK_SH | LOCK_NB) == 0)
			break;
		nanosleep(&t, NULL);
	}
	if (fd >= 0)
		close(fd);
}

static int stop(void)
{
	int r = open_running();

	if (r == -ENODEV)
		return 0; /* it is not running: that is what was asked for */
	if (r == 0) {
		r = rm_stop();
		if (r == 0)
			wait_ended();
	}
	return r ? ctl_fail(r) : 0;
}

static int check_faults_file(const char *dir)
{
	static struct fault_rules rules;
	static char text[WIRE_BOARD_BYTES];
	char path[PATH_MAX], why[200];
	ssize_t n;
	int fd, r;

	snprintf(path, sizeof(path), "%.4000s/%s", dir, WIRE_FAULTS);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	n = read(fd, text, sizeof(text));
	close(fd);
	r = rm_faults_parse(&rules, text, n > 0 ? (size_t)n : 0, why, sizeof(why));
	if (r != 0)
		rm_set_reason("%.200s: %s", path, why);
	return r;
}

static int check(void)
{
	char dir[PATH_MAX];
	int r;

	r = rm_directory(dir, sizeof(((struct rm_machine *)0)->dir));
	if (r == 0)
		r = check_settings(dir, NULL);
	if (r == -ENOENT) /* the first client would make it; the environment still counts */
		r = check_settings("/", NULL);
	if (r == 0)
		r = check_faults_file(dir);
	if (r == 0)
		r = rm_faults_check_environment();
	return r ? ctl_fail(r) : 0;
}

/* Replaces the file by rename; a question to the machine returns only after it has seen it.
 */
static int write_faults(const char *dir, const char *text)
{
	char path[PATH_MAX], temporary[PATH_MAX];
	struct rm_memory memory;
	int fd, r;

	snprintf(path, sizeof(path), "%.4000s/%s", dir, WIRE_FAULTS);
	snprintf(temporary, sizeof(temporary), "%.4000s/.faults.%d", dir, (int)getpid());
	fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd < 0 || dprintf(fd, "%s\n", text) < 0 || rename(temporary, path) != 0) {
		r = -errno;
		unlink(temporary);
		rm_set_reason("%.200s: %s", path, strerror(-r));
		return r;
	}
	close(fd);
	if (!is_running(dir))
		return 0;
	r = rm_open();
	return r ? r : rm_memory(0, &memory);
}

static int fault(int argc, char **argv)
{
	static struct fault_rules rules;
	char dir[PATH_MAX], why[200];
	const char *text;
	int r;

	if (argc != 1)
		return wrong("fault takes one argument: the rules, or --clear", "");
	text = strcmp(argv[0], "--clear") == 0 ? "" : argv[0];
	r = rm_faults_parse(&rules, text, strlen(text), why, sizeof(why));
	if (r != 0) {
		rm_set_reason("%s", why);
		return ctl_fail(r);
	}
	r = rm_directory(dir, sizeof(((struct rm_machine *)0)->dir));
	if (r == 0)
		r = write_faults(dir, text);
	return r ? ctl_fail(r) : 0;
}

static int set_state(uint32_t device, const char *text)
{
	static const struct {
		const char *name;
		enum rm_state_key key;
	} keys[] = {
		{ "temperature", RM_CELSIUS },
		{ "power", RM_POWER_MW },
		{ "ecc-corrected", RM_ECC_CORRECTED },
		{ "ecc-uncorrected", RM_ECC_UNCORRECTED },
		{ "answer", RM_ANSWER },
		{ "recovery", RM_RECOVERY },
		{ "row-failure", RM_ROW_FAILURE },
		{ "mig", RM_MIG },
		{ "xid", RM_XID },
	};
	const char *value = strchr(text, '=');
	int r;

	for (size_t i = 0; value && i < sizeof(keys) / sizeof(keys[0]); i++) {
		if (strncmp(keys[i].name, text, (size_t)(value - text)) != 0 ||
		    keys[i].name[value - text])
			continue;
		if (!value[1] || strspn(value + 1, "0123456789") != strlen(value + 1))
			return wrong("not a number: ", text);
		r = rm_state_set(device, keys[i].key, strtoull(value + 1, NULL, 10));
		return r ? ctl_fail(r) : 0;
	}
	return wrong("expected KEY=VALUE of a device, not ", text);
}

static int device(int argc, char **argv)
{
	int r = 0;

	if (argc < 2 || strspn(argv[0], "0123456789") != strlen(argv[0]))
		return wrong("device takes an index and KEY=VALUE", "");
	r = rm_open();
	if (r != 0)
		return ctl_fail(r);
	for (int i = 1; i < argc && r == 0; i++)
		r = set_state((uint32_t)atoi(argv[0]), argv[i]);
	return r;
}

/* The rest only looks; it starts a machine that does not run, as any client does. */
static int look(const char *command, int argc, char **argv)
{
	struct ctl_look look = { 0 };
	int r;

	for (int i = 0; i < argc; i++) {
		if (strcmp(argv[i], "--json") == 0)
			look.as_json = true;
		else if (strcmp(argv[i], "--objects") == 0)
			look.each_object = true;
		else if (argv[i][0] && strspn(argv[i], "0123456789") == strlen(argv[i]))
			look.pid = atoi(argv[i]);
		else
			return wrong("unknown argument: ", argv[i]);
	}
	if (!ctl_find(command))
		return wrong("unknown command: ", command);
	r = rm_open();
	return r ? ctl_fail(r) : ctl_find(command)(&look);
}

int main(int argc, char **argv)
{
	const char *command;

	if (argc > 2 && strcmp(argv[1], "--dir") == 0) {
		name_machine(argv[2]);
		argc -= 2;
		argv += 2;
	}
	if (argc < 2 || strcmp(argv[1], "--help") == 0) {
		fputs(usage, argc < 2 ? stderr : stdout);
		return argc < 2 ? 2 : 0;
	}
	command = argv[1];
	argc -= 2;
	argv += 2;
	if (strcmp(command, "start") == 0)
		return start(argc, argv);
	if (strcmp(command, "fault") == 0)
		return fault(argc, argv);
	if (strcmp(command, "device") == 0)
		return device(argc, argv);
	if (strcmp(command, "stop") == 0 || strcmp(command, "check") == 0) {
		if (argc > 1)
			return wrong("unknown argument: ", argv[1]);
		if (argc == 1)
			name_machine(argv[0]);
		return command[0] == 's' ? stop() : check();
	}
	return look(command, argc, argv);
}
