/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * libcorelock: times mmap_lock with BPF. The C library under the Python package.
 *
 * Two things to have: a session, which traces, and (at the end of this file) a
 * corelock_holders, which looks at locks as they are. Life of a session:
 *
 *   corelock_new -> corelock_configure -> corelock_load -> corelock_attach
 *     -> corelock_begin_rows / corelock_next_rows / corelock_read_slow / corelock_read_totals
 *     -> corelock_detach -> (the same readers, now exact) -> corelock_free
 *
 * Units: times are nanoseconds; points in time are CLOCK_MONOTONIC; pids and
 * tids, taken and given, are those of the caller's pid namespace, 0 for who is
 * outside of it; host_pid and host_tid are those of the initial one.
 *
 * Ownership: a session is the caller's, from corelock_new to corelock_free,
 * and owns every string that corelock_last_error hands out. Buffers are the
 * caller's and are not kept beyond the call.
 *
 * Threads: one session is for one thread at a time (the caller locks). Two
 * sessions share nothing that a caller can see. While a session opens, loads
 * or attaches, libbpf's print callback is ours, under a lock, and is given
 * back; the library prints nothing, installs no signal handler and never
 * exits the process.
 *
 * Errors: functions that return int return a count or 0 on success and
 * -CORELOCK_E_* on failure; corelock_last_error then has message, remedy and
 * log. After a failed corelock_load or corelock_attach nothing is left loaded
 * or attached, and the session can only be freed.
 *
 * Read by cffi as well: no function-like macros, no inline functions.
 */
#ifndef CORELOCK_H
#define CORELOCK_H

#include "../abi/corelock_abi.h"

#ifdef __cplusplus
extern "C" {
#endif

#define CORELOCK_SLOW_OFF 0xffffffffffffffff

typedef struct corelock_session corelock_session;
typedef struct corelock_holders corelock_holders;
typedef struct corelock_probes corelock_probes;

enum corelock_code {
	CORELOCK_OK,
	CORELOCK_E_ARGUMENT,	/* a value out of range, or calls out of order */
	CORELOCK_E_UNSUPPORTED, /* the kernel lacks BTF or the tracepoints */
	CORELOCK_E_PRIVILEGE,	/* a capability is missing, or a policy forbids bpf() */
	CORELOCK_E_LOAD,	/* the kernel refused a map or a program: see log */
	CORELOCK_E_COMMAND,	/* the command could not be started */
	CORELOCK_E_SYSTEM,	/* anything else the system refused: see sys_errno */
};

struct corelock_error {
	int32_t code;	     /* enum corelock_code */
	int32_t sys_errno;   /* 0 if none */
	const char *message; /* what failed, on what; never NULL */
	const char *remedy;  /* what to do about it; may be "" */
	const char *log;     /* libbpf's and the verifier's words; may be "" */
};

/*
 * size comes first and is sizeof(struct corelock_options) as the caller was
 * compiled: a library that knows fewer members accepts only zeros in the rest,
 * one that knows more takes the missing ones as zero. 0 means the default
 * wherever 0 is not a meaningful value.
 */
struct corelock_options {
	uint64_t size;
	uint64_t slow_ns;    /* waits and holds this long send a record; CORELOCK_SLOW_OFF: none */
	uint32_t target;     /* enum corelock_target */
	uint32_t target_id;  /* pid or tid, by target */
	uint32_t follow;     /* 1: children of the target process too */
	uint32_t self_tgid;  /* process whose own locking is left out (0: none) */
	uint32_t max_rows;   /* default 16384 */
	uint32_t max_mms;    /* default 8192 */
	uint32_t max_chunks; /* default 8 x max_rows */
	uint32_t ring_bytes; /* for slow records, rounded up to a power of two; default 8 MiB */
	uint32_t intervals;  /* 1: keep the recent maxima of corelock_reading */
	uint32_t charges;    /* 1: charge waits to the holds that overlapped them; 2: and send no
				examples of these */
	uint8_t target_comm[16]; /* padded with zeros */
	uint32_t attach;	 /* enum corelock_attach */
	uint32_t reserved;	 /* 0 */
	const char *btf_path;	 /* the kernel's BTF where /sys does not show it; copied, or NULL */
	uint64_t cgroup_id;	 /* version 2: the inode of its directory */
	uint32_t record; /* 1: keep every cycle for corelock_record_begin; not with charges */
	uint32_t cycle_ring_bytes; /* for cycles, of each CPU; default by the number of CPUs */
};

/* What probes are for, one set of programs each. */
enum corelock_tool {
	CORELOCK_TOOL_COUNT,
	CORELOCK_TOOL_HIST,
	CORELOCK_TOOL_TRACE,
};

/* Of CORELOCK_TOOL_TRACE: what is sent of each hit. */
struct corelock_trace_options {
	/* Two rows of as many specs as indices: for registers and records, and for arguments. */
	const struct corelock_trace_spec *specs;
	uint32_t value_bytes; /* of all values of a hit: the most of any index, a multiple of 8 */
	uint32_t most_values;
	uint32_t ring_bytes;	/* rounded up to a power of two; default 8 MiB */
	uint32_t kernel_stacks; /* 1: with each hit */
	uint32_t user_stacks;
	uint32_t reserved; /* 0 */
};

/* Of CORELOCK_TOOL_HIST. */
struct corelock_hist_options {
	const struct corelock_hist_spec *specs; /* one for each index */
	uint32_t key_bytes;   /* 0: there are no keys; else up to CORELOCK_HIST_KEY_BYTES */
	uint32_t mark_bytes;  /* 0: no times between events are counted; at least 8 */
	uint32_t max_keys;    /* of all events together */
	uint32_t max_starts;  /* of times that are open at once */
	uint64_t linear_step; /* 0: octaves */
	int64_t linear_low;   /* where the first bucket begins */
	int64_t linear_high;  /* where the last one ends; CORELOCK_HIST_LINEAR at most */
};

/* As struct corelock_options: size comes first. */
struct corelock_probe_options {
	uint64_t size;
	uint32_t tool;	     /* enum corelock_tool */
	uint32_t target_pid; /* the process whose hits count; 0: every one */
	uint32_t self_pid;   /* the one that is left out, and counted as such (0: none) */
	uint32_t cpu;	     /* the CPU whose hits count, or CORELOCK_EVERY_CPU */
	uint32_t indices;    /* that places have, from 0 on */
	uint32_t operand_count;
	uint32_t test_count;
	uint32_t text_count;
	uint32_t longest_filter; /* its tests */
	uint32_t reserved;	 /* 0 */
	/* Of tools that find values; kept until corelock_probes_load returns. */
	const struct corelock_operand *operands;
	const struct corelock_test *tests;
	const uint8_t *texts;			    /* CORELOCK_TEXT_BYTES each */
	const struct corelock_hist_options *hist;   /* of other tools NULL */
	const struct corelock_trace_options *trace; /* likewise */
};

/* One place to attach to. */
struct corelock_place {
	const char *name; /* of the kernel's function; of the tracepoint; of the file */
	uint64_t address; /* of the function, 0: by its name; id of the event; offset in the file */
	uint64_t semaphore;   /* offset in the file of what enables a static probe, 0: none */
	uint32_t kind;	      /* enum corelock_place_kind */
	uint32_t index;	      /* what its hits count as; several places may have the same */
	uint32_t ways;	      /* that may be tried: 1 << enum corelock_way of each */
	uint32_t way;	      /* set by corelock_probes_attach: enum corelock_way */
	int32_t sys_errno;    /* likewise: 0, or why it was not */
	uint32_t function_id; /* the library's own */
	/* Likewise: by enum corelock_way, why it failed; 0: it was not tried. */
	int32_t refusals[CORELOCK_WAYS];
};

/* Of all programs together, since corelock_probes_attach. */
struct corelock_probe_totals {
	uint64_t self;	 /* hits of the process that is left out */
	uint64_t faults; /* memory of the user that was not there to be read */
	uint64_t missed; /* by the kernel: hits while a program was running on that CPU already */
	uint32_t counts_missed; /* 0: this kernel does not count all of these */
	/*
	 * 1: the target's main thread has ended while others went on, or another one of its threads
	 * has called execve(). The kernel keeps hits in the target's files from the programs since.
	 */
	uint32_t main_thread_ended;
};

/* An argument of a function: a number of so many bytes. */
struct corelock_argument {
	uint8_t name[32]; /* may be empty, or cut */
	uint32_t size;
	uint16_t is_signed;
	uint16_t is_pointer;
};

#define CORELOCK_ARGUMENTS 8

/* The first arguments of a function of the kernel, up to one that is no number. */
struct corelock_prototype {
	uint32_t known; /* how many functions have the name: of one alone the rest is its */
	uint32_t count;
	struct corelock_argument arguments[CORELOCK_ARGUMENTS];
};

/* One histogram of HIST: what came in between two times. */
struct corelock_hist_reading {
	uint64_t count;
	uint64_t
		low; /* the sum, of 128 bits, which are a negative number if the first one is set */
	uint64_t high;
	uint64_t least; /* as its field has it, signed or not */
	uint64_t most;
	uint64_t chunks_full; /* values without room, that are in none of these */
};

/* What corelock_handshake says of this library. */
struct corelock_handshake {
	uint32_t abi_version;
	uint32_t reserved;
	uint64_t fingerprint; /* of this header and corelock_abi.h */
};

/* One row as read: a corelock_row with its process and its counts put in. */
struct corelock_reading {
	uint64_t downgrades;
	uint64_t trylock_failures;
	uint64_t aborted_waits;
	uint64_t wait_count;
	uint64_t wait_total_ns;
	uint64_t wait_max_ns;
	uint64_t wait_recent_max_ns; /* with the option intervals: since the last pass */
	uint64_t hold_count;
	uint64_t hold_total_ns;
	uint64_t hold_max_ns;
	uint64_t hold_recent_max_ns;
	uint64_t named_ns;
	uint64_t mm_start_ns;
	/* With the option charges: waits that were in somebody's way, and what of them is nobody's.
	 */
	uint64_t contended_waits;
	uint64_t contended_ns;
	uint64_t unknown_ns;
	uint64_t unheld_ns;    /* part of unknown_ns: nobody was seen to have the lock */
	uint32_t wait_buckets; /* how many entries of the bucket buffer are this row's waits, ... */
	uint32_t hold_buckets; /* ... followed by this many for its holds */
	uint32_t mm_id;
	uint32_t mm_pid;
	uint32_t task_id;
	uint32_t pid;
	uint32_t tid;
	uint32_t operation;
	uint32_t mode;
	uint32_t row; /* its index, by which charges and slow records name it */
	uint32_t mm_host_pid;
	uint32_t host_pid;
	uint32_t host_tid;
	uint32_t reserved;
	uint8_t comm[16];
	uint8_t mm_comm[16];
};

/* What the waits of one row were due to the holds of another. */
struct corelock_charged {
	uint32_t waiter_row;
	uint32_t holder_row;
	uint32_t certainty; /* enum corelock_certainty */
	uint32_t reserved;
	uint64_t total_ns;
	uint64_t waits;
	uint64_t max_ns;	/* the most that one wait was charged with */
	uint64_t last_start_ns; /* when the wait that was charged last began */
	uint64_t last_ns;	/* what it was charged with */
};

/* How rows are put together for corelock_read_activity. */
enum corelock_by {
	CORELOCK_BY_NOTHING,   /* all are one group */
	CORELOCK_BY_THREAD,    /* mm and thread */
	CORELOCK_BY_OPERATION, /* operation and mode */
};

/* What the rows of a group counted between two looks; the names are those of one of them. */
struct corelock_activity {
	uint64_t waits;
	uint64_t wait_ns;
	uint64_t wait_p99_ns; /* of these waits; 0 if there were none */
	uint64_t holds;
	uint64_t hold_ns;
	uint64_t hold_p99_ns;
	uint64_t mm_start_ns;
	uint32_t mm_id;
	uint32_t task_id;
	uint32_t operation;
	uint32_t mode;
	uint32_t mm_pid;
	uint32_t mm_host_pid;
	uint32_t pid;
	uint32_t tid;
	uint32_t host_pid;
	uint32_t host_tid;
	uint8_t comm[16];
	uint8_t mm_comm[16];
};

/* A non-empty histogram bucket. */
struct corelock_bucket {
	uint32_t index; /* octave * CORELOCK_SUB_BUCKETS + sub-bucket */
	uint32_t reserved;
	uint64_t count;
};

/* Everything the accounting is made of. */
struct corelock_totals {
	struct corelock_counters counters;
	uint64_t seen[3]; /* by enum corelock_event, events that reached a row */
	uint64_t waits;	  /* sums over all rows */
	uint64_t holds;
	uint64_t downgrades;
	uint64_t failures; /* of trylocks, and aborted waits */
	uint64_t rows;	   /* in use */
};

/* Types of a recording's blocks: docs/format.md. */
enum corelock_block {
	CORELOCK_BLOCK_HEADER = 1,
	CORELOCK_BLOCK_PROCESSES,
	CORELOCK_BLOCK_ROWS,
	CORELOCK_BLOCK_CYCLES,
	CORELOCK_BLOCK_STACKS,
	CORELOCK_BLOCK_FOOTER,
};

/* How a recording goes. */
struct corelock_recording {
	uint64_t bytes;	      /* of the file so far */
	uint64_t cycles;      /* written */
	uint64_t not_written; /* taken from the rings after it had ended */
	uint64_t ended_ns;    /* when it ended by itself, and the counting with it; 0: it did not */
	int32_t sys_errno;    /* why the file could not be written on, 0: it could */
	uint32_t full;	      /* 1: it has reached max_bytes */
};

/* What corelock_holders_snapshot found. The arrays are the handle's, until its next call. */
struct corelock_held {
	uint64_t taken_ns;
	uint64_t mms;	   /* whose locks were looked at */
	uint64_t tasks;	   /* that the first pass met */
	uint64_t self_mms; /* left out: the caller's own */
	uint64_t not_kept; /* locks and tasks that stay without names, as a table was full */
	uint64_t lock_count;
	uint64_t task_count;
	uint32_t host_pid;   /* of the process that was asked for, 0: none or not there */
	uint32_t whole_host; /* 0: only the tasks of the caller's pid namespace could be met */
	const struct corelock_lock *locks;	      /* held or waited for; one for each mm */
	const struct corelock_lock_task *tasks_named; /* in no order; each task once */
};

/* What corelock_check looks at, each needed for the next. */
enum corelock_check {
	CORELOCK_CHECK_CAPABILITIES,  /* CAP_BPF and CAP_PERFMON, or CAP_SYS_ADMIN */
	CORELOCK_CHECK_BPF,	      /* whether the smallest program can be loaded */
	CORELOCK_CHECK_BTF,	      /* whether the kernel's can be read */
	CORELOCK_CHECK_TRACEPOINTS,   /* whether it has mmap_lock's in a known layout */
	CORELOCK_CHECK_PROGRAM_TYPES, /* those that tracing needs, of programs and maps */
	CORELOCK_CHECK_LOCK_WORDS,    /* whether it has what corelock_holders reads */
};

/* What this host has, as far as it lets itself be asked. */
struct corelock_host {
	uint64_t
		capabilities; /* the caller's effective ones, a bit each as in linux/capability.h */
	uint32_t memcg_path;  /* 1: the kernel writes a cgroup's path into every event */
	int32_t jit;	      /* 1: programs are compiled, 0: interpreted, -1: not known */
};

/* No session needed. Static memory. */
const struct corelock_handshake *corelock_handshake(void);

/* A new session, or NULL when memory is short. */
corelock_session *corelock_new(void);

/*
 * Detaches if attached and frees. NULL is allowed. In a fork of the process that made
 * the session, frees what the fork has of it; all else is that process's to call.
 */
void corelock_free(corelock_session *session);

/* The last failure of this session; the strings live until its next call. */
const struct corelock_error *corelock_last_error(const corelock_session *session);

/* Once, before corelock_load. The options are copied. */
int corelock_configure(corelock_session *session, const struct corelock_options *options);

/* Checks what the kernel offers, then creates maps and programs. Nothing is attached. */
int corelock_load(corelock_session *session);

/* After corelock_load: the option target_id as the initial pid namespace has it. */
uint32_t corelock_host_target_id(const corelock_session *session);

/*
 * Attaches released, then acquire_returned, then start_locking, and then lets
 * all three begin to count at one moment, which *start_ns is set to.
 */
int corelock_attach(corelock_session *session, uint64_t *start_ns);

/* How a loaded session's programs get at the events: enum corelock_attach, not ANY. */
uint32_t corelock_attached_by(const corelock_session *session);

/*
 * Ends the counting at one moment, which *end_ns is set to, then detaches,
 * start_locking first, and counts what was open at that moment. The readers go
 * on working. Repeating it does nothing.
 */
int corelock_detach(corelock_session *session, uint64_t *end_ns);

/* Begins a pass over all rows, and a new interval for the recent maxima. */
int corelock_begin_rows(corelock_session *session);

/*
 * Reads on: at most capacity rows, and their non-empty buckets one row after
 * the other. bucket_capacity must be at least 640 (one full row); fewer rows
 * than asked for are given when buckets run short. Returns how many, 0 at the
 * end of the pass. While tracing goes on, a row may be one event ahead in one
 * member of another.
 */
int corelock_next_rows(corelock_session *session, struct corelock_reading *rows, uint32_t capacity,
		       struct corelock_bucket *buckets, uint32_t bucket_capacity);

/*
 * Reads all charges: at most capacity of them. corelock_max_charges says how many
 * there can be. Returns how many there were. While tracing goes on, a charge may
 * be missing or be there twice; after corelock_detach they are exact. With the
 * option charges off there are none.
 */
int corelock_read_charges(corelock_session *session, struct corelock_charged *charges,
			  uint32_t capacity);
uint32_t corelock_max_charges(const corelock_session *session);

/* As corelock_read_charges, of the waits of one row alone, by its index. */
int corelock_read_row_charges(corelock_session *session, uint32_t waiter_row,
			      struct corelock_charged *charges, uint32_t capacity);

/* One row by its index: of its waits and holds only the sums. */
int corelock_read_row(corelock_session *session, uint32_t row, struct corelock_reading *reading);

/*
 * A look at what is being counted, for a fraction of the cost of all rows:
 * corelock_begin_activity reads the tables, and keeps what has come since the last
 * time it was called (or since the start). corelock_read_activity, any number of times,
 * gives that by group, groups without any left out: at most capacity of them, how many
 * it says. corelock_active_rows tells how many rows it was, so how many groups there are
 * at most. Each latest event may be missing from one of its numbers and be in the next
 * look's.
 */
int corelock_begin_activity(corelock_session *session);
uint32_t corelock_active_rows(const corelock_session *session);
int corelock_read_activity(corelock_session *session, uint32_t by, struct corelock_activity *groups,
			   uint32_t capacity);

/*
 * Takes up to capacity slow records from the ring. Shorter waits than
 * min_wait_ns and shorter holds than min_hold_ns are dropped, and until the next
 * call not even sent; but with the option charges every row also sends the first of
 * its waits that were in somebody's way and of its holds that were, and from then
 * on each that is twice as long as the last one sent.
 * Returns how many were stored; fewer than capacity means the ring is empty.
 * Of the copy of a user stack, what is beyond copy_bytes is not written.
 */
int corelock_read_slow(corelock_session *session, struct corelock_slow *records, uint32_t capacity,
		       uint64_t min_wait_ns, uint64_t min_hold_ns);

/* A descriptor that polls readable when slow records wait. The session's; not to be closed. */
int corelock_slow_fd(corelock_session *session);

/*
 * Exact after corelock_detach; before it, events in flight may be missing from
 * either side. Ends a pass over the rows, if one was under way.
 */
int corelock_read_totals(corelock_session *session, struct corelock_totals *totals);

/* Of that, what is counted outside of rows, losses among them, which takes no pass over them. */
int corelock_read_counters(corelock_session *session, struct corelock_counters *counters);

/*
 * Starts argv (PATH is searched) and holds it before its first instruction.
 * Returns 0 and sets *pid. The same thread must then call corelock_resume, which
 * lets it go (from then on it is an ordinary child for the caller to wait for),
 * or corelock_abandon, which ends it before it has done anything.
 */
int corelock_spawn(corelock_session *session, char *const *argv, int32_t *pid);
int corelock_resume(corelock_session *session, int32_t pid);
int corelock_abandon(corelock_session *session, int32_t pid);

/*
 * Recording, with the option record: every cycle goes to a file as docs/format.md describes.
 *
 * corelock_record_begin comes after corelock_attach. It writes the file's head and `header` as the
 * first block, and starts a thread that writes cycles, rows and processes until
 * corelock_record_end; the thread takes no signals. fd is the caller's, at the beginning of an
 * empty file or a pipe, and must stay open until corelock_record_end or corelock_free.
 * max_bytes: recording ends before the file is larger but for tables and accounting; 0: no limit.
 */
int corelock_record_begin(corelock_session *session, int32_t fd, uint64_t max_bytes,
			  const void *header, uint64_t header_bytes);

/* Writes a block of the caller's (type: enum corelock_block), any time from corelock_record_begin
 * to corelock_free. */
int corelock_record_block(corelock_session *session, uint32_t type, const void *payload,
			  uint64_t bytes);

/* A descriptor that polls readable once recording has ended by itself. The session's. */
int corelock_record_fd(corelock_session *session);

void corelock_record_status(corelock_session *session, struct corelock_recording *status);

/*
 * After corelock_detach: writes what is left, and ends the thread. What could not be written is
 * in the status and no failure. Repeating it does nothing.
 */
int corelock_record_end(corelock_session *session);

/*
 * For a look at the host, once the session is configured. corelock_check makes
 * one of the checks that come before tracing, and fails as corelock_load would.
 * corelock_look_at_host never fails; memcg_path is known once the tracepoints were
 * checked.
 */
int corelock_check(corelock_session *session, uint32_t check);
void corelock_look_at_host(corelock_session *session, struct corelock_host *host);

/*
 * The calling thread takes its own mmap_lock so many times for writing (munlock)
 * and as many for reading (msync), by system calls that neither Python nor libc
 * make themselves. Returns 0, or -errno if one failed.
 */
int corelock_take_locks(uint32_t times);

/*
 * The root of a filesystem such as tracefs, mounted for the caller alone and for as long as the
 * descriptor is open; or -errno. Takes CAP_SYS_ADMIN.
 */
int corelock_mount_detached(const char *filesystem);

/*
 * Whether the device that fstat() has of an open file may be none of a mounted filesystem, and so
 * another one than /proc/PID/maps shows: 0 or 1, or -errno. That is so where a filesystem's getattr
 * writes one of its own: btrfs has one for each subvolume (btrfs_getattr), overlayfs for each layer
 * (ovl_map_dev_ino; before v6.8 maps shows the layer's own), ceph for each snapshot (ceph_getattr).
 */
int corelock_makes_up_devices(int fd);

/*
 * Who holds which mmap_lock now, without tracing:
 *
 *   corelock_holders_new -> corelock_holders_load
 *     -> corelock_holders_snapshot / corelock_holders_is_held, any number of times
 *     -> corelock_holders_free
 *
 * A handle of its own, with the same rules as a session: the caller's from new
 * to free, for one thread at a time, with errors of its own. It takes no
 * mmap_lock, and attaches to nothing that others run through.
 */
corelock_holders *corelock_holders_new(void);
void corelock_holders_free(corelock_holders *holders);

/* What is loaded from now on has the kernel's BTF from this file; the path is copied. */
int corelock_holders_use_btf(corelock_holders *holders, const char *path);

/*
 * Before corelock_holders_load: snapshots are of the processes in this cgroup (version 2;
 * the id is the inode of its directory) or below it.
 */
void corelock_holders_use_cgroup(corelock_holders *holders, uint64_t id);
const struct corelock_error *corelock_holders_last_error(const corelock_holders *holders);

/*
 * Checks what the kernel offers, then loads the programs for snapshots. Once;
 * after a failure only free.
 */
int corelock_holders_load(corelock_holders *holders);

/*
 * Looks at the lock of every mm, or of process pid's if that is not 0, and then
 * names the tasks that hold it, or also those that wait with_waiters. Waiters
 * are counted in any case. Leaves out the mm of process self_tgid (0: none).
 * A pid that has gone is no failure: then held->mms is 0.
 */
int corelock_holders_snapshot(corelock_holders *holders, uint32_t pid, uint32_t self_tgid,
			      uint32_t with_waiters, struct corelock_held *held);

/*
 * Whether who asks for process pid's mmap_lock now would have to wait, or wait
 * behind others: 1 if it is held for writing or somebody waits for it, else 0,
 * also for a process that has gone. One pass, over that process's threads only
 * where the kernel can do so (v6.1). Needs no corelock_holders_load: it has a
 * small program of its own, loaded by the first call.
 */
int corelock_holders_is_held(corelock_holders *holders, uint32_t pid);

/*
 * Probes: one program on many functions of the kernel or of files, static probes, tracepoints.
 *
 *   corelock_probes_new -> corelock_probes_load -> corelock_probes_attach
 *     -> what the tool reads, any number of times
 *     -> corelock_probes_stop -> (the same, now exact) -> corelock_probes_free
 *
 * A handle of its own, with the same rules as a session.
 */
corelock_probes *corelock_probes_new(void);
void corelock_probes_free(corelock_probes *probes);
const struct corelock_error *corelock_probes_last_error(const corelock_probes *probes);

/* Whether the caller may load and attach programs at all. */
int corelock_probes_check(corelock_probes *probes);

/* Checks the options and loads the tool's programs. Once; after a failure only free. */
int corelock_probes_load(corelock_probes *probes, const struct corelock_probe_options *options);

/*
 * Attaches to each place by the first way that works, then lets hits count, if there is any such
 * place. Returns how many there are, and says of each place how, or why not, it was attached. A
 * failure is one of the whole; then nothing is left attached. That all were forbidden is one.
 */
int corelock_probes_attach(corelock_probes *probes, struct corelock_place *places, uint32_t count,
			   uint64_t *start_ns);

/*
 * Ends the counting: what the tool reads is exact from then on. Repeating it gives the same moment
 * again. It is corelock_probes_free that detaches, as that may take the kernel long.
 */
int corelock_probes_stop(corelock_probes *probes, uint64_t *end_ns);

/* What was left out, or lost, so far. */
int corelock_probes_read_totals(corelock_probes *probes, struct corelock_probe_totals *totals);

/*
 * HIST: sets apart what has come since the last time, or since corelock_probes_attach. What is read
 * then is of this: each hit is in it with all it has, or not at all. Returns how many groups have
 * been handed out, which is one more than the largest one.
 */
int corelock_probes_take_histograms(corelock_probes *probes);

/* HIST: a group, and what its event's value has counted with its key; -> how many buckets. */
int corelock_probes_read_group(corelock_probes *probes, uint32_t group,
			       struct corelock_hist_group *read);
int corelock_probes_read_histogram(corelock_probes *probes, uint32_t group, uint32_t value,
				   struct corelock_hist_reading *reading,
				   struct corelock_bucket *buckets, uint32_t capacity);

/* HIST: what came of the hits of an index. */
int corelock_probes_read_hist_counters(corelock_probes *probes, uint32_t index,
				       struct corelock_hist_counters *counters);

/* HIST: how many starts of a pair had no end before corelock_probes_stop. */
int corelock_probes_count_open(corelock_probes *probes, uint32_t pair);

/* COUNT: the hits of each index so far, as many as the option indices says. */
int corelock_probes_read_counts(corelock_probes *probes, uint64_t *counts);

/*
 * TRACE: takes hits out of the ring, in the order in which they came: at most capacity of them,
 * each as struct corelock_hit says, corelock_probes_record_bytes apart. Returns how many; fewer
 * than capacity means the ring is empty. Of the copy of a user stack, what is beyond copy_bytes is
 * not written.
 */
int corelock_probes_read_hits(corelock_probes *probes, void *records, uint32_t capacity);
int corelock_probes_record_bytes(corelock_probes *probes);

/* A descriptor that polls readable when the ring has become a quarter full, or with user stacks
 * at each hit. The handle's; not to
 * be closed. Look into the ring every now and then besides. */
int corelock_probes_fd(corelock_probes *probes);

/*
 * The prototypes of functions of the kernel by their names, which are in order and each there
 * once. 0, or -errno if the kernel's BTF cannot be read.
 */
int corelock_prototypes(const char *const *names, uint32_t count,
			struct corelock_prototype *prototypes);

/* TRACE: of each index so far; exact after corelock_probes_stop. */
int corelock_probes_read_hit_counts(corelock_probes *probes, struct corelock_hit_counts *counts);

#ifdef __cplusplus
}
#endif

#endif
