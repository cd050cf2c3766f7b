// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* What is being counted: rows by what came since the last look, put together by group. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "session.h"

#define BUCKETS (CORELOCK_OCTAVES * CORELOCK_SUB_BUCKETS)

/* A kernel table, mapped as far as it is in use: reading it is no system call. */
struct view {
	void *at;
	size_t bytes;
};

/* A row that counted something; its sums are of that alone. */
struct active_row {
	struct corelock_row row;
	struct corelock_mm mm;
	uint32_t first_bucket, waits, holds; /* where in the buckets, and how many for each */
};

/* Of a row, at the last look. */
struct known_row {
	uint64_t seen : 63; /* all events */
	uint64_t was_active : 1;
	uint64_t wait_ns, hold_ns;
};

struct activity {
	struct view rows, mms, chunks;
	struct known_row *known;
	struct corelock_chunk *counted; /* chunks at the last look that their row was active at */
	struct active_row *active;
	struct corelock_bucket *buckets;
	uint32_t row_count, mm_count, chunk_count;
	uint32_t active_count, active_capacity, bucket_count, bucket_capacity;
};

static void view_close(struct view *view)
{
	if (view->at)
		munmap(view->at, view->bytes);
	*view = (struct view){};
}

void activity_free(corelock_session *session)
{
	struct activity *activity = session->activity;

	if (!activity)
		return;
	view_close(&activity->rows);
	view_close(&activity->mms);
	view_close(&activity->chunks);
	free(activity->known);
	free(activity->counted);
	free(activity->active);
	free(activity->buckets);
	free(activity);
	session->activity = NULL;
}

static int no_memory(corelock_session *session)
{
	return session_fail(session, CORELOCK_E_SYSTEM, ENOMEM, "", "cannot read what is counted");
}

/* So that its first `count` entries can be seen. */
static int view_grow(corelock_session *session, struct view *view, const struct bpf_map *map,
		     uint32_t count)
{
	size_t page = sysconf(_SC_PAGESIZE);
	/* As the kernel lays out the array. */
	size_t entry = (bpf_map__value_size(map) + 7) / 8 * 8;
	size_t bytes = (count * entry + page - 1) / page * page;
	void *at;

	if (bytes <= view->bytes)
		return 0;
	view_close(view);
	at = mmap(NULL, bytes, PROT_READ, MAP_SHARED, bpf_map__fd(map), 0);
	if (at == MAP_FAILED)
		return session_fail(session, CORELOCK_E_SYSTEM, errno, "", "cannot map %s",
				    bpf_map__name(map));
	*view = (struct view){at, bytes};
	return 0;
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
	const struct corelock_options *options = &session->options;
	/* Rows name mms and chunks that have been handed out before. */
	uint32_t rows = used_entries(data->next_row, options->max_rows);
	uint32_t mms = used_entries(data->next_mm, options->max_mms);
	uint32_t chunks = used_entries(data->next_chunk, options->max_chunks);
	int error;

	if (!grow(&activity->known, activity->row_count, rows, sizeof(*activity->known)) ||
	    !grow(&activity->counted, activity->chunk_count, chunks, sizeof(*activity->counted)))
		return no_memory(session);
	activity->row_count = rows;
	activity->mm_count = mms;
	activity->chunk_count = chunks;
	error = view_grow(session, &activity->rows, session->skel->maps.rows, rows);
	if (!error)
		error = view_grow(session, &activity->mms, session->skel->maps.mms, mms);
	if (!error)
		error = view_grow(session, &activity->chunks, session->skel->maps.chunks, chunks);
	return error;
}

/* Room for one more active row, and for all buckets that it may have. */
static bool grow_active(struct activity *activity)
{
	uint32_t rows = activity->active_count + 1, buckets = activity->bucket_count + 2 * BUCKETS;

	if (rows > activity->active_capacity) {
		if (!grow(&activity->active, activity->active_capacity, 2 * rows,
			  sizeof(*activity->active)))
			return false;
		activity->active_capacity = 2 * rows;
	}
	if (buckets > activity->bucket_capacity) {
		if (!grow(&activity->buckets, activity->bucket_capacity, 2 * buckets,
			  sizeof(*activity->buckets)))
			return false;
		activity->bucket_capacity = 2 * buckets;
	}
	return true;
}

static uint64_t all_events(const struct corelock_row *row)
{
	uint64_t seen = 0;

	for (int event = 0; event < CORELOCK_EVENTS; event++)
		seen += row->seen[event];
	return seen;
}

/* What its chunks have more than at the last look, as buckets. Chunk 0 is nobody's. */
static uint32_t take_times(struct activity *activity, const struct corelock_times *times)
{
	const struct corelock_chunk *chunks = activity->chunks.at;
	uint32_t first = activity->bucket_count;

	for (uint32_t octave = 0; octave < CORELOCK_OCTAVES; octave++) {
		uint32_t chunk = times->chunk[octave];
		struct corelock_chunk now, *before;

		if (!chunk || chunk >= activity->chunk_count)
			continue;
		now = chunks[chunk];
		before = &activity->counted[chunk];
		for (uint32_t sub = 0; sub < CORELOCK_SUB_BUCKETS; sub++)
			if (now.count[sub] != before->count[sub])
				activity->buckets[activity->bucket_count++] =
					(struct corelock_bucket){
						.index = octave * CORELOCK_SUB_BUCKETS + sub,
						.count = now.count[sub] - before->count[sub]};
		*before = now;
	}
	return activity->bucket_count - first;
}

static void take_row(struct activity *activity, const struct corelock_row *live,
		     struct known_row *known)
{
	struct active_row *active = &activity->active[activity->active_count++];
	const struct corelock_mm *mms = activity->mms.at;
	struct corelock_row *row = &active->row;
	struct known_row now;

	*row = *live;
	now = (struct known_row){all_events(row), 0, row->wait.total_ns, row->hold.total_ns};
	now.was_active = now.seen != known->seen;
	row->wait.total_ns -= known->wait_ns;
	row->hold.total_ns -= known->hold_ns;
	*known = now;
	active->mm = mms[row->mm_id < activity->mm_count ? row->mm_id : 0];
	active->first_bucket = activity->bucket_count;
	/* Behind the row: what a chunk has that its row has not yet is in the next look's. */
	active->waits = take_times(activity, &row->wait);
	active->holds = take_times(activity, &row->hold);
}

static int look(corelock_session *session, struct activity *activity)
{
	const struct corelock_row *rows;
	int error;

	activity->active_count = activity->bucket_count = 0;
	error = grow_tables(session, activity);
	if (error)
		return error;
	rows = activity->rows.at;
	for (uint32_t index = 1; index < activity->row_count; index++) {
		struct known_row *known = &activity->known[index];

		/* What came during the last look may not have been in all of its numbers. */
		if (all_events(&rows[index]) == known->seen && !known->was_active)
			continue;
		if (!grow_active(activity))
			return no_memory(session);
		take_row(activity, &rows[index], known);
	}
	return 0;
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

/* What tells processes apart that had the same pid; exec gives one another mm. */
static uint64_t process_mark(const struct active_row *active)
{
	return active->mm.host_pid ? active->mm.process_start_ns : active->row.mm_id;
}

static int by_thread(const void *a, const void *b)
{
	const struct active_row *one = *(struct active_row *const *)a;
	const struct active_row *other = *(struct active_row *const *)b;

	return compare(one->mm.host_pid, other->mm.host_pid)
		       ?: compare(process_mark(one), process_mark(other))
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

static void add_buckets(const struct corelock_bucket *buckets, uint32_t count, uint64_t max_ns,
			struct distribution *sum)
{
	if (max_ns > sum->max_ns)
		sum->max_ns = max_ns;
	for (uint32_t i = 0; i < count; i++) {
		sum->count[buckets[i].index] += buckets[i].count;
		sum->all += buckets[i].count;
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
		const struct corelock_bucket *buckets = &activity->buckets[rows[i]->first_bucket];

		add_buckets(buckets, rows[i]->waits, row->wait.max_ns, &waits);
		add_buckets(buckets + rows[i]->waits, rows[i]->holds, row->hold.max_ns, &holds);
		group->wait_ns += row->wait.total_ns;
		group->hold_ns += row->hold.total_ns;
		if (row->named_ns > named->row.named_ns)
			named = rows[i];
	}
	group->waits = waits.all;
	group->wait_p99_ns = p99(&waits);
	group->holds = holds.all;
	group->hold_p99_ns = p99(&holds);
	group->mm_start_ns = named->mm.process_start_ns;
	group->mm_id = named->row.mm_id;
	group->task_id = named->row.task_id;
	group->operation = named->row.operation;
	group->mode = named->row.mode;
	group->mm_pid = named->mm.pid;
	group->mm_host_pid = named->mm.host_pid;
	group->pid = named->row.pid;
	group->tid = named->row.tid;
	group->host_pid = named->row.host_pid;
	group->host_tid = named->row.host_tid;
	memcpy(group->comm, named->row.comm, sizeof(group->comm));
	memcpy(group->mm_comm, named->mm.comm, sizeof(group->mm_comm));
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
