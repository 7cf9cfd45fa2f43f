/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_KUBE_QUANTITY_H
#define TR_KUBE_QUANTITY_H

#include <stdint.h>

/*
 * Kubernetes' quantities, "3", "1.5Gi", "100m", "2k", "12e3", as whole numbers.
 *
 *   [+-] digits [. digits] [ n | u | m | k | M | G | T | P | E | Ki .. Ei | (e|E) [+-] digits ]
 *
 * 0; -EINVAL (not a quantity); -EDOM (not whole: "100m" of something counted); -ERANGE (beyond 63
 * bits, or more digits than can be told). Pure.
 */
int tr_quantity_parse(const char *text, int64_t *out);

#endif /* TR_KUBE_QUANTITY_H */
