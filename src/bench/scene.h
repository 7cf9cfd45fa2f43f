/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_BENCH_SCENE_H
#define TR_BENCH_SCENE_H

#include <stdbool.h>
#include <stdint.h>

#include "bench/page.h"
#include "bench/workload.h"
#include "tranche/err.h"

/*
 * A scene: up to four tenants on one machine for a while, and how much of each device each of
 * them had, as the machine itself says. On a simulated machine (one of its own for each scene) that
 * is the simulator's busy time; on a real one the work that the GPU has told to be done.
 */
#define TR_SCENE_PARTIES 4u

enum tr_limiter { TR_LIMITER_NONE, TR_LIMITER_OURS, TR_LIMITER_PEER };

/* What all scenes of one run have in common. */
struct tr_stage {
	const char *tranche; /* this program */
	const char *sim;     /* the simulator's directory; NULL: the machine's own GPU */
	const char *peer;    /* preload library that limits; NULL: ours */
	bool is_real_time;   /* the simulator's clock */
	bool is_verbose;
	unsigned first_device; /* of a real machine */
	unsigned loop_q10;     /* a real GPU's rounds in 1024 ns */
	unsigned noise_percent;
	char dir[64]; /* of all its machines */
};

struct tr_party {
	const struct tr_workload *workload;
	enum tr_limiter limiter;
	unsigned processes;
	unsigned cores, cores_max; /* percent; 0: option not given */
	const char *priority;      /* NULL: not given */
};

struct tr_scene {
	struct tr_party parties[TR_SCENE_PARTIES];
	unsigned party_count, gpus;
	uint64_t warm_ns, window_ns, step_ns, seed;
};

struct tr_sample {
	uint64_t at_ns;
	uint64_t busy_ns[TR_SCENE_PARTIES][TR_BENCH_DEVICES];
};

struct tr_series {
	struct tr_sample *samples;
	unsigned count;
	unsigned first; /* of the window; those before it are warm-up */
	/* Pages of the parties, for what workers tell of themselves. */
	struct tr_bench_page *pages[TR_SCENE_PARTIES];
};

int tr_scene_run(const struct tr_stage *stage, const struct tr_scene *scene,
		 struct tr_series *out, struct tr_err *err);
void tr_series_free(struct tr_series *series);
#define tr_auto_series tr_cleanup(tr_series_free)

/* Rounds of the kernels' loop in 1024 ns on the machine's own GPU. */
int tr_scene_calibrate(struct tr_stage *stage, struct tr_err *err);

/* ---- machine.c: the simulated machine of a scene, and programs on it ---------------------- */

struct tr_machine {
	const struct tr_stage *stage;
	char dir[80];    /* of everything */
	char path[96];   /* of the machine in it */
	unsigned joined; /* programs started on its clock */
};

/* HOLD: its clock stands until so many programs have been started there; it waits for their
 * children by itself. */
int tr_machine_start(struct tr_machine *m, const struct tr_stage *stage,
		     const struct tr_scene *scene, unsigned hold, struct tr_err *err);
void tr_machine_stop(struct tr_machine *m);
/* Starts ARGV there; PRELOAD may be NULL; its standard output goes to OUT_FD where that is not -1.
 * LIMIT_PERCENT not 0: HAMi's environment. Returns the pid. */
struct tr_start {
	const char *const *argv;
	const char *preload;
	unsigned limit_percent;
	const char *cache; /* HAMi's region file */
	int out_fd;
};
int tr_machine_spawn(struct tr_machine *m, const struct tr_start *start,
		     struct tr_err *err);

/* Makes the folder of all machines; it goes when this process and all that it forked are gone, however
 * they end. */
int tr_stage_folder(struct tr_stage *stage, struct tr_err *err);

/* In a child: VALUE before what VARIABLE has, with a colon. */
void tr_env_prepend(const char *variable, const char *value);

/* ---- peer.c ------------------------------------------------------------------------------- */

/* Whether programs start with STAGE's peer. -EINVAL with the loader's sentence, or how they end. */
int tr_peer_check(const struct tr_stage *stage, struct tr_err *err);

#endif /* TR_BENCH_SCENE_H */
