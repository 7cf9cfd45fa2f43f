/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIM_RM_WIRE_H
#define SIM_RM_WIRE_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "rm/rm.h"
#include "rm/timewire.h"

/*
 * What the client library and the kernel process say to each other: one SOCK_SEQPACKET
 * connection per client, one request, one reply, descriptors by SCM_RIGHTS. Both sides come
 * from one build; the version only catches a kernel process that outlived a rebuild.
 */
#define WIRE_VERSION      (0x52570000u + (uint32_t)sizeof(struct rm_machine))
#define WIRE_SOCKET       "socket" /* in the machine's directory */
#define WIRE_LOCK         "lock"   /* held by the kernel process while it lives */
#define WIRE_FAULTS       "faults"
#define WIRE_FAULTS_ERROR "faults.error"
#define WIRE_CLOCK_ERROR  "clock.error"
#define WIRE_READY        3 /* the descriptor on which a new kernel process reports */

enum wire_op {
	WIRE_HELLO = 1, /* -> machine; descriptor: the board */
	WIRE_BACKING,   /* device -> descriptor */
	WIRE_ALLOC,     /* device, bytes, kind -> phys */
	WIRE_REF,       /* id */
	WIRE_UNREF,     /* id */
	WIRE_EXPORT,    /* id -> descriptor */
	WIRE_IMPORT,    /* descriptor -> phys */
	WIRE_NAME,      /* id, text -> name */
	WIRE_NAMED,     /* name -> phys, text, pid */
	WIRE_MEMORY,    /* device -> memory */
	WIRE_PROCESSES, /* device, id: resume after this key -> rows */
	WIRE_TABLE,     /* -> descriptor: this client's list of live objects */
	WIRE_CLIENTS,   /* id: resume after this serial -> rows */
	WIRE_TABLE_OF,  /* id: serial of a client -> descriptor */
	WIRE_STOP,
	WIRE_TIME,     /* device: enum wire_time_part -> descriptor, place */
	WIRE_BUSY,     /* device, id: pid or 0 -> busy */
	WIRE_BUSY_ALL, /* id: resume there -> busy_rows */
	WIRE_SAMPLES,  /* device, id: after, kind: of processes, bytes: skip -> rows */
	WIRE_EXPECT,   /* id: pid; the virtual clock waits for that process to come */
	WIRE_STATE,    /* device, kind: enum rm_state_key, bytes: the value */
	WIRE_STEP,     /* id: rm_clock_step()'s jump, bytes: of the wall's clock */
	WIRE_RECORD,   /* id: from then on, bytes: every so often, kind: so often in all */
	WIRE_RECORDED, /* -> records, which are then forgotten */
};

#define WIRE_TEXT_MAX    192
#define WIRE_ROWS        32 /* of processes, in one reply */
#define WIRE_CLIENT_ROWS 4
#define WIRE_SAMPLE_ROWS 64
#define WIRE_BUSY_ROWS   32
#define WIRE_RECORD_ROWS 128

struct wire_hello {
	uint32_t version;
	int32_t own_pid;
	uint8_t image[16]; /* AT_RANDOM: differs after every exec */
	char name[64];
};

struct wire_request {
	uint32_t op;
	uint32_t device;
	uint64_t id;
	uint64_t bytes;
	uint32_t kind;
	uint32_t n; /* of text */
	union {
		struct wire_hello hello;
		uint8_t text[WIRE_TEXT_MAX];
		uint8_t name[64];
	};
};

/* Where in its file that part of time is; for a region, the client's key. */
struct wire_place {
	uint64_t key, offset;
};

struct wire_process {
	uint64_t key;
	struct rm_process row;
};

/* A connection, as the tool and the tests see it. Serial 0: bytes that only descriptors
 * hold. */
struct wire_client {
	uint64_t serial;
	int32_t host_pid, own_pid;
	uint32_t uid;
	uint32_t has_table;
	char name[64];
	uint64_t bytes[RM_DEVICES_MAX][RM_KINDS];
	uint64_t host_bytes;
};

struct wire_reply {
	int32_t r;
	int32_t pid;
	uint32_t n; /* rows, or bytes of text */
	uint32_t more;
	union {
		struct rm_machine machine;
		struct rm_phys phys;
		struct rm_memory memory;
		struct wire_process processes[WIRE_ROWS];
		struct wire_client clients[WIRE_CLIENT_ROWS];
		uint8_t name[64];
		struct wire_place place;
		struct rm_busy busy;
		struct rm_sample samples[WIRE_SAMPLE_ROWS];
		struct {
			uint64_t now_ns, next;
			struct rm_busy_row rows[WIRE_BUSY_ROWS];
		} busy_rows;
		struct rm_record records[WIRE_RECORD_ROWS];
		struct {
			struct rm_phys phys;
			uint8_t text[WIRE_TEXT_MAX];
		} named;
	};
};
#define WIRE_HEAD offsetof(struct wire_reply, machine)

/* The board: one memfd per machine, written by the kernel process only. GENERATION is odd
 * while the text is being written and changes with every edit of the machine's file of
 * faults. */
#define WIRE_BOARD_BYTES (64u << 10)
#define WIRE_XIDS        256 /* the last ones */
struct wire_state {
	_Atomic uint64_t values[RM_DEVICES_MAX][RM_STATE_KEYS];
	_Atomic uint64_t xid_count;
	_Atomic uint64_t xids[WIRE_XIDS]; /* device << 32 | XID */
};
struct wire_board {
	_Atomic uint32_t generation;
	uint32_t text_bytes;
	struct wire_state state;
	char text[WIRE_BOARD_BYTES - 8 - sizeof(struct wire_state)];
};
_Static_assert(sizeof(struct wire_board) == WIRE_BOARD_BYTES, "a board");

/* A client's list of live objects: a memfd that the kernel process made, written by the
 * client without a round trip, read by anybody. SEQ is odd while the slot is live; a reader
 * copies the slot and keeps it when SEQ has not moved. */
#define WIRE_SLOTS_MAX (16u << 20)
struct wire_slot {
	_Atomic uint32_t seq;
	uint16_t kind;
	uint16_t device; /* 0xffff: host */
	_Atomic uint64_t handle;
	_Atomic uint64_t bytes;
};
struct wire_table {
	_Atomic uint32_t high; /* slots ever used */
	uint32_t reserved[15];
	struct wire_slot slots[];
};
#define WIRE_TABLE_BYTES \
	(sizeof(struct wire_table) + WIRE_SLOTS_MAX * sizeof(struct wire_slot))

#endif /* SIM_RM_WIRE_H */
