/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_NAMES_H
#define TR_NAMES_H

#include <stddef.h>

/* Names on the API server's objects that more than one program reads or writes. HAMi's keep its own
 * prefix, so that what was made for HAMi goes on working; what only we have begins with ours. */

/* Pods, by the scheduler. What the values look like: kube/pod_devices.h, mig_plan.h, marks.h. */
#define TR_POD_NODE        "hami.io/vgpu-node" /* also a label in HAMi */
#define TR_POD_TIME        "hami.io/vgpu-time"
#define TR_POD_TO_ALLOCATE "hami.io/vgpu-devices-to-allocate"
#define TR_POD_ALLOCATED   "hami.io/vgpu-devices-allocated"
#define TR_POD_MIG         "hami.io/vgpu-mig-allocations"
#define TR_POD_BIND_PHASE  "hami.io/bind-phase"
#define TR_POD_BIND_TIME   "hami.io/bind-time"
/* What a running pod has been granted since: written by the scheduler only. */
#define TR_POD_GRANTED "tranche.io/granted"

/* Images of static pods, by the kubelet: the UID that it has made for one. */
#define TR_POD_MIRROR "kubernetes.io/config.mirror"

/* Pods, by their users. */
#define TR_POD_USE_TYPE    "nvidia.com/use-gputype"
#define TR_POD_NOT_TYPE    "nvidia.com/nouse-gputype"
#define TR_POD_USE_UUID    "nvidia.com/use-gpuuuid"
#define TR_POD_NOT_UUID    "nvidia.com/nouse-gpuuuid"
#define TR_POD_NUMA_BIND   "nvidia.com/numa-bind"
#define TR_POD_MODE        "nvidia.com/vgpu-mode"
#define TR_POD_NODE_POLICY "hami.io/node-scheduler-policy"
#define TR_POD_GPU_POLICY  "hami.io/gpu-scheduler-policy"
#define TR_POD_WEIGHTS     "hami.io/device-scoring-weights"
/* Other sizes for the running pod, in a decision's form: a wish, that a scheduler may grant. Nobody else
 * acts on it. */
#define TR_POD_RESIZE "tranche.io/resize"

/* Nodes. kube/node_devices.h, marks.h. */
#define TR_NODE_REGISTER  "hami.io/node-nvidia-register"
#define TR_NODE_SCORES    "hami.io/node-nvidia-score"
#define TR_NODE_HANDSHAKE "hami.io/node-handshake"
#define TR_NODE_LOCK      "hami.io/mutex.lock"
#define TR_NODE_CORDON    "hami.io/device-cordon"

/* Resources, as they are called unless configured otherwise. */
#define TR_RESOURCE_COUNT       "nvidia.com/gpu"
#define TR_RESOURCE_MEM         "nvidia.com/gpumem"
#define TR_RESOURCE_MEM_PERCENT "nvidia.com/gpumem-percentage"
#define TR_RESOURCE_CORES       "nvidia.com/gpucores"
#define TR_RESOURCE_PRIORITY    "nvidia.com/priority"

/* All annotations of one object together (the API server's rule). */
#define TR_ANNOTATION_MAX ((size_t)256 << 10)

#endif /* TR_NAMES_H */
