/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODS_SERVER_H
#define PODS_SERVER_H

#include "rpc/rpc.h"

/* PodResources of the scene, for a server. */
extern const struct tr_rpc_method pods_method;
extern unsigned pods_lists; /* asked for */

#endif /* PODS_SERVER_H */
