/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIM_KERNEL_SETTINGS_H
#define SIM_KERNEL_SETTINGS_H

#include <stddef.h>
#include <stdint.h>

#include "rm/rm.h"

/*
 * Settings of a machine: the defaults, then the file `settings` in its directory, then the
 * environment of whoever starts it, then the command line; a later one wins.
 */
struct sim_settings {
	struct rm_machine machine;
	uint64_t seed;       /* UUIDs */
	bool has_noise_seed; /* else noise comes from `seed` too */
	uint32_t linger_ms;  /* between the last client's end and the machine's */
	uint32_t numa_nodes; /* 0: devices have none */
	uint64_t quantum_ns, switch_ns; /* of processes on a device */
	uint32_t hold;    /* on a virtual clock nobody runs until so many have come */
	uint32_t hold_ms; /* ... or none has for so long */
	uint32_t model_of[RM_DEVICES_MAX];
	uint64_t device_bytes; /* 0: the model's own */
	char why[256];         /* the sentence of the last failure */
};

/* Everything for the machine in DIR (open as DIR_FD). ARGUMENTS: NULL-ended "key=value"
 * from the command line, or NULL. 0, or -EINVAL with a sentence in s->why. */
int sim_settings_read(struct sim_settings *s, const char *dir, int dir_fd,
		      const char *const *arguments);

/* models.c */
/* Index of model NAME (N bytes), or -1. */
int sim_model_find(const char *name, size_t n);
/* Writes the names of all models, "h100, h200, ...", for sentences. */
void sim_model_list(char *text, size_t room);
/* Fills the machine's devices from model_of, seed and numa_nodes. */
void sim_models_fill(struct sim_settings *s);

#endif /* SIM_KERNEL_SETTINGS_H */
