/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Records of single waits and holds, with their stacks. */
#ifndef CORELOCK_SLOW_BPF_H
#define CORELOCK_SLOW_BPF_H

#include "stacks.bpf.h"
#include "tables.bpf.h"

/*
 * Sends a record of a wait or hold of a row with the stacks of current; 0 if there is no room.
 * what: enum corelock_slow_kind, and in the upper half an id for the stacks, as a function can
 * have no more arguments.
 */
static __noinline int send_slow(void *ctx, __u32 index, __u64 what, __u64 start_ns,
				__u64 duration_ns)
{
	struct corelock_row *row = bpf_map_lookup_elem(&rows, &index);
	struct corelock_slow *slow;

	if (!row)
		return 0;
	slow = bpf_ringbuf_reserve(&slow_ring, sizeof(*slow), 0);
	if (!slow) {
		count(&counters.ring_full);
		return 0;
	}
	slow->start_ns = start_ns;
	slow->duration_ns = duration_ns;
	slow->kind = (__u32)what;
	slow->stack = what >> 32;
	slow->mode = row->mode;
	slow->operation = row->operation;
	slow->pid = row->pid;
	slow->tid = row->tid;
	slow->host_pid = row->host_pid;
	slow->host_tid = row->host_tid;
	slow->mm_id = row->mm_id;
	slow->mm_pid = slow->mm_host_pid = 0;
	slow->row = index;
	__builtin_memset(slow->mm_comm, 0, sizeof(slow->mm_comm));
	bpf_get_current_comm(slow->comm, sizeof(slow->comm));
	slow->kernel_stack_bytes =
		bpf_get_stack(ctx, slow->kernel_stack, sizeof(slow->kernel_stack), 0);
	slow->reserved = 0;
	no_user_stack(&slow->user);
	if (row->operation != CORELOCK_OPERATION_KERNEL_THREAD &&
	    row->operation != CORELOCK_OPERATION_EXIT)
		take_user_stack(ctx, &slow->user);
	if (slow->kernel_stack_bytes < 0 || slow->user.bytes < 0)
		count(&counters.stack_failed);
	count(&counters.slow_recorded);
	bpf_ringbuf_submit(slow, 0);
	return 1;
}

#endif
