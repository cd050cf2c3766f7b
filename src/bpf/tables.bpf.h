/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Settings, counters and maps. Rows, mms and chunks are arrays whose entries
 * are handed out once and never returned; a hash finds an entry's index when a
 * thread does not remember it. Index 0 of each means "none".
 */
#ifndef CORELOCK_TABLES_BPF_H
#define CORELOCK_TABLES_BPF_H

#include "lock_machine.h"
#include "mm.bpf.h"
#include "octaves.bpf.h"
#include "pids.bpf.h"

/* Set by the library between open and load; the verifier drops what they turn off. */
const volatile __u32 target_kind;
const volatile __u32 target_id;
const volatile __u8 target_comm[CORELOCK_COMM_LEN];
const volatile bool follow_children;
const volatile __u32 self_tgid;	 /* 0: the tool is part of what is studied */
const volatile bool keep_recent; /* maxima by interval */
const volatile bool charge_waits;
const volatile bool send_examples; /* of what is charged */
const volatile bool record_cycles;
const volatile __u32 max_rows;
const volatile __u32 max_mms;
const volatile __u32 max_chunks;
const volatile __u32 home_mask;
const volatile __u32 history_mask;

/* What every event reads: one cache line, hardly ever written. */
struct {
	__u32 tracing; /* 0: nothing counts; what is open stays as it is */
	__u32 interval;
	__u64 slow_ns[2]; /* by enum corelock_slow_kind */
	/*
	 * Rises when an mm dies, or may have come in or gone: what threads remember of mm
	 * addresses is then stale.
	 */
	__u64 mm_epoch;
	__u64 since_ns; /* when tracing began, or a process last moved into the cgroup */
	__u64 end_ns;	/* when it ended */
} hot __attribute__((aligned(64))) = {.interval = 1, .mm_epoch = 1};

__u32 next_row = 1;
__u32 next_mm = 1;
__u32 next_chunk = 1;
__u32 next_task = 1;
__u32 next_stack = 1;
struct corelock_counters counters;

static __always_inline void count(__u64 *counter)
{
	__sync_fetch_and_add(counter, 1);
}

struct row_key {
	__u32 mm_id;
	__u32 task_id;
	__u32 operation;
	__u32 mode;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct corelock_row);
} rows SEC(".maps");

/* By row, if waits are charged. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct corelock_contention);
} contentions SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE); /* which puts entries on cache lines, too */
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct corelock_chunk);
} chunks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct corelock_mm);
} mms SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, struct row_key);
	__type(value, __u32);
} row_ids SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, __u64);
	__type(value, __u32);
} mm_ids SEC(".maps");

/* Processes traced because an ancestor is (follow_children). */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u8);
} followed SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} slow_ring SEC(".maps");

#define ROW_CACHE 16

struct cached_row {
	__u64 mm;
	__u32 key; /* operation << 1 | mode */
	__u32 row;
};

struct thread_state {
	/* One cache line for what every event needs. */
	__u64 task; /* whose home this is (see homes) */
	__u32 busy;
	__u32 id;
	struct lock_thread lock;
	__u64 epoch;
	/* A bit for each mm it has asked for. Two may share one, and both count then. */
	__u64 started_mms;
	__u64 regs; /* of the last entry into the kernel */
	__u32 tid;
	__u32 counted; /* in storage: among what was open at the end */
	/* Acquisition of what it holds since a wait that began before tracing; 0: none. */
	__u64 unstarted_since_ns;
	__u64 reserved[4];
	struct cached_row cache[ROW_CACHE];
};

_Static_assert(sizeof(struct thread_state) % 64 == 0, "homes begin on cache lines");

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct thread_state);
} threads SEC(".maps");

/*
 * Task storage costs a call and four dependent loads each time, a third of what
 * an event may cost. So a thread's state lives in the home that its address leads
 * to (its tid would change in an exec that is not the leader's), and in task
 * storage only if another thread lives there.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE); /* for its side effect: entries on cache lines */
	__uint(max_entries, 1);		   /* a power of two */
	__type(key, __u32);
	__type(value, struct thread_state);
} homes SEC(".maps");

/* The verifier forbids to calculate with a pointer; cut to its lower half it is a number. */
static __always_inline __u32 lower_half(__u64 pointer)
{
	__u32 half;

	asm("%0 = %1" : "=w"(half) : "w"((__u32)pointer));
	return half;
}

/* The home that a task's address leads to. */
static __always_inline struct thread_state *thread_home(__u64 task)
{
	/* Tasks begin on cache lines; the multiplier is 2^32 over the golden ratio. */
	__u32 index = (lower_half(task) >> 6) * 0x9e3779b1 >> 12 & home_mask;

	return bpf_map_lookup_elem(&homes, &index);
}

/* The state of a thread that has one. */
static __always_inline struct thread_state *thread_find(struct task_struct *task)
{
	struct thread_state *home = thread_home((__u64)task);

	if (likely(home && home->task == (__u64)task))
		return home;
	return bpf_task_storage_get(&threads, task, 0, 0);
}

/* The state of the thread that is inside this mm's lock for writing, which is current. */
static __always_inline struct thread_state *thread_find_writer(struct mm_struct *mm)
{
	__u64 task = write_owner(mm);
	struct thread_state *home = thread_home(task);

	if (likely(home && task && home->task == task))
		return home;
	return thread_find(bpf_get_current_task_btf());
}

/* A thread that is new, or that took its leader's tid in exec: its rows are its own. */
static __always_inline void thread_identify(struct thread_state *thread, struct task_struct *task)
{
	thread->id = __sync_fetch_and_add(&next_task, 1);
	thread->tid = task->pid;
	thread->epoch = 0;
}

/* Gives current a state; NULL if the kernel refuses. */
static __always_inline struct thread_state *thread_create(struct task_struct *task)
{
	struct thread_state *thread = thread_home((__u64)task);
	__u64 tenant = thread ? __sync_val_compare_and_swap(&thread->task, 0, (__u64)task) : 1;

	/* It may be ours already, made by what an interrupt ran between the look and this. */
	if (!thread || (tenant && tenant != (__u64)task))
		thread = bpf_task_storage_get(&threads, task, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!thread)
		return NULL;
	thread_identify(thread, task);
	thread->regs = (__u64)bpf_task_pt_regs(task);
	return thread;
}

/* Makes room for the next tenant when a thread is gone for good. */
static __always_inline void thread_leave(struct thread_state *thread)
{
	/* Task storage goes with its task. */
	if (!thread->task)
		return;
	thread->lock.depth = 0;
	thread->epoch = 0;
	thread->started_mms = 0;
	thread->unstarted_since_ns = 0;
	thread->busy = 0;
	__sync_lock_test_and_set(&thread->task, 0);
}

static __always_inline bool mm_is_of(struct corelock_mm *entry, struct task_struct *owner)
{
	struct task_struct *leader;

	/* Where it is current, the compiler knows, and would read through the trusted one. */
	owner = untrusted(owner);
	leader = load(owner, group_leader);
	return entry->host_pid == (__u32)load(owner, tgid) &&
	       entry->process_start_ns == load(leader, start_time);
}

static __always_inline void mm_identify(struct corelock_mm *entry, struct task_struct *owner,
					bool forking)
{
	struct task_struct *leader;

	owner = untrusted(owner);
	leader = load(owner, group_leader);
	if (!forking) {
		entry->pid = visible_pid(owner);
		entry->host_pid = load(owner, tgid);
		entry->process_start_ns = load(leader, start_time);
	}
	bpf_probe_read_kernel(entry->comm, sizeof(entry->comm), leader->comm);
}

/*
 * The id of an mm, 0 when the table is full. Never on the common path. An mm
 * without an owner that is locked for reading is being unmapped by exit_mmap.
 */
static __noinline __u32 mm_intern(struct mm_struct *mm, struct task_struct *task, __u32 mode)
{
	struct task_struct *owner = mm_owner(mm, task);
	bool forking = owner && mm_is_forking(owner, task);
	__u64 address = (__u64)mm;
	struct corelock_mm *entry;
	__u32 *found, id;

	found = bpf_map_lookup_elem(&mm_ids, &address);
	if (found) {
		id = *found;
		entry = bpf_map_lookup_elem(&mms, &id);
		if (!entry)
			return id;
		/* Torn down: it stays what it was. */
		if (!owner) {
			if (mode == CORELOCK_MODE_READ)
				entry->unmapping = 1;
			return id;
		}
		if (!entry->host_pid || (!forking && mm_is_of(entry, owner))) {
			mm_identify(entry, owner, forking);
			return id;
		}
		/* Another mm at a known address, and the death of the first one went unseen. */
	}
	id = take_index(&next_mm, max_mms);
	entry = id ? bpf_map_lookup_elem(&mms, &id) : NULL;
	if (!entry)
		return 0;
	if (owner)
		mm_identify(entry, owner, forking);
	if (!bpf_map_update_elem(&mm_ids, &address, &id, found ? BPF_ANY : BPF_NOEXIST))
		return id;
	/* Another thread was first. */
	found = bpf_map_lookup_elem(&mm_ids, &address);
	return found ? *found : 0;
}

/*
 * Whether exit_mmap is about to lock it for the last time: for writing, after it
 * had it for reading (ksm and khugepaged may have locked it for writing before).
 */
static __always_inline bool mm_is_dying(struct mm_struct *mm, struct task_struct *task, __u32 row)
{
	struct corelock_row *aggregate = bpf_map_lookup_elem(&rows, &row);
	struct corelock_mm *entry;

	if (!aggregate || mm_owner(mm, task))
		return false;
	entry = bpf_map_lookup_elem(&mms, &aggregate->mm_id);
	return entry && entry->unmapping;
}

/* The address may be another mm's from now on. */
static __always_inline void mm_forget(__u64 mm)
{
	bpf_map_delete_elem(&mm_ids, &mm);
	count(&hot.mm_epoch);
}

/* An mm is no longer of the target. One that fork is building is of its parent's until then. */
static __always_inline void mm_leave(__u64 mm)
{
	__u32 *id = bpf_map_lookup_elem(&mm_ids, &mm);
	struct corelock_mm *entry = id ? bpf_map_lookup_elem(&mms, id) : NULL;

	if (entry && entry->process_start_ns)
		bpf_map_delete_elem(&mm_ids, &mm);
}

/* What threads remember holds for this epoch if they read it before they looked. */
static __always_inline __u64 mm_epoch(void)
{
	return *(volatile __u64 *)&hot.mm_epoch;
}

/* The row of current for this mm, operation and mode, 0 when a table is full. */
static __noinline __u32 row_intern(struct thread_state *thread, struct task_struct *task,
				   struct mm_struct *mm, __u32 operation, __u32 mode)
{
	struct row_key key = {.task_id = thread->id, .operation = operation, .mode = mode};
	struct corelock_row *row;
	__u32 *found, index;

	key.mm_id = mm_intern(mm, task, mode);
	if (!key.mm_id)
		return 0;
	found = bpf_map_lookup_elem(&row_ids, &key);
	index = found ? *found : take_index(&next_row, max_rows);
	row = index ? bpf_map_lookup_elem(&rows, &index) : NULL;
	if (!row)
		return 0;
	if (!found) {
		row->mm_id = key.mm_id;
		row->task_id = key.task_id;
		row->pid = visible_pid(task);
		row->tid = visible_tid(task);
		row->host_pid = task->tgid;
		row->host_tid = task->pid;
		row->operation = operation;
		row->mode = mode;
		if (bpf_map_update_elem(&row_ids, &key, &index, BPF_NOEXIST))
			return 0;
	}
	/* Threads are renamed; the row named last has the thread's name. */
	bpf_get_current_comm(row->comm, sizeof(row->comm));
	row->named_ns = bpf_ktime_get_ns();
	return index;
}

/* The mm's bit in started_mms. */
static __always_inline __u64 mm_bit(__u64 mm)
{
	__u32 half = lower_half(mm);

	return 1ULL << ((half >> 6 ^ half >> 12) & 63);
}

/* The remembered row, 0 when it must be looked up. */
static __always_inline __u32 row_cached(struct thread_state *thread, __u64 mm, __u32 key)
{
	struct cached_row *cached = &thread->cache[key & (ROW_CACHE - 1)];

	if (cached->mm == mm && cached->key == key && thread->epoch == hot.mm_epoch)
		return cached->row;
	return 0;
}

/* epoch: as it was before the mm was looked at. */
static __always_inline void row_remember(struct thread_state *thread, __u64 mm, __u32 key,
					 __u32 row, __u64 epoch)
{
	struct cached_row *cached = &thread->cache[key & (ROW_CACHE - 1)];

	if (thread->epoch != epoch) {
		__builtin_memset(thread->cache, 0, sizeof(thread->cache));
		thread->epoch = epoch;
	}
	cached->mm = mm;
	cached->key = key;
	cached->row = row;
	thread->started_mms |= mm_bit(mm);
}

#endif
