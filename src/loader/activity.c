// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* What is being counted: rows by what came since the last look, put together by group. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "session.h"

#define BUCKETS (CORELOCK_OCTAVES * CORELOCK_SUB_BUCKETS)

#define MIN_GAP 64 /* entries between two that are read for less than another system call */

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
	struct corelock_row *rows;
	struct corelock_mm *mms;
	struct corelock_chunk *chunks, *before; /* as last read, and at the look before */
	struct known_row *known;
	struct active_row *active;
	bool *wanted; /* chunks of active rows */
	uint32_t row_count, mm_count, chunk_count, active_count;
};

void activity_free(corelock_session *session)
{
	struct activity *activity = session->activity;

	if (!activity)
		return;
	free(activity->rows);
	free(activity->mms);
	free(activity->chunks);
	free(activity->before);
	free(activity->known);
	free(activity->active);
	free(activity->wanted);
	free(activity);
	session->activity = NULL;
}

static int no_memory(corelock_session *session)
{
	return session_fail(session, CORELOCK_E_SYSTEM, ENOMEM, "", "cannot read what is counted");
}

/* Makes room for more entries, all 0. */
static bool grow(void *table, uint32_t count, uint32_t wanted, size_t size)
{
	char **entries = table, *grown;

	if (wanted <= count)
		return true;
	grown = realloc(*entries, wanted * size);
	if (!grown)
		return false;
	memset(grown + count * size, 0, (wanted - count) * size);
	*entries = grown;
	return true;
}

/* Tables only grow; of each, what is in use now. */
static int grow_tables(corelock_session *session, struct activity *activity)
{
	const struct mmap_lock_bpf__data *data = session->skel->data;
	uint32_t rows = used_entries(data->next_row, session->options.max_rows);
	uint32_t mms = used_entries(data->next_mm, session->options.max_mms);
	uint32_t chunks = used_entries(data->next_chunk, session->options.max_chunks);
	uint32_t row_count = activity->row_count, chunk_count = activity->chunk_count;

	if (!grow(&activity->rows, row_count, rows, sizeof(*activity->rows)) ||
	    !grow(&activity->known, row_count, rows, sizeof(*activity->known)) ||
	    !grow(&activity->active, row_count, rows, sizeof(*activity->active)) ||
	    !grow(&activity->mms, activity->mm_count, mms, sizeof(*activity->mms)) ||
	    !grow(&activity->chunks, chunk_count, chunks, sizeof(*activity->chunks)) ||
	    !grow(&activity->before, chunk_count, chunks, sizeof(*activity->before)) ||
	    !grow(&activity->wanted, chunk_count, chunks, sizeof(*activity->wanted)))
		return no_memory(session);
	activity->row_count = rows;
	activity->mm_count = mms;
	activity->chunk_count = chunks;
	return 0;
}

static void want_chunks(struct activity *activity, const struct corelock_times *times)
{
	for (uint32_t octave = 0; octave < CORELOCK_OCTAVES; octave++)
		if (times->chunk[octave] < activity->chunk_count)
			activity->wanted[times->chunk[octave]] = true;
}

static void take_row(struct activity *activity, uint32_t index)
{
	const struct corelock_row *row = &activity->rows[index];
	struct known_row *known = &activity->known[index];
	struct active_row *active;
	uint64_t seen = 0;
	bool changed;

	for (int event = 0; event < CORELOCK_EVENTS; event++)
		seen += row->seen[event];
	changed = seen != known->seen;
	/* What came while the tables were read may be in the next look's alone. */
	if (!changed && !known->was_active)
		return;
	active = &activity->active[activity->active_count++];
	active->row = *row;
	active->row.wait.total_ns -= known->wait_ns;
	active->row.hold.total_ns -= known->hold_ns;
	active->mm = &activity->mms[row->mm_id < activity->mm_count ? row->mm_id : 0];
	*known = (struct known_row){seen, changed, row->wait.total_ns, row->hold.total_ns};
	want_chunks(activity, &row->wait);
	want_chunks(activity, &row->hold);
}

/* Those of active rows. Chunk 0 is nobody's. */
static int read_chunks(corelock_session *session, struct activity *activity)
{
	uint32_t start = 1, end, next;
	int error = 0;

	while (!error) {
		while (start < activity->chunk_count && !activity->wanted[start])
			start++;
		if (start >= activity->chunk_count)
			break;
		for (end = next = start + 1; next < activity->chunk_count && next - end < MIN_GAP;
		     next++)
			if (activity->wanted[next])
				end = next + 1;
		error = read_part(session, session->skel->maps.chunks, start, end - start,
				  activity->chunks + start);
		start = end;
	}
	return error;
}

/* Rows first: what a chunk has that its row has not yet will be in the next look's rows. */
static int look(corelock_session *session, struct activity *activity)
{
	int error = grow_tables(session, activity);

	if (!error)
		error = read_part(session, session->skel->maps.rows, 0, activity->row_count,
				  activity->rows);
	if (!error)
		error = read_part(session, session->skel->maps.mms, 0, activity->mm_count,
				  activity->mms);
	if (error)
		return error;
	memcpy(activity->before, activity->chunks,
	       activity->chunk_count * sizeof(*activity->chunks));
	memset(activity->wanted, 0, activity->chunk_count * sizeof(*activity->wanted));
	activity->active_count = 0;
	for (uint32_t index = 1; index < activity->row_count; index++)
		take_row(activity, index);
	return read_chunks(session, activity);
}

CORELOCK_EXPORT int corelock_begin_activity(corelock_session *session)
{
	int error = check_loaded(session);

	if (error)
		return error;
	if (!session->activity)
		session->activity = calloc(1, sizeof(*session->activity));
	if (!session->activity)
		return no_memory(session);
	return look(session, session->activity);
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
	int difference =
		compare(one->operation, other->operation) ?: compare(one->mode, other->mode);

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
			uint64_t n = activity->chunks[chunk].count[sub] -
				     activity->before[chunk].count[sub];

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

/* By the nearest rank, as everywhere. No time is above the longest, whatever its bucket's middle.
 */
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
