/* SPDX-License-Identifier: Apache-2.0 */
#include "stage.h"

#include <signal.h>

static pid_t keeper_of(const struct tenant *t)
{
	return (pid_t)atomic_load(&t->policy->keeper_pid);
}

struct pair {
	struct tenant *borrower, *owner;
};

static struct pair start_pair(void)
{
	struct pair p = {
		stage_start(&(struct play){ "--cores 10 --cores-max 100", "kernels 500" }),
		stage_start(&(struct play){ "--cores 60", "kernels 500" }),
	};

	stage_warm();
	return p;
}

static void pause_owner(const struct pair *p, bool is_paused)
{
	atomic_store(&p->owner->page->is_paused, is_paused);
	stage_sleep(300 * MS);
}

static void check_kept(const struct pair *p)
{
	double got[2];

	pause_owner(p, true);
	NEAR(stage_share(p->borrower, 2 * S), 100, 2);
	pause_owner(p, false);
	stage_shares((const struct tenant *const[]){ p->borrower, p->owner }, 2, 5 * S,
		     got);
	NEAR(got[0], 10, TURNS);
	NEAR(got[1], 60, TURNS);
}

/* What stands without a keeper: the guaranteed rates, for both. */
static void check_alone(const struct pair *p)
{
	double got[2];

	pause_owner(p, true);
	/* gamma stands as it was, and was a third at least beside the other */
	NEAR(stage_share(p->borrower, 3 * S), 20, 11);
	pause_owner(p, false);
	stage_shares((const struct tenant *const[]){ p->borrower, p->owner }, 2, 5 * S,
		     got);
	NEAR(got[0], 20, 11);
	NEAR(got[1], 65, 15);
}

/* Stopped while a lease holds, and while none does; and continued. */
void claim_keeper_stopped(void)
{
	struct pair p = start_pair();

	check_kept(&p);
	for (unsigned i = 0; i < 3; i++) {
		pid_t keeper = keeper_of(p.borrower);

		pause_owner(&p, i % 2);
		CHECK(keeper > 0 && kill(keeper, SIGSTOP) == 0);
		stage_sleep(200 * MS);
		check_alone(&p);
		CHECK(kill(keeper, SIGCONT) == 0);
		stage_sleep(2 * S);
		check_kept(&p);
	}
}

/* Killed: another one takes over, be it the other run's or the same run's next, and leases and gamma are
 * as before. */
void claim_keeper_killed(void)
{
	struct pair p = start_pair();

	check_kept(&p);
	for (unsigned i = 0; i < 4; i++) {
		pid_t keeper = keeper_of(p.borrower);

		pause_owner(&p, i % 2);
		stage_forget(p.borrower);
		stage_forget(p.owner);
		CHECK(keeper > 0 && keeper == keeper_of(p.owner) &&
		      kill(keeper, SIGKILL) == 0);
		stage_sleep(3 * S);
		CHECK(keeper_of(p.borrower) != keeper && keeper_of(p.owner) != keeper);
		if (i % 2 == 0)
			AT_MOST(stage_longest(p.owner), 100 * MS);
		check_kept(&p);
	}
}

/* A low slice waits for a high one, and goes on when nobody keeps. */
void claim_keeper_lost_while_low_waits(void)
{
	struct tenant *low = stage_start(&(struct play){ "--priority low", "kernels 500" });
	struct tenant *high =
		stage_start(&(struct play){ "--priority high", "kernels 500" });
	const struct tenant *const both[] = { low, high };
	pid_t keeper;
	double got[2];

	stage_warm();
	stage_shares(both, 2, 5 * S, got);
	NEAR(got[1], 98, 2);
	keeper = keeper_of(low);
	CHECK(keeper > 0 && kill(keeper, SIGSTOP) == 0);
	stage_sleep(S);
	stage_shares(both, 2, 5 * S, got);
	CHECK(got[0] > 30 && got[1] > 30);
	CHECK(kill(keeper, SIGKILL) == 0);
	stage_sleep(3 * S);
	stage_shares(both, 2, 5 * S, got);
	NEAR(got[1], 98, 2);
}

/* Beside a neighbour a kernel that is seldom long is charged as if it never were, and NVML says what
 * that was: the slice is held to its share, and nobody is accused. */
void claim_seldom_long_beside(void)
{
	struct tenant *t = stage_start(&(struct play){ "--cores 20", "rare 100 50" });

	(void)stage_start(&(struct play){ "--cores 80", "kernels 1000" });
	stage_warm();
	stage_sleep(10 * S);
	NEAR(stage_share(t, 20 * S), 20, TURNS);
	CHECK(atomic_load(&t->policy->devices[0].bypass_seen) == 0);
}

/* Nor do they hide at a period of the looks at single kernels. */
void claim_seldom_long_at_a_period(void)
{
	struct tenant *t = stage_start(&(struct play){ "--cores 20", "rare 100 16" });

	(void)stage_start(&(struct play){ "--cores 80", "kernels 1000" });
	stage_warm();
	stage_sleep(7 * S);
	NEAR(stage_share(t, 20 * S), 20, TURNS);
}
