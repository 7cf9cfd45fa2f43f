/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_CLI_CLI_H
#define TR_CLI_CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gpu/gpu.h"
#include "tranche/err.h"
#include "tranche/limits.h"
#include "tranche/policy.h"

/* `tranche`: one file per command; each takes its arguments after its own name and returns
 * the exit status. 2: a wrong value on the command line, nothing was created. */
#define TR_EXIT_USAGE 2

struct tr_args {
	const char *command;
	char **rest; /* what is left after the options: after "--" or the first plain word
		      */
	int rest_count;
	bool has_dashes; /* "--" was there */
};

/* One option a command accepts; filled in by tr_args_parse(). */
struct tr_option {
	const char *name;
	const char **text; /* takes a value, which goes here */
	bool *flag;        /* takes none */
};

/* Parses --name VALUE, --name=VALUE, --flag, -h. Plain words before options are kept in
 * `rest` when the command takes such (PLAIN). 0, -EINVAL with the sentence, or -ECANCELED:
 * help was shown. */
int tr_args_parse(struct tr_args *out, int argc, char **argv,
		  const struct tr_option *options, size_t count, bool plain,
		  struct tr_err *err);

/* "tranche: <sentence>" on standard error; returns STATUS. */
int tr_cli_fail(const struct tr_err *err, int status);
/* The exit status for a failed tr_args_parse(). */
int tr_cli_usage(const struct tr_err *err, int r);

#define TR_COMMAND(name, ...) int tr_cli_##name(int argc, char **argv);
#define TR_OPTION(...)
#define TR_EXAMPLE(...)
#include "cli/commands.def"
#undef TR_COMMAND
#undef TR_OPTION
#undef TR_EXAMPLE

/* Help text of one command, or of all (NULL). */
void tr_help_print(const char *command);

/* A file that belongs to this installation: build/bin/tranche looks in build/lib,
 * PREFIX/bin in PREFIX/lib/tranche. NAME: "libvgpu.so", "sim". -ENOENT with the places
 * looked at. */
int tr_find_part(const char *name, char *out, size_t room, struct tr_err *err);

/* --mem's value against a card of TOTAL bytes: a size, or a percentage with '%'. */
int tr_size_parse(const char *text, uint64_t total_bytes, uint64_t *bytes_out,
		  struct tr_err *err);

/* A share of a GPU's time as it is written, in tenths of a percent: "30", "30%", "12.5" are
 * 1 to 100 percent. OPTION is for the sentence. */
#define TR_CORES_ALL 1000u
int tr_cores_parse(const char *option, const char *text, unsigned *tenths,
		   struct tr_err *err);
uint64_t tr_cores_rate(unsigned tenths); /* in 2^-32, as the page has it */
unsigned tr_cores_tenths(uint64_t rate_q32);
/* "30", "12.5", or with MAX above it "30-100". */
#define TR_CORES_TEXT 16
void tr_cores_print(char out[TR_CORES_TEXT], uint64_t rate_q32, uint64_t rate_max_q32);

/* --priority's value: a word, or HAMi's 0 (high) and 1 (normal). */
int tr_priority_parse(const char *text, enum tr_priority *out, struct tr_err *err);
const char *tr_priority_name(uint32_t priority);

/* Tells on standard error when the living slices of the device together were promised more than it
 * has. */
void tr_promises_tell(const char *uuid, unsigned device);

/* --on-bypass' value: "tell" or "lower". */
int tr_bypass_parse(const char *text, enum tr_bypass *out, struct tr_err *err);
const char *tr_bypass_name(uint32_t mode);

/* --device's value: indices into GPUS, in order, each once. */
int tr_devices_parse(const char *text, const struct tr_gpus *gpus, unsigned *out,
		     unsigned *count, struct tr_err *err);

/* Puts the simulated driver into the environment. OPTIONS NULL: the machine that this
 * user's other programs see; else one of its own, whose directory goes to MACHINE (else
 * ""). -EINVAL: a setting is wrong; its sentence has been printed. */
struct tr_sim_options {
	const char *gpus, *driver, *pids; /* NULL: not given */
};
int tr_sim_enter(const struct tr_sim_options *options, char *machine, size_t room,
		 struct tr_err *err);
/* Ends MACHINE and removes its directory; "" is none. */
void tr_sim_leave(const char *machine);

#define TR_COUNT(rows) (sizeof(rows) / sizeof(*(rows)))

#endif /* TR_CLI_CLI_H */
