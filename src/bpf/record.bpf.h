/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Recording every cycle, and each distinct stack of slow ones once. */
#ifndef CORELOCK_RECORD_BPF_H
#define CORELOCK_RECORD_BPF_H

#include "slow.bpf.h"

#define EEXIST 17

struct cycle_ring {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
};

/* By CPU: threads on different ones share neither a lock nor a cache line. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(values, struct cycle_ring);
} cycle_rings SEC(".maps");

/* Stacks by their contents; only their numbers are of use, to know one again. */
struct {
	__uint(type, BPF_MAP_TYPE_STACK_TRACE);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, CORELOCK_USER_STACK_DEPTH * sizeof(__u64));
} traces SEC(".maps");

/*
 * What tells stacks apart before they are unwound. Without frame pointers the user trace is no
 * more than where the thread is, so where its stack ends and who called the system call's
 * function (which pushes no frame) belong to it.
 */
struct stack_key {
	__s64 kernel_trace; /* or a negative errno, as is the next */
	__s64 user_trace;
	__u64 user_ip;
	__u64 user_sp;
	__u64 user_caller;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, struct stack_key);
	__type(value, __u32);
} stack_ids SEC(".maps");

/* What tells the stacks of current apart; false if that cannot be told. */
static __noinline bool stack_identify(void *ctx, __u32 operation, struct stack_key *key)
{
	if (!key)
		return false;
	key->kernel_trace = bpf_get_stackid(ctx, &traces, 0);
	if (operation == CORELOCK_OPERATION_KERNEL_THREAD || operation == CORELOCK_OPERATION_EXIT)
		return key->kernel_trace != -EEXIST;
	key->user_trace = bpf_get_stackid(ctx, &traces, BPF_F_USER_STACK);
	user_position(bpf_get_current_task_btf(), &key->user_ip, &key->user_sp);
	if (operation < CORELOCK_OPERATION_PAGE_FAULT)
		bpf_probe_read_user(&key->user_caller, sizeof(key->user_caller),
				    (void *)key->user_sp);
	/* The number that it would have is another trace's. */
	return key->kernel_trace != -EEXIST && key->user_trace != -EEXIST;
}

/*
 * The id of the stacks of current at the end of a slow wait or hold, sent if nobody was sent
 * them before; 0 if they are lost.
 */
static __noinline __u32 stack_intern(void *ctx, __u32 index, __u32 kind, __u64 start_ns,
				     __u64 duration_ns)
{
	struct corelock_row *row = bpf_map_lookup_elem(&rows, &index);
	struct stack_key key = {};
	__u32 *known, id;
	bool has_key;

	if (!row)
		return 0;
	has_key = stack_identify(ctx, row->operation, &key);
	known = has_key ? bpf_map_lookup_elem(&stack_ids, &key) : NULL;
	if (known)
		return *known;
	id = __sync_fetch_and_add(&next_stack, 1);
	if (has_key && bpf_map_update_elem(&stack_ids, &key, &id, BPF_NOEXIST)) {
		known = bpf_map_lookup_elem(&stack_ids, &key);
		/* Another thread was first, or there is no room. */
		if (known)
			return *known;
		count(&counters.stacks_full);
		return 0;
	}
	if (send_slow(ctx, index, kind | (__u64)id << 32, start_ns, duration_ns))
		return id;
	if (has_key)
		bpf_map_delete_elem(&stack_ids, &key);
	return 0;
}

/* Records the cycle that a slot was about: a wait that has ended, or a hold. */
static __always_inline void record_cycle(const struct lock_slot *slot, __u32 ending, __u64 now,
					 __u32 hold_stack)
{
	__u32 cpu = bpf_get_smp_processor_id();
	void *ring = bpf_map_lookup_elem(&cycle_rings, &cpu);
	struct corelock_cycle *cycle;
	bool held = slot->phase & LOCK_HOLD;

	cycle = ring ? bpf_ringbuf_reserve(ring, sizeof(*cycle), 0) : NULL;
	if (unlikely(!cycle)) {
		count(&counters.cycles_full);
		return;
	}
	cycle->end_ns = now;
	cycle->wait_ns = held ? slot->wait_ns : now - slot->since_ns;
	cycle->hold_ns = held ? now - slot->since_ns : 0;
	cycle->row = slot->row;
	cycle->kind = ending;
	if (held && slot->no_wait)
		cycle->kind |= CORELOCK_CYCLE_NO_WAIT;
	if (slot->contended)
		cycle->kind |= CORELOCK_CYCLE_CONTENDED;
	cycle->wait_stack = held ? slot->wait_stack : 0;
	cycle->hold_stack = hold_stack;
	/* The library looks often enough; waking it would cost more than all the rest. */
	bpf_ringbuf_submit(cycle, BPF_RB_NO_WAKEUP);
}

/* Records what a thread had open when tracing ended. */
static __always_inline void record_open(struct lock_thread *lock)
{
	for (__u32 at = 0; at < CORELOCK_SLOTS; at++) {
		struct lock_slot *slot = &lock->slot[at];

		if (at < lock->depth && slot->row)
			record_cycle(slot,
				     slot->phase & LOCK_WAIT ? CORELOCK_ENDING_WAITING
							     : CORELOCK_ENDING_HOLDING,
				     hot.end_ns, 0);
	}
}

#endif
