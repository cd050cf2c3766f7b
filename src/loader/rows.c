// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Reading the tables: rows with their histograms, and the totals of the accounting. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "session.h"

#define BATCH_ROWS 256
#define BUCKETS_PER_ROW (2 * CORELOCK_OCTAVES * CORELOCK_SUB_BUCKETS)

uint32_t used_entries(uint32_t next, uint32_t max)
{
	return next < max ? next : max;
}

int read_entries(const struct bpf_map *map, uint32_t start, uint32_t count, void *values)
{
	size_t size = bpf_map__value_size(map);
	uint32_t done = 0;

	while (done < count) {
		uint32_t got = count - done, next = start + done - 1;
		uint32_t keys[BATCH_ROWS], last;
		int error;

		if (got > BATCH_ROWS)
			got = BATCH_ROWS;
		error = bpf_map_lookup_batch(bpf_map__fd(map), start + done ? &next : NULL, &last,
					     keys, (char *)values + done * size, &got, NULL);
		/* ENOENT: the end of the map was reached, with `got` entries. */
		if (error && error != -ENOENT)
			return -error;
		if (!got)
			return ENODATA;
		done += got;
	}
	return 0;
}

/* As read_entries; an error is the session's failure. */
static int read_part(corelock_session *session, const struct bpf_map *map, uint32_t start,
		     uint32_t count, void *values)
{
	int error = read_entries(map, start, count, values);

	return error ? session_fail(session, CORELOCK_E_SYSTEM, error, "", "cannot read map %s",
				    bpf_map__name(map))
		     : 0;
}

/* The first `count` entries of an array map in fresh memory. */
static int read_table(corelock_session *session, struct bpf_map *map, uint32_t count, void **table)
{
	free(*table);
	*table = calloc(count, bpf_map__value_size(map));
	if (!*table)
		return session_fail(session, CORELOCK_E_SYSTEM, ENOMEM, "", "cannot read map %s",
				    bpf_map__name(map));
	return read_part(session, map, 0, count, *table);
}

void rows_free(corelock_session *session)
{
	free(session->batch);
	free(session->contentions);
	free(session->chunks);
	free(session->mms);
	session->batch = NULL;
	session->contentions = NULL;
	session->chunks = NULL;
	session->mms = NULL;
	session->row_count = session->next_row = 0;
}

/*
 * Rows name chunks, so the chunks are read after the number of rows is taken
 * and a chunk that a row names later is missing here: its events are newer
 * than this pass.
 */
static int begin_pass(corelock_session *session)
{
	const struct mmap_lock_bpf__data *data = session->skel->data;
	int error;

	rows_free(session);
	session->batch = calloc(BATCH_ROWS, sizeof(*session->batch));
	session->contentions = calloc(BATCH_ROWS, sizeof(*session->contentions));
	if (!session->batch || !session->contentions)
		return session_fail(session, CORELOCK_E_SYSTEM, ENOMEM, "", "cannot read rows");
	session->row_count = used_entries(data->next_row, session->options.max_rows);
	session->mm_count = used_entries(data->next_mm, session->options.max_mms);
	session->chunk_count = used_entries(data->next_chunk, session->options.max_chunks);
	session->next_row = 1;
	session->batch_start = session->batch_count = 0;
	error = read_table(session, session->skel->maps.mms, session->mm_count,
			   (void **)&session->mms);
	if (!error)
		error = read_table(session, session->skel->maps.chunks, session->chunk_count,
				   (void **)&session->chunks);
	if (error)
		rows_free(session);
	return error;
}

int check_loaded(corelock_session *session)
{
	if (session->skel)
		return 0;
	return session_fail(session, CORELOCK_E_ARGUMENT, 0, "", "the session is not loaded");
}

CORELOCK_EXPORT int corelock_begin_rows(corelock_session *session)
{
	int error = check_loaded(session);

	if (error)
		return error;
	session->interval =
		__atomic_fetch_add(&session->skel->data->hot.interval, 1, __ATOMIC_SEQ_CST);
	return begin_pass(session);
}

/* The next row of the pass; NULL at its end (*error 0) or on failure. */
static const struct corelock_row *peek_row(corelock_session *session, int *error)
{
	uint32_t index = session->next_row;

	*error = 0;
	if (index >= session->row_count) {
		rows_free(session);
		return NULL;
	}
	if (index >= session->batch_start + session->batch_count) {
		uint32_t left = session->row_count - index;

		session->batch_start = index;
		session->batch_count = left < BATCH_ROWS ? left : BATCH_ROWS;
		*error = read_part(session, session->skel->maps.rows, index, session->batch_count,
				   session->batch);
		if (!*error && session->options.charges)
			*error = read_part(session, session->skel->maps.contentions, index,
					   session->batch_count, session->contentions);
		if (*error)
			return NULL;
	}
	return &session->batch[index - session->batch_start];
}

/* Writes the non-empty buckets (or only counts, if NULL); returns how many there are. */
static uint32_t unpack_times(const corelock_session *session, const struct corelock_times *times,
			     struct corelock_bucket *buckets, uint64_t *count)
{
	uint32_t written = 0;

	*count = 0;
	for (uint32_t octave = 0; octave < CORELOCK_OCTAVES; octave++) {
		uint32_t chunk = times->chunk[octave];

		if (!chunk || chunk >= session->chunk_count)
			continue;
		for (uint32_t sub = 0; sub < CORELOCK_SUB_BUCKETS; sub++) {
			uint64_t n = session->chunks[chunk].count[sub];

			if (!n)
				continue;
			*count += n;
			if (buckets)
				buckets[written] = (struct corelock_bucket){
					.index = octave * CORELOCK_SUB_BUCKETS + sub, .count = n};
			written++;
		}
	}
	return written;
}

static uint64_t recent_max(const corelock_session *session, const struct corelock_times *times)
{
	uint32_t bank = session->interval & 1;

	return times->recent_interval[bank] == session->interval ? times->recent_max_ns[bank] : 0;
}

static void name_reading(struct corelock_reading *reading, uint32_t index,
			 const struct corelock_row *row, const struct corelock_mm *mm)
{
	reading->row = index;
	reading->named_ns = row->named_ns;
	reading->mm_start_ns = mm->process_start_ns;
	reading->mm_id = row->mm_id;
	reading->mm_pid = mm->pid;
	reading->mm_host_pid = mm->host_pid;
	reading->task_id = row->task_id;
	reading->pid = row->pid;
	reading->tid = row->tid;
	reading->host_pid = row->host_pid;
	reading->host_tid = row->host_tid;
	reading->operation = row->operation;
	reading->mode = row->mode;
	memcpy(reading->comm, row->comm, sizeof(reading->comm));
	memcpy(reading->mm_comm, mm->comm, sizeof(reading->mm_comm));
}

static uint32_t unpack_row(const corelock_session *session, const struct corelock_row *row,
			   struct corelock_reading *reading, struct corelock_bucket *buckets)
{
	const struct corelock_mm *mm =
		&session->mms[row->mm_id < session->mm_count ? row->mm_id : 0];
	const struct corelock_contention *contention = &session->contentions[row - session->batch];

	*reading = (struct corelock_reading){
		.downgrades = row->downgrades,
		.trylock_failures = row->trylock_failures,
		.aborted_waits = row->aborted_waits,
		.wait_total_ns = row->wait.total_ns,
		.wait_max_ns = row->wait.max_ns,
		.wait_recent_max_ns = recent_max(session, &row->wait),
		.hold_total_ns = row->hold.total_ns,
		.hold_max_ns = row->hold.max_ns,
		.hold_recent_max_ns = recent_max(session, &row->hold),
		.contended_waits = contention->waits,
		.contended_ns = contention->wait_ns,
		.unknown_ns = contention->unknown_ns,
		.unheld_ns = contention->unheld_ns,
	};
	name_reading(reading, session->next_row, row, mm);
	reading->wait_buckets = unpack_times(session, &row->wait, buckets, &reading->wait_count);
	reading->hold_buckets = unpack_times(session, &row->hold, buckets + reading->wait_buckets,
					     &reading->hold_count);
	return reading->wait_buckets + reading->hold_buckets;
}

CORELOCK_EXPORT int corelock_next_rows(corelock_session *session, struct corelock_reading *rows,
				       uint32_t capacity, struct corelock_bucket *buckets,
				       uint32_t bucket_capacity)
{
	uint32_t count = 0, bucket = 0;
	int error = check_loaded(session);

	if (error)
		return error;
	if (!capacity || bucket_capacity < BUCKETS_PER_ROW)
		return session_fail(session, CORELOCK_E_ARGUMENT, 0, "",
				    "the row buffers are too small");
	while (count < capacity && bucket + BUCKETS_PER_ROW <= bucket_capacity) {
		const struct corelock_row *row = peek_row(session, &error);

		if (error)
			return error;
		if (!row)
			break;
		bucket += unpack_row(session, row, &rows[count], buckets + bucket);
		count++;
		session->next_row++;
	}
	return count;
}

CORELOCK_EXPORT int corelock_read_row(corelock_session *session, uint32_t index,
				      struct corelock_reading *reading)
{
	struct corelock_row row;
	struct corelock_mm mm;
	int error = check_loaded(session);

	if (error)
		return error;
	error = bpf_map__lookup_elem(session->skel->maps.rows, &index, sizeof(index), &row,
				     sizeof(row), 0);
	if (!error)
		error = bpf_map__lookup_elem(session->skel->maps.mms, &row.mm_id, sizeof(row.mm_id),
					     &mm, sizeof(mm), 0);
	if (error)
		return session_fail(session, CORELOCK_E_SYSTEM, -error, "", "cannot read row %u",
				    index);
	*reading = (struct corelock_reading){0};
	name_reading(reading, index, &row, &mm);
	reading->wait_total_ns = row.wait.total_ns;
	reading->hold_total_ns = row.hold.total_ns;
	return 0;
}

/* Those of one row's waits, or (0) all. */
static int read_charges(corelock_session *session, uint32_t waiter_row,
			struct corelock_charged *charges, uint32_t capacity)
{
	struct corelock_charge_key keys[BATCH_ROWS];
	struct corelock_charge values[BATCH_ROWS];
	uint32_t position, got, count = 0;
	bool first = true;
	int error = check_loaded(session);

	if (error)
		return error;
	for (bool more = session->options.charges; more; first = false) {
		got = BATCH_ROWS;
		error = bpf_map_lookup_batch(bpf_map__fd(session->skel->maps.charges),
					     first ? NULL : &position, &position, keys, values,
					     &got, NULL);
		if (error && error != -ENOENT)
			return session_fail(session, CORELOCK_E_SYSTEM, -error, "",
					    "cannot read the charges");
		more = !error;
		for (uint32_t i = 0; i < got && count < capacity; i++) {
			if (waiter_row && keys[i].waiter_row != waiter_row)
				continue;
			charges[count++] = (struct corelock_charged){
				.waiter_row = keys[i].waiter_row,
				.holder_row = keys[i].holder_row,
				.certainty = keys[i].certainty,
				.total_ns = values[i].total_ns,
				.waits = values[i].waits,
				.max_ns = values[i].max_ns,
				.last_start_ns = values[i].wait_start_ns,
				.last_ns = values[i].wait_ns,
			};
		}
	}
	return count;
}

CORELOCK_EXPORT int corelock_read_charges(corelock_session *session,
					  struct corelock_charged *charges, uint32_t capacity)
{
	return read_charges(session, 0, charges, capacity);
}

CORELOCK_EXPORT int corelock_read_row_charges(corelock_session *session, uint32_t waiter_row,
					      struct corelock_charged *charges, uint32_t capacity)
{
	if (!waiter_row)
		return session_fail(session, CORELOCK_E_ARGUMENT, 0, "", "row 0 is nobody's");
	return read_charges(session, waiter_row, charges, capacity);
}

/* How often the kernel's recursion guard kept a program from running; 0 if it is not loaded. */
static int read_misses(corelock_session *session, struct bpf_program *program, uint64_t *misses)
{
	struct bpf_prog_info info = {};
	uint32_t size = sizeof(info);
	int error;

	*misses = 0;
	if (!bpf_program__autoload(program))
		return 0;
	error = bpf_obj_get_info_by_fd(bpf_program__fd(program), &info, &size);
	if (error)
		return session_fail(session, CORELOCK_E_SYSTEM, -error, "",
				    "cannot read the missed events");
	*misses = info.recursion_misses;
	return 0;
}

static int read_all_misses(corelock_session *session, struct corelock_counters *counters)
{
	struct bpf_program *hooks[] = {session->skel->progs.forked, session->skel->progs.renamed,
				       session->skel->progs.moved, session->skel->progs.freed};
	int error = 0;

	for (int event = 0; event < CORELOCK_EVENTS && !error; event++)
		error = read_misses(session, session->program[event],
				    &counters->recursion_misses[event]);
	counters->hook_misses = 0;
	for (size_t i = 0; i < sizeof(hooks) / sizeof(hooks[0]) && !error; i++) {
		uint64_t misses;

		error = read_misses(session, hooks[i], &misses);
		counters->hook_misses += misses;
	}
	return error;
}

CORELOCK_EXPORT int corelock_read_counters(corelock_session *session,
					   struct corelock_counters *counters)
{
	int error = check_loaded(session);

	if (error)
		return error;
	*counters = session->skel->bss->counters;
	return read_all_misses(session, counters);
}

static void add_row(const corelock_session *session, const struct corelock_row *row,
		    struct corelock_totals *totals)
{
	uint64_t waits, holds;

	for (int event = 0; event < CORELOCK_EVENTS; event++)
		totals->seen[event] += row->seen[event];
	unpack_times(session, &row->wait, NULL, &waits);
	unpack_times(session, &row->hold, NULL, &holds);
	totals->waits += waits;
	totals->holds += holds;
	totals->downgrades += row->downgrades;
	totals->failures += row->trylock_failures + row->aborted_waits;
	totals->rows++;
}

CORELOCK_EXPORT int corelock_read_totals(corelock_session *session, struct corelock_totals *totals)
{
	const struct corelock_row *row;
	int error = check_loaded(session);

	if (error)
		return error;
	error = begin_pass(session);
	if (error)
		return error;
	memset(totals, 0, sizeof(*totals));
	while ((row = peek_row(session, &error))) {
		add_row(session, row, totals);
		session->next_row++;
	}
	if (error)
		return error;
	return corelock_read_counters(session, &totals->counters);
}
