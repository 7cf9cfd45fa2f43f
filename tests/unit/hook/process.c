/* SPDX-License-Identifier: Apache-2.0 */
#include "process.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "attach.h"
#include "hook.h"
#include "tr_test.h"

struct tr_real tr_real;
struct tr_self tr_self;
char process_dir[64], process_state[80];

bool tr_enter_at(const void *frame)
{
	(void)frame;
	return true;
}

void tr_leave(void)
{
}

unsigned tr_attach_env_cores(tr_dev dev)
{
	(void)dev;
	return 0;
}

void process_start(void)
{
	(void)snprintf(process_dir, sizeof(process_dir), "/dev/shm/tr-hook-unit-XXXXXX");
	assert_non_null(mkdtemp(process_dir));
	(void)snprintf(process_state, sizeof(process_state), "%s/state", process_dir);
	assert_int_equal(tr_state_create(process_state, PROCESS_SERIAL, 0600, NULL), 0);
	assert_int_equal(tr_seat_take(&tr_self.seat, process_state, PROCESS_SERIAL, NULL),
			 0);
	tr_self.ledger = (struct tr_ledger){ .state = tr_self.seat.state,
					     .slot = tr_self.seat.slot };
}

void process_end(void)
{
	tr_seat_leave(&tr_self.seat);
	assert_int_equal(unlink(process_state), 0);
	assert_int_equal(rmdir(process_dir), 0);
}
