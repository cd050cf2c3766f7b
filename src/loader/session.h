/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the files of the library share about a session. Nothing here is exported. */
#ifndef CORELOCK_SESSION_H
#define CORELOCK_SESSION_H

#include "failure.h"
#include "mmap_lock.skel.h"
#include "pids.h"
#include "record.h"

struct slow_read;

/* In what form the events come, one for each set of programs. */
enum event_form {
	FORM_ARGUMENTS,		  /* (mm, write[, success]) */
	FORM_ARGUMENTS_WITH_PATH, /* (mm, path, write[, success]) */
	FORM_RECORD,
	FORM_OWN_RECORD, /* of a struct of each event's own */
	FORM_NONE,
};

/* Of the option charges. */
#define CHARGES_WITHOUT_EXAMPLES 2

/* The forms this kernel has, by the way of attaching. */
struct event_forms {
	enum event_form by_arguments, by_record;
};

struct corelock_session {
	union {
		struct failure failure;
		struct failure; /* its members are the session's own */
	};
	struct corelock_options options;
	struct pid_space pids;
	uint32_t host_target_id, host_self_tgid; /* the options', in the initial pid namespace */
	char *btf_path;				 /* NULL: the kernel's, from where it shows it */
	struct mmap_lock_bpf *skel;
	struct ring_buffer *ring;
	struct slow_read *slow_read; /* while the ring is being read */
	struct recorder *recorder;   /* NULL: nothing is recorded */
	struct event_forms forms;    /* that may be tried */
	enum event_form form;	     /* that is loaded */
	bool real_time;		     /* a kernel with PREEMPT_RT */
	struct bpf_program *program[CORELOCK_EVENTS];
	struct bpf_link *link[CORELOCK_EVENTS];
	struct bpf_link *renamed, *moved, *forked, *freed;
	bool configured, failed, attached;
	pid_t owner;	 /* the process that made it, not a fork of that */
	uint64_t end_ns; /* 0: not detached */

	/* One pass over the rows. */
	struct corelock_row *batch;
	struct corelock_contention *contentions; /* of the batch, if waits are charged */
	struct corelock_chunk *chunks;
	struct corelock_mm *mms;
	uint32_t chunk_count, mm_count;
	uint32_t row_count, next_row; /* indices: row 0 is nobody's */
	uint32_t batch_start, batch_count;
	uint32_t interval; /* the one that ended when the pass began */

	struct activity *activity; /* since the last look at it; NULL: nobody has looked */
};

#define session_fail(session, ...) failure_set(&(session)->failure, __VA_ARGS__)
#define log_begin(session) failure_log_begin(&(session)->failure)

/* Fails with a remedy unless this kernel and caller can do the job; finds session->forms. */
int features_check(corelock_session *session);

/* Of that, what BTF says of the tracepoints. */
int tracepoints_check(corelock_session *session);

/* Detaches and unloads whatever there is. */
void session_unload(corelock_session *session);

/*
 * Whether what was refused may go better with the events' records; unloads, and loads the
 * programs on those, by load_with_btf. handle: the session.
 */
bool may_fall_back(const corelock_session *session, int error);
int fall_back(void *handle);

/* The least power of two from value, and a page, on: what a ring can have. */
uint32_t power_of_two(uint32_t value);

/* Now, on CLOCK_MONOTONIC. */
uint64_t now_ns(void);

/* Ends one, and all but the one that outlives the counting, start_locking first. */
void detach_program(struct bpf_link **link);
void detach_programs(corelock_session *session);

int check_loaded(corelock_session *session);

/*
 * Entries [start, start + count) of an array map, by as few system calls as it takes. 0, or an
 * errno: ENODATA if the map ended early.
 */
int read_entries(const struct bpf_map *map, uint32_t start, uint32_t count, void *values);

/* How many entries of a table have been handed out, by its next index. */
uint32_t used_entries(uint32_t next, uint32_t max);

void rows_free(corelock_session *session);
void activity_free(corelock_session *session);
int slow_open(corelock_session *session);

/* Without the room for more of it, which is most of a record and far from this CPU's cache. */
void copy_user_stack(struct corelock_user_stack *to, const struct corelock_user_stack *from);

#endif
