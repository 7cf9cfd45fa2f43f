/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_HOOK_JUDGE_H
#define TESTS_HOOK_JUDGE_H

#include <stdint.h>

/* Two independent accounts of this process on device row 0 of the slice in $TEST_DIR: the
 * ledger that the hook keeps, read with pread() as the host reads it, and the simulated
 * driver's own list of live objects, each rounded as the ledger rounds. */
uint64_t judge_ledger_bytes(void);
uint64_t judge_driver_bytes(void);
/* Of the state file's counters. */
uint64_t judge_refused(void);
uint64_t judge_pinned_bytes(void);

/* Both agree. */
#define AGREE()                                                                          \
	do {                                                                             \
		uint64_t ledger_ = judge_ledger_bytes(), driver_ = judge_driver_bytes(); \
		if (ledger_ != driver_) {                                                \
			fprintf(stderr, "%s:%d: ledger %llu, driver %llu\n", __FILE__,   \
				__LINE__, (unsigned long long)ledger_,                   \
				(unsigned long long)driver_);                            \
			exit(1);                                                         \
		}                                                                        \
	} while (0)
#define LEDGER(want) CHECK_RESULT(judge_ledger_bytes(), want)

#endif /* TESTS_HOOK_JUDGE_H */
