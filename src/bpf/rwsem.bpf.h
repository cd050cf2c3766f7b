/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Reading a lock that goes on being used: its words, and who queues for it.
 * Nothing here is trusted, as an mm may be freed and a waiter's place in the
 * queue is on its stack: everything is read by bpf_probe_read_kernel.
 */
#ifndef CORELOCK_RWSEM_BPF_H
#define CORELOCK_RWSEM_BPF_H

#include "kernel.bpf.h"

struct rw_semaphore___list {
	struct list_head wait_list;
} __attribute__((preserve_access_index));

/* The list's head went, and with it the name, in v7.1: the waiters are a ring now. */
struct rw_semaphore___ring {
	struct rwsem_waiter *first_waiter;
} __attribute__((preserve_access_index));

/* Since Linux kernel commit 5e31275cc997 ("mm: add per-VMA lock and helper functions to control
 * it") in v6.4 a number that every end of a write hold changes, ... */
struct mm_struct___number {
	int mm_lock_seq;
} __attribute__((preserve_access_index));

struct seqcount___any {
	unsigned int sequence;
} __attribute__((preserve_access_index));

/* ... and since commit eb449bd96954 ("mm: convert mm_lock_seq to a proper seqcount") in v6.13
 * the beginning of one as well. */
struct mm_struct___seqcount {
	struct seqcount___any mm_lock_seq;
} __attribute__((preserve_access_index));

struct rwsem_words {
	__u64 count;
	__u64 owner;
	__u64 first; /* struct list_head of the first waiter, 0: none */
};

static __always_inline __u64 rwsem_list_head(struct rw_semaphore *lock)
{
	return (__u64) & ((struct rw_semaphore___list *)lock)->wait_list;
}

static __always_inline bool rwsem_has_list(void)
{
	return bpf_core_field_exists(struct rw_semaphore___list, wait_list);
}

static __always_inline void rwsem_read(struct rw_semaphore *lock, struct rwsem_words *words)
{
	words->count = BPF_CORE_READ(lock, count.counter);
	words->owner = BPF_CORE_READ(lock, owner.counter);
	if (rwsem_has_list()) {
		words->first =
			(__u64)BPF_CORE_READ((struct rw_semaphore___list *)lock, wait_list.next);
		if (words->first == rwsem_list_head(lock))
			words->first = 0;
	} else {
		struct rwsem_waiter *waiter =
			BPF_CORE_READ((struct rw_semaphore___ring *)lock, first_waiter);

		words->first = waiter ? (__u64)&waiter->list : 0;
	}
}

static __always_inline bool rwsem_is_free(const struct rwsem_words *words)
{
	return !words->count && !words->first;
}

/* The task inside for writing: set after the lock was got, and cleared before it is given back. */
static __always_inline __u64 rwsem_writer(const struct rwsem_words *words)
{
	if (!(words->count & RWSEM_WRITER_LOCKED) || words->owner & RWSEM_READER_OWNED)
		return 0;
	return words->owner & ~RWSEM_OWNER_FLAGS;
}

static __always_inline __u64 rwsem_readers(const struct rwsem_words *words)
{
	return (words->count & ~RWSEM_FLAG_READFAIL) >> RWSEM_READER_SHIFT;
}

/* The last that came for reading: it, or others that came before, are still inside. */
static __always_inline __u64 rwsem_last_reader(const struct rwsem_words *words)
{
	if (!rwsem_readers(words) || !(words->owner & RWSEM_READER_OWNED))
		return 0;
	return words->owner & ~RWSEM_OWNER_FLAGS;
}

/* On the way along a queue. */
struct rwsem_walk {
	__u64 node, before;
	__u64 end; /* the node after the last waiter's */
};

enum rwsem_step { RWSEM_STEP_ON, RWSEM_STEP_END, RWSEM_STEP_BROKEN };

/*
 * Writes down the next waiter; as enum rwsem_step. Each must point back at the one before it.
 * Global, so that the verifier goes through it once and not for every waiter there may be.
 */
__noinline int rwsem_step(struct rwsem_walk *walk, struct corelock_lock *found)
{
	struct rwsem_waiter *waiter;
	struct list_head *prev, *next;
	struct task_struct *task;
	enum rwsem_waiter_type type;
	__u32 at;

	if (!walk || !found)
		return RWSEM_STEP_BROKEN;
	at = found->waiter_count;
	if (!walk->node || (walk->node == walk->end && at))
		return RWSEM_STEP_END;
	waiter = (void *)(walk->node - bpf_core_field_offset(struct rwsem_waiter, list));
	if (BPF_CORE_READ_INTO(&prev, waiter, list.prev) ||
	    BPF_CORE_READ_INTO(&next, waiter, list.next) ||
	    BPF_CORE_READ_INTO(&task, waiter, task) || BPF_CORE_READ_INTO(&type, waiter, type))
		return RWSEM_STEP_BROKEN;
	if (!task || (at && (__u64)prev != walk->before))
		return RWSEM_STEP_BROKEN;
	if (at < CORELOCK_NAMED_WAITERS) {
		struct corelock_waiter *named = &found->waiters[at];

		named->task = (__u64)task;
		named->waiter = (__u64)waiter;
		named->mode =
			type == RWSEM_WAITING_FOR_WRITE ? CORELOCK_MODE_WRITE : CORELOCK_MODE_READ;
		named->reserved = 0;
	}
	found->waiter_count = at + 1;
	walk->before = walk->node;
	walk->node = (__u64)next;
	return RWSEM_STEP_ON;
}

/* Follows the queue from its first waiter, without its lock; false if it fell apart meanwhile. */
static __always_inline bool rwsem_walk(struct rw_semaphore *lock, __u64 first,
				       struct corelock_lock *found)
{
	struct rwsem_walk walk = {.node = first};

	walk.end = rwsem_has_list() ? rwsem_list_head(lock) : first;
	found->waiter_count = 0;
	for (__u32 at = 0; at < CORELOCK_COUNTED_WAITERS; at++) {
		int step = rwsem_step(&walk, found);

		if (step != RWSEM_STEP_ON)
			return step == RWSEM_STEP_END;
	}
	if (walk.node != walk.end)
		found->flags |= CORELOCK_LOCK_MORE_WAITERS;
	return true;
}

/* Whether a place in a queue is still that task's. */
static __always_inline bool rwsem_waits(__u64 waiter, struct task_struct *task)
{
	return waiter && BPF_CORE_READ((struct rwsem_waiter *)waiter, task) == task;
}

/* The number of the write hold, if this kernel has one. */
static __always_inline bool mm_write_sequence(struct mm_struct *mm, __u32 *sequence)
{
	if (bpf_core_field_exists(struct mm_struct___seqcount, mm_lock_seq.sequence))
		*sequence = BPF_CORE_READ((struct mm_struct___seqcount *)mm, mm_lock_seq.sequence);
	else if (bpf_core_field_exists(struct mm_struct___number, mm_lock_seq))
		*sequence = BPF_CORE_READ((struct mm_struct___number *)mm, mm_lock_seq);
	else
		return false;
	return true;
}

#endif
