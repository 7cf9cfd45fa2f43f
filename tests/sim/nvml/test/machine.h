/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIM_NVML_TEST_MACHINE_H
#define SIM_NVML_TEST_MACHINE_H

/*
 * A machine of this test's own, made of environment settings before anything connects.
 * Ended and removed when the test program ends.
 */
void machine_prepare(const char *gpus, const char *pids);

#endif /* SIM_NVML_TEST_MACHINE_H */
