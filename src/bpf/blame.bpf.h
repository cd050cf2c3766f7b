/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Charging waits to the holds that overlapped them.
 *
 * A hold is put on record when it ends while somebody waits for the lock, so
 * holds that were in nobody's way cost one look at the lock's state word. When
 * a wait that was in somebody's way ends, the records of its mm are gone
 * through, the hold that ended last first, and each is charged with what it
 * overlaps of the wait and no later hold was charged with. So of several
 * readers at once it is the one that left last, who was really waited for.
 *
 * Both events of a hold come from inside the lock (v5.15 and later), so write
 * holds overlap no other, and every hold that kept a waiter out is on record
 * before that waiter has the lock.
 *
 * A reader waits for readers only behind a queued writer, which then holds the
 * lock before the reader does. So a read hold is charged to a reader, as convoy,
 * only where a write hold came after it within the wait; else the reader was let
 * in together with it, and was only slow to wake.
 */
#ifndef CORELOCK_BLAME_BPF_H
#define CORELOCK_BLAME_BPF_H

#include "slow.bpf.h"

/* Waits from here on are looked into though the lock seemed free when they began. */
#define LONG_WAIT_NS 4096

/* Operation and thread id of an owner that is known by its task_struct alone. */
#define OWNER_TASK_ID 0x80000000

/*
 * The records of a history are kept the longer, the longer the hold was: what
 * drops out of one tier enters the next if it is long enough for it. Every
 * record of a tier is thus of an earlier end than those of the tier before.
 */
#define HISTORY_TIERS 4
#define HISTORY_RECORDS (1024 + 32 + 16 + 8)

static const struct {
	__u32 first, size;
	__u64 min_ns;
} history_tier[HISTORY_TIERS] = {
	{0, 1024, 0},
	{1024, 32, 64 * 1000},
	{1056, 16, 4 * 1000 * 1000},
	{1072, 8, 256 * 1000 * 1000},
};

/* Operations of one thread that fit into one record. */
#define RECORD_ROWS 5

/* What a record has of one row. */
struct recorded_row {
	__u32 row; /* 0: none */
	__u32 mode;
	__u64 held_ns;
	__u64 tail_ns; /* read holds after which the record has no write hold */
};

/*
 * Holds of one thread, one after the other: one of a reader, or write holds and
 * the read holds they were downgraded to. Nobody else's came between, and no
 * contended wait began after the first: so whoever waits at their end waited for
 * all of them, from the first on or from within it.
 */
struct hold_record {
	__u64 sequence; /* of its tier, from 1; 0: empty or being written */
	__u64 start_ns;
	__u64 first_end_ns;
	__u64 end_ns;
	__u64 epoch;
	__u32 task_id;
	__u32 mm_id;
	__u32 holds;
	__u32 certainty;
	struct recorded_row row[RECORD_ROWS];
};

/* Of all mms whose id leads here: a record has its mm's. */
struct hold_history {
	__u64 written[HISTORY_TIERS];
	__u64 forgotten_ns; /* holds that ended up to here may be off the record */
	__u64 epoch;	    /* contended waits that have begun */
	__u64 reserved[2];
	struct hold_record record[HISTORY_RECORDS];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1); /* a power of two */
	__type(key, __u32);
	__type(value, struct hold_history);
} histories SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, struct corelock_charge_key);
	__type(value, struct corelock_charge);
} charges SEC(".maps");

static __always_inline struct hold_history *history_of(__u32 mm_id)
{
	__u32 index = mm_id & history_mask;

	return bpf_map_lookup_elem(&histories, &index);
}

/* Sends an example of a row's waits or holds if it is twice as long as the last one; whether so. */
static __always_inline int send_example(void *ctx, __u32 index, __u32 kind, __u64 start_ns,
					__u64 duration_ns)
{
	struct corelock_contention *contention = bpf_map_lookup_elem(&contentions, &index);

	if (!send_examples || !contention || duration_ns < 2 * contention->example_ns[kind])
		return 0;
	if (!send_slow(ctx, index, kind, start_ns, duration_ns))
		return 0;
	contention->example_ns[kind] = duration_ns;
	return 1;
}

/* Adds a hold to a record of its thread. False if the record has no room for another row. */
static __always_inline bool record_add(struct hold_record *record, __u32 row, __u32 mode, __u64 ns,
				       __u64 end_ns)
{
	bool added = false;

#pragma unroll
	for (__u32 at = 0; at < RECORD_ROWS; at++) {
		struct recorded_row *held = &record->row[at];

		if (!added && (held->row == row || !held->row)) {
			held->row = row;
			held->mode = mode;
			held->held_ns += ns;
			if (mode == CORELOCK_MODE_READ)
				held->tail_ns += ns;
			added = true;
		}
	}
	if (!added)
		return false;
	if (mode == CORELOCK_MODE_WRITE) {
#pragma unroll
		for (__u32 at = 0; at < RECORD_ROWS; at++)
			record->row[at].tail_ns = 0;
	}
	record->end_ns = end_ns;
	record->holds++;
	return true;
}

static __always_inline void forget(struct hold_history *history, const struct hold_record *record)
{
	if (record->sequence && record->end_ns > history->forgotten_ns)
		history->forgotten_ns = record->end_ns;
}

/* The place for a new record, and its number; what was there moves on or is forgotten. */
static __always_inline struct hold_record *record_place(struct hold_history *history, __u64 *number)
{
	struct hold_record *place[HISTORY_TIERS] = {};
	__u64 numbers[HISTORY_TIERS] = {};
	__u32 depth = 0;

#pragma unroll
	for (__u32 tier = 0; tier < HISTORY_TIERS; tier++) {
		if (tier) {
			const struct hold_record *leaving = place[tier - 1];

			if (!leaving->sequence ||
			    leaving->end_ns - leaving->start_ns < history_tier[tier].min_ns)
				break;
		}
		numbers[tier] = __sync_fetch_and_add(&history->written[tier], 1);
		place[tier] = &history->record[history_tier[tier].first +
					       (numbers[tier] & (history_tier[tier].size - 1))];
		depth = tier + 1;
	}
#pragma unroll
	for (__u32 below = HISTORY_TIERS; below > 0; below--) {
		__u32 tier = below - 1;

		if (tier >= depth)
			continue;
		if (below == depth)
			forget(history, place[tier]);
		__sync_lock_test_and_set(&place[tier]->sequence, 0);
		if (tier) {
			struct hold_record *to = place[tier];

			__builtin_memcpy(&to->start_ns, &place[tier - 1]->start_ns,
					 sizeof(*to) - sizeof(to->sequence));
			__sync_lock_test_and_set(&to->sequence, numbers[tier] + 1);
		}
	}
	*number = numbers[0];
	return place[0];
}

/* Puts a hold that ended on record. Returns whether it was sent as an example. */
static __noinline int record_hold(void *ctx, __u32 row_index, __u64 start_ns, __u64 end_ns,
				  __u32 certainty)
{
	struct corelock_row *row = bpf_map_lookup_elem(&rows, &row_index);
	struct hold_history *history;
	struct hold_record *record;
	__u64 number;

	history = row && row_index ? history_of(row->mm_id) : NULL;
	if (!history)
		return 0;
	record = &history->record[(history->written[0] - 1) & (history_tier[0].size - 1)];
	if (record->sequence && record->task_id == row->task_id && record->mm_id == row->mm_id &&
	    record->epoch == history->epoch && record->certainty == certainty &&
	    /* Other readers may hold meanwhile; a writer, and what its hold becomes, is alone. */
	    (row->mode == CORELOCK_MODE_WRITE ? start_ns >= record->end_ns
					      : start_ns == record->end_ns) &&
	    record_add(record, row_index, row->mode, end_ns - start_ns, end_ns))
		goto recorded;
	record = record_place(history, &number);
	record->start_ns = start_ns;
	record->first_end_ns = end_ns;
	record->epoch = history->epoch;
	record->task_id = row->task_id;
	record->mm_id = row->mm_id;
	record->holds = 0;
	record->certainty = certainty;
	__builtin_memset(record->row, 0, sizeof(record->row));
	record_add(record, row_index, row->mode, end_ns - start_ns, end_ns);
	__sync_lock_test_and_set(&record->sequence, number + 1);
recorded:
	return send_example(ctx, row_index, CORELOCK_SLOW_HOLD, start_ns, end_ns - start_ns);
}

/* What one wait is due to one holder, before it is charged. */
struct due {
	__u32 row;
	__u32 certainty;
	__u64 ns;
};

#define DUES 8

/* A wait while it is being charged. */
struct charging {
	__u64 start_ns;
	__u64 until_ns; /* what is left of it ends here */
	__u64 charged_ns;
	__u64 refused_ns; /* due to somebody, without room to charge it */
	__u32 row;
	__u32 mm_id;
	__u32 mode;
	__u32 earliest_holder; /* row, 0: nobody has been charged */
	__u32 writer_came;
	__u32 unsure; /* there are records of which it cannot be told what is due */
	/* Holders take turns, so a few sums save most of the look-ups. */
	struct due due[DUES];
};

/* Charges what is due to the row; false if there is no room. */
static __noinline bool charge(struct charging *wait, const struct due *due)
{
	struct corelock_charge_key key = {wait->row, due->row, due->certainty, 0};
	struct corelock_charge first = {due->ns, 1, due->ns, wait->start_ns, due->ns}, *known;

	known = bpf_map_lookup_elem(&charges, &key);
	if (!known) {
		if (bpf_map_update_elem(&charges, &key, &first, BPF_NOEXIST)) {
			count(&counters.charges_full);
			wait->refused_ns += due->ns;
			return false;
		}
	} else {
		if (known->wait_start_ns != wait->start_ns) {
			known->wait_start_ns = wait->start_ns;
			known->wait_ns = 0;
			known->waits++;
		}
		known->total_ns += due->ns;
		known->wait_ns += due->ns;
		if (known->wait_ns > known->max_ns)
			known->max_ns = known->wait_ns;
	}
	wait->charged_ns += due->ns;
	return true;
}

static __always_inline void add_due(struct charging *wait, __u32 row, __u32 certainty, __u64 ns)
{
	struct due *due = &wait->due[row & (DUES - 1)];

	if (due->row != row || due->certainty != certainty) {
		if (due->row)
			charge(wait, due);
		due->row = row;
		due->certainty = certainty;
		due->ns = 0;
	}
	due->ns += ns;
}

/*
 * Charges what a record overlaps. False when it, and so every earlier one, ended before the wait.
 * Global, so that the verifier goes through it once and not for every record there is room for.
 */
__noinline bool charge_record(struct charging *wait, const struct hold_record *record,
			      __u64 sequence)
{
	bool reader, waited_behind_writer;
	__u64 start_ns, end_ns, before_ns = 0;

	/* Readers leave side by side: it may be half written, of a hold that ends just now. */
	if (!wait || !record || __sync_fetch_and_add((__u64 *)&record->sequence, 0) != sequence)
		return true;
	start_ns = record->start_ns;
	end_ns = record->end_ns;
	if (end_ns <= wait->start_ns)
		/* A reader that was held up between its last look at the clock and this list. */
		return record->row[0].mode == CORELOCK_MODE_READ;
	if (record->mm_id != wait->mm_id)
		return true;
	reader = wait->mode == CORELOCK_MODE_READ;
	waited_behind_writer = wait->writer_came;
	for (__u32 at = 0; at < RECORD_ROWS; at++)
		if (record->row[at].row && record->row[at].mode == CORELOCK_MODE_WRITE)
			wait->writer_came = 1;
	if (start_ns < wait->start_ns) {
		/* Of a wait that seemed not contended, it cannot be told where in the record it
		 * began. */
		if (wait->start_ns > record->first_end_ns) {
			wait->unsure = 1;
			return true;
		}
		before_ns = wait->start_ns - start_ns;
		start_ns = wait->start_ns;
	}
	if (start_ns >= wait->until_ns)
		return true;
	if (end_ns > wait->until_ns) {
		/* Charged to who left later. Of several holds it cannot be told which. */
		if (record->holds > 1) {
			wait->unsure = 1;
			return true;
		}
		before_ns += end_ns - wait->until_ns;
	}
	for (__u32 at = 0; at < RECORD_ROWS; at++) {
		const struct recorded_row *held = &record->row[at];
		__u32 certainty = record->certainty, row = held->row;
		__u64 ns = held->held_ns;

		if (!row)
			break;
		if (reader && held->mode == CORELOCK_MODE_READ) {
			if (!waited_behind_writer)
				ns -= held->tail_ns;
			if (certainty == CORELOCK_CERTAINTY_OBSERVED)
				certainty = CORELOCK_CERTAINTY_CONVOY;
		}
		/* The first hold is of the first row. */
		if (!at)
			ns = ns > before_ns ? ns - before_ns : 0;
		if (!ns)
			continue;
		add_due(wait, row, certainty, ns);
		wait->until_ns = start_ns;
		wait->earliest_holder = row;
	}
	return true;
}

static __always_inline void charge_history(struct charging *wait, struct hold_history *history)
{
#pragma unroll
	for (__u32 tier = 0; tier < HISTORY_TIERS; tier++) {
		__u32 size = history_tier[tier].size;
		__u64 number = history->written[tier];

#pragma clang loop unroll(disable)
		for (__u32 back = 0; back < size; back++) {
			const struct hold_record *record;

			if (!number)
				return;
			record = &history->record[history_tier[tier].first +
						  ((number - 1) & (size - 1))];
			if (!charge_record(wait, record, number))
				return;
			number--;
		}
	}
}

/* A wait for somebody, or a long one, has ended. Returns whether it was sent as an example. */
static __noinline int charge_wait(void *ctx, struct corelock_row *row,
				  const struct lock_slot *waited, __u64 now)
{
	struct corelock_contention *contention;
	struct hold_history *history;
	struct charging wait = {};
	bool on_record;
	__u64 ns;

	if (!row || !waited)
		return 0;
	contention = bpf_map_lookup_elem(&contentions, &waited->row);
	history = history_of(row->mm_id);
	if (!contention || !history)
		return 0;
	ns = now - waited->since_ns;
	wait.start_ns = waited->since_ns;
	wait.until_ns = now;
	wait.row = waited->row;
	wait.mm_id = row->mm_id;
	wait.mode = row->mode;
	charge_history(&wait, history);
#pragma unroll
	for (__u32 at = 0; at < DUES; at++)
		if (wait.due[at].row)
			charge(&wait, &wait.due[at]);
	/* No hold that ended since can have dropped off the record. */
	on_record = history->forgotten_ns <= wait.start_ns && !wait.unsure;
	/* The time up to the first hold on record is the owner's of then. */
	if (on_record && waited->owner_row && waited->owner_row != wait.earliest_holder &&
	    wait.until_ns > wait.start_ns) {
		wait.due[0].row = waited->owner_row;
		wait.due[0].certainty = CORELOCK_CERTAINTY_OWNER_WORD;
		wait.due[0].ns = wait.until_ns - wait.start_ns;
		charge(&wait, &wait.due[0]);
	}
	contention->waits++;
	contention->wait_ns += ns;
	contention->unknown_ns += ns - wait.charged_ns;
	if (on_record)
		contention->unheld_ns += ns - wait.charged_ns - wait.refused_ns;
	return send_example(ctx, waited->row, CORELOCK_SLOW_WAIT, waited->since_ns, ns);
}

/* A row for a writer without a thread state: its hold began before tracing, or its state was lost.
 */
static __always_inline __u32 owner_row(struct task_struct *owner, __u32 mm_id)
{
	struct row_key key = {.mm_id = mm_id,
			      .operation = CORELOCK_OPERATION_UNKNOWN,
			      .mode = CORELOCK_MODE_WRITE};
	struct corelock_row *row;
	__u32 *found, index, tid;

	if (bpf_probe_read_kernel(&tid, sizeof(tid), &owner->pid))
		return 0;
	key.task_id = OWNER_TASK_ID | tid;
	found = bpf_map_lookup_elem(&row_ids, &key);
	if (found)
		return *found;
	index = take_index(&next_row, max_rows);
	row = index ? bpf_map_lookup_elem(&rows, &index) : NULL;
	if (!row)
		return 0;
	row->mm_id = mm_id;
	row->task_id = key.task_id;
	row->pid = visible_pid(owner);
	row->tid = visible_tid(owner);
	bpf_probe_read_kernel(&row->host_pid, sizeof(row->host_pid), &owner->tgid);
	row->host_tid = tid;
	row->operation = key.operation;
	row->mode = key.mode;
	bpf_probe_read_kernel(row->comm, sizeof(row->comm), &owner->comm);
	row->named_ns = bpf_ktime_get_ns();
	return bpf_map_update_elem(&row_ids, &key, &index, BPF_NOEXIST) ? 0 : index;
}

/* Who has the lock for writing as a wait of the row `waiter` for it begins, as a row; 0: unknown.
 */
static __noinline int find_owner(struct mm_struct *mm, __u32 waiter)
{
	struct corelock_row *row = bpf_map_lookup_elem(&rows, &waiter);
	__u64 owner = write_owner(mm);
	struct thread_state *home;
	struct corelock_row *held;
	__u32 index = 0;

	if (!row || !owner || !(lock_count(mm) & RWSEM_WRITER_LOCKED) || lock_is_reader_owned(mm))
		return 0;
	home = thread_home(owner);
	if (home && home->task == owner) {
		for (__u32 at = 0; at < CORELOCK_SLOTS; at++)
			if (home->lock.slot[at].mm == (__u64)mm &&
			    home->lock.slot[at].phase == (LOCK_HOLD | CORELOCK_MODE_WRITE))
				index = home->lock.slot[at].row;
		held = bpf_map_lookup_elem(&rows, &index);
		if (!held || held->mm_id != row->mm_id)
			index = 0;
	}
	if (!index)
		index = owner_row((struct task_struct *)owner, row->mm_id);
	/* What was read of it means something if it has not let go meanwhile. */
	return write_owner(mm) == owner ? index : 0;
}

/* A wait for this mm's lock begins that has to wait: holds from now on go into new records. */
static __always_inline void begin_contended(struct lock_slot *slot, struct mm_struct *mm,
					    __u32 row_index)
{
	struct corelock_row *row = bpf_map_lookup_elem(&rows, &row_index);
	struct hold_history *history = row ? history_of(row->mm_id) : NULL;

	slot->contended = 1;
	slot->owner_row = find_owner(mm, row_index);
	if (history)
		__sync_fetch_and_add(&history->epoch, 1);
}

/* A wait that began before tracing has ended: what is held from now on was not held before. */
static __noinline int note_unstarted_hold(struct thread_state *thread, __u64 now)
{
	if (!thread)
		thread = thread_create(bpf_get_current_task_btf());
	if (thread)
		thread->unstarted_since_ns = now;
	return 0;
}

/*
 * A hold that began before tracing ends in somebody's way: it was held all the time. That
 * current is who held it is certain for a writer, whom the lock names; a read lock may be
 * given back by whoever an interrupt finds.
 */
static __noinline int record_unstarted_hold(void *ctx, struct thread_state *thread,
					    struct mm_struct *mm, __u32 mode, __u64 now)
{
	struct task_struct *task = bpf_get_current_task_btf();
	__u32 index, certainty = CORELOCK_CERTAINTY_OWNER_WORD;
	__u64 since_ns;

	if (!thread)
		thread = thread_create(task);
	if (!thread)
		return 0;
	since_ns = thread->unstarted_since_ns ?: hot.since_ns;
	thread->unstarted_since_ns = 0;
	if (!lock_is_wanted(mm))
		return 0;
	if (mode == CORELOCK_MODE_WRITE && write_owner(mm) == (__u64)task)
		certainty = CORELOCK_CERTAINTY_OBSERVED;
	index = row_intern(thread, task, mm, task_operation(task, thread->regs), mode);
	if (index)
		record_hold(ctx, index, since_ns, now, certainty);
	return 0;
}

#endif
