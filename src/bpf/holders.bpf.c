// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Who holds which mmap_lock now, and who waits for it: two passes over all tasks.
 *
 * find_locks looks at each mm's lock and writes down those in use, by the
 * addresses of the tasks that their words name. An address means something only
 * while its task lives, so name_tasks meets all living tasks again, names those
 * that were found, takes their stacks, and lists the processes of the locks' mms.
 * Neither takes a lock.
 *
 * When a record does not fit into what is left of the reader's buffer, the
 * kernel shows the same task again: nothing may be noted before it is written.
 */
#include "pids.bpf.h"
#include "rwsem.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define ATTEMPTS 4
#define MAX_LOCKS 16384
#define MAX_TASKS 65536

/* Set by the library before a pass; pids as the caller sees them. */
__u32 wanted_tgid = 0; /* 0: all processes */
__u32 self_tgid = 0;   /* left out; 0: none */
bool name_waiters = false;

/* Set back by the library, counted by find_locks. */
__u64 mms_seen = 0;
__u64 tasks_seen = 0;
__u64 self_mms = 0;
__u64 not_kept = 0; /* locks or tasks that a full table kept from being named */
__u32 wanted_host_tgid = 0;

/* Too large for the stack. A pass has one reader. */
struct corelock_lock lock = {};
struct corelock_lock_task found = {};

/* What a task was found to do. */
struct role {
	__u64 write_held_mm;
	__u64 waiter; /* its place in a queue */
};

struct process_key {
	__u64 mm;
	__u64 tgid;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_LOCKS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u64); /* mm */
	__type(value, __u8);
} locks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_TASKS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u64); /* task */
	__type(value, struct role);
} roles SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_TASKS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct process_key);
	__type(value, __u8);
} processes SEC(".maps");

/*
 * Whether this is the task by which its mm is looked at, once in a pass. The
 * leader of a process may have exited, and processes may share an mm, one of them
 * outside of the caller's pid namespace, whose tasks are all that a pass meets.
 */
static __always_inline bool stands_for_mm(struct task_struct *task, struct mm_struct *mm)
{
	struct task_struct *leader, *owner;

	if (!wanted_tgid && bpf_core_field_exists(mm->owner)) {
		owner = BPF_CORE_READ(mm, owner);
		if (is_visible(owner))
			return owner == task;
	}
	leader = BPF_CORE_READ(task, group_leader);
	return leader == task || !BPF_CORE_READ(leader, mm);
}

static __always_inline void add_role(__u64 task, __u64 write_held_mm, __u64 waiter)
{
	struct role role = {write_held_mm, waiter}, *known;

	if (!task)
		return;
	known = bpf_map_lookup_elem(&roles, &task);
	if (!known) {
		if (bpf_map_update_elem(&roles, &task, &role, BPF_ANY))
			not_kept++;
		return;
	}
	if (write_held_mm)
		known->write_held_mm = write_held_mm;
	if (waiter)
		known->waiter = waiter;
}

static __always_inline void add_roles(void)
{
	add_role(lock.writer, lock.mm, 0);
	add_role(lock.last_reader, 0, 0);
	if (!name_waiters)
		return;
	for (__u32 at = 0; at < CORELOCK_NAMED_WAITERS && at < lock.waiter_count; at++)
		add_role(lock.waiters[at].task, 0, lock.waiters[at].waiter);
}

/* Fills `lock`; false if nobody holds it or waits for it. A global function is verified once. */
__noinline int read_lock(__u64 address)
{
	struct mm_struct *mm = (struct mm_struct *)address;
	struct rw_semaphore *semaphore = &mm->mmap_lock;
	struct rwsem_words before, after;
	bool whole;

	rwsem_read(semaphore, &before);
	if (rwsem_is_free(&before))
		return false;
	lock.flags = 0;
	lock.mm = address;
	lock.taken_ns = bpf_ktime_get_ns();
	lock.sequence = 0;
	if (mm_write_sequence(mm, &lock.sequence))
		lock.flags |= CORELOCK_LOCK_HAS_SEQUENCE;
	whole = rwsem_walk(semaphore, before.first, &lock);
	rwsem_read(semaphore, &after);
	if (!whole || before.count != after.count || before.owner != after.owner ||
	    before.first != after.first)
		lock.flags |= CORELOCK_LOCK_CHANGING;
	lock.writer = rwsem_writer(&before);
	lock.last_reader = rwsem_last_reader(&before);
	lock.readers = rwsem_readers(&before);
	lock.write_held = before.count & RWSEM_WRITER_LOCKED;
	return true;
}

SEC("iter/task")
int find_locks(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	bool in_use = false;
	struct mm_struct *mm;
	__u64 address;
	__u32 tgid;
	__u8 yes = 1;

	if (!task)
		return 0;
	tgid = visible_pid(task);
	if (tgid == wanted_tgid)
		wanted_host_tgid = task->tgid;
	mm = BPF_CORE_READ(task, mm);
	address = (__u64)mm;
	if (!mm || task->flags & PF_KTHREAD || (wanted_tgid && tgid != wanted_tgid) ||
	    !stands_for_mm(task, mm) || bpf_map_lookup_elem(&locks, &address))
		goto out;
	if (tgid == self_tgid) {
		self_mms++;
		goto out;
	}
	for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
		in_use = read_lock(address);
		if (!in_use || !(lock.flags & CORELOCK_LOCK_CHANGING))
			break;
	}
	/* It has exited or made an exec meanwhile: what was read may be of anything. */
	if (BPF_CORE_READ(task, mm) != mm)
		goto out;
	if (in_use) {
		if (bpf_seq_write(ctx->meta->seq, &lock, sizeof(lock)))
			return 0;
		if (bpf_map_update_elem(&locks, &address, &yes, BPF_ANY))
			not_kept++;
		add_roles();
	}
	mms_seen++;
out:
	tasks_seen++;
	return 0;
}

static __always_inline void describe(struct task_struct *task)
{
	struct task_struct *leader = BPF_CORE_READ(task, group_leader);

	found.task = (__u64)task;
	found.start_ns = task->start_time;
	found.pid = visible_pid(task);
	found.tid = visible_tid(task);
	found.host_pid = task->tgid;
	found.host_tid = task->pid;
	found.operation = task_operation(task, (__u64)bpf_task_pt_regs(task));
	found.flags = 0;
	found.kernel_stack_bytes = 0;
	bpf_probe_read_kernel(found.comm, sizeof(found.comm), task->comm);
	BPF_CORE_READ_INTO(&found.process_comm, leader, comm);
}

static __always_inline void take_stack(struct task_struct *task, const struct role *role)
{
	struct mm_struct *mm = (struct mm_struct *)role->write_held_mm;
	struct rwsem_words words;

	found.flags = CORELOCK_TASK_NAMED;
	if (bpf_core_field_exists(task->on_cpu) && task->on_cpu)
		found.flags |= CORELOCK_TASK_RUNNING;
	found.kernel_stack_bytes =
		bpf_get_task_stack(task, found.kernel_stack, sizeof(found.kernel_stack), 0);
	if (rwsem_waits(role->waiter, task))
		found.flags |= CORELOCK_TASK_WAITS;
	if (!mm)
		return;
	rwsem_read(&mm->mmap_lock, &words);
	if (rwsem_writer(&words) == (__u64)task)
		found.flags |= CORELOCK_TASK_HOLDS;
}

SEC("iter/task")
int name_tasks(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	struct process_key process = {};
	__u64 address = (__u64)task;
	struct role *role;
	__u8 yes = 1;

	if (!task)
		return 0;
	role = bpf_map_lookup_elem(&roles, &address);
	process.mm = (__u64)BPF_CORE_READ(task, mm);
	process.tgid = task->tgid;
	if (!process.mm || task->flags & PF_KTHREAD || !bpf_map_lookup_elem(&locks, &process.mm) ||
	    bpf_map_lookup_elem(&processes, &process))
		process.mm = 0;
	if (!role && !process.mm)
		return 0;
	describe(task);
	found.mm = process.mm;
	if (role)
		take_stack(task, role);
	if (bpf_seq_write(ctx->meta->seq, &found, sizeof(found)))
		return 0;
	if (process.mm && bpf_map_update_elem(&processes, &process, &yes, BPF_ANY))
		not_kept++;
	return 0;
}
