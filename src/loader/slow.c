// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Taking slow records out of the ring. */
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "session.h"

struct slow_read {
	struct corelock_slow *records;
	uint32_t capacity, count;
	uint64_t min_ns[2]; /* by enum corelock_slow_kind */
};

static void name_process(corelock_session *session, struct corelock_slow *record)
{
	struct corelock_mm mm;

	if (bpf_map__lookup_elem(session->skel->maps.mms, &record->mm_id, sizeof(record->mm_id),
				 &mm, sizeof(mm), 0))
		return;
	record->mm_pid = mm.pid;
	record->mm_host_pid = mm.host_pid;
	memcpy(record->mm_comm, mm.comm, sizeof(record->mm_comm));
}

void copy_user_stack(struct corelock_user_stack *to, const struct corelock_user_stack *from)
{
	uint32_t copied = from->copy_bytes;

	if (copied > sizeof(from->copy))
		copied = sizeof(from->copy);
	memcpy(to, from, offsetof(struct corelock_user_stack, copy) + copied);
}

static void copy_record(struct corelock_slow *to, const struct corelock_slow *from)
{
	memcpy(to, from, offsetof(struct corelock_slow, user));
	copy_user_stack(&to->user, &from->user);
}

static int take_record(void *context, void *data, size_t size)
{
	corelock_session *session = context;
	struct slow_read *read = session->slow_read;
	const struct corelock_slow *record = data;

	/* Of an example every one is wanted, and whether it is one cannot be told any more. */
	if (size < sizeof(*record) ||
	    (session->options.charges != 1 && record->duration_ns < read->min_ns[record->kind & 1]))
		return 0;
	copy_record(&read->records[read->count], record);
	name_process(session, &read->records[read->count]);
	read->count++;
	/* An error stops the reading behind this record; it is consumed. */
	return read->count == read->capacity ? -ENOSPC : 0;
}

int slow_open(corelock_session *session)
{
	session->ring = ring_buffer__new(bpf_map__fd(session->skel->maps.slow_ring), take_record,
					 session, NULL);
	if (session->ring)
		return 0;
	return session_fail(session, CORELOCK_E_SYSTEM, errno, "", "cannot map the ring buffer");
}

/* What the caller would drop need not be sent: no stack is taken for it. */
static void set_threshold(corelock_session *session, enum corelock_slow_kind kind, uint64_t min_ns)
{
	uint64_t least = session->options.slow_ns;

	session->skel->data->hot.slow_ns[kind] = min_ns > least ? min_ns : least;
}

CORELOCK_EXPORT int corelock_read_slow(corelock_session *session, struct corelock_slow *records,
				       uint32_t capacity, uint64_t min_wait_ns,
				       uint64_t min_hold_ns)
{
	struct slow_read read = {
		.records = records, .capacity = capacity, .min_ns = {min_wait_ns, min_hold_ns}};
	int got;

	if (!session->ring || !capacity)
		return session_fail(session, CORELOCK_E_ARGUMENT, 0, "",
				    "nothing to read slow records from, or no room for them");
	set_threshold(session, CORELOCK_SLOW_WAIT, min_wait_ns);
	set_threshold(session, CORELOCK_SLOW_HOLD, min_hold_ns);
	session->slow_read = &read;
	got = ring_buffer__consume(session->ring);
	session->slow_read = NULL;
	if (got < 0 && got != -ENOSPC)
		return session_fail(session, CORELOCK_E_SYSTEM, -got, "",
				    "cannot read slow records");
	return read.count;
}

CORELOCK_EXPORT int corelock_slow_fd(corelock_session *session)
{
	if (!session->ring)
		return session_fail(session, CORELOCK_E_ARGUMENT, 0, "",
				    "the session is not loaded");
	return ring_buffer__epoll_fd(session->ring);
}
