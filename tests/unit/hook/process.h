/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_TEST_PROCESS_H
#define TR_TEST_PROCESS_H

/*
 * The process around a half of the hook that a test holds in its hand: no loader's door, every call
 * is let in, and it has a seat in a state file in a directory of its own. Which devices there are
 * is for the driver at hand to say.
 */
#define PROCESS_SERIAL 7u

extern char process_dir[64], process_state[80];

void process_start(void); /* fresh state file */
void process_end(void);   /* the directory must be empty but for it */

#endif /* TR_TEST_PROCESS_H */
