/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* An event's mm: how it is read, whose it is, and the words of its lock. */
#ifndef CORELOCK_MM_BPF_H
#define CORELOCK_MM_BPF_H

#include "kernel.bpf.h"

/*
 * Set by the library: the mm comes out of a tracepoint's record, and the verifier takes it, and
 * whatever is read out of it, for a number. Where bpf_rdonly_cast is, it makes pointers of those.
 */
const volatile bool mm_from_record;

/* A member of an mm, or of what an mm leads to. */
#define load(pointer, member)                                                     \
	({                                                                        \
		typeof((pointer)->member) value;                                  \
		if (mm_from_record && !bpf_rdonly_cast)                           \
			bpf_core_read(&value, sizeof(value), &(pointer)->member); \
		else                                                              \
			value = (pointer)->member;                                \
		value;                                                            \
	})

/* The mm that a tracepoint's record names. */
#define mm_of(record) untrusted((record)->mm)

/*
 * The process an mm belongs to, NULL while it is torn down. Without
 * CONFIG_MEMCG there is no owner: then only the mm's own threads are known.
 */
static __always_inline struct task_struct *mm_owner(struct mm_struct *mm, struct task_struct *task)
{
	if (bpf_core_field_exists(mm->owner))
		return load(untrusted(mm), owner);
	return untrusted(task)->mm == mm ? task : NULL;
}

/*
 * The task inside a lock held for writing, as an address: current, without the call that
 * bpf_get_current_task_btf is. 0 on PREEMPT_RT, whose lock has no such word. Only for events
 * inside the lock (`released` comes after it before v5.15), and never to be read through.
 */
static __always_inline __u64 write_owner(struct mm_struct *mm)
{
	if (!bpf_core_field_exists(mm->mmap_lock.owner))
		return 0;
	return load(mm, mmap_lock.owner.counter) & ~RWSEM_OWNER_FLAGS;
}

/* The lock's state word; on PREEMPT_RT, whose lock has none, all bits set. */
static __always_inline __u64 lock_count(struct mm_struct *mm)
{
	if (!bpf_core_field_exists(mm->mmap_lock.count))
		return ~0ULL;
	return load(mm, mmap_lock.count.counter);
}

/* Whether somebody who asks for the lock now has to wait. */
static __always_inline bool lock_is_contended(struct mm_struct *mm, __u32 mode)
{
	__u64 count = lock_count(mm);

	return mode == CORELOCK_MODE_WRITE ? count : lock_bars_readers(count);
}

/* Whether the owner word is that of readers, the last one of them. */
static __always_inline bool lock_is_reader_owned(struct mm_struct *mm)
{
	return bpf_core_field_exists(mm->mmap_lock.owner) &&
	       load(mm, mmap_lock.owner.counter) & RWSEM_READER_OWNED;
}

/* Whether somebody waits for the lock: queued, or spinning until it may queue. */
static __always_inline bool lock_is_wanted(struct mm_struct *mm)
{
	if (lock_count(mm) & (RWSEM_FLAG_WAITERS | RWSEM_FLAG_HANDOFF))
		return true;
	return bpf_core_field_exists(mm->mmap_lock.osq) && load(mm, mmap_lock.osq.tail.counter);
}

/*
 * Whether fork is still building this mm: its owner is the child, a copy of
 * its parent that has the parent's pid until alloc_pid gives it one.
 */
static __always_inline bool mm_is_forking(struct task_struct *owner, struct task_struct *task)
{
	return owner != task && load(owner, pid) == task->pid;
}

#endif
