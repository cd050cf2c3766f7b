// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Times every mmap_lock cycle of the target and aggregates it in the kernel.
 *
 * Three events, a program for each in every form that they come in (the library
 * loads those of one form); what the programs share is in events.bpf.h.
 */
#include "events.bpf.h"
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/*
 * The events' arguments, by BTF. Since Linux v6.14 ("mm: mmap_lock: optimize mmap_lock
 * tracepoints") they carry no cgroup path. Reading one layout with the other's programs would
 * misread silently, and one program for both does not verify.
 */
SEC("tp_btf/mmap_lock_start_locking")
int BPF_PROG(start_locking, struct mm_struct *mm, bool write)
{
	return on_start(mm, write);
}

SEC("tp_btf/mmap_lock_start_locking")
int BPF_PROG(start_locking_path, struct mm_struct *mm, const char *memcg_path, bool write)
{
	return on_start(mm, write);
}

SEC("tp_btf/mmap_lock_acquire_returned")
int BPF_PROG(acquire_returned, struct mm_struct *mm, bool write, bool success)
{
	return on_acquire(ctx, mm, write, success);
}

SEC("tp_btf/mmap_lock_acquire_returned")
int BPF_PROG(acquire_returned_path, struct mm_struct *mm, const char *memcg_path, bool write,
	     bool success)
{
	return on_acquire(ctx, mm, write, success);
}

SEC("tp_btf/mmap_lock_released")
int BPF_PROG(released, struct mm_struct *mm, bool write)
{
	return on_release(ctx, mm, write, true);
}

SEC("tp_btf/mmap_lock_released")
int BPF_PROG(released_path, struct mm_struct *mm, const char *memcg_path, bool write)
{
	return on_release(ctx, mm, write, false);
}

/*
 * Their records, where the arguments cannot be had. Since Linux kernel commit 627ae8284f50 in
 * v5.16 two of the events share a class; before, each had a struct of its own. All programs on
 * an event's records decide together whether perf sees it, too: 1 lets it.
 */
SEC("tp/mmap_lock/mmap_lock_start_locking")
int start_locking_record(struct trace_event_raw_mmap_lock *record)
{
	on_start(mm_of(record), record->write);
	return 1;
}

SEC("tp/mmap_lock/mmap_lock_start_locking")
int start_locking_own_record(struct trace_event_raw_mmap_lock_start_locking *record)
{
	on_start(mm_of(record), record->write);
	return 1;
}

SEC("tp/mmap_lock/mmap_lock_acquire_returned")
int acquire_returned_record(struct trace_event_raw_mmap_lock_acquire_returned *record)
{
	on_acquire(record, mm_of(record), record->write, record->success);
	return 1;
}

SEC("tp/mmap_lock/mmap_lock_released")
int released_record(struct trace_event_raw_mmap_lock *record)
{
	on_release(record, mm_of(record), record->write, bpf_core_field_exists(record->memcg_id));
	return 1;
}

SEC("tp/mmap_lock/mmap_lock_released")
int released_own_record(struct trace_event_raw_mmap_lock_released *record)
{
	on_release(record, mm_of(record), record->write, false);
	return 1;
}

/* A renamed thread looks its rows up again, and names them anew. */
SEC("tp_btf/task_rename")
int BPF_PROG(renamed, struct task_struct *task)
{
	struct thread_state *thread = thread_find(task);

	if (thread)
		thread->epoch = 0;
	/* A process may have become one that is traced by its name, or ceased to be one. */
	if (target_kind == CORELOCK_TARGET_COMM && untrusted(task)->group_leader == task)
		count(&hot.mm_epoch);
	return 0;
}

/* A process has moved to another cgroup: it may have come in, or gone. */
SEC("tp_btf/cgroup_attach_task")
int BPF_PROG(moved, struct cgroup *to, const char *path, struct task_struct *task)
{
	/* How long holds that are under way there have been ones is not known. */
	if (task_is_in_target_cgroup((__u64)task))
		hot.since_ns = bpf_ktime_get_ns();
	count(&hot.mm_epoch);
	return 0;
}

SEC("tp_btf/sched_process_fork")
int BPF_PROG(forked, struct task_struct *parent, struct task_struct *child)
{
	__u32 parent_tgid = parent->tgid, child_tgid = child->tgid;
	__u8 yes = 1;

	if (parent_tgid == child_tgid || !bpf_map_lookup_elem(&followed, &parent_tgid))
		return 0;
	if (bpf_map_update_elem(&followed, &child_tgid, &yes, BPF_ANY))
		count(&counters.not_followed);
	return 0;
}

static __always_inline void count_slots(struct lock_thread *lock, __u64 *waits, __u64 *holds)
{
	for (__u32 at = 0; at < CORELOCK_SLOTS; at++) {
		struct lock_slot *slot = &lock->slot[at];

		if (at < lock->depth && slot->row)
			count(slot->phase & LOCK_WAIT ? waits : holds);
	}
}

/* Counts what a thread in task storage had open when tracing ended, once. */
static __always_inline void count_stored(struct thread_state *thread)
{
	if (thread->task || thread->counted)
		return;
	thread->counted = 1;
	count_slots(&thread->lock, &counters.open_waits, &counters.open_holds);
	if (record_cycles)
		record_open(&thread->lock);
}

/* A thread is gone for good. Its home, once tracing has ended, is left as it is for count_homes. */
SEC("tp_btf/sched_process_free")
int BPF_PROG(freed, struct task_struct *task)
{
	struct thread_state *thread = thread_find(task);
	__u32 tgid = task->tgid;

	if (follow_children && untrusted(task)->group_leader == task)
		bpf_map_delete_elem(&followed, &tgid);
	if (!thread)
		return 0;
	if (!hot.tracing) {
		count_stored(thread);
		return 0;
	}
	count_slots(&thread->lock, &counters.unmatched[CORELOCK_UNMATCHED_START_WITHOUT_ACQUIRE],
		    &counters.unmatched[CORELOCK_UNMATCHED_ACQUIRE_WITHOUT_RELEASE]);
	thread_leave(thread);
	return 0;
}

/* After the end: what was open, of threads at home (dead ones, too), and of those in storage. */
SEC("iter/bpf_map_elem")
int count_homes(struct bpf_iter__bpf_map_elem *ctx)
{
	struct thread_state *home = ctx->value;

	if (!home || !home->task)
		return 0;
	count_slots(&home->lock, &counters.open_waits, &counters.open_holds);
	if (record_cycles)
		record_open(&home->lock);
	return 0;
}

/*
 * Since Linux kernel commit c68a78ffe2cb ("bpf: Introduce task open coded iterator kfuncs") in
 * v6.7. Of all threads, the task that is given does not matter; it may be NULL only later.
 */
extern int bpf_iter_task_new(struct bpf_iter_task *it, struct task_struct *task,
			     unsigned int flags) __ksym __weak;
extern struct task_struct *bpf_iter_task_next(struct bpf_iter_task *it) __ksym __weak;
extern void bpf_iter_task_destroy(struct bpf_iter_task *it) __ksym __weak;

/* The host's threads, where the iterator that is running meets only those of a pid namespace. */
static __always_inline void count_all_storage(void)
{
	struct bpf_iter_task all;
	struct thread_state *thread;
	struct task_struct *task;

	bpf_iter_task_new(&all, bpf_get_current_task_btf(), BPF_TASK_ITER_ALL_THREADS);
	while ((task = bpf_iter_task_next(&all))) {
		thread = thread_find(task);
		if (thread)
			count_stored(thread);
	}
	bpf_iter_task_destroy(&all);
}

SEC("iter/task")
int count_storage(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	struct thread_state *thread = task ? thread_find(task) : NULL;

	if (thread)
		count_stored(thread);
	/* The end of the pass. Older kernels leave what is open outside unaccounted for. */
	if (pid_namespace && bpf_iter_task_new && !task)
		count_all_storage();
	return 0;
}
