/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The user stack of current, for a record. */
#ifndef CORELOCK_STACKS_BPF_H
#define CORELOCK_STACKS_BPF_H

#include "kernel.bpf.h"

static __always_inline void no_user_stack(struct corelock_user_stack *user)
{
	user->code_start = user->code_end = user->stack_start = 0;
	user->ip = user->sp = user->frame = user->other = 0;
	user->bytes = user->copy_bytes = 0;
}

/*
 * Copies the user stack, as much as there is room for and is in memory: page by
 * page, as a copy that meets the end of the stack has nothing.
 */
static __always_inline void copy_user_stack(struct corelock_user_stack *user)
{
	__u64 from = user->sp - CORELOCK_COPY_BELOW;
	__u32 bytes = CORELOCK_COPY_PAGE_BYTES - (from & (CORELOCK_COPY_PAGE_BYTES - 1));

	/* The stack may begin behind what is copied from below it: then that was left 0. */
	if (bpf_probe_read_user(user->copy, bytes, (void *)from) && bytes > CORELOCK_COPY_BELOW)
		return;
	user->copy_bytes = bytes;
#pragma unroll
	for (__u32 at = 0; at < CORELOCK_COPY_BYTES - CORELOCK_COPY_PAGE_BYTES;
	     at += CORELOCK_COPY_PAGE_BYTES) {
		if (bpf_probe_read_user(user->copy + bytes + at, CORELOCK_COPY_PAGE_BYTES,
					(void *)(from + bytes + at)))
			return;
		user->copy_bytes = bytes + at + CORELOCK_COPY_PAGE_BYTES;
	}
}

/* Takes the user stack of current as frame pointers have it, and what is needed without them. */
static __always_inline void take_user_stack(void *ctx, struct corelock_user_stack *user)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct mm_struct *mm = untrusted(task)->mm;

	user->bytes =
		bpf_get_stack(ctx, user->addresses, sizeof(user->addresses), BPF_F_USER_STACK);
	user->code_start = mm->start_code;
	user->code_end = mm->end_code;
	user->stack_start = mm->start_stack;
	if (user_registers(task, user))
		copy_user_stack(user);
}

#endif
