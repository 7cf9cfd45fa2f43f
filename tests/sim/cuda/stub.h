/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIM_CUDA_STUB_H
#define SIM_CUDA_STUB_H

/* For the generated definitions of what no file implements. Includes no cuda.h: they
 * include the headers they need themselves. What a stub answers: what SIM_ENTER() says,
 * else NOT_SUPPORTED. */
CUresult sim_not_supported(const char *entry);

#endif /* SIM_CUDA_STUB_H */
