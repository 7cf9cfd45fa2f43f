/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TRANCHE_FUZZ_H
#define TRANCHE_FUZZ_H

#include <stddef.h>
#include <stdint.h>

/* A target: run once with any bytes, must neither crash nor hang. libFuzzer's name, so that
 * clang's fuzzer and driver.c run the same source. */
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

#endif /* TRANCHE_FUZZ_H */
