/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIM_UNIT_MACHINE_H
#define SIM_UNIT_MACHINE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/*
 * Tests against a running machine. Each claim runs in a process of its own (a client can
 * belong to one machine only), in a directory of its own, and says what failed on standard
 * error.
 */

struct claim {
	const char *name;
	void (*prove)(void);
	const char *gpus; /* NULL: one h100 */
};

/* The body of a cmocka test whose state is a struct claim. */
void run_claim(void **state);

#define MUST(claim) must((claim), __LINE__, #claim)
void must(bool holds, int line, const char *text);
/* Ends the claim's process: this machine cannot show it. */
void cannot(const char *why) __attribute__((noreturn));

/* Runs BODY(ARG) in a forked child, which ends with status 0 after it. */
pid_t start_child(void (*body)(void *arg), void *arg);
/* Waits for it and demands that it ended well. */
void join_child(pid_t pid);
void kill_and_reap(pid_t pid);

/* Bytes used on DEVICE, by this process' connection. */
uint64_t used_on(uint32_t device);
/* The process behind the machine: whoever listens on its socket. */
pid_t machine_pid(void);
/* Writes TEXT to FILE of the machine's directory. */
void write_machine_file(const char *file, const char *text);

#endif /* SIM_UNIT_MACHINE_H */
