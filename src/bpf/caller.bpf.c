// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The caller's pid namespace, and what ids in it are in the initial one. Run only by a caller
 * in another one, before anything else is loaded.
 */
#include "pids.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define IDS 2

__u64 namespace_address = 0;
__u32 namespace_level = 0;
__u32 wanted_ids[IDS] = {}; /* of threads, as the caller calls them */
__u32 host_ids[IDS] = {};

/* The kernel shows an iterator only what is in its reader's pid namespace. */
SEC("iter/task")
int find_ids(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	struct pid *caller =
		BPF_CORE_READ((struct task_struct *)bpf_get_current_task(), thread_pid);
	__u32 level = BPF_CORE_READ(caller, level), id;
	struct upid *own = (void *)caller + bpf_core_field_offset(caller->numbers) +
			   level * bpf_core_type_size(struct upid);

	if (!task)
		return 0;
	namespace_level = level;
	namespace_address = (__u64)BPF_CORE_READ(own, ns);
	id = pid_number(BPF_CORE_READ(task, thread_pid), namespace_address, level);
	for (int at = 0; at < IDS; at++)
		if (id && id == wanted_ids[at])
			host_ids[at] = BPF_CORE_READ(task, pid);
	return 0;
}
