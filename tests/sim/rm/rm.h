/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIM_RM_H
#define SIM_RM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * What the simulated kernel driver offers its clients: libcuda.so.1 and libnvidia-ml.so.1
 * of the simulator, and the tool that starts and inspects a machine.
 *
 * A machine is a directory with a socket, and one process behind it (tests/sim/kernel) that
 * owns every byte of every device. It is the only place where device memory is counted. A
 * client is a connection: when the process dies, at any instruction, the connection ends
 * and everything that was its own returns, as with a real kernel driver.
 *
 * Which machine: $TRANCHE_SIM names the directory; else /run/tranche-sim where that exists;
 * else /tmp/tranche-sim-UID. A machine that does not run is started by its first client and
 * ends some seconds after its last one.
 *
 * Units: bytes. Errors: 0 or -errno; -ENOMEM is "the device is full", -ENODEV "no machine".
 * Threads: every function may be called from any thread. Fork: a child has no connection
 * and every call answers -ECHILD there until it calls rm_open() itself.
 */

#define RM_DEVICES_MAX 64         /* devices of a process are bits of 64 */
#define RM_BLOCK_BYTES (2u << 20) /* the driver takes device memory in such blocks */

/* Settings of a machine, fixed when it starts (kernel/settings.c parses them;
 * docs/simulator.md). */
enum rm_pid_mode {
	RM_PIDS_HOST, /* NVML shows pids as the machine's own namespace knows them */
	RM_PIDS_OWN,  /* ... as the process itself knows its pid */
	RM_PIDS_NONE, /* ... no process at all */
};

struct rm_device {
	char name[64];    /* "NVIDIA H100 80GB HBM3" */
	uint8_t uuid[16]; /* printed as GPU-8-4-4-4-12 */
	uint32_t pci_domain, pci_bus, pci_device;
	uint32_t pci_id;         /* device << 16 | vendor (0x10de), as NVML reports it */
	int32_t numa_node;       /* -1: none */
	uint32_t minor;          /* /dev/nvidiaN */
	uint64_t total_bytes;    /* what nvidia-smi calls total */
	uint64_t reserved_bytes; /* held by the driver itself, not usable (NVML v2
				    "reserved") */
	uint64_t context_bytes;  /* what one context of one process takes */
	uint32_t cc_major, cc_minor; /* compute capability */
	uint32_t sm_count, threads_per_sm, clock_khz, memory_clock_khz, bus_width_bits;
	uint64_t l2_bytes;
	uint32_t pitch_align_bytes; /* cuMemAllocPitch */
	bool has_nvlink, has_multicast, has_mig;
	uint32_t power_limit_mw;
	uint32_t pcie_gbps, copy_gbps; /* 10^9 bytes/s: over the bus, within the device */
	char model[16];                /* the name in the table of models: "h100" */
};

struct rm_machine {
	char dir[108];
	uint32_t device_count;
	uint32_t driver_version; /* 13050 style; hides what that driver would not have */
	char driver_branch[32];  /* "580.65.06" style, what NVML calls the driver version */
	enum rm_pid_mode pid_mode;
	bool newer_driver; /* "unknown newer driver": has functions nobody's table knows */
	bool is_virtual;   /* the clock (rm/time.h) */
	bool is_mps;       /* processes share the multiprocessors, there are no turns */
	bool needs_nodes;  /* a process uses what it can open in /dev (rm_allowed) */
	uint32_t noise_percent; /* of a kernel's duration, both ways at most */
	uint64_t seed;          /* from which all that is random comes */
	bool split_pointers;    /* cuGetProcAddress gives other pointers than dlsym */
	struct rm_device devices[RM_DEVICES_MAX];
};

/* Connect once per process (idempotent, thread safe); starts the machine if need be. */
int rm_open(void);
bool rm_is_open(void);
/* Facts of the machine; constant while connected. NULL before rm_open(). */
const struct rm_machine *rm_machine(void);
/* Which devices this process may use, as bits: all, or on a machine with needs_nodes those
 * whose /dev/nvidiaN it can open now. -ENODEV: it may not even open /dev/nvidiactl there. */
int rm_allowed(uint64_t *devices);

/* ---- physical memory ----------------------------------------------------------------- */

enum rm_kind { /* why the bytes are held; the simulator's own list tells them apart */
	       RM_CONTEXT,
	       RM_CODE,
	       RM_LIMITS /* heap, printf, stack */,
	       RM_BLOCK /* cuMemAlloc's 2 MiB blocks */,
	       RM_VMM,
	       RM_POOL,
	       RM_GRAPH,
	       RM_ARRAY,
	       RM_MANAGED,
	       RM_MULTICAST,
	       RM_OTHER,
	       RM_KINDS
};

struct rm_phys {
	uint64_t id; /* 0: none */
	uint64_t bytes;
	uint64_t offset; /* in the backing file of `device` (rm_backing) */
	uint32_t device; /* machine index; host memory: RM_HOST */
};
#define RM_HOST 0xffffffffu

/* Takes BYTES (rounded up to 4 KiB by the kernel, callers round to what the driver would
 * take) of DEVICE, or of host memory for RM_HOST (never counted against a device). One
 * reference, this process'. */
int rm_phys_alloc(struct rm_phys *out, uint32_t device, uint64_t bytes, enum rm_kind kind);
/* One more / one less reference of this process. The bytes return when no process has any.
 */
int rm_phys_ref(uint64_t id);
int rm_phys_unref(uint64_t id);

/* The sparse file that backs DEVICE (or RM_HOST): mmap(MAP_SHARED, fd, phys.offset). Owned
 * by rm. Freed ranges are punched out; offsets are not reused while any process maps them.
 */
int rm_backing(uint32_t device);

/* A descriptor that names a physical object in any process (POSIX-fd shareable handle). The
 * caller closes it; it holds a reference of its own until closed everywhere. */
int rm_phys_export(uint64_t id, int *fd_out);
/* One reference for this process on what FD names; -EBADF if FD is no such descriptor. */
int rm_phys_import(int fd, struct rm_phys *out);

/* A 64-byte name for up to 192 bytes of TEXT and the object ID (IPC handles, fabric
 * handles, pool and pointer exports). Valid while the exporting process has a reference. */
int rm_name(uint64_t id, const void *text, size_t n, uint8_t name_out[64]);
/* Looks a name up: a reference on the object for this process, and the text. *exporter: its
 * pid as this machine knows it. -ENOENT when unknown or gone. */
int rm_named(const uint8_t name[64], struct rm_phys *out, void *text, size_t *n,
	     int *exporter);

/* ---- what NVML tells ----------------------------------------------------------------- */

struct rm_memory {
	uint64_t total, reserved, used /* without reserved */, free;
};
int rm_memory(uint32_t device, struct rm_memory *out);

struct rm_process {
	int pid; /* by the machine's pid mode */
	int own_pid, host_pid;
	uint64_t bytes;
	char name[64];
};
/* Processes that hold a context on DEVICE. *n: room in, rows out; -ENOSPC when there are
 * more (and *n says how many). */
int rm_processes(uint32_t device, struct rm_process *rows, size_t *n);

/* ---- the list of live objects -------------------------------------------------------- */

/* What the application holds, with the simulator's own sizes: the ground truth of tests.
 * Handle is the CUdeviceptr, CUarray, handle or pool; BYTES what the driver holds for it
 * before block rounding. Kept in memory shared with the kernel process (no round trip), so
 * a test can read it for any process, and it vanishes with the process. */
int rm_object_add(enum rm_kind kind, uint32_t device, uint64_t handle, uint64_t bytes);
void rm_object_resize(enum rm_kind kind, uint64_t handle,
		      uint64_t bytes); /* pools, graph memory */
void rm_object_remove(enum rm_kind kind, uint64_t handle);

/* ---- what becomes of a device -------------------------------------------------------- */

/* Numbers of a device that can be set while the machine runs; 0: as its model has it. What
 * they mean to clients is NVML's business alone. */
enum rm_state_key {
	RM_CELSIUS,
	RM_POWER_MW,
	RM_ECC_CORRECTED,
	RM_ECC_UNCORRECTED,
	RM_ANSWER,      /* the code that every call on the device answers with */
	RM_RECOVERY,    /* NVML's recovery action */
	RM_ROW_FAILURE, /* a row could not be remapped */
	RM_MIG,         /* instances of a device in MIG mode */
	RM_STATE_KEYS,
	RM_XID = RM_STATE_KEYS, /* not a number: an event */
};
uint64_t rm_state(uint32_t device, enum rm_state_key key);
/* -EINVAL for a device or key that is none. */
int rm_state_set(uint32_t device, enum rm_state_key key, uint64_t value);
struct rm_xid {
	uint32_t device, xid;
};
/* The next XID after *SEEN of them; false: none yet. Of very many only the last stay. */
bool rm_xid_next(uint64_t *seen, struct rm_xid *out);
/* How many there were. */
uint64_t rm_xid_count(void);

/* ---- faults -------------------------------------------------------------------------- */

/* Faults on demand, by environment ($TRANCHE_SIM_FAULT) or the machine's file `faults`,
 * e.g. cuMemAlloc_v2:3=2          the 3rd call of this process answers 2 (out of memory)
 *   cuMemAlloc_v2:3+=2         the 3rd and every later one
 *   cuInit=delay:100ms   cuCtxSynchronize=hang   *=lost   nvmlDeviceGetMemoryInfo=999
 * Called at the start of every entry point with its exported name. Returns -1: go on; else
 * the code to answer with. Sleeps or hangs inside when told to. Costs one load when there
 * are no faults. */
int rm_fault(const char *entry);

#endif /* SIM_RM_H */
