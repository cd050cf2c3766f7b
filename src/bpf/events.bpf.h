/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What each of the three events does.
 *
 * A thread's open waits and holds live in its state (lock_machine.h has the
 * transitions); what they add up to lives in rows that only their thread
 * writes, so nothing on the common path is atomic. start_locking runs before
 * the lock is asked for, so whatever can be prepared is prepared there:
 * acquire_returned and released run inside the lock.
 */
#ifndef CORELOCK_EVENTS_BPF_H
#define CORELOCK_EVENTS_BPF_H

#include "times.bpf.h"
#include "target.bpf.h"
#include "blame.bpf.h"
#include "record.bpf.h"

/* The compiler knows the ranges, and would drop the checks that the verifier needs. */
static __always_inline void count_without_row(__u32 event)
{
	barrier_var(event);
	if (event < CORELOCK_EVENTS)
		count(&counters.seen_without_row[event]);
}

static __always_inline void lose(enum corelock_event event, enum corelock_lost cause)
{
	count_without_row(event);
	count(&counters.lost[cause]);
}

static __always_inline void unmatch(enum corelock_event event, __u32 kind)
{
	count_without_row(event);
	barrier_var(kind);
	if (kind < CORELOCK_UNMATCHED_KINDS)
		count(&counters.unmatched[kind]);
}

static __always_inline void settle_dropped(const struct lock_dropped *dropped)
{
	if (unlikely(dropped->evicted))
		count(&counters.lost[CORELOCK_LOST_SLOTS_FULL]);
	if (unlikely(dropped->stale_waits))
		__sync_fetch_and_add(&counters.unmatched[CORELOCK_UNMATCHED_START_WITHOUT_ACQUIRE],
				     dropped->stale_waits);
	if (unlikely(dropped->stale_holds))
		__sync_fetch_and_add(
			&counters.unmatched[CORELOCK_UNMATCHED_ACQUIRE_WITHOUT_RELEASE],
			dropped->stale_holds);
}

/* The state of a thread that may start; creates it for one that is a target. */
static __always_inline struct thread_state *thread_admit(struct mm_struct *mm,
							 struct task_struct *task)
{
	struct thread_state *thread;

	if (!is_target(mm, task)) {
		refuse_start(NULL, mm);
		return NULL;
	}
	thread = thread_create(task);
	if (!thread)
		lose(CORELOCK_EVENT_START_LOCKING, CORELOCK_LOST_STORAGE_FAILED);
	return thread;
}

/* Off the common path, and its stack. */
static __noinline int settle_nested(struct mm_struct *mm, enum corelock_event event)
{
	if (is_target(mm, bpf_get_current_task_btf()))
		lose(event, CORELOCK_LOST_NESTED);
	return 0;
}

/* Whether an event that interrupted one of our programs in this thread; it is then settled. */
static __always_inline bool is_nested(struct thread_state *thread, struct mm_struct *mm,
				      enum corelock_event event)
{
	if (likely(!thread->busy))
		return false;
	settle_nested(mm, event);
	return true;
}

/*
 * Settles an event that fits nothing open. thread: NULL when it never started.
 * Returns whether it ends what began before tracing.
 */
static __noinline int settle_no_match(struct thread_state *thread, struct mm_struct *mm,
				      enum corelock_event event, __u32 kind)
{
	struct task_struct *task = bpf_get_current_task_btf();

	/* Its start may have been refused on purpose. */
	if (!is_target(mm, task))
		return 0;
	if (!thread || !(thread->started_mms & mm_bit((__u64)mm))) {
		count_without_row(event);
		count(&counters.held_at_start);
		return 1;
	}
	unmatch(event, kind);
	return 0;
}

/* An acquisition that fits nothing open. */
static __always_inline int settle_acquire(struct thread_state *thread, struct mm_struct *mm,
					  __u32 success, __u64 now)
{
	__u32 kind = success ? CORELOCK_UNMATCHED_ACQUIRE_WITHOUT_START
			     : CORELOCK_UNMATCHED_FAILURE_WITHOUT_START;

	if (settle_no_match(thread, mm, CORELOCK_EVENT_ACQUIRE_RETURNED, kind) && charge_waits &&
	    success)
		note_unstarted_hold(thread, now);
	return 0;
}

/* A release that fits nothing open. */
static __always_inline int settle_release(void *ctx, struct thread_state *thread,
					  struct mm_struct *mm, __u32 mode, __u32 kind, __u64 now)
{
	if (settle_no_match(thread, mm, CORELOCK_EVENT_RELEASED, kind) && charge_waits)
		record_unstarted_hold(ctx, thread, mm, mode, now);
	return 0;
}

static __always_inline int on_start(struct mm_struct *mm, __u32 mode)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct lock_dropped dropped = {};
	struct thread_state *thread;
	struct corelock_row *row;
	struct lock_slot *slot;
	__u32 operation, key, index;
	bool admitted = false;
	__u64 epoch;

	if (unlikely(!hot.tracing))
		return 0;
	epoch = mm_epoch();
	thread = thread_find(task);
	if (!thread) {
		thread = thread_admit(mm, task);
		if (!thread)
			return 0;
		admitted = true;
	}
	if (is_nested(thread, mm, CORELOCK_EVENT_START_LOCKING))
		return 0;
	thread->busy = 1;
	if (unlikely(thread->tid != (__u32)task->pid))
		thread_identify(thread, task);
	operation = task_operation(task, thread->regs);
	key = operation << 1 | mode;
	index = row_cached(thread, (__u64)mm, key);
	/* Torn down, perhaps: that has to be noticed, whatever this thread did to it before. */
	if (unlikely(untrusted(task)->mm != mm) && !mm_owner(mm, task))
		index = 0;
	if (unlikely(!index && !admitted && !is_target(mm, task))) {
		refuse_start(thread, mm);
		goto out;
	}
	slot = lock_start(&thread->lock, (__u64)mm, mode, &dropped);
	settle_dropped(&dropped);
	slot->operation = operation;
	slot->owner_row = 0;
	slot->mm_dying = 0;
	slot->contended = 0;
	if (unlikely(!index)) {
		index = row_intern(thread, task, mm, operation, mode);
		row_remember(thread, (__u64)mm, key, index, epoch);
		slot->mm_dying = mode == CORELOCK_MODE_WRITE && mm_is_dying(mm, task, index);
	}
	slot->row = index;
	row = bpf_map_lookup_elem(&rows, &index);
	if (index && row)
		row->seen[CORELOCK_EVENT_START_LOCKING]++;
	else
		lose(CORELOCK_EVENT_START_LOCKING, CORELOCK_LOST_MAP_FULL);
	if (charge_waits && unlikely(lock_is_contended(mm, mode)))
		begin_contended(slot, mm, index);
	else if (record_cycles)
		slot->contended = lock_is_contended(mm, mode);
	slot->since_ns = bpf_ktime_get_ns();
out:
	thread->busy = 0;
	return 0;
}

/*
 * A wait ended with the lock, in whose slot the hold goes on. Its start counts as lost if the wait
 * cannot be kept.
 */
static __always_inline void end_wait(void *ctx, struct corelock_row *row,
				     const struct lock_slot *waited, struct lock_slot *held,
				     __u64 now)
{
	__u64 ns = now - waited->since_ns;
	int sent = 0;

	held->since_ns = now;
	if (record_cycles) {
		held->wait_ns = ns;
		held->wait_stack = 0;
		held->no_wait = 0;
	}
	if (!times_add(&row->wait, ns)) {
		if (record_cycles) {
			held->wait_ns = 0;
			held->no_wait = 1;
		}
		count(&counters.lost[CORELOCK_LOST_MAP_FULL]);
		return;
	}
	if (charge_waits && unlikely(waited->contended || ns >= LONG_WAIT_NS))
		sent = charge_wait(ctx, row, waited, now);
	if (likely(ns < hot.slow_ns[CORELOCK_SLOW_WAIT]) || sent)
		return;
	if (record_cycles)
		held->wait_stack =
			stack_intern(ctx, waited->row, CORELOCK_SLOW_WAIT, waited->since_ns, ns);
	else
		send_slow(ctx, waited->row, CORELOCK_SLOW_WAIT, waited->since_ns, ns);
}

/* False if the hold could not be kept. */
static __always_inline bool end_hold(void *ctx, struct mm_struct *mm, struct corelock_row *row,
				     const struct lock_slot *held, enum corelock_ending ending,
				     __u64 now)
{
	__u64 ns = now - held->since_ns;
	__u32 stack = 0;
	int sent = 0;
	bool slow;

	if (!times_add(&row->hold, ns))
		return false;
	if (charge_waits && unlikely(lock_is_wanted(mm)))
		sent = record_hold(ctx, held->row, held->since_ns, now,
				   CORELOCK_CERTAINTY_OBSERVED);
	slow = unlikely(ns >= hot.slow_ns[CORELOCK_SLOW_HOLD]);
	if (record_cycles) {
		if (slow)
			stack = stack_intern(ctx, held->row, CORELOCK_SLOW_HOLD, held->since_ns,
					     ns);
		record_cycle(held, ending, now, stack);
	} else if (slow && !sent) {
		send_slow(ctx, held->row, CORELOCK_SLOW_HOLD, held->since_ns, ns);
	}
	return true;
}

/* The write hold in `row` ends and a read hold begins; returns the row of the latter. */
static __always_inline __u32 downgrade(void *ctx, struct thread_state *thread, struct mm_struct *mm,
				       struct corelock_row *row, const struct lock_slot *held,
				       __u64 now)
{
	__u32 key = held->operation << 1 | CORELOCK_MODE_READ;
	__u32 index = row_cached(thread, held->mm, key);

	if (end_hold(ctx, mm, row, held, CORELOCK_ENDING_DOWNGRADED, now))
		row->downgrades++;
	else
		count(&counters.lost[CORELOCK_LOST_MAP_FULL]);
	if (unlikely(!index)) {
		index = row_intern(thread, bpf_get_current_task_btf(), mm, held->operation,
				   CORELOCK_MODE_READ);
		/* The hold goes on; whether the mm is a target is for the next start to see. */
		row_remember(thread, held->mm, key, index, thread->epoch);
	}
	if (unlikely(!index))
		count(&counters.lost[CORELOCK_LOST_MAP_FULL]);
	return index;
}

/* A trylock did not get the lock, or a signal ended the wait for it. */
static __always_inline void settle_failure(struct corelock_row *row, const struct lock_slot *waited,
					   __u64 now)
{
	bool killed = task_is_killed(bpf_get_current_task_btf());

	if (killed)
		row->aborted_waits++;
	else
		row->trylock_failures++;
	if (record_cycles)
		record_cycle(waited, killed ? CORELOCK_ENDING_ABORTED : CORELOCK_ENDING_FAILED, now,
			     0);
}

static __always_inline int on_acquire(void *ctx, struct mm_struct *mm, __u32 mode, __u32 success)
{
	__u64 now = bpf_ktime_get_ns();
	struct lock_dropped dropped = {};
	struct lock_slot closed, *open;
	enum lock_transition transition;
	struct thread_state *thread;
	struct corelock_row *row;

	if (unlikely(!hot.tracing))
		return 0;
	thread = mode && success ? thread_find_writer(mm) : thread_find(bpf_get_current_task_btf());
	if (!thread)
		return settle_acquire(NULL, mm, success, now);
	if (is_nested(thread, mm, CORELOCK_EVENT_ACQUIRE_RETURNED))
		return 0;
	thread->busy = 1;
	transition =
		lock_acquire(&thread->lock, (__u64)mm, mode, success, &closed, &open, &dropped);
	if (unlikely(transition == LOCK_NO_MATCH)) {
		settle_acquire(thread, mm, success, now);
		goto out;
	}
	settle_dropped(&dropped);
	row = bpf_map_lookup_elem(&rows, &closed.row);
	if (unlikely(!closed.row || !row)) {
		lose(CORELOCK_EVENT_ACQUIRE_RETURNED, CORELOCK_LOST_MAP_FULL);
		goto out;
	}
	row->seen[CORELOCK_EVENT_ACQUIRE_RETURNED]++;
	if (transition == LOCK_ACQUIRED) {
		end_wait(ctx, row, &closed, open, now);
	} else if (transition == LOCK_DOWNGRADED) {
		open->since_ns = now;
		open->row = downgrade(ctx, thread, mm, row, &closed, now);
		if (record_cycles) {
			open->wait_ns = open->wait_stack = 0;
			open->no_wait = 1;
			open->contended = 0;
		}
	} else {
		settle_failure(row, &closed, now);
	}
out:
	thread->busy = 0;
	return 0;
}

/* inside: the event comes before the lock is let go (v5.15 and later), not after. */
static __always_inline int on_release(void *ctx, struct mm_struct *mm, __u32 mode, bool inside)
{
	__u64 now = bpf_ktime_get_ns();
	enum lock_transition transition;
	struct thread_state *thread;
	struct corelock_row *row;
	struct lock_slot closed;

	if (unlikely(!hot.tracing))
		return 0;
	thread = mode && inside ? thread_find_writer(mm) : thread_find(bpf_get_current_task_btf());
	if (!thread)
		return settle_release(ctx, NULL, mm, mode, 0, now);
	if (is_nested(thread, mm, CORELOCK_EVENT_RELEASED))
		return 0;
	thread->busy = 1;
	transition = lock_release(&thread->lock, (__u64)mm, mode, &closed);
	if (unlikely(transition != LOCK_RELEASED)) {
		settle_release(ctx, thread, mm, mode,
			       transition == LOCK_OTHER_MODE
				       ? CORELOCK_UNMATCHED_RELEASE_OF_OTHER_MODE
			       : untrusted(bpf_get_current_task_btf())->mm != mm
				       ? CORELOCK_UNMATCHED_FOREIGN_RELEASE
				       : CORELOCK_UNMATCHED_RELEASE_WITHOUT_ACQUIRE,
			       now);
		goto out;
	}
	row = bpf_map_lookup_elem(&rows, &closed.row);
	if (unlikely(!closed.row || !row)) {
		lose(CORELOCK_EVENT_RELEASED, CORELOCK_LOST_MAP_FULL);
		goto out;
	}
	row->seen[CORELOCK_EVENT_RELEASED]++;
	/* Without the hold, both ends of it are lost. */
	if (!end_hold(ctx, mm, row, &closed, CORELOCK_ENDING_RELEASED, now))
		__sync_fetch_and_add(&counters.lost[CORELOCK_LOST_MAP_FULL], 2);
	if (unlikely(closed.mm_dying))
		mm_forget(closed.mm);
out:
	thread->busy = 0;
	return 0;
}

#endif
