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
 * more than where the thread is; who called it is then told by the return addresses on its stack.
 * Other processes have other code at the same addresses.
 */
struct stack_key {
	__s64 kernel_trace; /* or a negative errno, as is the next */
	__s64 user_trace;
	__u64 user_ip;
	__u64 user_callers;
	__u64 user_mm; /* address of its own, which exec makes anew */
	__u32 user_tgid;
	__u32 mm_id; /* of the one that was locked: mostly the same, and never there again */
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, struct stack_key);
	__type(value, __u32);
} stack_ids SEC(".maps");

/* How much of a user stack is searched for return addresses, and in what pieces. */
#define CALLERS_BYTES 2048
#define CALLERS_WORDS 8

/* User addresses below this are none of code's, and none reaches the bits above. */
#define CODE_LEAST (1ULL << 16)
#define CODE_BITS 48
#define STACK_BYTES (1 << 20)

/* Whether what comes before an address is a call, so that a callee may return to it. */
static __always_inline bool follows_call(__u64 address)
{
	struct pt_regs___x86 *x86 = NULL;
	__u8 code[8];

	/* Code that has just called is in memory. */
	if (bpf_probe_read_user(code, sizeof(code), (void *)(address - sizeof(code))))
		return false;
	/* bl, and blr with or without a signed address */
	if (!bpf_core_field_exists(x86->orig_ax))
		return code[7] >> 2 == 0x25 || (code[7] == 0xd6 || code[7] == 0xd7);
	/* call rel32; call of 2 to 7 bytes through a register or memory */
	return code[3] == 0xe8 || (code[6] == 0xff && (code[7] & 0x38) == 0x10) ||
	       (code[5] == 0xff && (code[6] & 0x38) == 0x10) ||
	       (code[4] == 0xff && (code[5] & 0x38) == 0x10) ||
	       (code[2] == 0xff && (code[3] & 0x38) == 0x10) ||
	       (code[1] == 0xff && (code[2] & 0x38) == 0x10);
}

/*
 * A number for the return addresses on the user stack, and where they are. There may be old ones
 * among them, so that stacks may be taken for different ones that are alike, not the other way
 * round. Global, so that its loop is verified once and not for each way to get here.
 */
__noinline __u64 hash_callers(__u64 sp)
{
	__u64 words[CALLERS_WORDS], hash = 0;

	for (__u32 at = 0; at < CALLERS_BYTES; at += sizeof(words)) {
		if (bpf_probe_read_user(words, sizeof(words), (void *)(sp + at)))
			break;
		for (__u32 i = 0; i < CALLERS_WORDS; i++) {
			__u64 word = words[i] & ((1ULL << CODE_BITS) - 1);

			/* A place on this stack is no code. */
			if (word < CODE_LEAST || word - sp < STACK_BYTES || !follows_call(word))
				continue;
			hash = (hash ^ word ^ (at + i)) * 0x9e3779b97f4a7c15;
			hash ^= hash >> 32;
		}
	}
	return hash;
}

/* What tells the stacks of current apart; false if that cannot be told. */
static __noinline bool stack_identify(void *ctx, __u32 operation, struct stack_key *key)
{
	struct task_struct *task = bpf_get_current_task_btf();
	__u64 user_sp;

	if (!key)
		return false;
	key->kernel_trace = bpf_get_stackid(ctx, &traces, 0);
	if (operation == CORELOCK_OPERATION_KERNEL_THREAD || operation == CORELOCK_OPERATION_EXIT)
		return key->kernel_trace != -EEXIST;
	key->user_trace = bpf_get_stackid(ctx, &traces, BPF_F_USER_STACK);
	user_position(task, &key->user_ip, &user_sp);
	key->user_callers = hash_callers(user_sp);
	key->user_mm = (__u64)untrusted(task)->mm;
	key->user_tgid = task->tgid;
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
	key.mm_id = row->mm_id;
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
		/* What has not ended is in no total. */
		if (ending < CORELOCK_ENDING_HOLDING)
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
