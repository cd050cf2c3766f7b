/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the files of the library share. Nothing here is exported. */
#ifndef CORELOCK_SESSION_H
#define CORELOCK_SESSION_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "corelock.h"
#include "mmap_lock.skel.h"

#define CORELOCK_EXPORT __attribute__((visibility("default")))

#define MESSAGE_LEN 512
#define LOG_LEN (64 * 1024)

struct slow_read;

struct corelock_session {
	struct corelock_options options;
	struct mmap_lock_bpf *skel;
	struct ring_buffer *ring;
	struct slow_read *slow_read; /* while the ring is being read */
	struct bpf_program *program[CORELOCK_EVENTS];
	struct bpf_link *link[CORELOCK_EVENTS];
	struct bpf_link *renamed, *forked, *freed;
	bool configured, failed, attached;
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

	struct corelock_error error;
	char message[MESSAGE_LEN], remedy[MESSAGE_LEN];
	char *log;
	size_t log_len;
};

/* Argument layout of the tracepoints. */
enum event_layout {
	LAYOUT_MEMCG_ID,   /* (mm, write[, success]) */
	LAYOUT_MEMCG_PATH, /* (mm, path, write[, success]) */
};

/* Records a failure and returns -code. The message is a format; errno 0: none. */
int session_fail(corelock_session *session, enum corelock_code code, int sys_errno,
		 const char *remedy, const char *message, ...)
	__attribute__((format(printf, 5, 6)));

/* Routes libbpf's words into the session's log, for the calling thread, until log_end. */
void log_begin(corelock_session *session);
void log_end(void);

/* Fails with a remedy unless this kernel and caller can do the job. */
int features_check(corelock_session *session, enum event_layout *layout);

/* Says why bpf() was refused with EPERM. */
int features_fail_permission(corelock_session *session, const char *what);

void rows_free(corelock_session *session);
int slow_open(corelock_session *session);

#endif
