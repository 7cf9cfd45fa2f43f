/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_PATHS_H
#define TR_PATHS_H

/* Every path and variable name that two programs must agree on: one place. */

/* Inside a slice whose host side is root (a container, or `tranche run` as root): fixed, so
 * that a cleared environment changes nothing. The hook looks here first. */
#define TR_SLICE_DIR    "/run/tranche/slice"
#define TR_SLICE_POLICY TR_SLICE_DIR "/ro/policy"
#define TR_SLICE_STATE  TR_SLICE_DIR "/rw/state"
/* Lies in the host's own TR_SLICE_DIR/ro, where no slice is mounted over it. Who finds neither a
 * page nor this mark is inside a slice that has ended: refused, not unlimited. */
#define TR_SLICE_NONE TR_SLICE_DIR "/ro/none"
/* The library, bound here: a path without blanks that every user of the slice can read. */
#define TR_SLICE_HOOK   TR_SLICE_DIR "/libvgpu.so"
#define TR_PRELOAD_FILE "/etc/ld.so.preload"

/* Where host sides keep slices: <root>/<name>/{ro/policy,rw/state}. Root's, and a user's
 * own. */
#define TR_SLICES_ROOT "/run/tranche/slices"
#define TR_SLICES_USER \
	"/dev/shm/tranche-%u" /* uid; where XDG_RUNTIME_DIR is not tmpfs or unset */

/* Instead of both: a directory on tmpfs, for slices that only who has the same value sees, and its
 * keeper keeps (the machines of `tranche bench`). */
#define TR_ENV_SLICES "TRANCHE_SLICES"

/* Names the page where TR_SLICE_POLICY does not exist. The page is then the user's own
 * file. */
#define TR_ENV_POLICY "TRANCHE_POLICY"
/* A file that the hook appends debug lines to; unset: not a byte of output. */
#define TR_ENV_TRACE "TRANCHE_TRACE"

/* Where the node agent listens to `tranche node` unless it is configured otherwise. */
#define TR_NODE_CONTROL "/run/tranche/node/control"

/* HAMi's names (control-plane compatibility). */
#define TR_ENV_MEM_LIMIT "CUDA_DEVICE_MEMORY_LIMIT" /* also _<i> */
#define TR_ENV_SM_LIMIT  "CUDA_DEVICE_SM_LIMIT"     /* also _<i> */
#define TR_ENV_STATE     "CUDA_DEVICE_MEMORY_SHARED_CACHE"
#define TR_ENV_PRIORITY  "CUDA_TASK_PRIORITY"
#define TR_ENV_POLICY_SM "GPU_CORE_UTILIZATION_POLICY"
#define TR_ENV_LOG_LEVEL "LIBCUDA_LOG_LEVEL"
#define TR_ENV_DISABLE   "CUDA_DISABLE_CONTROL"
#define TR_STATE_DEFAULT "/tmp/cudevshr.cache"

#endif /* TR_PATHS_H */
