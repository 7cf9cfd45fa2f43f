/* SPDX-License-Identifier: Apache-2.0 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/enter.h"
#include "cli/keep.h"
#include "cli/launch.h"
#include "keeper/slices.h"
#include "rt/bytes.h"
#include "rt/cleanup.h"
#include "rt/file.h"
#include "slice/seat.h"

/* Each check prints one line; a failed one also what to do. Counted: what `run` cannot do
 * without. */
enum grade { FINE, WEAKER, MISSING };

static unsigned missing;

static void report(enum grade grade, const char *what, const char *detail,
		   const char *remedy)
{
	static const char *const words[] = { "ok", "note", "MISSING" };

	(void)printf("%-8s %-16s %s\n", words[grade], what, detail);
	if (grade != FINE && remedy)
		(void)printf("%-8s %-16s -> %s\n", "", "", remedy);
	missing += grade == MISSING;
}

static void check_library(void)
{
	struct tr_err err = { 0 };
	char path[PATH_MAX];

	if (tr_find_part("libvgpu.so", path, sizeof(path), &err) == 0)
		report(FINE, "library", path, NULL);
	else
		report(MISSING, "library", err.msg,
		       "build it (`make build`) or `tranche install`");
}

static void check_slices_root(char *root, size_t room)
{
	struct tr_err err = { 0 };

	if (tr_slices_root(root, room, &err) == 0) {
		report(FINE, "slice files", root, NULL);
		return;
	}
	root[0] = '\0';
	report(MISSING, "slice files", err.msg,
	       "mount a tmpfs on /dev/shm, or set XDG_RUNTIME_DIR to one");
}

/* A real seat in a real state file: the kernel's lock through a mapping. */
static void check_locks(const char *root)
{
	struct tr_err err = { 0 };
	struct tr_seat seat;
	char path[PATH_MAX];
	int r;

	(void)snprintf(path, sizeof(path), "%s/.doctor-%d", root, (int)getpid());
	r = tr_state_create(path, 0, 0600, &err);
	if (r == 0)
		r = tr_seat_take(&seat, path, 0, &err);
	if (r == 0)
		tr_seat_leave(&seat);
	(void)unlink(path);
	if (r == 0)
		report(FINE, "kernel locks", "a slot's lock lives with its mapping", NULL);
	else
		report(MISSING, "kernel locks", err.msg,
		       "Linux 3.15 or newer, and a real tmpfs");
}

static void check_wipe_on_fork(void)
{
	void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			  -1, 0);

	if (page != MAP_FAILED && madvise(page, 4096, MADV_WIPEONFORK) == 0)
		report(FINE, "fork", "children are told apart (MADV_WIPEONFORK)", NULL);
	else
		report(WEAKER, "fork", "no MADV_WIPEONFORK: told apart by process id",
		       "Linux 4.14 or newer");
	if (page != MAP_FAILED)
		(void)munmap(page, 4096);
}

static void check_namespace(void)
{
	if (tr_enter_state_path())
		report(FINE, "cleared env",
		       "limits hold without the environment (mount namespace)", NULL);
	else
		report(WEAKER, "cleared env",
		       "a program that clears its environment leaves the slice",
		       "run as root to hold it too");
}

static void check_devices(void)
{
	static struct tr_gpus gpus;
	struct tr_err err = { 0 };
	struct tr_keep keep;
	char text[256], bytes[TR_BYTES_TEXT];
	sigset_t mask;

	tr_signals_hold(&mask); /* a keeper that dies must not take us along */
	if (tr_keep_start(&keep, &gpus, &err) < 0) {
		report(MISSING, "GPU", err.msg,
		       "install the NVIDIA driver, or use the simulated GPU: "
		       "tranche run --sim, or tranche sim -- tranche doctor");
		return;
	}
	tr_keep_stop(&keep);
	(void)snprintf(text, sizeof(text), "version %s", gpus.driver);
	report(FINE, "driver", text, NULL);
	for (unsigned i = 0; i < gpus.count; i++) {
		tr_bytes_print(bytes, gpus.gpus[i].total_bytes);
		(void)snprintf(text, sizeof(text), "%u: %s, %s, %s", i, gpus.gpus[i].name,
			       bytes, gpus.gpus[i].uuid);
		report(FINE, "GPU", text, NULL);
	}
}

static void check_cuda(void)
{
	void *library = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL);

	if (library)
		report(FINE, "libcuda.so.1", "found", NULL);
	else
		report(MISSING, "libcuda.so.1", dlerror(),
		       "install the NVIDIA driver, or use --sim");
}

int tr_cli_doctor(int argc, char **argv)
{
	struct tr_args args;
	struct tr_err err = { 0 };
	char root[160];
	int r = tr_args_parse(&args, argc, argv, NULL, 0, true, &err);

	if (r == 0 && args.rest_count)
		r = tr_fail(&err, EINVAL, "doctor takes no \"%s\"", args.rest[0]);
	if (r < 0)
		return tr_cli_usage(&err, r);
	check_library();
	check_slices_root(root, sizeof(root));
	if (root[0])
		check_locks(root);
	check_wipe_on_fork();
	check_namespace();
	check_cuda();
	check_devices();
	if (missing)
		(void)printf("\n%u missing.\n", missing);
	else
		(void)printf("\nNothing is missing.\n");
	return missing ? 1 : 0;
}
