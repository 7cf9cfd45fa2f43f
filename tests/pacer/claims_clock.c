/* SPDX-License-Identifier: Apache-2.0 */
#include "stage.h"

#define HOUR (3600 * S)

/* Each has its share again at once: in the first second a window more at most, and no less. */
static void check_shares_return(struct tenant *const *t, const double *want, unsigned n)
{
	double got[TENANTS];

	for (unsigned i = 0; i < n; i++)
		stage_forget(t[i]);
	stage_shares((const struct tenant *const *)t, n, S, got);
	for (unsigned i = 0; i < n; i++) {
		NEAR(got[i], want[i], 6);
		AT_MOST(stage_longest(t[i]), 100 * MS);
	}
	stage_shares((const struct tenant *const *)t, n, 8 * S, got);
	for (unsigned i = 0; i < n; i++)
		NEAR(got[i], want[i], 1);
}

/* The machine was suspended: clocks jump by hours, and nothing has happened meanwhile. What tat held
 * before neither stops anybody nor is it credit. */
void claim_suspended(void)
{
	static const uint64_t jumps[] = { 10 * S, 5 * HOUR, 11 * HOUR + 17,
					  400 * 24 * HOUR };
	static const double want[] = { 30, 50, 20 };
	struct tenant *t[] = {
		stage_start(&(struct play){ "--cores 30", "kernels 200" }),
		stage_start(&(struct play){ "--cores 50", "mixed 5000", .device = 1 }),
		stage_start(&(struct play){ "--cores 20", "graphs 100 20", .device = 2 }),
	};

	stage_warm();
	check_shares_return(t, want, 3);
	for (unsigned i = 0; i < sizeof(jumps) / sizeof(*jumps); i++) {
		stage_sleep(1234567 * (i + 1));
		stage_jump(jumps[i]);
		check_shares_return(t, want, 3);
	}
}

/* Debt of before is no debt after hours: a kernel of 500 ms at 5 % owes ten seconds. */
void claim_suspended_in_debt(void)
{
	struct tenant *t = stage_start(&(struct play){ "--cores 5", "kernels 500000" });
	uint64_t launches;

	stage_sleep(25 * S);
	launches = stage_submitted(t);
	stage_jump(5 * HOUR);
	stage_sleep(S);
	launches = stage_submitted(t) - launches;
	CHECK(launches >= 1 && launches <= 3);
	NEAR(stage_share(t, 200 * S), 5, 1);
}

/* Leases are times of that clock: those of before the jump are over, and the keeper's next ones hold. */
void claim_suspended_borrowing(void)
{
	struct tenant *a =
		stage_start(&(struct play){ "--cores 30 --cores-max 100", "kernels 500" });
	struct tenant *b = stage_start(&(struct play){ "--cores 70", "kernels 500" });
	double got[2];

	atomic_store(&b->page->is_paused, 1);
	stage_warm();
	NEAR(stage_share(a, 2 * S), 100, 2);
	stage_jump(5 * HOUR);
	stage_sleep(200 * MS);
	NEAR(stage_share(a, 2 * S), 100, 2);
	stage_jump(HOUR);
	atomic_store(&b->page->is_paused, 0);
	stage_sleep(S);
	stage_shares((const struct tenant *const[]){ a, b }, 2, 8 * S, got);
	NEAR(got[0], 30, TURNS);
	NEAR(got[1], 70, TURNS);
}

/* The wall's clock is set, back and forth: nobody's share changes, and gamma goes on being right, as
 * NVML's stamps are of the wall. */
void claim_wall_is_set(void)
{
	static const int64_t steps[] = { 3600, -7200, 86400 * 400ll, -86400 * 500ll, -1 };
	static const double want[] = { 60, 40 };
	struct tenant *t[] = {
		stage_start(&(struct play){ "--cores 60", "kernels 300" }),
		stage_start(&(struct play){ "--cores 40", "graphs 100 20", .device = 1 }),
	};

	stage_warm();
	check_shares_return(t, want, 2);
	for (unsigned i = 0; i < sizeof(steps) / sizeof(*steps); i++) {
		uint64_t heard;

		stage_set_wall(steps[i] * (int64_t)S);
		check_shares_return(t, want, 2);
		/* the keeper hears NVML on */
		heard = atomic_load(&t[0]->policy->devices[0].nvml_busy_ns);
		stage_sleep(5 * S);
		heard = atomic_load(&t[0]->policy->devices[0].nvml_busy_ns) - heard;
		NEAR((double)heard / 1e9, 3, 0.8);
	}
}
