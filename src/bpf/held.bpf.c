// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Whether asking for one process's mmap_lock would mean to wait. Apart from
 * holders.bpf.c because it is asked in the middle of things: it loads in
 * milliseconds.
 */
#include "pids.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

__u32 wanted_tgid = 0; /* as the caller sees it */
bool held = false;

SEC("iter/task")
int look_at_lock(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	struct mm_struct *mm = NULL;

	if (!task || visible_pid(task) != wanted_tgid ||
	    !bpf_core_field_exists(mm->mmap_lock.count))
		return 0;
	mm = BPF_CORE_READ(task, mm);
	if (mm && lock_bars_readers(BPF_CORE_READ(mm, mmap_lock.count.counter)))
		held = true;
	return 0;
}
