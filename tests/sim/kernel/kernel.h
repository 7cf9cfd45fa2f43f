/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIM_KERNEL_KERNEL_H
#define SIM_KERNEL_KERNEL_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "rm/wire.h"
#include "settings.h"

/*
 * The process that plays the kernel driver: one thread, one epoll loop, every byte of every
 * device in its books. What it hears about a death comes from the kernel proper (a hang-up,
 * a pidfd), so a client owes it nothing.
 */

/* ---- books of memory (memory.c) ------------------------------------------------------ */

struct sim_client;
struct sim_name;

/* One process' references to one object. */
struct sim_ref {
	struct sim_client *client;
	struct sim_phys *phys;
	uint64_t count;
	struct sim_name *names; /* valid while this exists */
	struct sim_ref *client_next, *client_prev, *phys_next, *phys_prev;
};

struct sim_phys {
	uint64_t id, bytes, offset;
	uint32_t device, kind;
	uint32_t exports; /* descriptors that name it */
	struct sim_client
		*owner; /* on whose account it is; NULL: only descriptors hold it */
	struct sim_ref *refs;
	struct sim_phys *hash_next;
};

struct sim_client {
	int source; /* SOURCE_CLIENT, must be first */
	int fd;
	struct sim_watch *watch; /* of the process' death */
	int table_fd;
	uint64_t serial;
	pid_t host_pid, own_pid;
	uid_t uid;
	bool is_greeted, is_gone;
	uint8_t image[16];
	char name[64];
	uint64_t bytes[RM_DEVICES_MAX][RM_KINDS];
	uint64_t host_bytes;
	struct sim_ref *refs;
	struct sim_name *names;       /* of no object */
	struct timeline_client *time; /* NULL until it asks for time */
	struct sim_client *next, *prev;
};

int sim_memory_open(const struct rm_machine *machine);
int sim_memory_backing(uint32_t device); /* descriptor, or -EINVAL */
int sim_memory_alloc(struct sim_client *client, uint32_t device, uint64_t bytes,
		     uint32_t kind, struct rm_phys *out);
struct sim_ref *sim_memory_find_ref(struct sim_client *client, uint64_t id);
void sim_memory_ref(struct sim_client *client, struct sim_phys *phys);
void sim_memory_unref(struct sim_ref *ref);
void sim_memory_drop_client(struct sim_client *client);
/* A descriptor's reference. */
void sim_memory_export(struct sim_phys *phys);
void sim_memory_unexport(struct sim_phys *phys);
void sim_memory_show(const struct sim_phys *phys, struct rm_phys *out);
int sim_memory_read(uint32_t device, struct rm_memory *out);
/* Bytes on nobody's account, in the shape of a client row. */
void sim_memory_orphans(struct wire_client *row);
/* Gives freed ranges back to the host; called after the reply was sent. */
void sim_memory_punch(void);

/* ---- names (name.c) ------------------------------------------------------------------ */

/* *LIST: where the name hangs, and dies. PHYS may be NULL. */
int sim_name_make(struct sim_name **list, struct sim_client *client, struct sim_phys *phys,
		  const uint8_t *text, uint32_t n, uint8_t name_out[64]);
int sim_name_find(const uint8_t name[64], struct sim_phys **phys,
		  struct sim_client **exporter, uint8_t *text, uint32_t *n);
void sim_name_drop_all(struct sim_name **list);

/* ---- exported descriptors (export.c) ------------------------------------------------- */

int sim_export_make(struct sim_phys *phys,
		    int *fd_out); /* the caller closes it once sent */
struct sim_phys *sim_export_find(int fd);
struct sim_export;
void sim_export_hung_up(struct sim_export *export);
uint32_t sim_export_count(void);

/* ---- clients (clients.c) ------------------------------------------------------------- */

enum source_kind {
	SOURCE_LISTEN,
	SOURCE_CLIENT,
	SOURCE_WATCH,
	SOURCE_EXPORT,
	SOURCE_NOTIFY,
	SOURCE_LIFETIME
};
struct sim_source {
	int source;
};

void sim_clients_accept(int listen_fd);
void sim_client_drop(struct sim_client *client);
struct sim_watch;
void sim_watch_ended(struct sim_watch *watch);
void sim_clients_bury(void); /* frees what was dropped; after a batch of events */
struct sim_client *sim_clients_first(void);
uint32_t sim_clients_count(void);
int sim_clients_greet(struct sim_client *client, const struct wire_hello *hello);

/* ---- requests (serve.c, list.c) ------------------------------------------------------ */

/* Reads and answers one request of CLIENT. */
void sim_serve(struct sim_client *client);
void sim_list_processes(uint32_t device, uint64_t after, struct wire_reply *reply);
void sim_list_clients(uint64_t from, struct wire_reply *reply);

/* ---- time (timeline*.c) -------------------------------------------------------------- */

/* WIRE_TIME: a descriptor of PART, which stays the timeline's. */
int sim_time_part(struct sim_client *client, uint32_t part, int *fd,
		  struct wire_place *place);
/* Its process goes on (IS_ALIVE), or has ended. */
void sim_time_drop_client(struct sim_client *client, bool is_alive);
int sim_time_busy(uint32_t device, pid_t pid, struct rm_busy *out);
int sim_time_busy_rows(const struct wire_request *req, struct wire_reply *reply);
int sim_time_samples(const struct wire_request *req, struct wire_reply *reply);
int sim_time_record(struct sim_client *client, uint64_t first_ns, uint64_t every_ns,
		    uint32_t count);
int sim_time_recorded(struct sim_client *client, uint32_t room, struct wire_reply *reply);
int sim_time_step(uint64_t jump_ns, uint64_t wall_ns);
/* The virtual clock waits until process PID has come, or ended, or some real time. */
void sim_time_expect(pid_t pid);

/* ---- the machine (main.c, board.c) --------------------------------------------------- */

struct sim_kernel {
	struct sim_settings settings;
	int dir_fd, lock_fd, epoll_fd, listen_fd, board_fd;
	volatile sig_atomic_t is_stopping;
	bool has_lifetime;  /* of another process; then there is no lingering */
	bool is_outlived;   /* ... and that process has ended */
	bool is_unfindable; /* the socket was deleted under us */
	uint64_t idle_since_ms;
};
extern struct sim_kernel sim_kernel;

/* At once, from any thread. */
__attribute__((noreturn)) void sim_kernel_end(void);
int sim_watch_fd(int fd, void *source, uint32_t events);
/* The board with the faults: made and filled, then refreshed when the file changes. Returns
 * -EINVAL with a sentence in WHY. */
int sim_board_open(char *why, size_t n);
void sim_board_notified(int fd);
/* A number or event of a device (rm_state_set). */
int sim_board_state(uint32_t device, uint32_t key, uint64_t value);
int sim_board_notify_fd(void);
/* A memfd of BYTES that nobody can shrink; -errno. */
int sim_memfd(const char *name, uint64_t bytes);

#endif /* SIM_KERNEL_KERNEL_H */
