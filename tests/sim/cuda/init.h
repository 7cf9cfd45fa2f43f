/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIM_CUDA_INIT_H
#define SIM_CUDA_INIT_H

#include "sim.h"

/* Facts of the machine, connecting to it if need be; NULL where there is none. They stay
 * valid in a forked child. */
const struct rm_machine *sim_machine(void);
/* What cuDriverGetVersion tells: the machine's setting, or the unknown newer driver's. */
int sim_driver_version(void);
/* cuInit was called in this process, or in the one it was forked from. */
bool sim_is_ready(void);

/* device.c: reads CUDA_VISIBLE_DEVICES, once, from cuInit. */
CUresult sim_devices_find(void);

#endif /* SIM_CUDA_INIT_H */
