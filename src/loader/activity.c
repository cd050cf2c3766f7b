// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* What is being counted: rows by what came since the last look, put together by group. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "session.h"

#define BUCKETS (CORELOCK_OCTAVES * CORELOCK_SUB_BUCKETS)

/* A row that counted something; its sums are of that alone. */
struct active_row {
	struct corelock_row row;
	const struct corelock_mm *mm;
};

/* Of a row, at the last look. */
struct known_row {
	uint64_t seen : 63; /* all events */
	uint64_t was_active : 1;
	uint64_t wait_ns, hold_ns;
};

struct activity {
	struct known_row *known;
	struct corelock_chunk *chunks, *known_chunks;
	struct corelock_mm *mms;
	struct active_row *active;
	uint32_t known_count, chunk_count, known_chunk_count, active_count, active_room;
};

void activity_free(corelock_session *session)
{
	struct activity *activity = session->activity;

	if (!activity)
		return;
	free(activity->known);
	free(activity->chunks);
	free(activity->known_chunks);
	free(activity->mms);
	free(activity->active);
	free(activity);
	session->activity = NULL;
}

static int no_memory(corelock_session *session)
{
	return session_fail(session, CORELOCK_E_SYSTEM, ENOMEM, "", "cannot read what is counted");
}

/* The pass's tables become the look's, and those of the look before what is known. */
static int take_tables(corelock_session *session, struct activity *activity)
{
	size_t size = session->row_count * sizeof(*activity->known);
	struct known_row *known = realloc(activity->known, size ?: 1);

	if (!known)
		return no_memory(session);
	activity->known = known;
	if (session->row_count > activity->known_count)
		memset(known + activity->known_count, 0,
		       (session->row_count - activity->known_count) * sizeof(*known));
	activity->known_count = session->row_count;
	free(activity->known_chunks);
	activity->known_chunks = activity->chunks;
	activity->known_chunk_count = activity->chunk_count;
	activity->chunks = session->chunks;
	activity->chunk_count = session->chunk_count;
	free(activity->mms);
	activity->mms = session->mms;
	session->chunks = NULL;
	session->mms = NULL;
	activity->active_count = 0;
	return 0;
}

static bool take_row(corelock_session *session, struct activity *activity,
		     const struct corelock_row *row)
{
	struct known_row *known = &activity->known[session->next_row];
	struct active_row *active;
	uint64_t seen = 0;
	bool changed;

	for (int event = 0; event < CORELOCK_EVENTS; event++)
		seen += row->seen[event];
	changed = seen != known->seen;
	/* What came while the tables were read may be in the next look's alone. */
	if (!changed && !known->was_active)
		return true;
	if (activity->active_count == activity->active_room) {
		uint32_t room = 2 * activity->active_room ?: 256;

		active = realloc(activity->active, room * sizeof(*active));
		if (!active)
			return false;
		activity->active = active;
		activity->active_room = room;
	}
	active = &activity->active[activity->active_count++];
	active->row = *row;
	active->row.wait.total_ns -= known->wait_ns;
	active->row.hold.total_ns -= known->hold_ns;
	active->mm = &activity->mms[row->mm_id < session->mm_count ? row->mm_id : 0];
	*known = (struct known_row){seen, changed, row->wait.total_ns, row->hold.total_ns};
	return true;
}

CORELOCK_EXPORT int corelock_begin_activity(corelock_session *session)
{
	const struct corelock_row *row;
	struct activity *activity;
	int error = rows_check_loaded(session);

	if (!error)
		error = rows_begin(session);
	if (error)
		return error;
	if (!session->activity)
		session->activity = calloc(1, sizeof(*session->activity));
	activity = session->activity;
	if (!activity)
		return no_memory(session);
	error = take_tables(session, activity);
	while (!error && (row = rows_peek(session, &error))) {
		if (!take_row(session, activity, row))
			error = no_memory(session);
		session->next_row++;
	}
	return error;
}

CORELOCK_EXPORT uint32_t corelock_active_rows(const corelock_session *session)
{
	return session->activity ? session->activity->active_count : 0;
}

static int compare(uint64_t a, uint64_t b)
{
	return a < b ? -1 : a > b;
}

static int by_nothing(const void *a, const void *b)
{
	(void)a, (void)b;
	return 0;
}

static int by_thread(const void *a, const void *b)
{
	const struct active_row *one = *(struct active_row *const *)a;
	const struct active_row *other = *(struct active_row *const *)b;

	return compare(one->row.mm_id, other->row.mm_id)
		       ?: compare(one->row.task_id, other->row.task_id);
}

static int by_operation(const void *a, const void *b)
{
	const struct corelock_row *one = &(*(struct active_row *const *)a)->row;
	const struct corelock_row *other = &(*(struct active_row *const *)b)->row;
	int difference = compare(one->operation, other->operation)
				 ?: compare(one->mode, other->mode);

	/* A kernel thread's name is what it does. */
	if (difference || one->operation != CORELOCK_OPERATION_KERNEL_THREAD)
		return difference;
	return memcmp(one->comm, other->comm, sizeof(one->comm));
}

static int (*const comparisons[])(const void *, const void *) = {
	[CORELOCK_BY_NOTHING] = by_nothing,
	[CORELOCK_BY_THREAD] = by_thread,
	[CORELOCK_BY_OPERATION] = by_operation,
};

/* Waits or holds of a group. */
struct distribution {
	uint64_t count[BUCKETS];
	uint64_t all, max_ns;
};

static void add_times(const struct activity *activity, const struct corelock_times *times,
		      struct distribution *sum)
{
	if (times->max_ns > sum->max_ns)
		sum->max_ns = times->max_ns;
	for (uint32_t octave = 0; octave < CORELOCK_OCTAVES; octave++) {
		uint32_t chunk = times->chunk[octave];

		if (!chunk || chunk >= activity->chunk_count)
			continue;
		for (uint32_t sub = 0; sub < CORELOCK_SUB_BUCKETS; sub++) {
			uint64_t n = activity->chunks[chunk].count[sub];

			if (chunk < activity->known_chunk_count)
				n -= activity->known_chunks[chunk].count[sub];
			sum->count[octave * CORELOCK_SUB_BUCKETS + sub] += n;
			sum->all += n;
		}
	}
}

/* The middle of a bucket; see corelock_abi.h for where it begins and ends. */
static uint64_t bucket_middle(uint32_t index)
{
	uint32_t octave = index / CORELOCK_SUB_BUCKETS, sub = index % CORELOCK_SUB_BUCKETS;
	uint64_t width;

	if (!octave)
		return sub;
	width = 1ULL << (octave - 1);
	return (CORELOCK_SUB_BUCKETS + sub) * width + (width - 1) / 2;
}

/* By the nearest rank, as everywhere. No time is above the longest, whatever its bucket's middle. */
static uint64_t p99(const struct distribution *sum)
{
	uint64_t below = 0;

	for (uint32_t index = 0; sum->all && index < BUCKETS; index++) {
		below += sum->count[index];
		if (below * 100 >= sum->all * 99) {
			uint64_t ns = bucket_middle(index);

			return ns < sum->max_ns ? ns : sum->max_ns;
		}
	}
	return 0;
}

/* Puts rows together; false if nothing of them was counted: what came has not ended yet. */
static bool unite(const struct activity *activity, struct active_row *const *rows, uint32_t count,
		  struct corelock_activity *group)
{
	struct distribution waits = {}, holds = {};
	const struct active_row *named = rows[0];

	*group = (struct corelock_activity){0};
	for (uint32_t i = 0; i < count; i++) {
		const struct corelock_row *row = &rows[i]->row;

		add_times(activity, &row->wait, &waits);
		add_times(activity, &row->hold, &holds);
		group->wait_ns += row->wait.total_ns;
		group->hold_ns += row->hold.total_ns;
		if (row->named_ns > named->row.named_ns)
			named = rows[i];
	}
	group->waits = waits.all;
	group->wait_p99_ns = p99(&waits);
	group->holds = holds.all;
	group->hold_p99_ns = p99(&holds);
	group->mm_start_ns = named->mm->process_start_ns;
	group->mm_id = named->row.mm_id;
	group->task_id = named->row.task_id;
	group->operation = named->row.operation;
	group->mode = named->row.mode;
	group->mm_pid = named->mm->pid;
	group->mm_host_pid = named->mm->host_pid;
	group->pid = named->row.pid;
	group->tid = named->row.tid;
	group->host_pid = named->row.host_pid;
	group->host_tid = named->row.host_tid;
	memcpy(group->comm, named->row.comm, sizeof(group->comm));
	memcpy(group->mm_comm, named->mm->comm, sizeof(group->mm_comm));
	return waits.all || holds.all || group->wait_ns || group->hold_ns;
}

CORELOCK_EXPORT int corelock_read_activity(corelock_session *session, uint32_t by,
					   struct corelock_activity *groups, uint32_t capacity)
{
	struct activity *activity = session->activity;
	struct active_row **rows;
	uint32_t count = 0, end;

	if (!activity || by >= sizeof(comparisons) / sizeof(comparisons[0]))
		return session_fail(session, CORELOCK_E_ARGUMENT, 0, "",
				    "nothing was looked at, or no such group: %u", by);
	rows = calloc(activity->active_count + 1, sizeof(*rows));
	if (!rows)
		return no_memory(session);
	for (uint32_t i = 0; i < activity->active_count; i++)
		rows[i] = &activity->active[i];
	qsort(rows, activity->active_count, sizeof(*rows), comparisons[by]);
	for (uint32_t start = 0; start < activity->active_count && count < capacity; start = end) {
		for (end = start + 1; end < activity->active_count; end++)
			if (comparisons[by](&rows[start], &rows[end]))
				break;
		count += unite(activity, rows + start, end - start, &groups[count]);
	}
	free(rows);
	return count;
}
