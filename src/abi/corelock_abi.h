/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The one contract between the BPF programs, the C library and Python.
 *
 * Everything here is read by three compilers: clang for BPF, the host's C
 * compiler, and cffi. So: fixed-width members only, every padding byte a named
 * member, no expressions that cffi's parser does not know. The build derives a
 * file of assertions from cffi's view of these structs and compiles it for the
 * host and for BPF, so a member that the three see at different places cannot
 * be built; a fingerprint of this file is compared when Python opens the
 * library, so a mismatched pair cannot be run.
 *
 * Times are nanoseconds of CLOCK_MONOTONIC (what bpf_ktime_get_ns reads). pid and
 * tid are those of the caller's pid namespace, 0 for who is outside of it; host_pid
 * and host_tid are those of the initial one.
 */
#ifndef CORELOCK_ABI_H
#define CORELOCK_ABI_H

#ifdef __bpf__
#include "vmlinux.h"
typedef __u8 uint8_t;
typedef __u16 uint16_t;
typedef __u32 uint32_t;
typedef __s32 int32_t;
typedef __u64 uint64_t;
#else
#include <stdint.h>
#endif

/* clang-format off */
#define CORELOCK_ABI_VERSION 3

#define CORELOCK_COMM_LEN 16

/*
 * Log-linear histogram: octave 0 holds 0..7 exactly; octave o >= 1 holds
 * [2^(o+2), 2^(o+3)) in 8 buckets of equal width. A bucket is at most 1/8 of
 * its lower bound wide, so its midpoint is within 6.25 % of every member.
 * 40 octaves reach 2^42 ns = 73 minutes; longer times land in the last bucket
 * (total and maximum stay exact).
 */
#define CORELOCK_SUB_BUCKETS 8
#define CORELOCK_OCTAVES 40

#define CORELOCK_KERNEL_STACK_DEPTH 48
#define CORELOCK_USER_STACK_DEPTH 80

/*
 * A copy of a user stack: from so far below the stack pointer to the end of the
 * page, and as many pages above it as there is room for.
 */
#define CORELOCK_COPY_PAGE_BYTES 4096
#define CORELOCK_COPY_BYTES 16384
#define CORELOCK_COPY_BELOW 128

/* A cycle's kind: an enum corelock_ending, and what is said of its wait. */
#define CORELOCK_CYCLE_ENDING 7
#define CORELOCK_CYCLE_NO_WAIT 8    /* a downgrade began it, or its wait could not be kept */
#define CORELOCK_CYCLE_CONTENDED 16 /* the lock could not be had when the wait began */

/* Waiters of one lock that are named, and that are counted. */
#define CORELOCK_NAMED_WAITERS 64
#define CORELOCK_COUNTED_WAITERS 1024

/* Of corelock_probe_settings.cpu. */
#define CORELOCK_EVERY_CPU 0xffffffff

/* Of corelock_operand.index: there is none. */
#define CORELOCK_NO_REGISTER 0xffff

/* Of a text, at most, its end included. */
#define CORELOCK_TEXT_BYTES 64

/* Tests of one filter, and what stands for no further test in corelock_test. */
#define CORELOCK_TESTS 32
#define CORELOCK_ACCEPT 254
#define CORELOCK_REJECT 255

/* Of an event of hist: numbers that are counted, parts of its key, and the key's bytes. */
#define CORELOCK_HIST_VALUES 8
#define CORELOCK_HIST_PARTS 4
#define CORELOCK_HIST_KEY_BYTES 96

/*
 * Histograms of hist: octaves as above of all 64 bits, and as many of negative numbers without
 * their sign. Or linear ones: buckets from the first one on, then what is below and above them.
 */
#define CORELOCK_HIST_OCTAVES 62
#define CORELOCK_HIST_CHUNKS 124
#define CORELOCK_HIST_LINEAR 500

/* In a program that is copied for each place, what stands where the copy has its index. */
#define CORELOCK_INDEX_OF_COPY 0x1d5c0f1d

/* In place of a filter's first test, where there is no filter. */
#define CORELOCK_NO_FILTER 0xffffffff

/* Values of one hit that are sent, at most. */
#define CORELOCK_TRACE_VALUES 64

/* Open waits and holds of one thread at a time; fork and exec need two. */
#define CORELOCK_SLOTS 4

/* Operations: a system call number, that plus COMPAT for a 32-bit call, or one of the rest. */
#define CORELOCK_OPERATION_COMPAT 0x10000
#define CORELOCK_OPERATION_PAGE_FAULT 0x20000
#define CORELOCK_OPERATION_KERNEL_THREAD 0x20001
#define CORELOCK_OPERATION_EXIT 0x20002
#define CORELOCK_OPERATION_UNKNOWN 0x20003
/* clang-format on */

enum corelock_event {
	CORELOCK_EVENT_START_LOCKING,
	CORELOCK_EVENT_ACQUIRE_RETURNED,
	CORELOCK_EVENT_RELEASED,
	CORELOCK_EVENTS,
};

enum corelock_mode {
	CORELOCK_MODE_READ,
	CORELOCK_MODE_WRITE,
};

enum corelock_slow_kind {
	CORELOCK_SLOW_WAIT,
	CORELOCK_SLOW_HOLD,
};

/* How a cycle ended; docs/format.md has the same numbers. */
enum corelock_ending {
	CORELOCK_ENDING_RELEASED,
	CORELOCK_ENDING_DOWNGRADED,
	CORELOCK_ENDING_FAILED,	 /* a trylock did not get the lock */
	CORELOCK_ENDING_ABORTED, /* a fatal signal ended the wait */
	CORELOCK_ENDING_HOLDING, /* not: it still held the lock when tracing ended */
	CORELOCK_ENDING_WAITING, /* not: it still waited then */
};

/* How it is known who held the lock during a wait. */
enum corelock_certainty {
	CORELOCK_CERTAINTY_OBSERVED, /* both ends of the hold, or its end and that it began earlier
				      */
	CORELOCK_CERTAINTY_CONVOY,   /* so, and a queued writer kept this reader behind readers */
	CORELOCK_CERTAINTY_OWNER_WORD, /* the lock's owner when the wait began; a hint */
	CORELOCK_CERTAINTIES,
};

/* What is traced. */
enum corelock_target {
	CORELOCK_TARGET_ALL,	 /* every mm of the host */
	CORELOCK_TARGET_PROCESS, /* the mm of one process, whoever locks it */
	CORELOCK_TARGET_THREAD,	 /* one thread, whichever mm it locks */
	CORELOCK_TARGET_COMM,	 /* the mm of every process of that name */
	CORELOCK_TARGET_CGROUP,	 /* the mm of every process in that cgroup or below it */
};

/* How programs get at the events. */
enum corelock_attach {
	CORELOCK_ATTACH_ANY,	/* by tp_btf, or else by tp */
	CORELOCK_ATTACH_TP_BTF, /* their arguments, by BTF; every miss is counted */
	CORELOCK_ATTACH_TP,	/* their records, by tracefs */
};

/* An event that could not be paired, by kind. Each counts one event. */
enum corelock_unmatched {
	CORELOCK_UNMATCHED_START_WITHOUT_ACQUIRE,
	CORELOCK_UNMATCHED_ACQUIRE_WITHOUT_START,
	CORELOCK_UNMATCHED_FAILURE_WITHOUT_START,
	CORELOCK_UNMATCHED_ACQUIRE_WITHOUT_RELEASE,
	CORELOCK_UNMATCHED_RELEASE_WITHOUT_ACQUIRE,
	CORELOCK_UNMATCHED_RELEASE_OF_OTHER_MODE,
	CORELOCK_UNMATCHED_FOREIGN_RELEASE,
	CORELOCK_UNMATCHED_KINDS,
};

/* An event that was seen and could not be kept, by cause. Each counts one event. */
enum corelock_lost {
	CORELOCK_LOST_MAP_FULL,	      /* no room for a row, an mm or a histogram chunk */
	CORELOCK_LOST_SLOTS_FULL,     /* more open waits and holds than a thread has slots */
	CORELOCK_LOST_STORAGE_FAILED, /* the kernel refused the thread's state */
	CORELOCK_LOST_NESTED,	      /* interrupted one of our own programs in the same thread */
	CORELOCK_LOST_CAUSES,
};

/* One octave of a histogram: a cache line, handed out on first use. */
struct corelock_chunk {
	uint64_t count[CORELOCK_SUB_BUCKETS];
};

/* Waits or holds of one row. The number of them is the sum of the chunks' counts. */
struct corelock_times {
	uint64_t total_ns;
	uint64_t max_ns;
	/* Of interval i: recent_max_ns[i % 2] if recent_interval[i % 2] is i, else 0. */
	uint64_t recent_max_ns[2];
	uint32_t recent_interval[2];
	uint32_t chunk[CORELOCK_OCTAVES]; /* index into the chunk map, 0: none yet */
};

/*
 * Aggregate of one (mm, thread, mode, operation), value of the row map. Written
 * only by programs that run on behalf of its thread.
 */
struct corelock_row {
	uint64_t seen[CORELOCK_EVENTS]; /* events that reached this row */
	uint64_t downgrades;
	uint64_t trylock_failures;
	uint64_t aborted_waits;
	struct corelock_times wait;
	struct corelock_times hold;
	uint64_t named_ns; /* when comm was last read */
	uint32_t mm_id;
	uint32_t task_id; /* the thread, unique in the session (a tid is not) */
	uint32_t pid;	  /* of the locker's process */
	uint32_t tid;
	uint32_t host_pid;
	uint32_t host_tid;
	uint32_t operation;
	uint32_t mode;
	uint8_t comm[CORELOCK_COMM_LEN];
};

/* Whose waits were due to whom, key of the charge map. Rows by index. */
struct corelock_charge_key {
	uint32_t waiter_row;
	uint32_t holder_row;
	uint32_t certainty;
	uint32_t reserved;
};

/* The part of the waiter's waits that the holder's holds overlapped. Written by the waiter only. */
struct corelock_charge {
	uint64_t total_ns;
	uint64_t waits;
	uint64_t max_ns; /* of one wait */
	/* The wait that was charged last: when it began, and how much of it so far. */
	uint64_t wait_start_ns;
	uint64_t wait_ns;
};

/* Beside a row when waits are charged. */
struct corelock_contention {
	uint64_t waits;		/* that began when the lock could not be had, or were long */
	uint64_t wait_ns;	/* sum of these */
	uint64_t unknown_ns;	/* of it, not charged to anybody */
	uint64_t unheld_ns;	/* of that, while nobody had the lock who is on record */
	uint64_t example_ns[2]; /* of the example sent last, by enum corelock_slow_kind */
};

/* An address space. Ids are never used again in a session, addresses are. */
struct corelock_mm {
	uint64_t process_start_ns; /* start of its process, tells reused pids apart */
	uint32_t pid;
	uint32_t host_pid;  /* 0: fork has not yet given the child its pid */
	uint32_t unmapping; /* 1: exit_mmap has begun */
	uint32_t reserved;
	uint8_t comm[CORELOCK_COMM_LEN];
};

/* One wait and the hold that it led to, record of the cycle rings. */
struct corelock_cycle {
	uint64_t end_ns;
	uint64_t wait_ns;
	uint64_t hold_ns;
	uint32_t row;
	uint32_t kind;	     /* enum corelock_ending | CORELOCK_CYCLE_* */
	uint32_t wait_stack; /* corelock_slow.stack of a slow wait, 0: none */
	uint32_t hold_stack;
};

/* A thread's stack in user space. */
struct corelock_user_stack {
	uint64_t addresses[CORELOCK_USER_STACK_DEPTH]; /* as frame pointers have it */
	/* Where the program lies, as in /proc/PID/stat: new after exec. 0 without a stack. */
	uint64_t code_start;
	uint64_t code_end;
	uint64_t stack_start;
	/* What callers without a frame pointer are found by; all 0 where it is not recorded. */
	uint64_t ip;
	uint64_t sp;
	uint64_t frame;			   /* rbp; x29 */
	uint64_t other;			   /* rbx; x30 */
	int32_t bytes;			   /* of addresses; < 0: negative errno */
	uint32_t copy_bytes;		   /* got, from sp - CORELOCK_COPY_BELOW on */
	uint8_t copy[CORELOCK_COPY_BYTES]; /* may hold secrets: for unwinding only */
};

/* One slow wait or hold, record of the ring buffer. */
struct corelock_slow {
	uint64_t start_ns;
	uint64_t duration_ns;
	uint32_t kind;
	uint32_t mode;
	uint32_t operation;
	uint32_t pid;
	uint32_t tid;
	uint32_t mm_id;
	uint32_t mm_pid; /* filled in by the library from mm_id, as mm_host_pid is */
	uint32_t row;	 /* index of the row it belongs to */
	uint32_t host_pid;
	uint32_t host_tid;
	uint32_t mm_host_pid;
	uint32_t stack; /* where cycles are recorded: what they name its stacks by, else 0 */
	uint8_t comm[CORELOCK_COMM_LEN];
	uint8_t mm_comm[CORELOCK_COMM_LEN]; /* filled in by the library */
	int32_t kernel_stack_bytes;	    /* < 0: negative errno */
	uint32_t reserved;
	uint64_t kernel_stack[CORELOCK_KERNEL_STACK_DEPTH];
	struct corelock_user_stack user;
};

/* A thread in a lock's queue. */
struct corelock_waiter {
	uint64_t task;	 /* its address, what corelock_lock_task has it by */
	uint64_t waiter; /* address of its place in the queue */
	uint32_t mode;
	uint32_t reserved;
};

/* What is unusual about a corelock_lock. */
enum corelock_lock_flag {
	CORELOCK_LOCK_HAS_SEQUENCE = 1,
	CORELOCK_LOCK_CHANGING = 2,	/* it changed whenever it was read: parts may not fit */
	CORELOCK_LOCK_MORE_WAITERS = 4, /* than CORELOCK_COUNTED_WAITERS */
};

/* The mmap_lock of an mm, as found by an iterator: held, or waited for. */
struct corelock_lock {
	uint64_t mm; /* address */
	uint64_t taken_ns;
	uint64_t writer;      /* the task inside for writing; 0: none, or not yet written down */
	uint64_t last_reader; /* the last task that came for reading and may have gone; 0: none */
	uint64_t readers;
	uint32_t write_held;
	uint32_t sequence; /* another one for each write hold, with CORELOCK_LOCK_HAS_SEQUENCE */
	uint32_t flags;
	uint32_t waiter_count; /* CORELOCK_COUNTED_WAITERS at most; the first ones are named */
	struct corelock_waiter waiters[CORELOCK_NAMED_WAITERS]; /* in the order of the queue */
};

/* What is known of a corelock_lock_task. */
enum corelock_task_flag {
	CORELOCK_TASK_NAMED = 1,   /* a holder or waiter: has a stack */
	CORELOCK_TASK_HOLDS = 2,   /* was still the writer when its stack had been taken */
	CORELOCK_TASK_WAITS = 4,   /* was still in the queue when its stack had been taken */
	CORELOCK_TASK_RUNNING = 8, /* was on a CPU: its stack cannot be taken */
};

/* A thread that a corelock_lock names, or one that stands for a process with such an mm. */
struct corelock_lock_task {
	uint64_t task; /* address */
	uint64_t mm;   /* of the process it stands for; 0: stands for none */
	uint64_t start_ns;
	uint32_t pid;
	uint32_t tid;
	uint32_t host_pid;
	uint32_t host_tid;
	uint32_t operation;
	uint32_t flags;
	int32_t kernel_stack_bytes; /* < 0: negative errno */
	uint32_t reserved;
	uint8_t comm[CORELOCK_COMM_LEN];
	uint8_t process_comm[CORELOCK_COMM_LEN];
	uint64_t kernel_stack[CORELOCK_KERNEL_STACK_DEPTH];
};

/* Counters that the programs keep outside of rows. All in events unless said otherwise. */
struct corelock_counters {
	uint64_t seen_without_row[CORELOCK_EVENTS];
	uint64_t held_at_start;
	uint64_t unmatched[CORELOCK_UNMATCHED_KINDS];
	uint64_t lost[CORELOCK_LOST_CAUSES];
	uint64_t self;		/* the tool's own, left out of everything else */
	uint64_t open_waits;	/* when tracing ended */
	uint64_t open_holds;	/* likewise */
	uint64_t slow_recorded; /* slow records */
	uint64_t charges_full;	/* pieces of waits that no room was left to charge: unknown */
	uint64_t ring_full;	/* slow records lost */
	uint64_t stack_failed;	/* slow records with a stack missing */
	uint64_t cycles_full;	/* cycles lost: no room in a ring */
	uint64_t stacks_full;	/* stacks of slow waits and holds that there was no id left for */
	uint64_t not_followed;	/* child processes that should have been followed */
	/* By the kernel, per program: events dropped before the program ran. */
	uint64_t recursion_misses[CORELOCK_EVENTS];
	uint64_t hook_misses; /* of the programs on fork, rename, move and free together */
};

/* What a probe is attached to. */
enum corelock_place_kind {
	CORELOCK_PLACE_FUNCTION,   /* a function of the kernel */
	CORELOCK_PLACE_USER,	   /* a place in the code of a file */
	CORELOCK_PLACE_TRACEPOINT, /* a tracepoint of the kernel */
};

/* How it is attached, of each kind in the order in which they are tried. */
enum corelock_way {
	CORELOCK_WAY_NONE,
	CORELOCK_WAY_KPROBE_MULTI,
	CORELOCK_WAY_FENTRY,
	CORELOCK_WAY_KPROBE,
	CORELOCK_WAY_UPROBE_MULTI,
	CORELOCK_WAY_UPROBE,
	CORELOCK_WAY_RAW_TP,
	CORELOCK_WAY_TP,
	CORELOCK_WAYS,
};

/* What the programs of probes go by. Of an index that is out of range nothing is kept. */
struct corelock_probe_settings {
	uint32_t target_tgid; /* in the initial pid namespace; 0: every process */
	uint32_t self_tgid;   /* the tool's own process, which is left out and counted (0: none) */
	uint32_t cpu;	      /* the only one, or CORELOCK_EVERY_CPU */
	uint32_t indices;     /* of probes: hits are told apart by them */
};

/* What they keep beside their results. */
struct corelock_probe_state {
	uint32_t tracing;	    /* 0: nothing counts */
	uint32_t main_thread_ended; /* of the target, while other threads went on */
	uint64_t self;		    /* hits of the tool's own process */
	uint64_t faults;	    /* memory that an operand needed and could not be read */
};

/* Of one probe's hits that are wanted, what became of them; the rest were sent. */
struct corelock_hit_counts {
	uint64_t hits;
	uint64_t filtered;  /* that its filter did not accept */
	uint64_t ring_full; /* lost */
};

/* Where an operand's number comes from. */
enum corelock_source {
	CORELOCK_SOURCE_CONSTANT,
	CORELOCK_SOURCE_CONTEXT, /* what the program is given: an event's record, or registers */
	CORELOCK_SOURCE_MEMORY,	 /* of the user, where registers say */
	CORELOCK_SOURCE_PID,
	CORELOCK_SOURCE_TID,
	CORELOCK_SOURCE_CPU,
	CORELOCK_SOURCE_COMM, /* text alone */
};

/* Which text an operand's number leads to. */
enum corelock_text {
	CORELOCK_TEXT_NONE,	/* it is the value itself */
	CORELOCK_TEXT_INLINE,	/* characters in the context, at the offset */
	CORELOCK_TEXT_DATA_LOC, /* offset and length in the record, as of __data_loc */
	CORELOCK_TEXT_REL_LOC,	/* the same, from the number's own end on (__rel_loc) */
	CORELOCK_TEXT_POINTED,	/* its address, in the user's memory or the kernel's */
	CORELOCK_TEXT_OF_USER,	/* its address, in the user's memory alone */
	CORELOCK_TEXT_CONSTANT, /* its place in the table of constant texts */
};

/* A number, or a text, that a program finds by itself. All offsets are in bytes of the context. */
struct corelock_operand {
	uint64_t constant; /* the number; in memory, what is added to the address */
	uint16_t source;   /* enum corelock_source */
	uint16_t text;	   /* enum corelock_text */
	uint16_t offset;   /* of the number; in memory, of the register that has the address */
	uint16_t index;	   /* in memory: of the register that is added; each may be NO_REGISTER */
	uint8_t size;	   /* of the number: 1, 2, 4 or 8 */
	uint8_t is_signed;
	uint8_t index_size; /* how many of the added register's bytes count */
	uint8_t index_signed;
	uint8_t index_shift; /* it is added times a power of two */
	uint8_t reserved;
	uint16_t length; /* of a text, with its end: CORELOCK_TEXT_BYTES at most */
	uint16_t place;	 /* where a key or record of the program has it */
	uint8_t padding[6];
};

/* What is sent of one probe's hits. */
struct corelock_trace_spec {
	uint32_t first_test;			  /* of its filter, or CORELOCK_NO_FILTER */
	uint32_t count;				  /* of operands */
	uint16_t operands[CORELOCK_TRACE_VALUES]; /* by their place in the table */
};

/*
 * A hit, record of the ring buffer. Behind it are the values, each where its operand's `place`
 * says, 8 bytes of a number and CORELOCK_TEXT_BYTES of a text; then, if they are asked for, the
 * kernel's stack (CORELOCK_KERNEL_STACK_DEPTH addresses) and a struct corelock_user_stack.
 */
struct corelock_hit {
	uint64_t time_ns;
	uint64_t unread; /* values that could not be read, by the bits of their numbers in the spec
			  */
	uint64_t null;	 /* texts whose address is 0 */
	uint32_t index;	 /* of the probe */
	uint32_t cpu;
	uint32_t pid;
	uint32_t tid;
	uint32_t host_pid;
	uint32_t host_tid;
	uint32_t operation;	    /* with a user stack, else 0 */
	int32_t kernel_stack_bytes; /* < 0: negative errno */
	uint8_t comm[CORELOCK_COMM_LEN];
};

enum corelock_comparison {
	CORELOCK_COMPARISON_EQ,
	CORELOCK_COMPARISON_NE,
	CORELOCK_COMPARISON_LT,
	CORELOCK_COMPARISON_LE,
	CORELOCK_COMPARISON_GT,
	CORELOCK_COMPARISON_GE,
};

/*
 * One comparison of a filter. Numbers compare as numbers, whatever their signs: -1 is less than
 * any unsigned one. The tests that may follow come later, and are counted from the filter's first
 * one: a table has many filters.
 */
struct corelock_test {
	uint64_t mask;	    /* of the left number, which is unsigned then; all ones: as it is */
	uint16_t left;	    /* operands, by their place in the table */
	uint16_t right;	    /* of a text, a constant one */
	uint8_t comparison; /* enum corelock_comparison; of texts, only the first two */
	uint8_t on_true;    /* the test that follows, CORELOCK_ACCEPT or CORELOCK_REJECT */
	uint8_t on_false;
	uint8_t reserved;
};

/* What an event is to hist. */
enum corelock_hist_role {
	CORELOCK_HIST_FIELDS, /* its fields are counted */
	CORELOCK_HIST_START,  /* a time begins */
	CORELOCK_HIST_END,    /* the time ends, and is counted in place of fields */
};

/* What is counted of an event, by its index. Operands by their place in the table. */
struct corelock_hist_spec {
	uint32_t first_test; /* of the filter; CORELOCK_NO_FILTER */
	uint32_t role;	     /* enum corelock_hist_role */
	uint32_t pair;	     /* of a start and its end: the same, and no other pair's */
	uint32_t value_count;
	uint32_t part_count; /* of the key */
	uint32_t mark_count; /* of what a start and its end have in common; 0: their thread */
	uint32_t values[CORELOCK_HIST_VALUES];
	uint32_t parts[CORELOCK_HIST_PARTS];
	uint32_t marks[CORELOCK_HIST_PARTS];
};

/*
 * A key that was met; its histograms are at its index, times the values of an event. What has
 * counted nothing may be no key yet, or one that another group has, too.
 */
struct corelock_hist_group {
	uint32_t event;
	uint32_t reserved;
	uint8_t key[CORELOCK_HIST_KEY_BYTES];
};

/* Where a histogram has its chunks: index into those of each CPU, 0: none yet. */
struct corelock_hist_row {
	uint32_t chunk[CORELOCK_HIST_CHUNKS];
};

/* What one CPU has counted in a histogram, beside its chunks. */
struct corelock_hist_sums {
	uint64_t low, high; /* the sum, of 128 bits */
	/* As numbers that are all in order without a sign: the largest, and what the least lacks.
	 */
	uint64_t most, least_lacks;
	uint64_t chunks_full; /* values without room for a chunk: they are in none of the above */
};

/* Hits of an event that one CPU has seen. */
struct corelock_hist_counters {
	uint64_t seen;
	uint64_t filtered;
	uint64_t keys_full;  /* without room for another key */
	uint64_t key_failed; /* the kernel refused another key for a reason of its own */
	uint64_t without_start;
	/* Of a start: */
	uint64_t replaced; /* another start came with the same marks, and this one's end counts */
	uint64_t starts_full;
	uint64_t ended;
};

#endif
